"""What other systems were told of releases: where each delivery is, what is being attempted, and what went wrong.

It is no part of the chains: a row says how far a system was told, and is changed with each attempt.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE ledger.deliveries (
    system text NOT NULL,
    chain text NOT NULL,
    correlation text NOT NULL,
    reference text NOT NULL,
    number text NOT NULL,
    url text NOT NULL,
    entry bigint NOT NULL CHECK (entry >= 0),
    stop bigint NOT NULL CHECK (stop >= 0),
    intent json,
    attempts integer NOT NULL CHECK (attempts >= 0),
    next_at timestamptz,
    error text NOT NULL,
    refused boolean NOT NULL,
    confirm_at timestamptz,
    confirmed boolean NOT NULL,
    looked bigint NOT NULL DEFAULT 0,  -- up to which entry of its chain it was made due
    version bigint NOT NULL DEFAULT 0,  -- of two processes with one row, the slower one changes nothing
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (system, chain),
    UNIQUE (system, correlation)
);
CREATE INDEX deliveries_due ON ledger.deliveries (system, next_at) WHERE next_at IS NOT NULL;

CREATE TABLE ledger.delivery_systems (
    system text PRIMARY KEY,
    seen timestamptz NOT NULL,  -- entries that were recorded before it were looked at
    paused_until timestamptz,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    error text NOT NULL DEFAULT ''
);

-- Which chains have something new is asked every few seconds.
CREATE INDEX entries_by_recording ON ledger.entries (recorded_at, chain);
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """Refuse: what is in the ledger stays there."""
    raise NotImplementedError("the ledger has no way back: restore a backup into another database instead")
