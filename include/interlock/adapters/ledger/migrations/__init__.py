"""The ledger's tables in PostgreSQL: their creation, the writer's few permissions, and their check.

Three roles: the owner migrates, and nothing else uses it; the writer, for tasks, may insert and read; the witness, for
Airflow's API server, may do the same, and it alone may insert what people asked for and answered. Making the roles and
the database is for the operators of the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from interlock.domain.errors import AssetMissing
from interlock.domain.ledger.kinds import WITNESSED

from .rightful import FUNCTION, TRIGGER

SCHEMA = "ledger"
WRITER = "interlock_ledger_writer"
WITNESS = "interlock_ledger_witness"

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('interlock ledger migrations', 0))"
_GRANTS = """
REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT ON DATABASE {database} TO {writer};
REVOKE ALL ON SCHEMA ledger FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM PUBLIC, {writer}, {witness};
GRANT CONNECT ON DATABASE {database} TO {witness};
GRANT USAGE ON SCHEMA ledger TO {writer}, {witness};
GRANT SELECT ON ledger.entries, ledger.heads TO {writer}, {witness};
GRANT INSERT (chain, sequence, at, actor, kind, key, payload, previous, hash) ON ledger.entries TO {writer}, {witness};
GRANT INSERT (chain, sequence, hash, key_id, envelope) ON ledger.heads TO {writer};
GRANT SELECT, INSERT, UPDATE ON ledger.deliveries, ledger.delivery_systems TO {writer};
GRANT SELECT ON ledger.deliveries, ledger.delivery_systems TO {witness};
"""
# Not a migration: which role is the witness is the installation's to say, each time.
_WITNESSED = """
CREATE OR REPLACE FUNCTION ledger.require_witness() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.kind IN ({kinds}) AND NOT pg_has_role(session_user, {witness}, 'MEMBER') THEN
        RAISE EXCEPTION '% is appended by Airflow''s API server only, as the role %', NEW.kind, {witness}
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER witnessed BEFORE INSERT ON ledger.entries
    FOR EACH ROW EXECUTE FUNCTION ledger.require_witness();
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
_TABLES = {"ledger.entries": {"append_only", "linked", "witnessed", TRIGGER}, "ledger.heads": {"append_only"}}


def migrate(connection: Connection, writer: str = WRITER, witness: str = WITNESS) -> str:
    """Bring the tables to the newest version and the roles' rights to what they must be; return the version.

    :param connection: of the owner, inside a transaction: all of it happens, or nothing.
    """
    from alembic import command  # not at the top: processes that append do not migrate

    connection.execute(text(_LOCK))
    for role, use in ((writer, "tasks"), (witness, "Airflow's API server")):
        if not connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
            raise AssetMissing(
                f"The server has no role {role}, which {use} needs to write to the ledger.",
                who="the operators of that PostgreSQL",
                next_step=f"CREATE ROLE {role} LOGIN PASSWORD '…'; then migrate again",
            )
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    command.upgrade(_config(connection), "head")
    connection.execute(text(FUNCTION))  # of this version of the domain, whatever migrated before
    quote = connection.dialect.identifier_preparer.quote
    database = quote(connection.scalar(text("SELECT current_database()")))
    connection.execute(text(_GRANTS.format(writer=quote(writer), witness=quote(witness), database=database)))
    kinds = ", ".join(map(_literal, WITNESSED))
    connection.exec_driver_sql(_WITNESSED.format(kinds=kinds, witness=_literal(witness)).replace("%", "%%"))
    return str(connection.scalar(text(f"SELECT version_num FROM {SCHEMA}.migrations")))


def versions(connection: Connection) -> tuple[str | None, str | None]:
    """Return the version of the tables, None if there are none, and the newest version."""
    from alembic.script import ScriptDirectory

    found = connection.scalar(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.migrations"})
    is_at = connection.scalar(text(f"SELECT version_num FROM {SCHEMA}.migrations")) if found else None
    return is_at, ScriptDirectory.from_config(_config(connection)).get_current_head()


def find_weaknesses(connection: Connection, writer: str = WRITER) -> Iterator[str]:
    """Yield where the database would allow a change of recorded entries."""
    for name, wanted in _TABLES.items():
        rights = connection.execute(text(_RIGHTS), {"writer": writer, "name": name}).one_or_none()
        if rights and (rights.super or rights.owner or rights.change):
            yield f"{writer} can change or delete rows of {name}"
        for missing in sorted(wanted - set(connection.scalars(text(_TRIGGERS), {"name": name}))):
            yield f"the trigger {missing} of {name} is missing or disabled"


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _config(connection: Any) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=SCHEMA)
    return config
