"""The entries of the chains and the signed heads, and what keeps them as they were written.

The owner of these tables could take the triggers away again; that shows, because the heads are signed.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE ledger.entries (
    chain text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 1),
    at timestamptz NOT NULL CHECK (at BETWEEN '2000-01-01 00:00Z' AND '9999-01-01 00:00Z'),
    actor text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    payload json NOT NULL,  -- not jsonb: that writes numbers in its own way, and the hash is over what was written
    previous text NOT NULL CHECK (previous ~ '^[0-9a-f]{64}$'),
    hash text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recorded_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (chain, sequence),
    UNIQUE (chain, key)
);
CREATE INDEX entries_by_kind ON ledger.entries (chain, kind, sequence);

CREATE TABLE ledger.heads (
    chain text NOT NULL,
    sequence bigint NOT NULL,
    hash text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    key_id text NOT NULL,
    envelope json NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recorded_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (chain, sequence, key_id),
    FOREIGN KEY (chain, sequence) REFERENCES ledger.entries (chain, sequence)
);
"""

APPEND_ONLY = """
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

-- By statement: refused even where no row would change. Always: in sessions that replicate, too.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.entries ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.heads
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.heads ENABLE ALWAYS TRIGGER append_only;
"""

LINKED = """
-- Who has the writer's password alone can append, but neither leave a gap nor begin a second line.
CREATE FUNCTION ledger.require_link() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last record;
BEGIN
    SELECT sequence, hash INTO last FROM ledger.entries WHERE chain = NEW.chain ORDER BY sequence DESC LIMIT 1;
    IF NEW.sequence <> coalesce(last.sequence, 0) + 1 OR NEW.previous <> coalesce(last.hash, repeat('0', 64)) THEN
        RAISE EXCEPTION 'entry % does not follow the last entry of the chain %', NEW.sequence, NEW.chain
            USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER linked BEFORE INSERT ON ledger.entries FOR EACH ROW EXECUTE FUNCTION ledger.require_link();
"""


def upgrade() -> None:
    """Make the tables."""
    for script in (TABLES, APPEND_ONLY, LINKED):
        op.execute(script)


def downgrade() -> None:
    """Refuse: what is in the ledger stays there."""
    raise NotImplementedError("the ledger has no way back: restore a backup into another database instead")
