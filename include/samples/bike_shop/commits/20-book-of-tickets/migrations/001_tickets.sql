-- The way back leaves the table if somebody wrote to it.
CREATE TABLE IF NOT EXISTS tickets (
    number serial PRIMARY KEY,
    repair text NOT NULL,
    name text NOT NULL,
    price numeric(10, 2),
    written timestamptz NOT NULL DEFAULT now()
);
