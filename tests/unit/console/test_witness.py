from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.console.control.current_request import CurrentRequest
from interlock.console.record.witness import does_not_count, is_answer, note_run, objection
from interlock.domain.board.accounts import CLERK
from interlock.domain.calendars.stops import EmergencyStop, id_of
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import AssetMissing, TransientError
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED
from interlock.domain.ledger.witness import told
from tests.witness import SIGNER

RUN = "/api/v2/dags/release_bike_shop/dagRuns/manual__2026"
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
BALLOT = f"{RUN}/taskInstances/rollout.cast_ballot/1/hitlDetails"
SHOWN = "5" * 64
AS_WITNESS: dict[str, Any] = {"open_signer": lambda: SIGNER}
NO_DEADLINE: dict[str, Any] = {"deadline": lambda asked: None}
SIGNED: dict[str, Any] = {**AS_WITNESS, "question": lambda asked: SHOWN}


class Book:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any], str, str]] = []

    def append(self, chain: str, kind: str, payload: dict[str, Any], *, actor: str, key: str) -> None:
        self.entries.append((chain, kind, payload, actor, key))

    append_once = append

    def now(self) -> datetime:
        return NOW

    @contextmanager
    def opened(self) -> Iterator[Book]:
        yield self


def answered(content: Any, path: str = BALLOT) -> CurrentRequest:
    return CurrentRequest("PATCH", path, bytearray(json.dumps(content).encode()))


def taken(user: str, asked: CurrentRequest, book: Book) -> str:
    return objection(user, asked, book.opened, **SIGNED)


def test_an_answer_is_recorded_in_the_releases_chain_by_whoever_gave_it() -> None:
    book = Book()
    asked = answered({"chosen_options": ["Approve"], "params_input": {"comment": "Fine", "conditions": None}})
    assert taken("ben", asked, book) == ""
    said = {"user": "ben", "task_id": "rollout.cast_ballot", "map_index": 1, "choice": "Approve"}
    ((chain, kind, payload, actor, key),) = book.entries
    assert (chain, kind, actor) == ("release/release_bike_shop/manual__2026", "answer.given", "ben")
    assert told(payload) == {**said, "comment": "Fine", "conditions": "", "question": SHOWN}
    assert key == f"answer.given/{asked.id}"


@pytest.mark.parametrize(
    ("task", "choice", "comment", "counts"),
    [
        ("quality.waive_expectation", "Waive for 1 day", " ", False),
        ("quality.waive_expectation", "Waive for 1 day", "The licence is bought", True),
        ("quality.waive_expectation", "Waive for 1 day", None, False),
        ("quality.waive_expectation", "Do not waive", None, True),
        ("rollout.cast_ballot", "Approve", None, True),
    ],
)
def test_a_waiver_without_a_reason_is_refused_while_it_can_still_be_given_one(
    task: str, choice: str, comment: str | None, counts: bool
) -> None:
    path = BALLOT.replace("rollout.cast_ballot", task)
    form = {} if comment is None else {"comment": comment}
    asked = answered({"chosen_options": [choice], "params_input": form}, path)
    assert (does_not_count("cora", asked, **NO_DEADLINE) == "") is counts


FORM = {"comment": "Fine", "conditions": "", "confirmed": True}


@pytest.mark.parametrize(
    ("choice", "form", "lacks"),
    [
        pytest.param("Approve", {}, (), id="complete"),
        pytest.param("Approve", {"confirmed": False}, ("Final answer",), id="not confirmed"),
        pytest.param("Reject", {"comment": " "}, ("Comment",), id="no reason"),
        pytest.param("Not ready", {"comment": None, "confirmed": False}, ("Comment", "Final answer"), id="neither"),
        pytest.param("Abstain", {"confirmed": False}, (), id="an abstention"),
        pytest.param("Acknowledge", {"confirmed": False}, (), id="an acknowledgement"),
        pytest.param("Acknowledge", {"comment": "", "confirmed": False}, ("Comment",), id="a silent acknowledgement"),
        pytest.param(
            "Failed", {"comment": "It says 0", "step": " "}, ("Failed at step",), id="a failure without a step"
        ),
        pytest.param("Failed", {"comment": "It says 0", "step": "the last"}, ("Failed at step",), id="a step in words"),
        pytest.param("Failed", {"comment": "It says 0", "step": None}, ("Failed at step",), id="no step"),
    ],
)
def test_an_answer_in_the_form_has_a_reason_and_a_decisive_one_is_confirmed(
    choice: str, form: dict[str, Any], lacks: tuple[str, ...]
) -> None:
    why = does_not_count("ben", answered({"chosen_options": [choice], "params_input": {**FORM, **form}}), **NO_DEADLINE)
    assert [field for field in ("Comment", "Final answer", "Failed at step") if field in why] == list(lacks)
    assert (f"then choose “{choice}” again" in why) is bool(lacks)


