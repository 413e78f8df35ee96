"""Emergency stops and freezes when people are asked: a stopped release asks nobody; others say what is in force."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.domain.calendars.calendar import Answer
from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, INCIDENT_SEEN, PLAN_MADE
from interlock.domain.records import ReleasePlan
from interlock.stages.approvals import in_force
from interlock.stages.approvals.in_force import before_asking
from interlock.stages.release.planning import prepare_approval
from interlock.stages.runtime import resources
from tests.factories import releases
from tests.running_task import RunningTask, running_task

NOW = datetime.now(UTC)
OPEN = Answer(open=True, service="bike-shop", environment="production", at=NOW)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningTask]:
    monkeypatch.setattr(in_force, "answer_now", lambda *_: OPEN)
    with running_task("planning.prepare_approval", monkeypatch) as left:
        yield left


def stop(task: RunningTask, hours: float = 2) -> None:
    declared = EmergencyStop(
        id="1a2b3c4d",
        scope="everything",
        reason="Payments *fail*",
        by="olga",
        until=NOW + timedelta(hours=hours),
    )
    task.recorded.append((EMERGENCY_STOP_DECLARED, declared.model_dump(mode="json")))


def ask(**changes: Any) -> str:
    return before_asking(resources.catalogue_of("bike-shop"), releases.plan(**changes))


def test_without_a_stop_and_a_freeze_the_text_begins_as_it_always_does(task: RunningTask) -> None:
    assert ask() == ""
    stop(task, hours=-1)
    assert ask() == ""


def test_a_stopped_release_asks_nobody_and_its_requester_reads_what_they_can_do(task: RunningTask) -> None:
    stop(task)
    with pytest.raises(PolicyViolation, match=r"An emergency stop is in force: everything, by olga") as refused:
        ask()
    assert refused.value.next_step == "wait until the stop is lifted or over, then trigger the Dag again"


def test_what_begins_after_the_stop_is_asked_about_and_its_question_says_so(task: RunningTask) -> None:
    stop(task)
    text = ask(not_before=NOW + timedelta(hours=3))
    assert text.startswith("**In force now:**\n\n- Emergency stop: everything, by olga: Payments \\*fail\\*; until ")
    assert text.endswith("\n\n")


def test_an_open_incident_of_another_system_is_in_the_text(task: RunningTask) -> None:
    seen = {"source": "pager", "webhook": "w", "event": "e", "type": "t", "sender": "s", "body": "0" * 64}
    until = (NOW + timedelta(hours=1)).isoformat()
    about = {
        "incident": "INC-7",
        "scope": "bike-shop",
        "ended": False,
        "until": until,
        "what": "INC-7: Checkout *fails*",
    }
    task.recorded.append((INCIDENT_SEEN, {**seen, **about}))
    assert ask() == "**In force now:**\n\n- Incident: INC-7: Checkout \\*fails\\*\n\n"
    task.recorded.append((INCIDENT_SEEN, {**seen, **about, "ended": True}))
    assert ask() == ""


def test_a_rehearsal_is_not_stopped(task: RunningTask) -> None:
    stop(task)
    assert ask(rehearsal=True, target="test") == ""


def test_a_freeze_is_in_the_text(task: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = OPEN.model_copy(update={"open": False, "faults": ("peak.yaml is broken.",)})
    monkeypatch.setattr(in_force, "answer_now", lambda *_: frozen)
    assert "- Calendar: The calendars cannot be read, so no changes are allowed. peak.yaml is broken." in ask()


def prepared(task: RunningTask, plan: ReleasePlan) -> list[dict[str, Any]]:
    task.knows(PLAN_MADE, plan)
    return list(prepare_approval.function("bike-shop", plan.to_xcom()))


def test_a_question_begins_with_what_is_in_force(task: RunningTask) -> None:
    soon, later = NOW + timedelta(hours=1), NOW + timedelta(hours=3)
    stop(task)
    with pytest.raises(Exception, match="An emergency stop is in force"):
        prepared(task, releases.plan(plan_approval=True, not_before=soon))
    assert prepared(task, releases.plan(plan_approval=False, not_before=soon)) == [], "nobody is asked"
    (asked,) = prepared(task, releases.plan(plan_approval=True, not_before=later))
    assert "**In force now:**" in asked["body"]
