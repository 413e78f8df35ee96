"""What an overtaking does to the tasks of the overtaken release, and to the questions that people are asked in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from interlock.domain.board.questions import ASK_APPROVERS
from interlock.domain.errors import HeldBack
from interlock.domain.ledger.kinds import PERMIT_ISSUED, RELEASE_CLOSED, RELEASE_OVERTAKEN, ROLLOUT_FROZEN
from interlock.stages.controls import overtakings
from interlock.stages.release import closure
from interlock.stages.release.implementation import AwaitStart
from interlock.stages.runtime import permits
from interlock.stages.runtime.evidence import refuse_void
from tests.airflow_server import RUN, AirflowServer
from tests.factories import releases
from tests.factories.releases import OVERTAKING
from tests.running_task import RunningTask

SAID = OVERTAKING.sentence
PLAN = releases.rollout()


def overtake(running: RunningTask) -> None:
    running.recorded.append((RELEASE_OVERTAKEN, OVERTAKING.model_dump(mode="json")))


def await_ends(*overtaken: Any) -> Any:
    return overtakings.await_ends.function([one.model_dump(mode="json") for one in overtaken])


def test_no_task_of_an_overtaken_release_does_anything_but_end_it(running: RunningTask) -> None:
    overtake(running)
    with pytest.raises(HeldBack, match="overtook this normal release: Payments fail"):
        refuse_void([])
    refuse_void([], after_end="go_on")
    with pytest.raises(HeldBack, match="overtook this normal release: Payments fail"):
        permits.refuse_emergency(releases.service())


def test_who_waits_for_the_start_hears_of_it(running: RunningTask) -> None:
    waiting = AwaitStart(task_id="await_start", target_time=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    overtake(running)
    with pytest.raises(AirflowFailException, match="overtook this normal release"):
        waiting.execute_again({}, {"why": "the release was called off"})


def test_it_is_recorded_as_overtaken_and_gives_its_environment_back(
    airflow: AirflowServer, running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[tuple[str, str]] = []
    monkeypatch.setattr(closure.bookings, "free", lambda *place: freed.append(place))
    running.recorded.append((ROLLOUT_FROZEN, {**PLAN.to_xcom(), "digest": PLAN.digest}))
    overtake(running)
    closure.record_outcome.function("bike-shop")
    (closed,) = [payload for kind, payload in running.recorded if kind == RELEASE_CLOSED]
    assert (closed["outcome"], closed["reason"]) == ("overtaken", SAID)
    assert freed == [("bike-shop", "production")]


def test_a_release_that_has_begun_goes_on(running: RunningTask) -> None:
    running.recorded.append((PERMIT_ISSUED, {"permit": {"purpose": "deploy"}}))
    overtake(running)
    refuse_void([])


def test_the_questions_of_overtaken_releases_are_closed_and_their_end_is_waited_for(
    airflow: AirflowServer, running: RunningTask
) -> None:
    airflow.run = {"dag_run_id": RUN[1], "state": "running"}
    airflow.ask(ASK_APPROVERS, "fay", options=["Approve", "Reject"])
    with pytest.raises(AirflowRescheduleException):
        await_ends(OVERTAKING)
    (question,) = airflow.questions
    assert (question["responded_by_user"]["name"], question["chosen_options"]) == ("board_clerk", ["Reject"])
    assert question["params_input"]["comment"] == f"Closed by board_clerk: {SAID}"
    running.knows(RELEASE_CLOSED, releases.outcome(outcome="overtaken", reason=SAID))
    ended = {"release": OVERTAKING.release, "state": "running", "outcome": "overtaken", "reason": SAID}
    assert await_ends(OVERTAKING) == [ended]


def test_what_is_queued_is_not_waited_for(airflow: AirflowServer, running: RunningTask) -> None:
    airflow.run = {"dag_run_id": RUN[1], "state": "queued"}
    queued = {"release": OVERTAKING.release, "state": "queued", "outcome": None, "reason": ""}
    assert await_ends(OVERTAKING) == [queued]
    assert await_ends() == []
