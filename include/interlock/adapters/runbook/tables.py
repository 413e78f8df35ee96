"""The rows of a PostgreSQL database: how many each table has, and whether their contents changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2 import sql

from interlock.domain.errors import AssetMissing
from interlock.domain.runbook.rehearsal import Rows, Tables

BOOKKEEPING = (
    "alembic_version",
    "databasechangelog",
    "databasechangeloglock",
    "django_migrations",
    "flyway_schema_history",
    "schema_migrations",
)
"""Tables in which tools note which changes were made: their rows come and go with the changes."""
CONNECT_SECONDS = 10
STATEMENT_SECONDS = 1800
_COLUMNS = """
SELECT n.nspname, c.relname, coalesce(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attnum > 0), '{}')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT c.relname = ANY (%s)
AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
GROUP BY 1, 2 ORDER BY 1, 2
"""


def read_tables(connection: Any, of: Tables | None = None) -> dict[str, Rows]:
    """Return what each table of a database has, all at one moment.

    :param connection: an Airflow connection of type ``postgres``.
    :param of: an earlier look: only its tables and columns are read, as far as they are there; none: all are.
    :raises AssetMissing: the database does not answer, or the login may not read a table.
    """
    try:
        with closing(_connect(connection)) as opened, opened.cursor() as cursor:
            return dict(_read(cursor, of))
    except psycopg2.Error as error:
        said = str(error).strip().splitlines()
        raise AssetMissing(
            f"The database of the connection {connection.conn_id} cannot be read: {said[0] if said else 'no answer'}.",
            rule="rows are compared before and after each change of a database (databases, in the service's YAML)",
            who="the platform engineer (connections)",
            next_step="correct the connection, or let its login read all tables, then trigger the release again",
        ) from None


def _connect(connection: Any) -> Any:
    extra = connection.extra_dejson
    opened = psycopg2.connect(
        host=connection.host,
        port=connection.port or 5432,
        user=connection.login,
        password=connection.password,
        dbname=connection.schema,
        connect_timeout=CONNECT_SECONDS,
        options=f"-c statement_timeout={STATEMENT_SECONDS * 1000}",
        **{name: str(extra[name]) for name in ("sslmode", "sslrootcert") if extra.get(name)},
    )
    opened.set_session(isolation_level="REPEATABLE READ", readonly=True)
    return opened


def _read(cursor: Any, of: Tables | None) -> Iterator[tuple[str, Rows]]:
    cursor.execute(_COLUMNS, (list(BOOKKEEPING),))
    for schema, table, there in cursor.fetchall():
        name = f"{schema}.{table}"
        if of is not None and name not in of:
            continue
        columns = tuple(there) if of is None else tuple(one for one in of[name].columns if one in there)
        cursor.execute(
            sql.SQL(
                "SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0)::text FROM {}"
            ).format(sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table))
        )
        count, contents = cursor.fetchone()
        yield name, Rows(columns=columns, count=count, contents=contents)
