"""The announcement of a release: the announcing task, and a small real mail server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.errors import TransientError
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, NOTES_WRITTEN, PLAN_MADE, RELEASE_ANNOUNCED
from interlock.domain.records import Communication, ReleasePlan
from interlock.stages.release import communication
from tests.factories import releases
from tests.mailbox import Mailbox
from tests.running_task import RunningTask

NOTES = Communication(notes=releases.artifact().bundle, sent={}, acknowledged={})


@pytest.fixture(autouse=True)
def _state(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the task's state in memory, and have notes in the store."""
    kept: dict[str, Any] = {}
    state = SimpleNamespace(get=kept.get, set=kept.__setitem__)
    monkeypatch.setattr(communication, "get_current_context", lambda: {"task_state_store": state})
    store = SimpleNamespace(get_bytes=lambda blob: b"# Notes")
    monkeypatch.setattr("interlock.stages.runtime.resources.store", lambda: store)


def announce(running: RunningTask, plan: ReleasePlan) -> Any:
    running.knows(PLAN_MADE, plan)
    running.knows(NOTES_WRITTEN, NOTES)
    return communication.announce.function("bike-shop", plan, NOTES)


def stop(running: RunningTask) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    stop = EmergencyStop(id="a1", scope="everything", reason="The warehouse burns", by="olga", until=until)
    running.recorded.append((EMERGENCY_STOP_DECLARED, stop.model_dump(mode="json")))


def test_each_audience_gets_the_announcement(running: RunningTask, mailbox: Mailbox) -> None:
    told = announce(running, releases.plan())
    assert told["sent"] == {
        "customers": ["customers@example.com"],
        "staff": ["shops@example.com", "service-desk@example.com"],
    }
    assert mailbox.to == ["customers", "shops"], "one mail to each audience"
    assert "is about to be released" in mailbox.words(0)


def test_who_was_told_before_the_mail_server_failed_is_on_record(running: RunningTask, mailbox: Mailbox) -> None:
    mailbox.closed_for = {"shops@example.com"}
    with pytest.raises(TransientError):
        announce(running, releases.plan())
    (announced,) = [payload for kind, payload in running.recorded if kind == RELEASE_ANNOUNCED]
    assert announced["sent"] == {"customers": ["customers@example.com"]}
    mailbox.closed_for = set()
    assert set(announce(running, releases.plan())["sent"]) == {"customers", "staff"}
    assert mailbox.to == ["customers", "shops"]


def test_during_an_emergency_stop_nobody_is_told_of_a_release_and_it_ends(
    running: RunningTask, mailbox: Mailbox
) -> None:
    stop(running)
    with pytest.raises(AirflowFailException, match="An emergency stop is in force: everything, by olga"):
        announce(running, releases.plan())
    assert mailbox.to == []


def test_a_release_that_begins_after_the_stop_is_announced(running: RunningTask, mailbox: Mailbox) -> None:
    stop(running)
    announce(running, releases.plan(not_before=datetime.now(UTC) + timedelta(hours=2)))
    assert mailbox.to == ["customers", "shops"]


def test_a_stopped_rehearsal_goes_on(running: RunningTask, mailbox: Mailbox) -> None:
    stop(running)
    assert announce(running, releases.plan(rehearsal=True))["sent"] == {}
