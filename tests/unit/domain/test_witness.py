from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import INSTALLATION, Entry, next_entry
from interlock.domain.ledger.kinds import ANSWER_GIVEN, QUESTION_WORDED, RUN_ASKED
from interlock.domain.ledger.witness import (
    MAX_CLOCK_SKEW,
    AskedRun,
    GivenAnswer,
    is_witnessed,
    question_digest,
    refuse_unasked,
    refuse_unworded,
)

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
    return actor, ANSWER_GIVEN, answer.model_dump(mode="json")


def frozen(digest: str, kind: str = "rollout.frozen") -> tuple[str, str, dict[str, Any]]:
    return "task", kind, {"digest": digest}


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
    [
        (NOW + MAX_CLOCK_SKEW, True),
        (NOW - MAX_CLOCK_SKEW, True),
        (NOW + MAX_CLOCK_SKEW + timedelta(seconds=1), False),
        (None, False),
    ],
)
def test_an_answer_was_given_when_it_came_in(at: datetime | None, witnessed: bool) -> None:
    assert is_witnessed(ANSWER, at, chain(given()), digest=PLAN) == witnessed


@pytest.mark.parametrize("kind", ["rollout.frozen", "manifest.frozen"])
def test_an_answer_is_to_a_plan_that_was_frozen_before_it(kind: str) -> None:
    assert is_witnessed(ANSWER, NOW, chain(frozen(OTHER), given(), frozen(PLAN, kind)), digest=PLAN) is False
    assert is_witnessed(ANSWER, NOW, chain(frozen(PLAN), given(), frozen(OTHER)), digest=PLAN)


def test_an_answer_that_was_given_again_after_the_plan_changed_is_witnessed() -> None:
    assert is_witnessed(ANSWER, NOW, chain(given(), frozen(PLAN), given()), digest=PLAN)
    other = ANSWER.model_copy(update={"choice": "Reject"})
    assert is_witnessed(ANSWER, NOW, chain(given(), given(other)), digest=PLAN)


def test_a_minute_is_what_clocks_may_differ_by() -> None:
    assert timedelta(minutes=1) == MAX_CLOCK_SKEW


RUN = AskedRun(dag_id="release_bike_shop", run_id="one", user="rita", conf=PLAN)


@pytest.mark.parametrize(
    ("dag_id", "chain"),
    [
        ("release_bike_shop", "release/release_bike_shop/one"),
        ("rollback_bike_shop", "release/rollback_bike_shop/one"),
        ("emergency_stop", INSTALLATION),
        ("my_release_", INSTALLATION),
    ],
)
def test_a_run_is_on_record_with_its_release_or_with_the_installation(dag_id: str, chain: str) -> None:
    run = RUN.model_copy(update={"dag_id": dag_id})
    assert (run.chain, run.key) == (chain, f"run.asked/{dag_id}/one")


@pytest.mark.parametrize(
    "other", [{}, {"user": "mallory"}, {"conf": OTHER}, {"run_id": "two"}, {"dag_id": "release_x"}]
)
def test_a_run_does_something_if_just_this_was_asked_for(other: dict[str, str]) -> None:
    (entry,) = chain(("rita", RUN_ASKED, RUN.model_dump(mode="json")))
    found = RUN.model_copy(update=other)
    if not other:
        refuse_unasked(found, entry)
        return
    for on_record in (entry, None):
        with pytest.raises(PolicyViolation, match="was refused:"):
            refuse_unasked(found, on_record)


QUESTION = "rollout.cast_ballot"


def worded_by(task_id: str, *digests: str, kind: str = QUESTION_WORDED) -> tuple[str, str, dict[str, Any]]:
    return "task", kind, {"task_id": task_id, "questions": list(digests)}


def test_a_question_is_one_that_its_task_worded() -> None:
    entries = chain(worded_by(QUESTION, OTHER), worded_by(QUESTION, PLAN))
    refuse_unworded(QUESTION, PLAN, entries)
    refuse_unworded(QUESTION, OTHER, entries)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="none"),
        pytest.param([worded_by(QUESTION, OTHER)], id="another question"),
        pytest.param([worded_by("acceptance.ask_approver", PLAN)], id="another task"),
        pytest.param([worded_by(QUESTION, PLAN, kind="rollout.frozen")], id="another kind of entry"),
    ],
)
def test_a_question_that_was_changed_does_not_count(entries: list[tuple[str, str, dict[str, Any]]]) -> None:
    with pytest.raises(PolicyViolation) as refused:
        refuse_unworded(QUESTION, PLAN, chain(*entries), chain(*entries))
    assert str(refused.value) == (
        "A question of rollout.cast_ballot was changed: its text or its assignees differ from the ledger. "
        "Rule: an answer counts only for the question that the task asked. "
        "Who can change it: no user; the finding stays in the ledger. "
        "Next: have an auditor find out in the audit log who changed it, then trigger the release again."
    )


def test_a_question_that_is_on_record_with_another_signature_is_told_apart() -> None:
    with pytest.raises(PolicyViolation) as refused:
        refuse_unworded(QUESTION, PLAN, [], chain(worded_by(QUESTION, PLAN)))
    assert str(refused.value) == (
        "A question of rollout.cast_ballot does not count: its text and its assignees are those of the ledger, but the "
        "entry does not have a signature of the signing key that this task has. Either the key is another one, or the "
        "entry was not written by the task that worded the question; which of the two is not known here. "
        "Rule: an answer counts only for the question that the task signed. "
        "Who can change it: the platform engineer (interlock_signing_key). "
        "Next: compare the key of this worker with the installation's, then try again or trigger the release again."
    )


def test_the_digest_of_a_question_covers_its_words_and_who_may_answer() -> None:
    digests = {
        question_digest(*question)
        for question in [
            ("Subject", "Body", ["ben"]),
            ("Other", "Body", ["ben"]),
            ("Subject", "Other", ["ben"]),
            ("Subject", "Body", ["ben", "cora"]),
            ("Subject", "Body", ()),
        ]
    }
    assert len(digests) == 5
    canonical = '{"assigned":["ben"],"body":"Body","subject":"Subject"}'
    assert question_digest("Subject", "Body", ("ben",)) == hashlib.sha256(canonical.encode()).hexdigest()
