"""What a withdrawal does to the tasks of its release, and to the questions that people are asked in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, TaskDeferred

from interlock.adapters.permits.issuer import Admission
from interlock.domain.board.questions import ASK_APPROVERS, ASK_WAIVERS
from interlock.domain.errors import CalledOff, HeldBack
from interlock.domain.ledger.kinds import (
    BASELINE_MEASURED,
    HOSTS_SMOKED,
    LOAD_MEASURED,
    PERMIT_USED,
    POLICY_RESOLVED,
    RELEASE_CLOSED,
    RELEASE_WITHDRAWN,
    ROLLOUT_FROZEN,
    VERIFICATION_JUDGED,
)
from interlock.domain.records import LoadReport, SmokeReport
from interlock.stages.controls import withdrawals
from interlock.stages.release import closure, implementation, verification
from interlock.stages.release.implementation import AwaitStart
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.evidence import refuse_void
from interlock.stages.runtime.triggers import StartTrigger
from tests.airflow_server import CHAIN, RUN, AirflowServer
from tests.factories import releases
from tests.factories.releases import WITHDRAWAL
from tests.running_task import RunningTask

SAID = "rita, who requested it, withdrew the release: The tag is wrong"
PLAN = releases.rollout()


def withdraw(running: RunningTask) -> None:
    running.recorded.append((RELEASE_WITHDRAWN, WITHDRAWAL.model_dump(mode="json")))


# --- what its tasks do ------------------------------------------------------------------------------------------------


def test_no_task_of_a_withdrawn_release_does_anything_but_end_it(running: RunningTask) -> None:
    withdraw(running)
    with pytest.raises(HeldBack, match=SAID):
        refuse_void([])
    refuse_void([], after_end="way_back")
    refuse_void([], after_end="go_on")


def test_a_withdrawal_halts_a_wave_between_two_hosts_and_a_canary_that_is_watched(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "refuse_stopped", lambda *_: None)
    monkeypatch.setattr(permits, "stops_now", lambda *_: ())
    permits.refuse_halted_release("bike-shop", "production")
    permits.refuse_emergency(releases.service())
    withdraw(running)
    with pytest.raises(HeldBack, match=SAID):
        permits.refuse_halted_release("bike-shop", "production")
    with pytest.raises(HeldBack, match=SAID):
        permits.refuse_emergency(releases.service())


def test_a_withdrawn_release_gets_no_permit(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "signer", lambda: SimpleNamespace(public_key=b""))
    withdraw(running)
    with pytest.raises(CalledOff, match=SAID):
        permits.refuse_unproven(resources.catalogue_of("bike-shop"), PLAN, None)


@pytest.mark.parametrize("purpose", ["deploy", "restart"])
def test_what_changes_hosts_of_production_looks_for_a_withdrawal_before_each(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    made: list[Any] = []

    @contextmanager
    def office(*_: Any) -> Iterator[Any]:
        yield None

    def by_permit(*_: Any, halt: Any, must_verify: bool) -> Any:
        made.append(halt)

    monkeypatch.setattr(permits, "_office", office)
    monkeypatch.setattr(Admission, "by_permit", by_permit)
    withdraw(running)
    admissions = {
        "deploy": permits.admission_to_deploy(PLAN, 1, lambda *_: None),
        "restart": permits.admission_to_restart(PLAN, PLAN.hosts, lambda *_: None),
    }
    with admissions[purpose]:
        pass
    (halt,) = made
    with pytest.raises(HeldBack, match=SAID):
        halt()


def test_who_waits_for_the_start_hears_of_a_withdrawal(running: RunningTask) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    waiting = AwaitStart(task_id="await_start", target_time=later.isoformat())
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    trigger = deferred.value.trigger
    assert isinstance(trigger, StartTrigger)
    assert (trigger.moment, trigger.chain, deferred.value.method_name) == (later, CHAIN, "execute_again")
    withdraw(running)
    with pytest.raises(AirflowFailException, match=SAID):
        waiting.execute_again({}, {"why": "the release was withdrawn"})
    with pytest.raises(AirflowFailException, match=SAID):
        AwaitStart(task_id="await_start", target_time=releases.AT.isoformat()).execute({})


def test_a_release_starts_when_its_time_has_come(running: RunningTask) -> None:
    AwaitStart(task_id="await_start", target_time=releases.AT.isoformat()).execute_again({}, {"why": "it has come"})
    assert implementation.START.endswith("dag_run.run_after.isoformat() }}"), "without not_before there is no wait"


# --- the last moment --------------------------------------------------------------------------------------------------


def judge(running: RunningTask, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Verify a release of which smoke and load show nothing wrong.

    :param meanwhile: happens while it is judged.
    """

    @contextmanager
    def workspace() -> Iterator[None]:
        yield None

    def put_tree(*_: Any) -> str:
        meanwhile()
        return "file:///docs"

    nothing = SimpleNamespace(failures=(), docs=None)
    for room, name, value in (
        (resources, "workspace", workspace),
        (resources, "store", lambda: SimpleNamespace(put_tree=put_tree)),
        (verification.expectations, "judge", lambda *_, **__: nothing),
        (verification, "compare_hosts", lambda *_, **__: ()),
    ):
        monkeypatch.setattr(room, name, value)
    before, after = (LoadReport(moment=moment, results=(), seconds=1) for moment in ("before", "after"))
    smoke = SmokeReport(results=())
    for kind, record in (
        (POLICY_RESOLVED, releases.policy()),
        (BASELINE_MEASURED, before),
        (HOSTS_SMOKED, smoke),
        (LOAD_MEASURED, after),
    ):
        running.knows(kind, record)
    running.recorded.append((ROLLOUT_FROZEN, {**PLAN.to_xcom(), "digest": PLAN.digest}))
    given = (one.to_xcom() for one in (releases.policy(), PLAN, smoke, before, after))
    verification.judge_verification.function("bike-shop", *given)


