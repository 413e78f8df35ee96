"""What the calendars do to a release that is running."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from interlock.domain.calendars.overrides import Override
from interlock.domain.ledger.kinds import FREEZE_OVERRIDDEN, RELEASE_REQUESTED
from interlock.domain.records import HostResult
from interlock.locations import CATALOGUE
from interlock.stages.runtime import calendars, resources
from interlock.stages.runtime.taskflow import reasons_kept
from interlock.stages.strategies.waves import _was_held_back
from tests.clock import NOW
from tests.dag_run import dag_run
from tests.running_task import RunningTask

pytestmark = pytest.mark.usefixtures("clock")

HEAD = """\
title: Calendar
owner: the office
time_zone: UTC
entries:
"""
FREEZE = """\
  - name: trade
    title: Christmas trade
    kind: freeze
    from: {start:%Y-%m-%dT%H:%M}
    until: {end:%Y-%m-%dT%H:%M}
    during_rollout: {during}
"""
END = NOW + timedelta(hours=5)


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: RunningTask) -> Path:
    """A catalogue without calendars."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    shutil.rmtree(copy / "calendars")
    (copy / "calendars").mkdir()
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(copy))
    return copy


def freeze(catalogue: Path, during: str) -> None:
    text = HEAD + FREEZE.format(start=NOW - timedelta(hours=1), end=END, during=during)
    (catalogue / "calendars" / "office.yaml").write_text(text)


def window(name: str, start: datetime, end: datetime, during: str = "back_out") -> str:
    times = f"from: {start:%Y-%m-%dT%H:%M}, until: {end:%Y-%m-%dT%H:%M}"
    return f"  - {{ name: {name}, title: {name}, kind: window, {times}, during_rollout: {during} }}\n"


def closed(*, under_way: bool) -> tuple[str, ...]:
    return calendars.closed_now(resources.catalogue_of("bike-shop"), "production", under_way=under_way)


def put_off() -> None:
    calendars.put_off(resources.catalogue_of("bike-shop"), "production")


@pytest.mark.parametrize("during", ["stop", "finish", "back_out"])
def test_nothing_begins_in_a_freeze(catalogue: Path, during: str) -> None:
    freeze(catalogue, during)
    (sentence,) = closed(under_way=False)
    assert "closed by Christmas trade (trade in calendars/office.yaml); next: " in sentence


@pytest.mark.parametrize(("during", "halts"), [("stop", True), ("finish", False), ("back_out", True)])
def test_a_wave_that_is_under_way_ends_only_if_the_freeze_lets_it(catalogue: Path, during: str, halts: bool) -> None:
    freeze(catalogue, during)
    assert bool(closed(under_way=True)) is halts


def put_off_until(running: RunningTask) -> datetime:
    with pytest.raises(AirflowRescheduleException) as put, reasons_kept():
        put_off()
    assert [*running.xcoms] == ["waits_for"]  # nothing failed
    return put.value.reschedule_date


