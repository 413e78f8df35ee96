"""A process that lost the right to a change cannot append: the check is repeated when the entry is written.

The function is replaced with each migration, because the kinds that it names are the domain's (``rightful.py``).
"""

from __future__ import annotations

from alembic import op

from interlock.adapters.ledger.migrations.rightful import FUNCTION, TRIGGER

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the trigger; it comes after the one that holds the link, whose names are asked in their order."""
    op.execute(FUNCTION)
    op.execute(
        f"CREATE TRIGGER {TRIGGER} BEFORE INSERT ON ledger.entries FOR EACH ROW EXECUTE FUNCTION ledger.refuse_lost();"
    )


def downgrade() -> None:
    """Refuse: what is in the ledger stays there."""
    raise NotImplementedError("the ledger has no way back: restore a backup into another database instead")
