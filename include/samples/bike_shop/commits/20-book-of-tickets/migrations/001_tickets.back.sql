DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM tickets) THEN
        DROP TABLE tickets;
    END IF;
END
$$;