@pytest.mark.parametrize("during", ["stop", "finish"])
def test_a_rollout_that_is_under_way_waits_for_the_freeze_to_end_and_looks_every_minute(
    catalogue: Path, running: RunningTask, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    freeze(catalogue, during)
    before = datetime.now(UTC)
    assert before < put_off_until(running) <= datetime.now(UTC) + timedelta(minutes=1)
    assert "closed by Christmas trade" in running.xcoms["waits_for"]
    monkeypatch.setattr(calendars, "POLL_INTERVAL", timedelta(days=1))
    assert put_off_until(running) == END, "if that is sooner"


def test_a_freeze_that_is_shortened_or_overridden_meanwhile_holds_up_nobody(
    catalogue: Path, running: RunningTask
) -> None:
    freeze(catalogue, "stop")
    put_off_until(running)
    (catalogue / "calendars" / "office.yaml").unlink()
    put_off()
    freeze(catalogue, "stop")
    override(running)
    put_off()


def test_a_rollout_that_is_to_be_backed_out_does_not_wait(catalogue: Path) -> None:
    freeze(catalogue, "back_out")
    put_off()


def test_a_broken_calendar_closes_and_nothing_waits_for_it(catalogue: Path) -> None:
    (catalogue / "calendars" / "office.yaml").write_text("entries: [")
    assert "calendars/office.yaml, line 2: not YAML" in closed(under_way=True)[0]
    put_off()


def override(running: RunningTask, until: datetime = END) -> None:
    given = Override(
        place="trade in calendars/office.yaml",
        service="bike-shop",
        environment="production",
        reason="The till is broken",
        by="ben",
        role="operations",
        until=until,
    )
    running.recorded.append((FREEZE_OVERRIDDEN, given.model_dump(mode="json")))


def test_an_override_on_record_opens(catalogue: Path, running: RunningTask) -> None:
    freeze(catalogue, "stop")
    override(running)
    assert closed(under_way=False) == ()


@pytest.mark.parametrize(("during", "waits"), [("stop", True), ("finish", True), ("back_out", False)])
def test_when_a_window_ends_in_mid_rollout_the_one_that_ended_says_what_becomes_of_it(
    catalogue: Path, running: RunningTask, during: str, waits: bool
) -> None:
    other = "back_out" if waits else "finish"
    hour = timedelta(hours=1)
    windows = window("ended", NOW - hour, NOW, during) + window("next", NOW + hour, NOW + 2 * hour, other)
    (catalogue / "calendars" / "office.yaml").write_text(HEAD + windows)
    assert bool(closed(under_way=True)) is (during != "finish")
    if waits:
        put_off_until(running)
    else:
        put_off()


def test_a_calendar_is_no_part_of_what_was_voted_on(catalogue: Path) -> None:
    before = resources.catalogue_of("bike-shop").digest
    freeze(catalogue, "stop")
    assert resources.catalogue_of("bike-shop").digest == before


def test_a_wave_was_held_back_only_if_no_host_failed_by_itself() -> None:
    def result(outcome: str, error: str = "", *, held_back: bool = False) -> HostResult:
        return HostResult.model_validate(
            {
                "host": "h",
                "instance_id": "i",
                "outcome": outcome,
                "before": None,
                "after": None,
                "seconds": 1,
                "error": error,
                "held_back": held_back,
            }
        )

    halted = result("failed", "The wave is halted: freeze: Christmas trade.", held_back=True)
    assert _was_held_back([result("deployed"), halted, halted])
    assert not _was_held_back([halted, result("failed", "The wave is halted: says a hook")])
    assert not _was_held_back([result("deployed")])


def test_who_votes_is_told_what_the_calendars_say_of_what_is_to_come(catalogue: Path) -> None:
    freeze(catalogue, "stop")
    bike_shop = resources.catalogue_of("bike-shop")
    moments = {"at the planned start": END + timedelta(hours=1), "at the deadline": NOW - timedelta(hours=2)}
    (now, closed_by), (start, free) = calendars.foreseen(bike_shop, "production", moments)
    assert (now, start) == ("now", "at the planned start")
    assert "may not be changed: closed by Christmas trade" in str(closed_by)
    assert free.open


def test_who_votes_is_told_what_the_calendars_say_with_what_is_overridden(
    catalogue: Path, running: RunningTask
) -> None:
    freeze(catalogue, "stop")
    override(running, until=NOW + timedelta(hours=1))
    bike_shop = resources.catalogue_of("bike-shop")
    moments = {"at the planned start": NOW + timedelta(hours=2)}
    (_, now), (_, start) = calendars.foreseen(bike_shop, "production", moments)
    assert now.open
    assert not start.open, "the override is over by then"
    (said,) = calendars.overrides_at(bike_shop.service, "production", NOW)
    assert str(said) == (
        "ben (operations) overrode trade in calendars/office.yaml for bike-shop in production until "
        f"{NOW + timedelta(hours=1):%Y-%m-%d %H:%M} UTC. Reason: The till is broken"
    )


def test_what_the_requester_overrode_counts_for_no_ballot(catalogue: Path, running: RunningTask) -> None:
    freeze(catalogue, "stop")
    override(running)
    running.recorded.append((RELEASE_REQUESTED, {"requested_by": "ben"}))
    bike_shop = resources.catalogue_of("bike-shop")
    ((_, now),) = calendars.foreseen(bike_shop, "production", {})
    assert not now.open
    assert calendars.overrides_at(bike_shop.service, "production", NOW) == ()


def test_nobody_looks_again_before_the_scheduler_has_heard_that_the_try_before_is_over() -> None:
    """Seen on Airflow 3.3.2: a task that is due again at once counts as killed, and loses one of its retries."""
    for until in (datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC)):
        with dag_run("release_bike_shop/x.y"), pytest.raises(AirflowRescheduleException) as put_off:
            calendars.wait("a round is measured", until)
        assert put_off.value.reschedule_date >= until + calendars.MIN_WAIT
    later = datetime.now(UTC) + timedelta(hours=1)
    with dag_run("release_bike_shop/x.y"), pytest.raises(AirflowRescheduleException) as put_off:
        calendars.wait("a freeze is over", later)
    assert put_off.value.reschedule_date == later
