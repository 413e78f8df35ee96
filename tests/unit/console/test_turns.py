"""Answers to one question are worked on one after the other, and the second is told who was first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from interlock.console.control import middleware
from interlock.console.control.lookups import GivenBefore
from interlock.console.control.middleware import seconds_to_hold
from interlock.console.record.turns import MAX_AT_ONCE, refusal_of_second, turn
from interlock.domain.errors import TransientError
from tests.memory_ledger import MemoryLedger
from tests.unit.console.test_door import BALLOT, OURS, ask

FIRST = GivenBefore("tess", datetime(2026, 11, 23, 9, 30, tzinfo=UTC), "Failed")
NAMES = {"dag_id": "release_bike_shop", "dag_run_id": "r1", "task_id": "quality.run_case", "map_index": "3"}


async def taken_already(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 409, "headers": []})
    await send({"type": "http.response.body", "body": b"detail has already been updated"})


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (FIRST, "Your answer was not recorded: tess answered it at 2026-11-23 09:30:00 UTC (“Failed”)."),
        (None, "Your answer was not recorded: it was answered."),
    ],
)
def test_who_answers_second_is_told_who_was_first(first: GivenBefore | None, said: str) -> None:
    knows = replace(OURS, given_before=lambda asked: first)
    answer = ask(taken_already, BALLOT, {"chosen_options": ["Passed"]}, method="PATCH", lookups=knows)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith(said)
    assert "Rule: the first answer to a question stands." in refusal_of_second(first)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TransientError("The ledger does not answer."), "The ledger does not answer."),
        (RuntimeError("a secret"), "RuntimeError."),
    ],
)
def test_an_answer_whose_turn_does_not_come_is_not_taken(error: Exception, why: str) -> None:
    class Silent(MemoryLedger):
        @contextmanager
        def turn(self, name: str) -> Iterator[None]:
            raise error
            yield

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("Airflow must not get it")

    answer = ask(never, BALLOT, {"chosen_options": ["Passed"]}, method="PATCH", ledger=Silent())
    assert answer.status_code == 503
    assert answer.json()["detail"] == f"Your answer was not accepted. {why} Next: answer again later."


@pytest.mark.parametrize(
    ("waits_since", "held"),
    [
        (None, 0.0),
        (timedelta(0), 5.0),
        (timedelta(seconds=3), 2.0),
        (timedelta(seconds=5), 0.0),
        (timedelta(days=9), 0.0),
        (timedelta(hours=-1), 5.0),
    ],
)
def test_an_answer_is_held_until_the_scheduler_can_take_it(waits_since: timedelta | None, held: float) -> None:
    now = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    assert seconds_to_hold(None if waits_since is None else now - waits_since, now) == held


def test_an_early_answer_reaches_airflow_after_it_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    async def sleep(seconds: float) -> None:
        order.append("held" if seconds > 0 else "not held")

    async def taken(scope: Any, receive: Any, send: Any) -> None:
        order.append("taken")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    monkeypatch.setattr(middleware, "sleep", sleep)
    knows = replace(OURS, paused_at=lambda asked: datetime.now(UTC))
    ask(taken, BALLOT, {"chosen_options": ["Approve"]}, method="PATCH", lookups=knows)
    assert order == ["held", "taken"]


def test_an_api_server_works_on_few_answers_at_once_and_gives_each_turn_back() -> None:
    """Each needs connections to Airflow's database; with too many, each would wait for the others."""
    now, most, names, closed = [0], [0], [], []

    class Counting(MemoryLedger):
        @contextmanager
        def turn(self, name: str) -> Iterator[None]:
            names.append(name)
            yield
            closed.append(name)

    async def answer_one(index: int) -> None:
        async with turn({**NAMES, "map_index": str(index)}, Counting):
            now[0] += 1
            most[0] = max(most[0], now[0])
            await anyio.sleep(0.01)
            now[0] -= 1

    async def answer_all() -> None:
        async with anyio.create_task_group() as group:
            for index in range(3 * MAX_AT_ONCE):
                group.start_soon(answer_one, index)

    anyio.run(answer_all)
    assert most[0] == MAX_AT_ONCE
    assert sorted(names) == sorted(closed)
    assert "answer/release/release_bike_shop/r1/quality.run_case/3" in names
    assert len(set(names)) == 3 * MAX_AT_ONCE, "a lock for each question"
