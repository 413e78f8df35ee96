"""The announcement of a release: the announcing task, and a small real mail server."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.errors import TransientError
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, NOTES_WRITTEN, PLAN_MADE, RELEASE_ANNOUNCED
from interlock.domain.records import Communication, ReleasePlan
from interlock.locations import CATALOGUE
from interlock.stages.release import communication
from tests.factories import releases
from tests.mailbox import Mailbox
from tests.running_task import RunningTask

FREEZE = """\
title: Calendar
owner: the office
time_zone: UTC
entries:
  - name: trade
    title: Christmas trade
    kind: freeze
    from: {begin:%Y-%m-%dT%H:%M}
    until: {end:%Y-%m-%dT%H:%M}
    override_by: [operations]
"""
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


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The calendar freezes production for two days from an hour ago."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(copy))
    now = datetime.now(UTC)
    file = copy / "calendars" / "office.yaml"
    file.write_text(FREEZE.format(begin=now - timedelta(hours=1), end=now + timedelta(days=2)))
    return file


def test_during_a_freeze_nobody_is_told_of_a_release_until_it_is_over(
    running: RunningTask, mailbox: Mailbox, frozen: Path
) -> None:
    running.began = datetime.now(UTC)
    with pytest.raises(AirflowRescheduleException):
        announce(running, releases.plan())
    assert "closed by Christmas trade" in running.xcoms["waits_for"]
    assert mailbox.to == []
    frozen.unlink()
    assert set(announce(running, releases.plan())["sent"]) == {"customers", "staff"}


def test_a_freeze_that_is_over_when_the_release_begins_keeps_nobody_from_being_told(
    running: RunningTask, mailbox: Mailbox, frozen: Path
) -> None:
    announce(running, releases.plan(not_before=datetime.now(UTC) + timedelta(days=3)))
    assert mailbox.to == ["customers", "shops"]


def test_a_release_that_has_waited_for_days_for_the_end_of_a_freeze_ends(
    running: RunningTask, mailbox: Mailbox, frozen: Path
) -> None:
    running.began = datetime.now(UTC) - communication.MAX_FREEZE_WAIT
    with pytest.raises(AirflowFailException, match=r"because it cannot begin.*Christmas trade.*override_freeze"):
        announce(running, releases.plan())
    assert mailbox.to == []


def test_a_rollback_that_a_freeze_refuses_is_not_announced(
    running: RunningTask, mailbox: Mailbox, frozen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.began = datetime.now(UTC)
    monkeypatch.setattr(communication, "this_run", lambda: ("rollback_bike_shop", "r"))
    with pytest.raises(AirflowFailException, match="because it cannot begin"):
        announce(running, releases.plan())
    assert mailbox.to == []


def test_who_is_left_is_told_although_a_freeze_has_begun_meanwhile(
    running: RunningTask, mailbox: Mailbox, frozen: Path
) -> None:
    freeze = frozen.read_text()
    frozen.unlink()
    mailbox.closed_for = {"shops@example.com"}
    with pytest.raises(TransientError):
        announce(running, releases.plan())
    mailbox.closed_for = set()
    frozen.write_text(freeze)
    announce(running, releases.plan())
    assert mailbox.to == ["customers", "shops"]


def test_a_stopped_rehearsal_goes_on(running: RunningTask, mailbox: Mailbox) -> None:
    stop(running)
    assert announce(running, releases.plan(rehearsal=True))["sent"] == {}
