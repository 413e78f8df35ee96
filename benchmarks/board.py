"""Measure how long the pages Board, Timeline, Measures and Release wait for the API, for an organisation of some size.

  python -m benchmarks.board [--services 1000] [--entries 100000] [--rounds 100] [--write PAGE]

It makes a catalogue of services with four environments each, a train for twenty services and a calendar for five, and a
PostgreSQL with a ledger: releases of 80 entries each, a fifth of all entries in the installation's chain, marks,
findings, five bookings of each environment. One in twenty services has a release under way. Between two requests, a
release ends. Each request is what the route does for a reader of all services, without HTTP and without the question
which Dags the reader may read.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from psycopg2.extras import execute_values
from pydantic import BaseModel

from benchmarks.ledger import OF_A_RELEASE
from benchmarks.schedule import make_catalogue, service
from benchmarks.table import machine, publish
from interlock.adapters.calendars.copies import CopiesThere
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.overview.plans import KnownPlans
from interlock.console.api import forecast, measures, timeline
from interlock.console.api.board import Filters, Overview
from interlock.console.api.measures import MeasuredOverview
from interlock.console.pages import schedule
from interlock.domain.calendars.bookings import booking_chain
from interlock.domain.canonical import canonical_bytes
from interlock.domain.dag_names import dag_of_release
from interlock.domain.ledger.chain import INSTALLATION, next_entry, release_chain
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    ARTIFACT_BUILT,
    ATTEMPT_REFUSED,
    BOARD_DECIDED,
    COMMUNICATION_RECORDED,
    ENVIRONMENT_BOOKED,
    ENVIRONMENT_FREED,
    FINDING,
    PATH_DEPLOYED,
    PLAN_MADE,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    ROLLOUT_FROZEN,
    TEST_DEPLOYED,
    VERIFICATION_JUDGED,
    VERSION_MARKED_BAD,
    WAVE_DEPLOYED,
)
from interlock.domain.overview.board import Flight, Seen, flight_of
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from tests.factories.releases import plan, rollout
from tests.integration.ledger_server import ledger_connection, ledger_server

MORE = """\
  integration:
    after: [test]
    hosts: { Service: bike-shop, Environment: integration }
    count: 1
    ssh: interlock_test_hosts
    deploy_root: srv/bike-shop
  staging:
    after: [integration]
    hosts: { Service: bike-shop, Environment: staging }
    count: 1
    ssh: interlock_test_hosts
    deploy_root: srv/bike-shop
  production:
"""
ENVIRONMENTS = ("test", "integration", "staging", "production")
PASSED = {
    **{0: RELEASE_REQUESTED, 5: PLAN_MADE, 10: ARTIFACT_BUILT, 48: ACCEPTANCE_DECIDED},
    **{50: ROLLOUT_FROZEN, 60: BOARD_DECIDED, 65: COMMUNICATION_RECORDED, 70: WAVE_DEPLOYED, 78: VERIFICATION_JUDGED},
}
"""At which place of its chain a release passes its milestones."""
RECORDS = {PLAN_MADE: plan().to_xcom(), ROLLOUT_FROZEN: rollout().to_xcom()}
"""What its entries have; of others, only what is measured."""
EVERYTHING = Filters("", frozenset(), frozenset(), frozenset(), frozenset())
COLUMNS = ("chain", "sequence", "at", "actor", "kind", "key", "payload", "previous", "hash")
Told = tuple[str, dict[str, Any]]


def add_environments(folder: Path) -> None:
    """Give each service four environments."""
    for path in (folder / "services").iterdir():
        path.write_text(path.read_text().replace("  production:\n", MORE, 1))


def of_release(number: int, name: str) -> Iterator[Told]:
    """Yield the entries of a release: notes, its milestones, and what it deployed before production."""
    ran = [{"host": "127.20.0.11", "outcome": "deployed", "after": f"1.{number}.0-0123456789ab"}]
    for place in range(OF_A_RELEASE):
        if place in PASSED:
            yield PASSED[place], {**RECORDS.get(PASSED[place], {}), "service": name, "change_type": "normal"}
        elif place in (20, 30, 40):
            environment = {20: "test", 30: "integration", 40: "staging"}[place]
            kind = TEST_DEPLOYED if environment == "test" else PATH_DEPLOYED
            yield kind, {"environment": environment, "results": ran, "base_urls": []}
        else:
            yield "note", {"what": "Something that was recorded of this release, in some words", "number": place}


def ended(number: int, services: int) -> Told:
    """Return the end of a release."""
    name, run = service(number % services), f"{dag_of_release(service(number % services))}/{number}"
    told = {"run": run, "service": name, "version": f"1.{number}.0", "change_type": "normal", "planned": True}
    told["began"] = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    return RELEASE_ENDED, {**told, "outcome": "backed_out" if number % 10 == 9 else "deployed"}


def of_installation(releases: int, services: int, entries: int) -> Iterator[Told]:
    """Yield the entries of the installation's chain."""
    for number in range(entries):
        name = service(number % services)
        if number < releases:
            yield ended(number, services)
        elif number % 100 == 0:
            mark = {"service": name, "environment": "production", "version": "0.9.0", "by": "rita", "reason": "Slow"}
            yield VERSION_MARKED_BAD, {**mark, "verdict": "bad"}
        elif number % 100 == 1:
            evidence = {"service": name, "environment": "production", "host": "127.20.0.11"}
            yield FINDING, {"what": "A host runs another release.", "found": "host", "evidence": evidence}
        else:
            yield ATTEMPT_REFUSED, {"what": "Somebody tried something", "number": number}


