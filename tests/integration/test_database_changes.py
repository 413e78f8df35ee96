"""Expand and contract as two releases, on the embedded PostgreSQL, with plain SQL and with Alembic.

What docs/service-team.md advises is done here: a migration is rehearsed on a copy that is restored from a backup, the
version before is proven to work on the schema after, and nothing that it needs is taken away while it runs.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from interlock.adapters.runbook.tables import read_tables
from interlock.domain.errors import AssetMissing, PolicyViolation, QualityRejected
from interlock.domain.records import RunningRelease
from interlock.domain.runbook.contract import refuse_contract
from interlock.domain.runbook.planning import planned_steps
from interlock.domain.runbook.rehearsal import Tables, judge_back, judge_forward
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from tests.unit.domain.test_runbook import HOSTS, service, step

EXPAND = """
ALTER TABLE bikes ADD COLUMN cents integer;
UPDATE bikes SET cents = price * 100;
CREATE FUNCTION both_prices() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.cents IS NULL OR (TG_OP = 'UPDATE' AND NEW.price IS DISTINCT FROM OLD.price) THEN
        NEW.cents := NEW.price * 100;
    ELSE
        NEW.price := NEW.cents / 100;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER both_prices BEFORE INSERT OR UPDATE ON bikes FOR EACH ROW EXECUTE FUNCTION both_prices();
"""
EXPAND_BACK = """
DROP TRIGGER both_prices ON bikes;
DROP FUNCTION both_prices;
ALTER TABLE bikes DROP COLUMN cents;
"""
CONTRACT = """
DROP TRIGGER both_prices ON bikes;
DROP FUNCTION both_prices;
ALTER TABLE bikes DROP COLUMN price;
"""
BROKEN = "ALTER TABLE bikes RENAME COLUMN price TO cents;"
_numbers = itertools.count(1)

Migrate = Callable[["Shop", str], None]


class Shop:
    """The database of the bike shop, and what its versions do with it."""

    def __init__(self, settings: Settings, name: str, folder: Path) -> None:
        self.settings, self.name, self.folder = settings, name, folder
        self.copies: list[Shop] = []

    def make(self) -> None:
        with closing(postgres.connect(self.settings)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self.name}")

    def drop(self) -> None:
        with closing(postgres.connect(self.settings)) as connection, connection.cursor() as cursor:
            for one in (self, *self.copies):
                cursor.execute(f"DROP DATABASE {one.name} WITH (FORCE)")

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(postgres.connect(self.settings, self.name)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def old(self) -> int:
        """Do what version 1 does, and return the price of the bike that it sells."""
        name = f"old-{next(_numbers)}"
        self.run("INSERT INTO bikes (name, price) VALUES (%s, 300)", name)
        self.run("UPDATE bikes SET price = price + 1 WHERE name = %s", name)
        ((price,),) = self.run("SELECT price FROM bikes WHERE name = %s", name)
        return int(price)

    def new(self) -> int:
        """Do what version 2 does, and return the price in cents."""
        name = f"new-{next(_numbers)}"
        self.run("INSERT INTO bikes (name, cents) VALUES (%s, 30050)", name)
        ((cents,),) = self.run("SELECT cents FROM bikes WHERE name = %s", name)
        assert not self.run("SELECT 1 FROM bikes WHERE cents IS NULL"), "a bike without a price"
        return int(cents)

    @property
    def rows(self) -> set[str]:
        return {name for (name,) in self.run("SELECT name FROM bikes")}

    def restored(self) -> Shop:
        """Back the database up, and restore it under another name."""
        copy = Shop(self.settings, f"{self.name}_copy_{next(_numbers)}", self.folder)
        copy.make()
        self.copies.append(copy)
        password = (postgres.secrets_folder(self.settings) / "postgres_owner").read_text().strip()
        at = ["-h", LOOPBACK, "-p", str(self.settings.postgres_port), "-U", postgres.OWNER]
        environment = {**os.environ, "PGPASSWORD": password}
        backup = self.folder / "backup.sql"
        with backup.open("wb") as file:
            dump = [postgres.program("pg_dump"), *at, "--no-owner", self.name]
            subprocess.run(dump, stdout=file, env=environment, check=True)
        psql = [postgres.program("psql"), *at, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(backup), copy.name]
        subprocess.run(psql, env=environment, check=True)
        return copy


def with_sql(shop: Shop, sql: str) -> None:
    """Migrate with plain SQL, in one transaction."""
    shop.run(f"BEGIN; {sql}; COMMIT;")


def with_alembic(shop: Shop, sql: str) -> None:
    """Migrate with a revision of Alembic's."""
    scripts = shop.folder / f"alembic-{next(_numbers)}"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(
        "from alembic import context\n"
        "connection = context.config.attributes['connection']\n"
        "context.configure(connection=connection)\n"
        "with context.begin_transaction():\n    context.run_migrations()\n"
    )
    (scripts / "script.py.mako").write_text("")
    (scripts / "versions" / "one.py").write_text(
        f"from alembic import op\nrevision, down_revision = 'one', None\ndef upgrade():\n    op.execute({sql!r})\n"
    )
    config = Config()
    config.set_main_option("script_location", str(scripts))
    engine = create_engine("postgresql+psycopg2://", creator=lambda: _transacted(shop))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def _transacted(shop: Shop) -> Any:
    connection = postgres.connect(shop.settings, shop.name)
    connection.autocommit = False
    return connection


@pytest.fixture(params=[with_sql, with_alembic])
def migrate(request: pytest.FixtureRequest) -> Migrate:
    found: Migrate = request.param
    return found


