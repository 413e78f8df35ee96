"""What the closing stage reads of the tasks before it, against a small real API."""

from __future__ import annotations

import pytest

from interlock.domain.board.questions import ASK_BOARD
from interlock.domain.ledger.chain import instant
from interlock.domain.ledger.kinds import RELEASE_ENDED
from interlock.stages.release import closure
from tests.airflow_server import AirflowServer
from tests.factories import releases
from tests.running_task import RunningTask


def ended(airflow: AirflowServer, task_id: str, state: str | None, minute: int | None) -> None:
    at = None if minute is None else f"2026-11-23T06:{minute:02}:00Z"
    airflow.tasks.append({"task_id": task_id, "map_index": -1, "state": state, "start_date": at, "end_date": at})


def test_tasks_that_failed_come_in_the_order_in_which_they_did(airflow: AirflowServer, running: RunningTask) -> None:
    ended(airflow, "verification.back_out", "failed", 20)
    ended(airflow, "verification.judge_verification", "failed", 19)
    ended(airflow, "implementation.wave_2", "failed", None)
    ended(airflow, "implementation.wave_1", "success", 11)
    ended(airflow, "verification.publish_deployment", "upstream_failed", 21)
    ended(airflow, "closure.close_release", "failed", 22)
    ended(airflow, ASK_BOARD, "failed", 5)
    running.before["verification.judge_verification", "reason"] = "/bikes answers 500."
    running.before["implementation.wave_2", "called_off"] = True
    found = closure._failed_tasks()
    assert [(task.stage, task.task.partition(".")[2], task.reason) for task in found] == [
        ("verification", "judge_verification", "/bikes answers 500."),
        ("verification", "back_out", ""),
        ("implementation", "wave_2", ""),
    ]
    assert [task.held for task in found] == [False, False, True]


def test_a_task_of_no_stage_that_failed_does_not_keep_the_release_from_being_closed(
    airflow: AirflowServer, running: RunningTask
) -> None:
    ended(airflow, "sweep", "failed", 1)
    assert [task.stage for task in closure._failed_tasks()] == ["sweep"]


@pytest.mark.parametrize("outcome", ["deployed", "backed_out", "rejected"])
def test_a_release_that_has_ended_stays_as_it_ended(running: RunningTask, outcome: str) -> None:
    running.knows("release.closed", releases.outcome(outcome=outcome))
    again = closure.record_outcome.function("bike-shop")
    assert again == releases.outcome(outcome=outcome).to_xcom()
    assert [kind for kind, _ in running.recorded] == ["release.closed"]


@pytest.mark.parametrize("planned", [True, False])
def test_the_end_says_whether_the_release_got_a_plan_or_was_refused_before(
    airflow: AirflowServer, running: RunningTask, planned: bool
) -> None:
    if planned:
        running.knows("plan.made", releases.plan())
    ended(airflow, "planning.plan_release", "failed", 5)
    closure.record_outcome.function("bike-shop")
    (told,) = [payload for kind, payload in running.recorded if kind == RELEASE_ENDED]
    assert (told["outcome"], told["planned"]) == ("failed", planned)


def test_the_end_says_when_the_release_began(airflow: AirflowServer, running: RunningTask) -> None:
    running.knows("plan.made", releases.plan())
    closure.record_outcome.function("bike-shop")
    (told,) = [payload for kind, payload in running.recorded if kind == RELEASE_ENDED]
    assert told["began"] == instant(running.began)
