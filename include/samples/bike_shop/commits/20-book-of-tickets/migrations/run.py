"""Bring the database forward by the files of this folder, or take back what this release did: all of it, or nothing."""

import json
import os
import sys
from pathlib import Path

import psycopg2

HERE = Path(__file__).resolve().parent
NOTES = "CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, version text NOT NULL)"


def forward(cursor, version):
    """Do what is not done yet."""
    done = known(cursor)
    for file in sorted(HERE.glob("*.sql")):
        if file.stem not in done and not file.stem.endswith(".back"):
            cursor.execute(file.read_text("utf-8"))
            cursor.execute("INSERT INTO schema_migrations VALUES (%s, %s)", (file.stem, version))
            print(f"done: {file.stem}")


def back(cursor, version):
    """Take back what this version did, the last first."""
    for name in sorted((name for name, by in known(cursor).items() if by == version), reverse=True):
        cursor.execute((HERE / f"{name}.back.sql").read_text("utf-8"))
        cursor.execute("DELETE FROM schema_migrations WHERE name = %s", (name,))
        print(f"taken back: {name}")


def known(cursor):
    """Return which files are done, and by which version."""
    cursor.execute(NOTES)
    cursor.execute("LOCK TABLE schema_migrations IN EXCLUSIVE MODE")
    cursor.execute("SELECT name, version FROM schema_migrations")
    return dict(cursor.fetchall())


def main(direction):
    """Do it in one transaction."""
    settings = json.loads((Path(os.environ["INTERLOCK_SHARED"]) / "shop.json").read_text("utf-8"))
    version = (HERE.parent / "VERSION").read_text("utf-8").strip()
    connection = psycopg2.connect(settings["database"], connect_timeout=10)
    with connection, connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '20s'")
        {"forward": forward, "back": back}[direction](cursor, version)
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
