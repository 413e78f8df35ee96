"""Releases that change a database, end to end: one deployed, one backed out after its migration, one refused.

While they run, customers book repairs at every host of production. No ticket that the shop gave out may get lost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

from interlock.estate.stack import postgres
from interlock.estate.stack.shop_databases import database_of

from .people import Colleague, Release, dag_of, until
from .stack import SADDLE_SHOP, Stack
from .test_release import accept, approve, train

pytestmark = pytest.mark.timeout(2400)
SERVICE, DAG = SADDLE_SHOP, dag_of(SADDLE_SHOP)
FIRST, EXPANDS, CONTRACTS = "1.4.0", "1.5.0", "1.6.0"


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


@pytest.fixture(scope="module")
def released(stack: Stack, rita: Colleague) -> Release:
    """The release that brought the first version with a database to hosts that had nothing."""
    run = rita.release(FIRST)
    accept(stack, run)
    approve(stack, run)
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    assert stack.production() == {FIRST}
    return run


def test_a_release_changes_the_database_before_its_first_wave(stack: Stack, released: Release) -> None:
    rehearsed = released.result("quality.rehearse_migrations")
    assert released.result("rollout.freeze_plan")["migrations"] == rehearsed
    assert rehearsed["before"] == [], "production ran nothing"
    assert released.result("implementation.step_1")["outcome"] == "done"
    assert columns(stack) == {"number", "repair", "name", "price", "written"}


@pytest.mark.usefixtures("released")
def test_a_release_that_fails_after_its_migration_is_backed_out_and_no_row_is_lost(
    stack: Stack, rita: Colleague
) -> None:
    given_out = booked(stack, "Ada")
    configure(stack, {"smoke:\n": "smoke:\n  - { path: /repairs, contains: free of charge }\n"})
    run = rita.release(EXPANDS)
    with customers(stack) as numbers:
        accept(stack, run)
        (ballot, *_) = ballots_of(stack, run)
        approve(stack, run)
        train(stack, run)
        assert run.finish() == "failed"
    assert run.outcome()["outcome"] == "backed_out", run.outcome()
    assert stack.production() == {FIRST}

    rehearsed = run.result("quality.rehearse_migrations")
    assert [one["version"] for one in rehearsed["before"]] == [FIRST]
    assert rehearsed["before"][0]["tests"] > 0
    (tickets,) = [one for one in rehearsed["tables"] if one["table"] == "public.tickets"]
    assert 0 < tickets["before"] < tickets["after"], "the copy's rows, and those that the suites wrote on it"
    assert run.result("rollout.freeze_plan")["migrations"] == rehearsed
    assert "### Database changes, rehearsed on a restored copy" in ballot
    assert f"{FIRST}, which production runs, works on the schema after the changes" in ballot

    assert run.result("implementation.step_1")["outcome"] == "done"
    assert run.result("verification.back_step_1")["outcome"] == "done"
    assert columns(stack) == {"number", "repair", "name", "price", "written"}
    assert len(numbers) > 10
    in_the_book = {number: price for number, price in query(stack, "SELECT number, price FROM tickets")}
    assert {*given_out, *numbers} <= in_the_book.keys()
    assert None not in in_the_book.values()
    assert booked(stack, "Zoe"), "it goes on"


@pytest.mark.usefixtures("released")
def test_what_an_environment_still_needs_is_not_taken_away(stack: Stack, rita: Colleague) -> None:
    configure(
        stack,
        {
            "  - { path: /repairs, contains: free of charge }\n": "",
            "way_back: { command: { script: bin/migrate_back } }": f"way_back: none\n    works_from: {EXPANDS}",
        },
        missing_is_fine=True,
    )
    run = rita.release(CONTRACTS)
    assert run.finish() == "failed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "quality"), outcome
    assert f"“Change the database” takes away what versions before {EXPANDS} need" in outcome["reason"]
    assert run.questions() == (), "nobody was asked"
    assert columns(stack) >= {"price"}


def configure(stack: Stack, changes: dict[str, str], *, missing_is_fine: bool = False) -> None:
    """Change the service's file, and have Airflow read it."""
    path = stack.settings.catalogue / "services" / f"{SERVICE}.yaml"
    text = path.read_text()
    for old, new in changes.items():
        assert missing_is_fine or text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    stack.parse(DAG)


def query(stack: Stack, sql: str) -> list[tuple[Any, ...]]:
    with closing(postgres.connect(stack.settings, database_of("production"))) as opened, opened.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def columns(stack: Stack) -> set[str]:
    sql = "SELECT column_name FROM information_schema.columns WHERE table_name = 'tickets'"
    return {name for (name,) in query(stack, sql)}


def booked(stack: Stack, name: str) -> list[int]:
    """Book a repair at each host of production; return the numbers of the tickets that were given out."""
    found = []
    for host in stack.hosts("production"):
        url = f"http://{host.address}:{stack.settings.service_port}/repairs"
        try:
            answer = httpx.post(url, data={"repair": "brakes", "name": name}, timeout=10, trust_env=False)
        except httpx.HTTPError:
            continue  # it is being changed: the customer has no ticket
        if answer.status_code == 303:
            found.append(int(answer.headers["Location"].partition("&number=")[2]))
    return found


@contextmanager
def customers(stack: Stack) -> Iterator[list[int]]:
    """Book repairs all the time; yield the numbers of the tickets."""
    numbers: list[int] = []
    over = threading.Event()

    def book() -> None:
        while not over.wait(1):
            numbers.extend(booked(stack, "a customer"))

    booking = threading.Thread(target=book)
    booking.start()
    try:
        yield numbers
    finally:
        over.set()
        booking.join()


def ballots_of(stack: Stack, run: Release) -> list[str]:
    """Return the texts of the ballots, once they are asked."""
    asked = until("the ballots", lambda: [one for one in run.questions() if one.task_id == "rollout.cast_ballot"])
    return [one.body for one in asked]
