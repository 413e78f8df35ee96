"""Booking an environment from a task: with a ledger in memory, and Airflow's API."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from interlock.domain.calendars.bookings import Booking, booking_chain
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ENVIRONMENT_BOOKED,
    ENVIRONMENT_EXTENDED,
    ENVIRONMENT_FREED,
    ENVIRONMENT_QUEUED,
    ENVIRONMENT_RECOVERED,
    FREEZE_OVERRIDDEN,
)
from interlock.locations import CATALOGUE, catalogue_folder
from interlock.stages.runtime import bookings, resources
from tests.airflow_server import AirflowServer
from tests.dag_run import dag_run
from tests.factories import releases
from tests.memory_ledger import MemoryLedger

CHAIN = booking_chain("production", "bike-shop")
HOUR = timedelta(hours=1)
FIRST, SECOND, THIRD = (("release_bike_shop", "one"), ("rollback_bike_shop", "two"), ("release_bike_shop", "three"))


@pytest.fixture
def ledger(tmp_path: Path, airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    """A ledger, a catalogue of its own, and three releases that are under way."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(copy))
    kept = MemoryLedger()
    monkeypatch.setattr(resources, "ledger", lambda: kept)
    monkeypatch.setattr(resources, "signer", lambda: None)
    for run in (FIRST, SECOND, THIRD):
        airflow.runs[run] = {"state": "running"}
    return kept


def book(run: tuple[str, str], ledger: MemoryLedger) -> tuple[Any, dict[Any, Any]]:
    """Run the task; return what it leaves."""
    plan = releases.rollout()
    ledger.append(release_chain(*run), "rollout.frozen", {**plan.to_xcom(), "digest": plan.digest}, actor="x", key="f")
    with dag_run(f"{run[0]}/implementation.book_environment", run_id=run[1], user="rita") as left:
        try:
            return bookings.book_environment.function("bike-shop", plan.to_xcom()), left
        except AirflowRescheduleException as put_off:
            return put_off, left


def free(run: tuple[str, str]) -> None:
    with dag_run(f"{run[0]}/closure.record_outcome", run_id=run[1]):
        bookings.free("bike-shop", "production")


def hold_in(task: str, run: tuple[str, str]) -> Any:
    """Ask for the booking from another task of a run."""
    with dag_run(f"{run[0]}/{task}", run_id=run[1]):
        try:
            return bookings.hold(resources.catalogue_of("bike-shop")[0], releases.rollout())
        except AirflowRescheduleException as put_off:
            return put_off


def in_the_calendar(kind: str, start: timedelta, end: timedelta) -> None:
    """Write the one entry that there is, by when it begins and ends from now on."""
    folder, now = catalogue_folder() / "calendars", datetime.now(UTC)
    for file in folder.iterdir():
        file.unlink()
    times = f"from: {now + start:%Y-%m-%dT%H:%M}, until: {now + end:%Y-%m-%dT%H:%M}"
    entry = f"{{ name: nights, title: Nights, kind: {kind}, {times}, override_by: [operations] }}"
    (folder / "office.yaml").write_text(f"title: T\nowner: o\ntime_zone: UTC\nentries:\n  - {entry}\n")


def kinds(ledger: MemoryLedger) -> list[str]:
    return [entry.kind for entry in ledger.entries(CHAIN)]


def test_the_second_waits_in_line_without_a_worker_and_sees_for_whom(ledger: MemoryLedger) -> None:
    booked, _ = book(FIRST, ledger)
    assert booked["holder"] == release_chain(*FIRST)
    waits, left = book(SECOND, ledger)
    assert isinstance(waits, AirflowRescheduleException)
    assert left["waits_for"].startswith("production of bike-shop is booked by release_bike_shop/one (1.1.0, requested")
    assert "reason" not in left, "nothing failed"
    book(SECOND, ledger)
    book(THIRD, ledger)
    assert kinds(ledger) == [ENVIRONMENT_BOOKED, ENVIRONMENT_QUEUED, ENVIRONMENT_QUEUED]
    free(FIRST)
    third, left = book(THIRD, ledger)
    assert isinstance(third, AirflowRescheduleException)
    assert left["waits_for"] == "rollback_bike_shop/two is ahead of it in the queue."
    second, _ = book(SECOND, ledger)
    assert second["holder"] == release_chain(*SECOND)


