from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.interlock.domain.ledger import Entry, next_entry
from include.interlock.domain.witness import GIVEN, SKEW, GivenAnswer, is_witnessed

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
PLAN, OTHER = "a" * 64, "b" * 64
ANSWER = GivenAnswer(user="ben", task_id="rollout.cast_ballot", map_index=1, choice="Approve", comment="Fine")


def chain(*things: tuple[str, str, dict[str, Any]]) -> list[Entry]:
    """Return a chain of things, each with its actor, kind and payload."""
    entries: list[Entry] = []
    for number, (actor, kind, payload) in enumerate(things):
        last = entries[-1] if entries else None
        entries.append(next_entry(last, chain="c", at=NOW, actor=actor, kind=kind, key=str(number), payload=payload))
    return entries


def given(answer: GivenAnswer = ANSWER, actor: str = "ben") -> tuple[str, str, dict[str, Any]]:
    return actor, GIVEN, answer.model_dump(mode="json")


def frozen(digest: str) -> tuple[str, str, dict[str, Any]]:
    return "task", "rollout.frozen", {"digest": digest}


def test_an_answer_that_came_in_is_witnessed() -> None:
    assert is_witnessed(ANSWER, NOW, chain(frozen(PLAN), given()), digest=PLAN)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"choice": "Reject"}, id="another choice"),
        pytest.param({"map_index": 2}, id="another ballot"),
        pytest.param({"task_id": "acceptance.ask_approver"}, id="another question"),
        pytest.param({"comment": "On no account"}, id="other words"),
        pytest.param({"conditions": "At night"}, id="other conditions"),
        pytest.param({"user": "cora"}, id="somebody else"),
    ],
)
def test_what_came_in_is_exactly_what_counts(other: dict[str, Any]) -> None:
    assert not is_witnessed(ANSWER.model_copy(update=other), NOW, chain(given()), digest=PLAN)


def test_an_answer_in_another_actors_name_is_none() -> None:
    assert is_witnessed(ANSWER, NOW, chain(given(actor="cora")), digest=PLAN) is False
    assert is_witnessed(ANSWER, NOW, chain(), digest=PLAN) is False


@pytest.mark.parametrize(
    ("at", "witnessed"),
    [(NOW + SKEW, True), (NOW - SKEW, True), (NOW + SKEW + timedelta(seconds=1), False), (None, False)],
)
def test_an_answer_was_given_when_it_came_in(at: datetime | None, witnessed: bool) -> None:
    assert is_witnessed(ANSWER, at, chain(given()), digest=PLAN) == witnessed


def test_an_answer_is_to_a_plan_that_was_frozen_before_it() -> None:
    assert is_witnessed(ANSWER, NOW, chain(frozen(OTHER), given(), frozen(PLAN)), digest=PLAN) is False
    assert is_witnessed(ANSWER, NOW, chain(frozen(PLAN), given(), frozen(OTHER)), digest=PLAN)


def test_an_answer_that_was_given_again_after_the_plan_changed_is_witnessed() -> None:
    assert is_witnessed(ANSWER, NOW, chain(given(), frozen(PLAN), given()), digest=PLAN)
    other = ANSWER.model_copy(update={"choice": "Reject"})
    assert is_witnessed(ANSWER, NOW, chain(given(), given(other)), digest=PLAN)


def test_a_minute_is_what_clocks_may_differ_by() -> None:
    assert timedelta(minutes=1) == SKEW
