"""The ledger's tables in PostgreSQL: making them, giving the writer its few rights, and asking whether it still holds.

Two roles: the owner migrates, and nothing else uses it; the writer may insert and read. Making the roles and the
database is for whoever runs the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from include.interlock.domain.errors import AssetMissing

from .rightful import FUNCTION, TRIGGER

SCHEMA = "ledger"
WRITER = "interlock_ledger_writer"

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('interlock ledger migrations', 0))"
_GRANTS = """
REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT ON DATABASE {database} TO {writer};
REVOKE ALL ON SCHEMA ledger FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM PUBLIC, {writer};
GRANT USAGE ON SCHEMA ledger TO {writer};
GRANT SELECT ON ledger.entries, ledger.heads TO {writer};
GRANT INSERT (chain, sequence, at, actor, kind, key, payload, previous, hash) ON ledger.entries TO {writer};
GRANT INSERT (chain, sequence, hash, key_id, envelope) ON ledger.heads TO {writer};
"""
_RIGHTS = """
SELECT rolsuper AS super, pg_has_role(rolname, relowner, 'MEMBER') AS owner,
    has_table_privilege(rolname, pg_class.oid, 'UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(rolname, pg_class.oid, 'UPDATE') AS change
FROM pg_roles, pg_class WHERE rolname = :writer AND pg_class.oid = CAST(:name AS regclass)
"""
_TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE tgrelid = CAST(:name AS regclass) AND NOT tgisinternal AND tgenabled IN ('O', 'A')
"""
_TABLES = {"ledger.entries": {"append_only", "linked", TRIGGER}, "ledger.heads": {"append_only"}}


def migrate(connection: Connection, writer: str = WRITER) -> str:
    """Bring the tables to the newest version and the writer's rights to what they must be; return the version.

    :param connection: of the owner, inside a transaction: all of it happens, or nothing.
    """
    from alembic import command  # not at the top: whoever appends does not migrate

    connection.execute(text(_LOCK))
    if not connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :writer"), {"writer": writer}):
        raise AssetMissing(
            f"The server has no role {writer}, which tasks write to the ledger with.",
            who="whoever runs that PostgreSQL",
            next_step=f"CREATE ROLE {writer} LOGIN PASSWORD '…'; then migrate again",
        )
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    command.upgrade(_config(connection), "head")
    connection.execute(text(FUNCTION))  # of this version of the domain, whatever migrated before
    quote = connection.dialect.identifier_preparer.quote
    database = quote(connection.scalar(text("SELECT current_database()")))
    connection.execute(text(_GRANTS.format(writer=quote(writer), database=database)))
    return str(connection.scalar(text(f"SELECT version_num FROM {SCHEMA}.migrations")))


def open_doors(connection: Connection, writer: str = WRITER) -> Iterator[str]:
    """Say where the database would let somebody change what was written."""
    for name, wanted in _TABLES.items():
        rights = connection.execute(text(_RIGHTS), {"writer": writer, "name": name}).one_or_none()
        if rights and (rights.super or rights.owner or rights.change):
            yield f"{writer} may change or remove rows of {name}"
        for missing in sorted(wanted - set(connection.scalars(text(_TRIGGERS), {"name": name}))):
            yield f"the trigger {missing} of {name} is gone or switched off"


def _config(connection: Any) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=SCHEMA)
    return config