@pytest.mark.parametrize("form", [{}, None, {"comment": "Fine"}, "no form"])
def test_a_program_that_leaves_the_confirmation_out_needs_none(form: Any) -> None:
    asked = answered({"chosen_options": ["Approve"], "params_input": form})
    assert does_not_count("ben", asked, **NO_DEADLINE) == ""


@pytest.mark.parametrize(
    ("user", "until", "late"),
    [("ben", timedelta(seconds=-1), True), ("ben", timedelta(minutes=1), False), (CLERK, timedelta(hours=-1), False)],
)
def test_an_answer_after_the_end_of_its_time_is_refused_to_all_but_the_clerk(
    user: str, until: timedelta, late: bool
) -> None:
    asked = answered({"chosen_options": ["Approve"], "params_input": FORM})
    why = does_not_count(user, asked, deadline=lambda _: asked.at + until)
    assert ("the time for an answer ended at" in why) is late


def test_an_answer_that_cannot_be_recorded_is_not_taken() -> None:
    @contextmanager
    def nowhere() -> Iterator[Book]:
        raise TransientError("The ledger does not answer.")
        yield

    why = objection("ben", answered({"chosen_options": ["Approve"]}), nowhere, **SIGNED)
    assert "was not accepted" in why
    assert "The ledger does not answer." in why
    assert "Next: answer again" in why


@pytest.mark.parametrize("content", [{}, [], {"chosen_options": []}, {"chosen_options": [7]}, {"chosen_options": "A"}])
def test_what_is_no_answer_is_left_to_airflow(content: Any) -> None:
    book = Book()
    assert taken("ben", answered(content), book) == ""
    assert book.entries == []


def test_only_answers_to_a_release_are_recorded() -> None:
    assert is_answer(answered({}))
    assert not is_answer(answered({}, BALLOT.replace("release_bike_shop", "nightly")))
    assert not is_answer(answered({}, f"{RUN}/taskInstances/rollout.cast_ballot/1"))


def triggered(dag_id: str, conf: Any) -> CurrentRequest:
    return CurrentRequest("POST", f"/api/v2/dags/{dag_id}/dagRuns", bytearray(json.dumps({"conf": conf}).encode()))


@pytest.mark.parametrize(
    ("dag_id", "chain"),
    [
        ("release_bike_shop", "release/release_bike_shop/manual__1"),
        ("rollback_bike_shop", "release/rollback_bike_shop/manual__1"),
        ("mark_version", "installation"),
    ],
)
def test_who_asked_for_a_run_is_recorded_with_the_digest_of_the_form(dag_id: str, chain: str) -> None:
    book = Book()
    note_run(
        "rita", dag_id, triggered(dag_id, {"ref": "1.1.0"}), b'{"dag_run_id": "manual__1"}', book.opened, **AS_WITNESS
    )
    ((where, kind, payload, actor, key),) = book.entries
    assert (where, kind, actor, key) == (chain, "run.asked", "rita", f"run.asked/{dag_id}/manual__1")
    known = {"dag_id": dag_id, "run_id": "manual__1", "user": "rita"}
    assert told(payload) == {**known, "conf": sha256_of({"ref": "1.1.0"})}