def of_bookings(service_name: str, environment: str, releases: int) -> Iterator[Told]:
    """Yield the bookings of an environment of a service: each release had it, and gave it back."""
    since = datetime.now(UTC) - timedelta(days=1)
    for number in range(releases):
        holder = release_chain(dag_of_release(service_name), str(number))
        held = {"environment": environment, "service": service_name, "holder": holder, "version": f"1.{number}.0"}
        booked = {**held, "by": "rita", "since": since.isoformat(), "until": (since + timedelta(hours=1)).isoformat()}
        yield ENVIRONMENT_BOOKED, booked
        yield ENVIRONMENT_FREED, held


def rows_of(chain: str, told: Iterator[Told], count: int) -> Iterator[list[Any]]:
    """Yield the rows of a chain, a minute after each other."""
    last, at = None, datetime.now(UTC) - timedelta(minutes=count + 1)
    for number, (kind, payload) in enumerate(told):
        at += timedelta(minutes=1)
        key = f"{chain}/{number}"
        last = next_entry(last, chain=chain, at=at, actor="bench", kind=kind, key=key, payload=payload)
        yield [canonical_bytes(payload).decode() if one == "payload" else getattr(last, one) for one in COLUMNS]


def fill(settings: Settings, entries: int, services: int) -> tuple[int, int]:
    """Write the entries as the owner of the database; return how many, and how many releases."""
    of_all = entries // 5
    releases = (entries - of_all) // OF_A_RELEASE
    statement = f"INSERT INTO ledger.entries ({', '.join(COLUMNS)}) VALUES %s"
    with closing(postgres.connect(settings, postgres.LEDGER)) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger.entries DISABLE TRIGGER linked")
        for number in range(releases):
            name = service(number % services)
            chain = release_chain(dag_of_release(name), str(number))
            execute_values(
                cursor, statement, list(rows_of(chain, of_release(number, name), OF_A_RELEASE)), page_size=1000
            )
        for name in map(service, range(services)):
            for environment in ENVIRONMENTS:
                rows = list(rows_of(booking_chain(environment, name), of_bookings(name, environment, 5), 10))
                execute_values(cursor, statement, rows, page_size=1000)
        installation = of_installation(releases, services, of_all)
        execute_values(cursor, statement, list(rows_of(INSTALLATION, installation, of_all)), page_size=1000)
        cursor.execute("ALTER TABLE ledger.entries ENABLE TRIGGER linked")
        cursor.execute("ANALYZE ledger.entries")
    return releases * OF_A_RELEASE + of_all + services * len(ENVIRONMENTS) * 10, releases


def under_way(services: int) -> dict[str, list[Flight]]:
    """Return the releases under way."""
    tasks = [Seen(task_id="rollout.cast_ballot", state="awaiting_input")]
    about: dict[str, Any] = {"state": "running", "version": "2.0.0", "requested_by": "rita", "paused": False}
    dags = [dag_of_release(service(number)) for number in range(0, services, 20)]
    return {
        dag: [flight_of(dag_id=dag, run_id="now", since=None, tasks=tasks, rollback=False, **about)] for dag in dags
    }