@pytest.fixture
def shop(server: Settings, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(server, f"shop_{next(_numbers)}", tmp_path)
    made.make()
    made.run("CREATE TABLE bikes (name text PRIMARY KEY, price integer)")
    made.run("INSERT INTO bikes SELECT 'bike-' || n, n FROM generate_series(1, 500) AS n")
    yield made
    made.drop()


def look(shop: Shop, of: Tables | None = None) -> Tables:
    """Read the tables of a database, as a rehearsal does."""
    password = (postgres.secrets_folder(shop.settings) / "postgres_owner").read_text().strip()
    connection = SimpleNamespace(
        conn_id="shop_db",
        host=LOOPBACK,
        port=shop.settings.postgres_port,
        login=postgres.OWNER,
        password=password,
        schema=shop.name,
        extra_dejson={},
    )
    return read_tables(connection, of)


def rehearse(shop: Shop, migrate: Migrate, sql: str, back: str = "", *, contracts: bool = False) -> tuple[str, ...]:
    """Migrate a restored copy, and prove that the version before works on the schema after."""
    copy = shop.restored()
    first = look(copy)
    assert first == look(shop)
    migrate(copy, sql)
    forward = look(copy, first)
    notes = judge_forward("shop", first, forward, contracts=contracts)
    if not contracts:
        assert copy.old() == 301
    assert copy.new() == 30050
    if back:
        before = look(copy, first)
        migrate(copy, back)
        notes += judge_back("shop", first, forward, before, look(copy, first))
        assert copy.old() == 301
    return notes


def test_expand_and_contract_as_two_releases_lose_no_row(shop: Shop, migrate: Migrate) -> None:
    before = shop.rows
    assert rehearse(shop, migrate, EXPAND, EXPAND_BACK) == ()
    assert shop.old() == 301, "the rehearsal touched only its copy"

    migrate(shop, EXPAND)
    assert (shop.old(), shop.new(), shop.old()) == (301, 30050, 301), "while the waves are under way, both run"
    assert shop.run("SELECT count(*) FROM bikes WHERE cents / 100 <> price") == [(0,)]

    assert rehearse(shop, migrate, CONTRACT, contracts=True) == ("shop: public.bikes.price is taken away",)
    with pytest.raises(QualityRejected, match=r"takes away public\.bikes\.price"):
        rehearse(shop, migrate, CONTRACT)
    with pytest.raises(psycopg2.errors.UndefinedColumn):
        shop.copies[-1].old()

    contract = planned_steps(
        service(step("contract", "after", way_back="none", works_from="2.0.0")), HOSTS, rehearsal=False
    )
    with pytest.raises(PolicyViolation, match=r"of staging runs 1\.0\.0"):
        refuse_contract(contract, {"production": _running("2.0.0"), "staging": _running("1.0.0")})
    refuse_contract(contract, {"production": _running("2.0.0"), "staging": _running("2.0.0")})
    migrate(shop, CONTRACT)
    assert shop.new() == 30050
    assert shop.rows > before


def _running(version: str) -> tuple[RunningRelease, ...]:
    return (RunningRelease(host="10.0.0.1", release=f"{version}-0123456789ab", version=version),)


def test_a_release_that_is_backed_out_takes_its_expansion_back_and_loses_no_row(shop: Shop, migrate: Migrate) -> None:
    migrate(shop, EXPAND)
    shop.new()
    shop.old()
    written = shop.rows
    migrate(shop, EXPAND_BACK)
    assert shop.rows == written, "what the new version wrote stays, with the price that the old one reads"
    assert not shop.run("SELECT 1 FROM bikes WHERE price IS NULL")
    assert shop.old() == 301


def test_a_migration_that_the_version_before_does_not_bear_is_found_in_its_rehearsal(
    shop: Shop, migrate: Migrate
) -> None:
    with pytest.raises(QualityRejected, match=r"takes away public\.bikes\.price"):
        rehearse(shop, migrate, BROKEN)
    assert shop.old() == 301, "nobody was asked, and nothing was changed"


@pytest.mark.parametrize(
    ("sql", "back", "said"),
    [
        pytest.param("DELETE FROM bikes WHERE price > 490", "", "had 500 rows and has 490", id="deletes"),
        pytest.param("TRUNCATE bikes", "", "had 500 rows and has 0", id="empties"),
        pytest.param(f"{EXPAND} DROP TABLE wheels", "", "takes away public.wheels", id="drops"),
        pytest.param(
            EXPAND, f"DELETE FROM bikes WHERE name LIKE 'new-%'; {EXPAND_BACK}", "had 502 rows and has 501", id="back"
        ),
        pytest.param(EXPAND, f"UPDATE bikes SET price = 0; {EXPAND_BACK}", "changes the contents", id="spoils"),
        pytest.param(EXPAND, f"{EXPAND_BACK} ALTER TABLE wheels RENAME TO w", "does not bring back", id="keeps"),
    ],
)
def test_a_rehearsal_finds_rows_and_contents_that_get_lost(
    shop: Shop, migrate: Migrate, sql: str, back: str, said: str
) -> None:
    shop.run("CREATE TABLE wheels (size integer)")
    with pytest.raises(QualityRejected, match=said):
        rehearse(shop, migrate, sql, back)


def test_what_a_change_does_to_contents_is_told_and_the_notes_of_tools_are_not_rows(shop: Shop) -> None:
    notes = rehearse(shop, with_alembic, f"{EXPAND} UPDATE bikes SET name = upper(name) WHERE price < 9")
    assert notes == ("shop: the contents of public.bikes are changed",)
    assert "public.alembic_version" not in look(shop.copies[-1])


def test_a_database_that_cannot_be_read_is_named(shop: Shop) -> None:
    shop.name, real = "nowhere", shop.name
    with pytest.raises(AssetMissing, match=r"shop_db cannot be read: .*nowhere"):
        look(shop)
    shop.name = real
