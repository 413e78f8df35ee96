"""Steps that Airflow or AWS does: when the task waits, begins again, asks people, and takes back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, TaskDeferred

from interlock.adapters.runbook import Seen
from interlock.domain.records import RolloutPlan, StepReport
from interlock.domain.runbook.planning import planned_steps
from interlock.domain.runbook.progress import DONE, FAILED
from interlock.stages.runbook import elsewhere, places, planned, steps, ways_back
from interlock.stages.runbook.elsewhere import DoElsewhere
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.evidence import this_chain
from interlock.stages.runtime.triggers import RunTrigger
from tests.airflow_server import AirflowServer
from tests.factories import releases
from tests.running_task import RunningTask
from tests.unit.domain.test_runbook import HOSTS, service, step
from tests.unit.stages.test_runbook import Release

CLOSE = {"dag_run": {"dag": "close_the_books", "conf": {"month": "2026-11"}, "within": "PT1H"}}
OPEN = {"dag_run": {"dag": "open_the_books"}}
NOTIFY = {"function": {"connection": "shop_functions", "name": "notify", "ask": ["rita"], "within": "PT1M"}}


class Place:
    """Where a step is done, as far as a test says."""

    shown_after = timedelta()

    def __init__(self, *seen: Seen | None, once: bool = True) -> None:
        self.once, self.seen, self.did = once, list(seen), list[str]()
        self.now = {"version": "1"}

    def pin(self, pinned: Mapping[str, str] | None = None) -> dict[str, str]:
        return self.now

    def begin(self, id: str, pinned: Mapping[str, str]) -> Seen | None:
        self.did.append("begin")
        return self.seen.pop(0)

    def look(self, id: str, pinned: Mapping[str, str], since: datetime) -> Seen | None:
        self.did.append("look")
        return self.seen.pop(0)

    def stop(self, id: str, since: datetime) -> str:
        self.did.append("stop")
        return ""


class Doing(Release):
    """A release whose steps are done elsewhere."""

    def __init__(self, patch: pytest.MonkeyPatch, *made: dict[str, Any], place: Place | None = None) -> None:
        super().__init__(patch)
        if place is not None:
            patch.setattr(places, "place_of", lambda *_: place)
            patch.setattr(elsewhere, "place_of", lambda *_: place)
        frozen = planned_steps(service(*made), HOSTS, rehearsal=False)
        self.plan: RolloutPlan = releases.rollout(runbook=places.pinned_steps(frozen))
        patch.setattr(permits, "frozen_plan", lambda: self.plan)
        patch.setattr(planned, "rolling", None)  # no host is taken back before these steps
        told = {**self.plan.to_xcom(), "digest": self.plan.digest}
        self.ledger.append(this_chain(), "rollout.frozen", told, actor="x", key="rollout.frozen")

    @contextmanager
    def permitted(self, *what: str) -> Any:
        self.permits.append(what)
        yield SimpleNamespace(entered=None, refuse_lost=lambda _: None)

    def does(self, *, back: bool = False) -> Any:
        rollout = None if back else self.plan.to_xcom()
        return DoElsewhere(task_id="step_1", service="bike-shop", number=1, rollout=rollout).execute({})  # type: ignore[typeddict-item]


@pytest.fixture
def airflow_with_books(airflow: AirflowServer) -> AirflowServer:
    for dag in ("close_the_books", "open_the_books"):
        found = {"is_paused": False, "is_stale": False, "bundle_name": "books", "relative_fileloc": "books.py"}
        airflow.more |= {f"/api/v2/dags/{dag}": found, f"/api/v2/dagSources/{dag}": {"content": "books"}}
    return airflow


def test_a_dag_run_is_waited_for_without_a_worker_and_taken_back_by_another(
    running: RunningTask, airflow_with_books: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Doing(monkeypatch, step("close", do=CLOSE, way_back=OPEN))
    with pytest.raises(TaskDeferred) as waits:
        release.does()
    ((dag, run),) = airflow_with_books.runs
    assert (dag, run.startswith("interlock__")) == ("close_the_books", True)
    trigger = waits.value.trigger
    assert isinstance(trigger, RunTrigger)
    assert (trigger.dag_id, trigger.run_id) == (dag, run)
    assert trigger.until == release.began() + timedelta(hours=1)
    with pytest.raises(TaskDeferred):
        release.does()
    assert len(release.permits) == 1, "a look needs no permit"

    done = {"state": "success", "dag_versions": [{"version_number": 1}]}
    airflow_with_books.runs[dag, run] |= done
    report = StepReport.from_xcom(release.does())
    assert (report.outcome, report.evidence) == ("done", f"close_the_books, run {run}: success")
    assert StepReport.from_xcom(release.does()) == report

    with pytest.raises(TaskDeferred):
        release.does(back=True)
    (back,) = (one for one in airflow_with_books.runs if one[0] == "open_the_books")
    airflow_with_books.runs[back] |= done
    assert StepReport.from_xcom(release.does(back=True)).direction == "back"
    assert len(airflow_with_books.runs) == 2
    assert [way for way, _ in release.permits] == ["forward", "back"]


def test_what_changed_after_the_plan_was_frozen_is_not_begun(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place()
    release = Doing(monkeypatch, step("close", do=CLOSE, way_back="none"), place=place)
    place.now = {"version": "2"}
    with pytest.raises(AirflowFailException, match=r"is not what it was .*; it differs in version"):
        release.does()
    assert (place.did, release.permits, release.kinds()) == ([], [], [])


def test_a_function_whose_end_is_not_known_is_asked_about_and_not_called_again(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(None, None, once=False)
    release = Doing(monkeypatch, step("tell", do=NOTIFY, way_back="none", title="Tell"), place=place)
    (asked,) = release.does()
    assert asked["assigned_users"][0]["id"] == "rita"
    assert "Interlock cannot find out what became of it; it is not done again" in asked["body"]
    assert "Find out whether it was done: the Lambda function notify" in asked["body"]
    assert release.does() == [asked]
    assert place.did == ["begin", "look"]
    release.say(DONE, "the log of the function")
    report = StepReport.from_xcom(steps.settle_step.function(1, release.plan.to_xcom()))
    assert (report.outcome, report.by, report.evidence) == ("done", "rita", "the log of the function")
    assert release.does() == [], "what is settled is not asked again"


def test_a_function_that_answered_is_not_asked_about(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(Seen(ended=True, said="ok"), once=False)
    release = Doing(monkeypatch, step("tell", do=NOTIFY, way_back="none"), place=place)
    assert release.does() == []
    report = StepReport.from_xcom(steps.settle_step.function(1, release.plan.to_xcom()))
    assert (report.outcome, report.evidence) == ("done", "ok")


def test_in_doubt_without_an_answer_a_step_has_failed(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    release = Doing(monkeypatch, step("tell", do=NOTIFY, way_back="none"), place=Place(None, once=False))
    release.does()
    release.say(FAILED, "the bank knows nothing")
    with pytest.raises(AirflowFailException, match="rita answered Failed: the bank knows nothing"):
        steps.settle_step.function(1, release.plan.to_xcom())


def test_what_can_be_begun_twice_is_begun_again_if_it_is_not_there(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(Seen(ended=False), None, Seen(ended=False), Seen(ended=True, reason="it broke"))
    release = Doing(monkeypatch, step("close", do=SNAPSHOT, way_back="none"), place=place)
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            release.does()
    assert place.did == ["begin", "look", "begin"]
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="it broke"):
            release.does()
    assert place.did == ["begin", "look", "begin", "look"]


SNAPSHOT = {"snapshot": {"connection": "shop_snapshots", "instance": "shop"}}


def test_after_its_time_a_step_is_stopped_and_has_failed(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(Seen(ended=False), Seen(ended=False, said="half of it"))
    release = Doing(monkeypatch, step("close", do=SNAPSHOT, way_back="none"), place=place)
    with pytest.raises(AirflowRescheduleException):
        release.does()
    monkeypatch.setattr(elsewhere, "datetime", Later)
    with pytest.raises(AirflowFailException, match="it had not ended after 1 hour"):
        release.does()
    assert place.did == ["begin", "look", "stop"]


def test_a_dag_run_over_its_time_has_failed_for_good_and_its_reason_says_what_goes_on(
    running: RunningTask, airflow_with_books: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Doing(monkeypatch, step("close", do=CLOSE, way_back=OPEN))
    with pytest.raises(TaskDeferred):
        release.does()
    ((dag, run),) = airflow_with_books.runs
    over = rf"it had not ended after 1 hour\. The run {run} of close_the_books goes on; people who may end runs"
    with monkeypatch.context() as late:
        late.setattr(elsewhere, "datetime", Later)
        with pytest.raises(AirflowFailException, match=over):
            release.does()
    assert airflow_with_books.runs[dag, run]["state"] == "running", "nothing ended it"

    airflow_with_books.runs[dag, run] |= {"state": "success", "dag_versions": [{"version_number": 1}]}
    with pytest.raises(AirflowFailException, match=over):
        release.does()
    assert len(airflow_with_books.runs) == 1


def test_the_way_back_of_a_dag_run_waits_for_it_until_its_time_is_over_and_no_longer(
    running: RunningTask, airflow_with_books: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {"dag_run": {**OPEN["dag_run"], "within": "PT3H"}}
    release = Doing(monkeypatch, step("close", do=CLOSE, way_back=slow))
    with pytest.raises(TaskDeferred):
        release.does()
    with pytest.raises(AirflowRescheduleException):
        release.does(back=True)
    assert len(airflow_with_books.runs) == 1
    monkeypatch.setattr(elsewhere, "datetime", Later)
    with pytest.raises(TaskDeferred):
        release.does(back=True)
    assert sorted(dag for dag, _ in airflow_with_books.runs) == ["close_the_books", "open_the_books"]
    assert [way for way, _ in release.permits] == ["forward", "back"]


class Later(datetime):
    """A clock that is two hours fast."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(hours=2)