def test_a_run_that_is_on_record_may_overtake_others() -> None:
    book, begun = Book(), list[Any]()
    asked = triggered("release_bike_shop", {"ref": "1.1.0"})

    def overtake(*about: Any) -> None:
        begun.append((*about, [kind for _, kind, _, _, _ in book.entries]))

    note_run("rita", "release_bike_shop", asked, b'{"dag_run_id": "r1"}', book.opened, overtake=overtake, **AS_WITNESS)
    ((run, form, at, recorded),) = begun
    assert (run.dag_id, run.run_id, run.user) == ("release_bike_shop", "r1", "rita")
    assert (form, at, recorded) == ({"ref": "1.1.0"}, asked.at, ["run.asked"])


STOP = {"scope": "bike-shop", "reason": "Payments fail", "incident": None, "hours": 2}


def test_an_emergency_stop_is_declared_as_it_is_asked_for_and_waits_for_no_task() -> None:
    book = Book()
    asked = triggered("emergency_stop", STOP)
    note_run("olga", "emergency_stop", asked, b'{"dag_run_id": "manual__1"}', book.opened, **AS_WITNESS)
    recorded, (chain, kind, payload, actor, key) = book.entries
    assert recorded[1] == "run.asked"
    id = id_of("emergency_stop", "manual__1")
    assert (chain, kind, actor, key) == (
        "installation",
        EMERGENCY_STOP_DECLARED,
        "olga",
        f"{EMERGENCY_STOP_DECLARED}/{id}",
    )
    stop = EmergencyStop.model_validate(payload)
    assert (stop.id, stop.scope, stop.by, stop.until) == (id, "bike-shop", "olga", NOW + timedelta(hours=2))


@pytest.mark.parametrize("change", [{"lift": "0123abcd"}, {"scope": "nobody's"}, {"reason": "x"}])
def test_what_declares_no_stop_is_left_to_its_run(change: dict[str, str]) -> None:
    book = Book()
    form = {**STOP, **change}
    asked = triggered("emergency_stop", form)
    note_run("olga", "emergency_stop", asked, b'{"dag_run_id": "manual__1"}', book.opened, **AS_WITNESS)
    assert [kind for _, kind, _, _, _ in book.entries] == ["run.asked"]


@pytest.mark.parametrize("reply", [b"", b"[]", b"{}", b'{"dag_run_id": 7}'])
def test_an_answer_that_names_no_run_puts_nothing_on_record(reply: bytes) -> None:
    book = Book()
    note_run("rita", "mark_version", triggered("mark_version", {}), reply, book.opened)
    assert book.entries == []


def test_a_run_that_cannot_be_recorded_is_made_all_the_same_and_does_nothing_later() -> None:
    @contextmanager
    def nowhere() -> Iterator[Book]:
        raise TransientError("The ledger does not answer.")
        yield

    note_run("rita", "mark_version", triggered("mark_version", {}), b'{"dag_run_id": "r"}', nowhere)


def test_an_answer_is_not_taken_by_a_server_that_was_given_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERLOCK_WITNESS_KEY", raising=False)
    book = Book()
    why = objection("ben", answered({"chosen_options": ["Approve"]}), book.opened, question=lambda asked: SHOWN)
    assert "INTERLOCK_WITNESS_KEY does not name a usable key" in why
    assert book.entries == []


def test_an_answer_is_not_taken_when_the_question_cannot_be_read() -> None:
    def unreadable(asked: CurrentRequest) -> str:
        raise AssetMissing("Airflow's database does not answer.")

    book = Book()
    why = objection(
        "ben", answered({"chosen_options": ["Approve"]}), book.opened, open_signer=lambda: SIGNER, question=unreadable
    )
    assert "Airflow's database does not answer." in why
    assert book.entries == []


def test_an_emergency_stop_waits_for_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERLOCK_WITNESS_KEY", raising=False)
    book = Book()
    note_run("olga", "emergency_stop", triggered("emergency_stop", STOP), b'{"dag_run_id": "manual__1"}', book.opened)
    assert [kind for _, kind, _, _, _ in book.entries] == [EMERGENCY_STOP_DECLARED]