def others(
    overview: Overview, readable: frozenset[str], opened: Callable[[], Any]
) -> dict[str, Callable[[], BaseModel]]:
    """Return further routes, as a reader of all services asks for them: without what only Airflow's database knows."""
    state = SimpleNamespace(overview=overview, open_ledger=opened, measured=MeasuredOverview(opened))
    request: Any = SimpleNamespace(app=SimpleNamespace(state=state))
    now = datetime.now(UTC)
    for module in (timeline, forecast):
        module.readable_dags = lambda user: readable  # type: ignore[attr-defined]
    measures._readable = lambda request, user: request.app.state.measured.releases(readable)
    named = {"unpaused": frozenset, "runs_under_way": frozenset, "_readable": lambda found, user: list(found)}
    for name, answer in named.items():
        setattr(schedule, name, answer)
    first = dag_of_release(service(0))
    return {
        **{
            f"Timeline of a month, by {by}": partial(
                timeline.timeline, request, None, now - timedelta(days=8), now + timedelta(days=23), by
            )
            for by in ("service", "owner", "environment")
        },
        "Measures of a quarter": lambda: measures.measures(request, None, measures.Asked()),
        "Forecast of a release": lambda: forecast.forecast(request, None, first, "0"),
    }


def p95(values: list[float]) -> float:
    """Return the value that 95 of 100 do not exceed."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def measure(folder: Path, settings: Settings, options: argparse.Namespace, releases: int) -> dict[str, list[float]]:
    """Return how many milliseconds each kind of request took."""
    flights = under_way(options.services)
    overview = Overview(
        lambda: open_ledger(ledger_connection(settings)),
        flights=lambda: flights,
        runs=frozenset,
        plans=KnownPlans(folder, lambda now: CopiesThere(folder.parent, now=now)),
    )
    readable = frozenset(dag_of_release(service(number)) for number in range(options.services))
    drifting = Filters("", frozenset(), frozenset(), frozenset(), frozenset({"drift"}))
    kinds: dict[str, Callable[[], Any]] = {
        "A page of 50 services": lambda: overview.page(readable, EVERYTHING, 50, 0),
        "The last page of 100": lambda: overview.page(readable, EVERYTHING, 100, max(0, options.services - 100)),
        "One state of all services": lambda: overview.page(readable, drifting, 50, 0),
        **others(overview, readable, lambda: open_ledger(ledger_connection(settings))),
    }
    began, worked = time.perf_counter(), time.process_time()
    first = overview.page(readable, EVERYTHING, 50, 0)
    if (
        first.faults
        or first.total_entries != options.services
        or not all(one.version for one in first.services[0].cells)
    ):
        raise ValueError(
            f"the catalogue or the ledger that was made is broken: {first.faults[:1]}, {first.services[:1]}"
        )
    found = {
        "The first request of a process (ms)": [1000 * (time.perf_counter() - began)],
        "The first request of a process (ms of a processor)": [1000 * (time.process_time() - worked)],
    }
    with open_ledger(ledger_connection(settings)) as writer:
        for number in range(options.rounds):
            kind, payload = ended(releases + number, options.services)
            writer.append(INSTALLATION, kind, payload, actor="bench", key=f"more/{number}")
            for what, answer in kinds.items():
                began, worked = time.perf_counter(), time.process_time()
                answer().model_dump_json()
                took, work = time.perf_counter() - began, time.process_time() - worked
                found.setdefault(f"{what} (ms)", []).append(1000 * took)
                found.setdefault(f"{what} (ms of a processor)", []).append(1000 * work)
    return found


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.board", description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as name, ledger_server(Path(name, "state")) as settings:
        folder = Path(name, "catalogue")
        folder.mkdir()
        make_catalogue(folder, options.services, max(1, options.services // 20), max(1, options.services // 5))
        add_environments(folder)
        written, releases = fill(settings, options.entries, options.services)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = measure(folder, settings, options, releases)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = ["| What | Median | p95 | Most |", "| --- | --- | --- | --- |"]
    for what, values in found.items():
        cells = (statistics.median(values), p95(values), max(values))
        rows.append(f"| {what} | {' | '.join(f'{one:,.0f}' for one in cells)} |")
    about = (
        f"{options.services:,} services with four environments, {written:,} entries, {options.rounds} requests of each "
        f"kind; {(after - before) / 1024:.0f} MiB more memory. {machine()}"
    )
    publish(about + "\n\n" + "\n".join(rows) + "\n", options.write, "board")
    return 0


if __name__ == "__main__":
    sys.exit(main())
