"""What a function of records becomes, and what its failures mean to Airflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from interlock.domain.errors import HostUnreachable, PolicyViolation, TransientError
from interlock.domain.records import Decision, Waiver
from interlock.stages.runtime import taskflow
from tests.running_task import RunningTask

DECISION = Decision(subject="board", digest="a" * 64, approved=True, required=True, reason="2 of 3 approved")
AT = datetime(2026, 3, 4, tzinfo=UTC)
WAIVERS = [
    Waiver(expectation=text, suite="performance", reason="known", by="ben", at=AT, until=AT + timedelta(days=1))
    for text in ("p95 at most 800", "p99 at most 900")
]


@pytest.fixture
def left(running: RunningTask) -> dict[str, Any]:
    """The XComs that the running task leaves."""
    return running.xcoms


def run(function: Any, *args: Any) -> Any:
    """Run the function of a stage task as its worker would."""
    return taskflow.stage_task()(function).function(*args)


def test_records_arrive_as_records_and_leave_as_plain_json(running: RunningTask) -> None:
    def confirm(decision: Decision) -> Decision:
        assert isinstance(decision, Decision)
        return decision

    running.knows("board.decided", DECISION)
    assert run(confirm, DECISION.to_xcom()) == DECISION.to_xcom()


def test_a_result_is_left_in_the_ledger(running: RunningTask) -> None:
    def decide() -> Decision:
        return DECISION

    taskflow.stage_task(evidence="board.decided")(decide).function()
    assert running.recorded == [("board.decided", DECISION.to_xcom())]


@pytest.mark.parametrize("known", [(), ("older",), ("older", "newer")])
def test_a_record_that_is_not_the_last_on_record_is_refused_and_that_is_a_finding(
    running: RunningTask, known: tuple[str, ...]
) -> None:
    def confirm(decisions: list[Decision]) -> None:
        raise AssertionError("it went on")

    for reason in known:
        running.knows("board.decided", DECISION.model_copy(update={"reason": reason}))
    given = DECISION.model_copy(update={"reason": "older"} if len(known) == 2 else {})
    with pytest.raises(AirflowFailException, match="received a Decision that differs from the record in the ledger"):
        run(confirm, [given.to_xcom()])
    assert running.recorded[-1][0] == "finding"
    assert "received a Decision" in running.xcoms["reason"]


@pytest.mark.parametrize("after_end", ["refuse", "way_back", "go_on"])
@pytest.mark.parametrize("outcome", ["deployed", "failed"])
def test_a_task_of_a_release_that_has_ended_does_and_leaves_nothing(
    running: RunningTask, outcome: str, after_end: Any
) -> None:
    done: list[str] = []

    def decide() -> Decision:
        done.append("again")
        return DECISION

    running.recorded.append(("release.closed", {"outcome": outcome}))
    task = taskflow.stage_task(evidence="board.decided", after_end=after_end)(decide)
    if after_end == "go_on" or (after_end == "way_back" and outcome == "failed"):
        task.function()
        assert (done, len(running.recorded)) == (["again"], 2)
        return
    with pytest.raises(AirflowFailException, match=rf".+ was not run: the release is closed as {outcome}"):
        task.function()
    assert (done, len(running.recorded)) == ([], 1)


def test_an_edited_record_is_a_finding_also_when_the_release_has_ended(running: RunningTask) -> None:
    running.recorded.append(("release.closed", {"outcome": "deployed"}))

    def confirm(decision: Decision) -> None:
        raise AssertionError("it went on")

    with pytest.raises(AirflowFailException, match="differs from the record in the ledger"):
        run(confirm, DECISION.to_xcom())
    assert running.recorded[-1][0] == "finding"


def test_of_waivers_each_counts(running: RunningTask) -> None:
    def take(waivers: list[Waiver]) -> int:
        return len(waivers)

    for waiver in WAIVERS:
        running.knows("quality.waived", waiver)
    assert run(take, [waiver.to_xcom() for waiver in WAIVERS]) == 2


def test_a_record_that_was_altered_is_refused_for_good(left: dict[str, Any]) -> None:
    def confirm(decision: Decision) -> Decision:
        return decision

    with pytest.raises(AirflowFailException, match="approved_by"):
        run(confirm, {**DECISION.to_xcom(), "approved_by": "me"})
    assert "A record that this task received is not valid" in left["reason"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(PolicyViolation("no"), AirflowFailException, id="a rule's refusal is final"),
        pytest.param(TransientError("busy"), TransientError, id="a busy world is tried again"),
        pytest.param(HostUnreachable("down"), HostUnreachable, id="a host may come back"),
        pytest.param(OSError("disk full"), OSError, id="the unexpected is tried again"),
    ],
)
def test_a_failure_leaves_its_reason_and_tells_whether_trying_again_helps(
    left: dict[str, Any], error: Exception, raised: type[Exception]
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(raised):
        run(fail)
    assert str(error) in left["reason"]


def test_a_rejection_leaves_its_evidence_before_it_fails(running: RunningTask) -> None:
    def reject() -> None:
        taskflow.push_result(DECISION, "board.decided")
        raise PolicyViolation("the board said no")

    with pytest.raises(AirflowFailException):
        run(reject)
    assert Decision.from_xcom(running.xcoms["return_value"]) == DECISION
    assert running.recorded == [("board.decided", DECISION.to_xcom())]


def test_who_waits_for_a_time_waits_at_the_triggerer_and_goes_on_at_once_when_it_has_come() -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(TaskDeferred) as deferred:
        taskflow.WaitUntil(task_id="wait", target_time=later).execute({})
    assert isinstance(deferred.value.trigger, DateTimeTrigger)
    assert deferred.value.trigger.moment == later
    taskflow.WaitUntil(task_id="wait", target_time=AT).execute({})


def test_tasks_that_build_go_to_the_queue_that_is_named_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(taskflow.BUILD_QUEUE, raising=False)
    assert taskflow.on_build_workers() == {}
    monkeypatch.setenv(taskflow.BUILD_QUEUE, "builds")
    made = taskflow.stage_task(**taskflow.on_build_workers())(lambda: None)
    assert made.kwargs["queue"] == "builds"
