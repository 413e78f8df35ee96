"""Manual steps of a runbook: who is asked what, what the answers come to, and what is asked once whatever crashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from interlock.domain.catalogue import Person
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import StepReport, Vote
from interlock.domain.runbook.planning import planned_steps
from interlock.domain.runbook.progress import DONE, FAILED
from interlock.stages.runbook import once, questions, steps, ways_back
from interlock.stages.runtime import bookings, permits, resources
from interlock.stages.runtime.evidence import this_chain
from tests.factories import releases
from tests.memory_ledger import MemoryLedger
from tests.running_task import RunningTask
from tests.unit.domain.test_runbook import HOSTS, MIGRATE, TELL, service, step

BACK = {"manual": {**TELL["manual"], "instructions": "Call | again.\n# Ask for Ann."}}
PLAN = releases.rollout(
    runbook=planned_steps(
        service(
            step("tell", do=TELL, way_back=BACK, title="Tell the bank"),
            step("check", "after_wave_1", do=TELL, way_back="none", needs=["tell"]),
            step("migrate", "after", do=MIGRATE, way_back=BACK),
        ),
        HOSTS,
        rehearsal=False,
    )
)


class Release:
    """A release with manual steps: its ledger, the permits that it got, and the answers of people."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ledger, self.permits, self.waits = MemoryLedger(), list[tuple[str, ...]](), 0
        self.answers: list[Vote] = []
        self.refusal = ""
        people = {
            user: Person(user=user, name=user.title(), email=f"{user}@example.com", role="x") for user in ("rita",)
        }
        book = SimpleNamespace(names={"rita": "Rita"}, person=people.__getitem__)
        catalogue = resources.catalogue_of("bike-shop")._replace(board=book, service=releases.service())
        for room, name, value in (
            (resources, "ledger", lambda: self.ledger),
            (resources, "catalogue_of", lambda _: catalogue),
            (bookings, "hold", lambda *_: None),
            (permits, "admission_to_step", lambda plan, hosts, id, count: self.permitted("forward", id)),
            (permits, "admission_to_step_back", lambda plan, hosts, id: self.permitted("back", id)),
            (permits, "frozen_plan", lambda: PLAN),
            (once, "put_off", self.put_off),
            (questions, "in_force_now", lambda *_: ""),
            (questions, "votes_on", lambda *_: tuple(self.answers)),
        ):
            patch.setattr(room, name, value)

    @contextmanager
    def permitted(self, *what: str) -> Iterator[Any]:
        if self.refusal:
            raise PolicyViolation(self.refusal)
        self.permits.append(what)
        yield SimpleNamespace(entered=None)

    def put_off(self, *_: Any) -> None:
        self.waits += 1

    def asked(self, number: int = 1) -> list[dict[str, Any]]:
        return list(steps.prepare_step.function("bike-shop", number, PLAN.to_xcom()))

    def settled(self, number: int = 1) -> StepReport:
        return StepReport.from_xcom(steps.settle_step.function(number, PLAN.to_xcom()))

    def kinds(self) -> list[str]:
        return [one.kind for chain in self.ledger.kept.values() for one in chain if one.kind.startswith("step.")]

    def began(self) -> datetime:
        return next(one.at for chain in self.ledger.kept.values() for one in chain if one.kind == "step.begun")

    def say(self, choice: str, comment: str, user: str = "rita", late: timedelta = timedelta(minutes=1)) -> None:
        vote = Vote(user=user, assigned="rita", choice=choice, comment=comment, at=self.began() + late)
        self.answers.append(vote)