def test_a_way_back_waits_until_what_it_takes_back_has_ended(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = Seen(ended=False)
    place = Place(under_way, under_way, Seen(ended=True, reason="it was stopped"))
    release = Doing(monkeypatch, step("close", do=SNAPSHOT, way_back={"manual": TALK}), place=place)
    with pytest.raises(AirflowRescheduleException):
        release.does()
    with pytest.raises(AirflowRescheduleException):
        ways_back.prepare_back_step.function("bike-shop", 1)
    assert place.did == ["begin", "look", "stop"]
    assert [way for way, _ in release.permits] == ["forward"]
    (asked,) = ways_back.prepare_back_step.function("bike-shop", 1)
    assert asked["subject"].startswith("Take back: ")


def test_a_way_back_in_aws_waits_for_it_too(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way = Seen(ended=False)
    place = Place(under_way, under_way, Seen(ended=True, reason="it was stopped"), Seen(ended=True))
    release = Doing(monkeypatch, step("close", do=SNAPSHOT, way_back=SNAPSHOT), place=place)
    for back in (False, True):
        with pytest.raises(AirflowRescheduleException):
            release.does(back=back)
    assert [way for way, _ in release.permits] == ["forward"]
    assert StepReport.from_xcom(release.does(back=True)).outcome == "done"
    assert place.did == ["begin", "look", "stop", "look", "begin"]


TALK = {"who": ["rita"], "instructions": "Delete it.", "evidence": "its name"}


def test_the_connections_of_steps_are_frozen_with_the_plan() -> None:
    described = service(step("copy", do=SNAPSHOT, way_back="none"), step("tell", do=NOTIFY, way_back="none"))
    assert {"shop_snapshots", "shop_functions"} <= resources.connections_of(described)