def test_who_plans_by_what_the_hosts_run_waits_for_the_end_of_a_release_or_is_refused(ledger: MemoryLedger) -> None:
    def plan() -> dict[Any, Any]:
        with dag_run(f"{SECOND[0]}/planning.offer_releases", run_id=SECOND[1]) as left:
            bookings.await_others(resources.catalogue_of("bike-shop")[0], "bike-shop", "production")
        return left

    plan()
    book(FIRST, ledger)
    with pytest.raises(AirflowRescheduleException):
        plan()
    policy = catalogue_folder() / "policy.yaml"
    text = policy.read_text()
    policy.write_text(text.replace("second: wait", "second: refuse"))
    with pytest.raises(PolicyViolation, match="is booked by release_bike_shop/one"):
        plan()
    policy.write_text(text)
    free(FIRST)
    plan()
    assert kinds(ledger) == [ENVIRONMENT_BOOKED, ENVIRONMENT_FREED], "it has booked nothing"


def test_outside_of_a_change_window_it_waits_and_books_nothing(ledger: MemoryLedger) -> None:
    in_the_calendar("window", 5 * HOUR, 6 * HOUR)
    before = datetime.now(UTC)
    waits, left = book(FIRST, ledger)
    assert isinstance(waits, AirflowRescheduleException)
    assert before < waits.reschedule_date <= datetime.now(UTC) + timedelta(minutes=1)
    assert "outside of the change window Nights (nights in calendars/office.yaml); next: " in left["waits_for"]
    assert kinds(ledger) == [], "it is in nobody's way"
    in_the_calendar("window", -HOUR, HOUR)
    assert book(FIRST, ledger)[0]["holder"] == release_chain(*FIRST)


def test_a_window_that_is_overridden_is_not_waited_for(ledger: MemoryLedger) -> None:
    in_the_calendar("window", 5 * HOUR, 6 * HOUR)
    given = {"place": "nights in calendars/office.yaml", "service": "bike-shop", "environment": "production"}
    given |= {"reason": "The till is broken", "by": "ben", "role": "operations"}
    given["until"] = (datetime.now(UTC) + HOUR).isoformat()
    ledger.append(INSTALLATION, FREEZE_OVERRIDDEN, given, actor="ben", key="o")
    assert book(FIRST, ledger)[0]["holder"] == release_chain(*FIRST)


@pytest.mark.parametrize(("kind", "start"), [("freeze", -1), ("window", -48)])
def test_neither_a_freeze_nor_a_window_that_never_comes_is_waited_for(
    ledger: MemoryLedger, kind: str, start: int
) -> None:
    in_the_calendar(kind, start * HOUR, (start + 6) * HOUR)
    assert book(FIRST, ledger)[0]["holder"] == release_chain(*FIRST), "the first permit refuses it"


def test_a_task_that_runs_again_has_its_booking_still(ledger: MemoryLedger) -> None:
    assert book(FIRST, ledger)[0] == book(FIRST, ledger)[0]
    assert kinds(ledger) == [ENVIRONMENT_BOOKED]


def test_a_dead_holders_booking_is_recovered_with_the_reason(ledger: MemoryLedger, airflow: AirflowServer) -> None:
    book(FIRST, ledger)
    airflow.runs[FIRST]["state"] = "failed"
    booked, _ = book(SECOND, ledger)
    assert booked["holder"] == release_chain(*SECOND)
    recovered = ledger.entries(CHAIN, kind=ENVIRONMENT_RECOVERED)[0]
    assert recovered.payload == {
        "holder": release_chain(*FIRST),
        "because": "its release is no longer in progress",
    }


def test_a_booking_whose_time_is_up_is_its_holders_until_that_has_ended(
    ledger: MemoryLedger, airflow: AirflowServer
) -> None:
    long_ago(ledger, timedelta(hours=9))
    waits, _ = book(SECOND, ledger)
    assert isinstance(waits, AirflowRescheduleException)
    assert bookings.taken("bike-shop", "production", release_chain(*SECOND))
    airflow.runs[FIRST]["state"] = "failed"
    assert not bookings.taken("bike-shop", "production", release_chain(*SECOND))
    assert book(SECOND, ledger)[0]["holder"] == release_chain(*SECOND)


