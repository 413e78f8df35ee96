"""Measure a look of reconcile at many releases that are under way, in an Airflow and a ledger with many rows.

  python -m benchmarks.reconcile [--releases 200] [--entries 100000] [--rounds 3] [--write PAGE]

It runs an Airflow API server and its PostgreSQL, with a ledger in it. A run with its tasks and results is copied, so
that there are many. The look is that of the Dag reconcile: which releases there are, and each compared with its chain.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from psycopg2.extras import execute_values

from benchmarks.table import machine, medians, publish
from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.ledger.ledger import open_ledger
from interlock.domain.canonical import canonical_bytes
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.effective import bound_to
from interlock.domain.dag_names import dags_of_service
from interlock.domain.ledger.chain import INSTALLATION, next_entry, release_chain
from interlock.domain.ledger.kinds import ATTEMPT_REFUSED, POLICY_RESOLVED, RELEASE_ENDED
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from interlock.locations import CATALOGUE
from interlock.stages.reconcile import reconcile_releases as reconcile
from interlock.stages.reconcile.watched_releases import WATCH_WITHOUT_END
from tests.integration.console_airflow import BACKED_OUT_ID, RELEASE
from tests.integration.console_server import Console, console_server
from tests.integration.ledger_server import ledger_connection

OF_A_RELEASE = 80
COLUMNS = ("chain", "sequence", "at", "actor", "kind", "key", "payload", "previous", "hash")
SERVICE = "bike-shop"
COPIED = ("dag_run", "task_instance", "xcom")
"""Airflow's tables, each with rows of a run."""


def rows_of(
    chain: str, kinds: tuple[str, ...], count: int, end: datetime, rules: dict[str, Any] | None = None
) -> list[list[Any]]:
    """Return the rows of a chain whose last entry is at an instant, a minute after each other.

    :param rules: with which the release began; none: it is no release.
    """
    last, rows = None, []
    for number in range(count):
        at = end - timedelta(minutes=count - number)
        payload: dict[str, Any] = {
            "what": "Something that was seen",
            "at": at.isoformat(),
            "user": "olga",
            "run": f"{chain}/{number}",
            "entity": "RUN",
            "dag_id": "release_other",
            "run_id": "other",
            "task_id": "",
        }
        kind = kinds[number % len(kinds)]
        if rules and number == 0:
            kind, payload = POLICY_RESOLVED, rules
        last = next_entry(last, chain=chain, at=at, actor="bench", kind=kind, key=f"{chain}/{number}", payload=payload)
        rows.append(
            [canonical_bytes(payload).decode() if name == "payload" else getattr(last, name) for name in COLUMNS]
        )
    return rows


def fill_ledger(settings: Settings, under_way: list[str], entries: int) -> int:
    """Write entries past the check that they are linked: releases under way, older ones, and the installation's."""
    now, written = datetime.now(UTC), 0
    rules = bound_to(load_catalogue(CATALOGUE).of(SERVICE), ChangeType.NORMAL).to_xcom()
    chains: list[tuple[str, tuple[str, ...], int, datetime]] = []
    chains += [(chain, ("note",), OF_A_RELEASE, now) for chain in under_way]
    chains.append((INSTALLATION, (RELEASE_ENDED, ATTEMPT_REFUSED), entries // 5, now))
    old = now - 2 * WATCH_WITHOUT_END
    left = entries - entries // 5 - OF_A_RELEASE * len(under_way)
    chains += [
        (release_chain(f"release_service_{number}", "old"), ("note",), OF_A_RELEASE, old)
        for number in range(left // OF_A_RELEASE)
    ]
    with closing(postgres.connect(settings, postgres.LEDGER)) as connection, connection.cursor() as cursor:
        for table in ("heads", "entries"):
            cursor.execute(f"ALTER TABLE ledger.{table} DISABLE TRIGGER ALL")
            cursor.execute(f"DELETE FROM ledger.{table}")
        for chain, kinds, count, end in chains:
            rows = rows_of(chain, kinds, count, end, None if chain == INSTALLATION else rules)
            execute_values(cursor, f"INSERT INTO ledger.entries ({', '.join(COLUMNS)}) VALUES %s", rows, page_size=1000)
            written += len(rows)
        for table in ("heads", "entries"):
            cursor.execute(f"ALTER TABLE ledger.{table} ENABLE TRIGGER ALL")
        connection.commit()
        cursor.execute("ANALYZE ledger.entries")
    return written


def copy_runs(settings: Settings, many: int) -> list[str]:
    """Copy a run of Airflow with its tasks and results; return the names of the copies."""
    names = [f"manual__{number}" for number in range(many)]
    with closing(postgres.connect(settings, postgres.DATABASE)) as connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for table in COPIED:
            cursor.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position",
                (table,),
            )
            columns = [name for (name,) in cursor.fetchall()]
            cursor.execute(
                f"SELECT {', '.join(columns)} FROM {table} WHERE dag_id = %s AND run_id = %s", (RELEASE, BACKED_OUT_ID)
            )
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            copies = [
                changed(table, row, name, 1_000_000 + number) for number, name in enumerate(names) for row in rows
            ]
            execute_values(
                cursor,
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES %s",
                [
                    [json.dumps(value) if isinstance(value, dict | list) else value for value in row.values()]
                    for row in copies
                ],
            )
        connection.commit()
    return names


def changed(table: str, row: dict[str, Any], name: str, number: int) -> dict[str, Any]:
    """Return a row as that of a copy."""
    own: dict[str, dict[str, Any]] = {
        "dag_run": {"id": number, "logical_date": None, "state": "running"},
        "task_instance": {"id": str(uuid4())},
        "xcom": {"dag_run_id": number, "value": json.dumps(row.get("value"))},
    }
    return {**row, "run_id": name, **own[table]}


def processor_seconds() -> float:
    """Return the time of processors that this process and those that it started have used."""
    us = psutil.Process()
    times = [one.cpu_times() for one in (us, *us.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def look(console: Console) -> tuple[float, float]:
    """Look once at all releases; return how many seconds it took, and how many of a processor."""
    catalogue = load_catalogue(CATALOGUE)
    services = {dag_id: name for name in catalogue.services for dag_id in dags_of_service(name)}
    with (
        open_ledger(ledger_connection(console.postgres)) as ledger,
        AirflowApi(console.base, "interlock_reader", "interlock_reader") as api,
    ):
        began, used = time.perf_counter(), processor_seconds()
        runs = reconcile._find_releases(ledger, api, frozenset((RELEASE,)), datetime.now(UTC))
        _, passing = reconcile._compare_releases(reconcile._Look(ledger, api, catalogue, runs), runs, services)
        assert passing is None, passing
        return time.perf_counter() - began, processor_seconds() - used


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=__doc__)
    parser.add_argument("--releases", type=int, default=200)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="interlock-bench-") as name,
        console_server(Path(name), on_postgres=True) as console,
    ):
        names = copy_runs(console.postgres, options.releases)
        written = fill_ledger(console.postgres, [release_chain(RELEASE, one) for one in names], options.entries)
        took = [look(console) for _ in range(options.rounds)]
    about = f"{options.releases} releases under way, {written:,} entries, {options.rounds} rounds. {machine()}"
    table = {
        "A look (s)": [all_of_it for all_of_it, _ in took],
        "A look (s of a processor)": [used for _, used in took],
    }
    publish(f"{about}\n\n{medians(table)}", options.write, "reconcile")
    return 0


if __name__ == "__main__":
    sys.exit(main())
