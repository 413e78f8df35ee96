DROP TRIGGER both_prices ON tickets;
DROP FUNCTION both_prices;
ALTER TABLE tickets DROP COLUMN cents;
