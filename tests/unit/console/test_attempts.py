from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.console.control.current_request import CurrentRequest
from interlock.console.record.attempts import (
    MAX_KINDS,
    SEVERAL,
    Attempt,
    AttemptLog,
    Row,
    Tally,
    attempt_of,
)
from interlock.domain.errors import LedgerConflict, TransientError

AT = datetime(2026, 11, 23, 6, 17, tzinfo=UTC)
ATTEMPT = Attempt("opal", "PATCH", "TASK_INSTANCE", "release_bike_shop", "release control", "/p", AT, "r", "t")


class BlobStore:
    """A ledger in memory that may not take anything, for a while."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[str, Any]] = {}
        self.error: Exception | None = None
        self.tried = threading.Event()

    @contextmanager
    def open(self) -> Iterator[BlobStore]:
        yield self

    def append(self, chain: str, kind: str, payload: Any, *, actor: str, key: str) -> None:
        self.tried.set()
        if self.error:
            raise self.error
        assert (chain, kind) == ("installation", "attempt.refused")
        self.entries.setdefault(key, (actor, payload))

    @property
    def counts(self) -> list[int]:
        return [payload["count"] for _, payload in self.entries.values()]


@pytest.fixture
def shelf() -> BlobStore:
    return BlobStore()


def wait_for(condition: Any) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_the_first_attempt_of_a_kind_is_a_row_and_those_that_follow_are_another() -> None:
    tally = Tally(window=60)
    first = tally.add(ATTEMPT, 0)
    assert first is not None
    assert first.count == 1
    later = replace(ATTEMPT, at=AT.replace(minute=18))
    assert [tally.add(later, now) for now in (1, 2, 59)] == [None] * 3
    assert tally.passed(59) == []
    (row,) = tally.passed(60)
    assert row.count == 3
    assert row.payload()["at"] == "2026-11-23T06:18:00.000000Z"
    assert tally.passed(1000) == []
    assert not tally.is_open
    assert tally.add(ATTEMPT, 61) is not None


@pytest.mark.parametrize(
    "other", [{"user": "ben"}, {"method": "DELETE"}, {"entity": "XCOM"}, {"run_id": "r2"}, {"task_id": None}]
)
def test_attempts_of_other_kinds_are_counted_apart(other: dict[str, Any]) -> None:
    tally = Tally()
    assert tally.add(ATTEMPT, 0)
    assert tally.add(replace(ATTEMPT, **other), 0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.floats(0, 300)), max_size=200))
def test_no_attempt_is_lost_and_nobody_floods_the_ledger(came: list[tuple[str, int, float]]) -> None:
    tally, rows = Tally(window=60), []
    for user, task, now in sorted(came, key=lambda one: one[2]):
        rows += tally.passed(now)
        rows += [row for row in [tally.add(replace(ATTEMPT, user=user, task_id=f"t{task}"), now)] if row]
    rows += tally.passed(float("inf"))
    assert sum(row.count for row in rows) == len(came)
    # In each of at most six windows, each of two users has so many kinds and one for the rest, with two rows each.
    assert len(rows) <= 6 * 2 * (MAX_KINDS + 1) * 2


def test_who_tries_very_many_things_at_once_is_counted_together() -> None:
    tally = Tally()
    rows = [tally.add(replace(ATTEMPT, task_id=f"t{number}"), 0) for number in range(100)]
    written = [row for row in rows if row]
    assert len(written) == MAX_KINDS + 1
    assert written[-1].first.dag_id == SEVERAL
    assert sum(row.count for row in tally.passed(1000)) == 100 - len(written)


def test_an_attempt_is_recorded_without_anybody_waiting_for_it(shelf: BlobStore) -> None:
    log = AttemptLog(shelf.open)
    log.note(ATTEMPT)
    wait_for(lambda: shelf.entries)
    ((actor, payload),) = shelf.entries.values()
    assert actor == "opal"
    assert payload == {
        "user": "opal",
        "method": "PATCH",
        "entity": "TASK_INSTANCE",
        "dag_id": "release_bike_shop",
        "run_id": "r",
        "task_id": "t",
        "path": "/p",
        "by": "release control",
        "targets": 1,
        "count": 1,
        "at": "2026-11-23T06:17:00.000000Z",
        "first_at": "2026-11-23T06:17:00.000000Z",
    }
    log.close()


def test_what_was_counted_is_written_when_the_process_ends(shelf: BlobStore) -> None:
    log = AttemptLog(shelf.open)
    for _ in range(10):
        log.note(ATTEMPT)
    log.close()
    assert sum(shelf.counts) == 10
    assert len(shelf.counts) == 2
    log.note(ATTEMPT)
    log.close()
    assert sum(shelf.counts) == 11


def test_what_the_ledger_does_not_take_is_tried_again(shelf: BlobStore) -> None:
    shelf.error = TransientError("The ledger's database does not answer.")
    log = AttemptLog(shelf.open, pause=0.01)
    log.note(ATTEMPT)
    assert shelf.tried.wait(20)
    assert not shelf.entries
    shelf.error = None
    wait_for(lambda: shelf.entries)
    log.close()
    assert shelf.counts == [1]


def test_what_the_ledger_will_never_take_does_not_hold_up_the_rest(shelf: BlobStore) -> None:
    shelf.error = LedgerConflict("no")
    log = AttemptLog(shelf.open, pause=0.01)
    log.note(ATTEMPT)
    wait_for(lambda: not log._rows and shelf.tried.is_set())
    shelf.error = None
    log.note(replace(ATTEMPT, user="ben"))
    log.close()
    assert [actor for actor, _ in shelf.entries.values()] == ["ben"]


def test_what_people_send_fits_into_an_entry() -> None:
    path = "/api/v2/dags/release_x/dagRuns/" + "r\n\x1b" * 1000
    found = attempt_of("o\x00pal", CurrentRequest("DELETE", path), "RUN", "release_x", "role")
    assert found.user == "o?pal"
    assert found.run_id is not None
    assert found.run_id.isprintable()
    assert len(found.run_id) == len(found.path) == 500
    assert Row(found).payload()["dag_id"] == "release_x"