def test_a_withdrawal_that_comes_while_the_release_is_judged_takes_it_back(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AirflowFailException, match=SAID):
        judge(running, monkeypatch, lambda: withdraw(running))
    assert running.recorded[-1][0] == VERIFICATION_JUDGED, "what was measured stands on record all the same"
    assert running.xcoms["reason"].startswith(SAID), "the reason of the back-out"
    assert running.xcoms["called_off"] is True, "the closure reads this, not the words"


def test_a_withdrawal_that_comes_after_the_verification_changes_nothing(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(running, monkeypatch, lambda: None)
    withdraw(running)
    refuse_void([])


# --- its end ----------------------------------------------------------------------------------------------------------


def test_a_withdrawn_release_is_recorded_as_withdrawn_with_the_reason(
    airflow: AirflowServer, running: RunningTask
) -> None:
    withdraw(running)
    closure.record_outcome.function("bike-shop")
    (closed,) = [payload for kind, payload in running.recorded if kind == RELEASE_CLOSED]
    assert (closed["outcome"], closed["reason"]) == ("withdrawn", f"{SAID}.")


def test_a_withdrawn_release_that_may_have_changed_its_hosts_is_not_recorded_as_withdrawn(
    airflow: AirflowServer, running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closure.bookings, "free", lambda *_: None)
    running.recorded.append((ROLLOUT_FROZEN, {**PLAN.to_xcom(), "digest": PLAN.digest}))
    used = {"permit": {"purpose": "deploy", "plan": PLAN.digest}}
    running.recorded.append((PERMIT_USED, used))
    withdraw(running)
    closure.record_outcome.function("bike-shop")
    (closed,) = [payload for kind, payload in running.recorded if kind == RELEASE_CLOSED]
    assert closed["outcome"] == "failed", "its back-out left nothing on record"


# --- the questions of the release -------------------------------------------------------------------------------------


@pytest.fixture
def release(airflow: AirflowServer) -> dict[str, Any]:
    """A release that is running, by Airflow."""
    airflow.run = {"dag_run_id": RUN[1], "state": "running"}
    return airflow.run


def await_end() -> Any:
    return withdrawals.await_end.function(WITHDRAWAL.model_dump(mode="json"))


def test_the_questions_of_a_withdrawn_release_are_closed_with_what_stands_without_an_answer(
    airflow: AirflowServer, running: RunningTask, release: dict[str, Any]
) -> None:
    airflow.answer(
        airflow.ask("planning.approve_plan", "maya", options=["Approve", "Reject"]), "maya", "Approve", "Fine"
    )
    airflow.ask(ASK_APPROVERS, "fay", map_index=0, options=["Approve", "Reject"])
    airflow.ask(ASK_WAIVERS, "maya", map_index=1, options=["Waive for a day", "Do not waive"])
    with pytest.raises(AirflowRescheduleException):
        await_end()
    answers = [(one["responded_by_user"]["name"], one["chosen_options"]) for one in airflow.questions]
    assert answers == [("maya", ["Approve"]), ("board_clerk", ["Reject"]), ("board_clerk", ["Do not waive"])]
    assert airflow.questions[1]["params_input"]["comment"] == f"Closed by board_clerk: {SAID}."
    airflow.ask("rollout.cast_ballot", "ben", options=["Approve", "Reject", "Abstain"])
    with pytest.raises(AirflowRescheduleException):
        await_end()
    assert all(one["response_received"] for one in airflow.questions), "one that was asked a moment later"


def test_a_question_that_is_not_the_clerks_to_close_does_not_keep_the_others_open(
    airflow: AirflowServer, running: RunningTask, release: dict[str, Any]
) -> None:
    airflow.ask(ASK_APPROVERS, "fay", options=["Approve", "Reject"], assigned_users=[{"id": "fay", "name": "Fay"}])
    airflow.ask(ASK_WAIVERS, "maya", options=["Waive for a day", "Do not waive"])
    with pytest.raises(AirflowRescheduleException):
        await_end()
    assert [one["response_received"] for one in airflow.questions] == [False, True]


def test_the_run_of_a_withdrawal_ends_with_its_release(
    airflow: AirflowServer, running: RunningTask, release: dict[str, Any]
) -> None:
    running.knows(RELEASE_CLOSED, releases.outcome(outcome="withdrawn", reason=SAID))
    assert await_end() == {"state": "running", "outcome": "withdrawn", "reason": SAID}


@pytest.mark.parametrize("state", ["queued", "failed", None])
def test_what_does_not_run_is_not_waited_for(
    airflow: AirflowServer, running: RunningTask, release: dict[str, Any], state: str | None
) -> None:
    airflow.ask(ASK_APPROVERS, "fay", options=["Approve", "Reject"])
    airflow.run = None if state is None else {**release, "state": state}
    assert await_end() == {"state": state, "outcome": None, "reason": ""}
    assert not airflow.questions[0]["response_received"]