@pytest.fixture
def release(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> Release:
    found = Release(monkeypatch)
    found.ledger.append(
        this_chain(), "rollout.frozen", {**PLAN.to_xcom(), "digest": PLAN.digest}, actor="x", key="rollout.frozen"
    )
    return found


def test_who_does_a_step_is_asked_with_what_to_do_and_what_to_show(release: Release) -> None:
    (asked,) = release.asked()
    assert asked["options"] == [DONE, FAILED]
    assert asked["assigned_users"][0]["id"] == "rita"
    assert "> Call the bank." in asked["body"]
    assert "Name in the comment: the number of the ticket" in asked["body"]
    assert datetime.fromisoformat(asked["answer_by"]) == release.began() + timedelta(hours=4)
    assert release.permits[0][0] == "forward"
    assert release.asked() == [asked], "a retry asks the same, and begins nothing again"
    assert release.kinds() == ["step.begun"]


def test_a_step_ends_as_it_was_answered_with_its_evidence_and_stays_so(release: Release) -> None:
    release.asked()
    release.say(DONE, " ticket 4711 ")
    report = release.settled()
    assert (report.outcome, report.by, report.evidence) == ("done", "rita", "ticket 4711")
    assert report.estimate == timedelta(minutes=5)
    assert report.seconds is not None
    release.answers.clear()
    assert release.settled() == report
    assert release.asked() == [], "what is done is not asked again"
    assert release.kinds() == ["step.begun", "step.ended"]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], "nobody answered in time (rita). It is not known whether it was done"),
        ([(DONE, "ok", "mallory")], "nobody answered in time (rita)"),
        ([(DONE, "ok", "rita", timedelta(hours=5))], "nobody answered in time (rita)"),
        ([(DONE, " ", "rita")], "rita answered Done, and did not name the number of the ticket"),
        ([(FAILED, "line busy", "rita")], "rita answered Failed: line busy"),
        ([(DONE, "ok", "rita"), (FAILED, "it rang off", "rita")], "rita answered Failed: it rang off"),
    ],
)
def test_a_step_without_a_good_answer_has_failed(release: Release, answers: list[Any], said: str) -> None:
    release.asked()
    for answer in answers:
        release.say(*answer)
    for _ in range(2):
        with pytest.raises(AirflowFailException) as error:
            release.settled()
        assert said in str(error.value)
    assert release.kinds() == ["step.begun", "step.ended"]


def test_without_a_permit_nobody_is_asked_and_nothing_is_begun(release: Release) -> None:
    release.refusal = "No permit: closed by Stocktaking."
    with pytest.raises(AirflowFailException, match="Stocktaking"):
        release.asked()
    assert (release.kinds(), release.waits) == ([], 1)


def test_a_step_is_not_begun_before_what_it_needs_is_done(release: Release) -> None:
    with pytest.raises(AirflowFailException, match="according to the ledger, tell is not done"):
        release.asked(2)
    release.asked()
    release.say(DONE, "4711")
    release.settled()
    assert release.asked(2)


def test_a_way_back_is_asked_only_for_what_was_begun_and_once(release: Release) -> None:
    assert ways_back.prepare_back_step.function("bike-shop", 1) == []
    report = StepReport.from_xcom(ways_back.settle_back_step.function(1))
    assert (report.outcome, report.reason) == ("left_out", "it was not begun, so there is nothing to take back")
    assert release.permits == []


def test_the_way_back_of_a_failed_step_is_asked_and_answered(release: Release) -> None:
    release.asked()
    with pytest.raises(AirflowFailException):
        release.settled()
    (asked,) = ways_back.prepare_back_step.function("bike-shop", 1)
    assert asked["subject"].startswith("Take back: Tell the bank")
    assert "> Call | again." in asked["body"]
    release.say(DONE, "4712")
    report = StepReport.from_xcom(ways_back.settle_back_step.function(1))
    assert (report.outcome, report.direction, report.evidence) == ("done", "back", "4712")
    assert [direction for direction, _ in release.permits] == ["forward", "back"]
    assert ways_back.prepare_back_step.function("bike-shop", 1) == []


def test_a_step_that_the_plan_does_not_have_is_refused(release: Release) -> None:
    with pytest.raises(AirflowFailException, match="The frozen plan has no step 9"):
        steps.run_step.function("bike-shop", 9, PLAN.to_xcom())


def test_a_back_out_has_the_reason_for_which_it_began(running: RunningTask) -> None:
    running.before[("verification.begin_back_out", "reason")] = "Wave 1 failed."
    running.before[("verification.back_step_3", "reason")] = "“Migrate” was not taken back."
    context: Any = get_current_context()
    context["task"] = SimpleNamespace(upstream_task_ids={"verification.back_step_3", "verification.begin_back_out"})
    assert ways_back.reason_of_back_out(context["ti"]) == "Wave 1 failed."
    context["task"] = SimpleNamespace(upstream_task_ids={"implementation.wave_1"})
    assert ways_back.reason_of_back_out(context["ti"]) == "A task of the implementation failed."
