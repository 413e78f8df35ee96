-- Contract: versions before 1.5.0 need the price.
DROP TRIGGER both_prices ON tickets;
DROP FUNCTION both_prices;
ALTER TABLE tickets DROP COLUMN price;
