"""Makes databases and roles in a PostgreSQL server, as its administrator: the ledger's, and the embedded Airflow's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from interlock.domain.errors import AssetMissing, LedgerError

from .migrations import WITNESS, WRITER

DATABASE, OWNER = "interlock_ledger", "interlock_ledger_owner"
ROLES = (OWNER, WRITER, WITNESS)
"""The ledger's roles: the first migrates, tasks append with the second, Airflow's API server with the third."""
_RIGHTS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


def make_role(cursor: Any, name: str, password: str) -> None:
    """Make a role that can log in and nothing else, or give it this password."""
    verb = "ALTER" if has_role(cursor, name) else "CREATE"
    cursor.execute(f"{verb} ROLE {name} LOGIN {_RIGHTS} PASSWORD %s", (password,))


def has_role(cursor: Any, name: str) -> bool:
    """Tell whether the server has a role."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
    return bool(cursor.fetchone())


def make_database(cursor: Any, name: str, owner: str, guest: str) -> None:
    """Make a database that only its owner and a guest may connect to."""
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
    if not cursor.fetchone():
        cursor.execute(f"CREATE DATABASE {name} OWNER {owner}")
    cursor.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    cursor.execute(f"GRANT CONNECT ON DATABASE {name} TO {guest}")


def missing_roles(url: str) -> tuple[str, ...]:
    """Return which of the ledger's roles a server lacks.

    :param url: of an administrator of the server: ``postgresql://user:password@host/postgres``.
    """
    with closing(_connect(url)) as connection, connection.cursor() as cursor:
        return tuple(role for role in ROLES if not has_role(cursor, role))


def make_ledger_database(url: str, passwords: Mapping[str, str]) -> None:
    """Make the ledger's roles and its database; the password of a role that exists stays.

    :param passwords: of the roles that do not exist.
    """
    with closing(_connect(url)) as connection, connection.cursor() as cursor:
        for role in ROLES:
            if not has_role(cursor, role):
                make_role(cursor, role, passwords[role])
        cursor.execute(f"GRANT {OWNER} TO CURRENT_USER")  # PostgreSQL 14 and 15: only a member may give it a database
        make_database(cursor, DATABASE, OWNER, WRITER)
        cursor.execute(f"REVOKE {OWNER} FROM CURRENT_USER")


def _connect(url: str) -> Any:
    """Connect to a server as its administrator.

    :raises LedgerError: the URL cannot be read. :raises AssetMissing: the server does not let this administrator in.
    """
    import psycopg2

    try:
        connection = psycopg2.connect(url, connect_timeout=10)
    except psycopg2.ProgrammingError:
        raise LedgerError(
            "The administrator's URL of the ledger's server cannot be read.",
            next_step="set INTERLOCK_LEDGER_ADMIN_URL to postgresql://user:password@host/postgres",
        ) from None
    except psycopg2.OperationalError as error:
        said = str(error).strip().splitlines()
        raise AssetMissing(
            f"The PostgreSQL server of the ledger cannot be used: {said[0] if said else 'it does not answer'}",
            who="the administrator of the server",
            next_step="check INTERLOCK_LEDGER_ADMIN_URL: host, port, user and password",
        ) from None
    connection.autocommit = True
    return connection