def test_two_that_recover_a_dead_holders_booking_at_once_do_not_fail(
    ledger: MemoryLedger, airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    book(FIRST, ledger)
    airflow.runs[FIRST]["state"] = "failed"
    looks = bookings.is_under_way

    def slowly(chain: str) -> bool:
        monkeypatch.setattr(bookings, "is_under_way", looks)
        book(THIRD, ledger)
        return looks(chain)

    monkeypatch.setattr(bookings, "is_under_way", slowly)
    waits, left = book(SECOND, ledger)
    assert isinstance(waits, AirflowRescheduleException)
    assert "is booked by release_bike_shop/three" in left["waits_for"]
    assert kinds(ledger) == [ENVIRONMENT_BOOKED, ENVIRONMENT_RECOVERED, ENVIRONMENT_BOOKED, ENVIRONMENT_QUEUED]


def test_who_lost_a_booking_stands_in_line_again_from_whatever_task(
    ledger: MemoryLedger, airflow: AirflowServer
) -> None:
    book(FIRST, ledger)
    book(SECOND, ledger)
    free(FIRST)
    book(SECOND, ledger)
    airflow.runs[SECOND]["state"] = "failed"
    book(THIRD, ledger)
    airflow.runs[SECOND]["state"] = "running"  # its tasks were cleared
    for _ in range(2):
        assert isinstance(hold_in("implementation.wave_2", SECOND), AirflowRescheduleException)
    assert kinds(ledger) == [
        ENVIRONMENT_BOOKED,
        ENVIRONMENT_QUEUED,
        ENVIRONMENT_FREED,
        ENVIRONMENT_BOOKED,
        ENVIRONMENT_RECOVERED,
        ENVIRONMENT_BOOKED,
        ENVIRONMENT_QUEUED,
    ]
    free(THIRD)
    assert isinstance(hold_in("implementation.wave_2", SECOND), Booking)


def test_a_release_that_was_closed_holds_nothing(ledger: MemoryLedger) -> None:
    book(FIRST, ledger)
    ledger.append(release_chain(*FIRST), "release.closed", {}, actor="x", key="closed")
    assert book(SECOND, ledger)[0]["holder"] == release_chain(*SECOND)


def test_by_policy_the_second_is_refused(ledger: MemoryLedger) -> None:
    file = catalogue_folder() / "policy.yaml"
    assert file.read_text().count("second: wait") == 1
    file.write_text(file.read_text().replace("second: wait", "second: refuse"))
    book(FIRST, ledger)
    with pytest.raises(
        AirflowFailException, match="The environment is booked by another release: production of bike-shop is booked by"
    ):
        book(SECOND, ledger)


def long_ago(ledger: MemoryLedger, ago: timedelta) -> None:
    """Let the first release have booked, so long ago and for six hours."""
    then = datetime.now(UTC) - ago
    plan = releases.rollout()
    told = {
        "environment": "production",
        "service": "bike-shop",
        "holder": release_chain(*FIRST),
        "version": plan.version,
        "by": "rita",
        "since": then.isoformat(),
        "until": (then + timedelta(hours=6)).isoformat(),
    }
    ledger.append(CHAIN, ENVIRONMENT_BOOKED, told, actor="x", key="environment.booked/1")


def test_a_booking_that_ends_soon_is_extended_by_its_holder(ledger: MemoryLedger) -> None:
    long_ago(ledger, timedelta(hours=5))
    booked, _ = book(FIRST, ledger)
    assert datetime.fromisoformat(booked["until"]) > datetime.now(UTC) + timedelta(hours=5)
    assert kinds(ledger) == [ENVIRONMENT_BOOKED, ENVIRONMENT_EXTENDED]


def test_freeing_gives_back_only_ones_own(ledger: MemoryLedger) -> None:
    book(FIRST, ledger)
    free(SECOND)
    assert kinds(ledger) == [ENVIRONMENT_BOOKED]
    assert bookings.taken("bike-shop", "production", release_chain(*SECOND))
    assert not bookings.taken("bike-shop", "production", release_chain(*FIRST))
    free(FIRST)
    free(FIRST)
    assert kinds(ledger) == [ENVIRONMENT_BOOKED, ENVIRONMENT_FREED]
    assert not bookings.taken("bike-shop", "production", release_chain(*SECOND))


def test_what_a_dead_holder_left_is_not_taken(ledger: MemoryLedger, airflow: AirflowServer) -> None:
    book(FIRST, ledger)
    assert bookings.taken("bike-shop", "production", release_chain(*SECOND))
    airflow.runs[FIRST] = {"state": "failed"}
    assert not bookings.taken("bike-shop", "production", release_chain(*SECOND))


def test_of_two_that_see_it_free_at_once_one_gets_it(ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ledger.append_once

    def faster(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(ledger, "append_once", first)
        with dag_run("release_bike_shop/implementation.book_environment", run_id="one"):
            policy, _, _ = resources.catalogue_of("bike-shop")
            bookings.hold(policy, releases.rollout())
        return first(*given, **named)

    monkeypatch.setattr(ledger, "append_once", faster)
    waits, _ = book(SECOND, ledger)
    assert isinstance(waits, AirflowRescheduleException)
    assert kinds(ledger) == [ENVIRONMENT_BOOKED, ENVIRONMENT_QUEUED]
