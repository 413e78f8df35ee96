-- Expand: both versions write tickets until the last wave is done, so each column follows the other.
ALTER TABLE tickets ADD COLUMN cents integer;
UPDATE tickets SET cents = round(price * 100);
CREATE FUNCTION both_prices() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.cents IS NULL OR (TG_OP = 'UPDATE' AND NEW.price IS DISTINCT FROM OLD.price) THEN
        NEW.cents := round(NEW.price * 100);
    ELSE
        NEW.price := NEW.cents / 100.0;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER both_prices BEFORE INSERT OR UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION both_prices();
