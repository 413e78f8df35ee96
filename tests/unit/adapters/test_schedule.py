"""What the release calendar and its feed hold, and how conflicts are found by the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from icalendar import Calendar

from include.interlock.adapters.calendars import Known, load_calendars
from include.interlock.adapters.catalogue import FOLDER, load_catalogue, load_rules
from include.interlock.adapters.conflicts import conflicts_of_release, longest_of
from include.interlock.adapters.schedule import as_ical, items, path_of
from include.interlock.adapters.trains import load_trains
from include.interlock.domain.bookings import BOOKED, booking_chain
from include.interlock.domain.ledger import INSTALLATION, release_chain
from include.interlock.domain.train_manifest import ARRIVED, Arrival, PassengerOutcome
from tests.memory_ledger import MemoryLedger

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUN = "release_bike_shop/manual__1"
CATALOGUE = load_catalogue(FOLDER)
CALENDARS = load_calendars(FOLDER, Known())
TRAINS = load_trains(FOLDER, *load_rules(FOLDER)).trains


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger with a release that took two hours, a journey, and a booking."""
    kept = MemoryLedger()
    chain = release_chain(*RUN.split("/"))
    began = NOW - 10 * HOUR
    kept.append(chain, "baseline.measured", {}, actor="x", key="1", at=began)
    kept.append(chain, "release.closed", {}, actor="x", key="2", at=began + 2 * HOUR)
    told = {"run": RUN, "service": "bike-shop", "version": "1.1.0", "change_type": "normal", "outcome": "deployed"}
    kept.append(INSTALLATION, "release.ended", told, actor="x", key="3", at=began + 2 * HOUR)
    lost = PassengerOutcome(service="bike-shop", version="1.2.0", outcome="failed", reason="slow")
    came = Arrival(train="weekly", departure=NOW - 6 * HOUR, departed=True, passengers=(lost,))
    journey = release_chain("train_weekly", "scheduled__1")
    kept.append(journey, ARRIVED, came.to_xcom(), actor="x", key="1", at=NOW - 4 * HOUR)
    booking = {
        "environment": "production",
        "service": "bike-shop",
        "holder": chain,
        "version": "1.2.0",
        "by": "rita",
        "since": NOW.isoformat(),
        "until": (NOW + 6 * HOUR).isoformat(),
    }
    kept.append(booking_chain("production", "bike-shop"), BOOKED, booking, actor="x", key="1", at=NOW)
    return kept


def test_it_holds_what_was_what_is_and_what_will_be(ledger: MemoryLedger) -> None:
    begin = NOW - timedelta(days=2)
    found = items(CATALOGUE, CALENDARS, ledger, TRAINS, begin=begin, end=NOW + timedelta(days=14), now=NOW)
    assert [(one.kind, one.title, one.state) for one in found if one.kind != "holiday"] == [
        ("release", "bike-shop 1.1.0: deployed", "deployed"),
        ("train", "weekly: not everybody arrived", "failed"),
        ("booking", "bike-shop in production is booked", "running"),
        ("departure", "The weekly train", "planned"),
        ("departure", "The weekly train", "planned"),
    ]
    assert [path_of(one) for one in found if one.kind in ("train", "departure")][:2] == [
        "dags/train_weekly/runs/scheduled__1",
        "dags/train_weekly",
    ]


def test_holidays_come_once_also_over_the_turn_of_the_year(ledger: MemoryLedger) -> None:
    begin, end = datetime(2026, 12, 30, tzinfo=UTC), datetime(2027, 1, 10, tzinfo=UTC)
    found = items(CATALOGUE, CALENDARS, ledger, TRAINS, begin=begin, end=end, now=end)
    titles = [one.title for one in found if one.kind == "holiday"]
    assert titles == ["New Year's Day", "Epiphany"]


def test_the_feed_is_icalendar_with_links_to_runs(ledger: MemoryLedger) -> None:
    found = items(CATALOGUE, CALENDARS, ledger, TRAINS, begin=NOW - timedelta(days=2), end=NOW + HOUR, now=NOW)
    read = Calendar.from_ical(as_ical(found, address="https://airflow.example/", now=NOW).decode())
    events = read.walk("VEVENT")
    assert len(events) == len(found)
    assert str(events[0]["URL"]) == f"https://airflow.example/dags/{RUN.replace('/', '/runs/')}"
    assert events[0].decoded("DTEND") == NOW - 8 * HOUR


def test_how_long_releases_take_is_what_the_longest_of_the_last_ones_took(ledger: MemoryLedger) -> None:
    assert longest_of(ledger, ["bike-shop", "till"]) == {"bike-shop": 2 * HOUR}


def test_a_release_clashes_with_what_is_booked_but_not_with_its_own_booking(ledger: MemoryLedger) -> None:
    def found(chain: str) -> list[str]:
        each = conflicts_of_release(
            CATALOGUE,
            CALENDARS,
            ledger,
            TRAINS,
            service="bike-shop",
            environment="production",
            start=NOW,
            chain=chain,
        )
        return [one.kind for one in each]

    assert found("release/release_bike_shop/another") == ["environment"]
    assert found(release_chain(*RUN.split("/"))) == []


def test_a_release_clashes_with_a_train_that_departs_while_it_runs(ledger: MemoryLedger) -> None:
    departure = datetime(2027, 3, 9, 19, tzinfo=UTC)
    for start, expected in ((departure - HOUR, True), (departure - 2 * HOUR, False), (departure + HOUR, True)):
        each = conflicts_of_release(
            CATALOGUE, CALENDARS, ledger, TRAINS, service="bike-shop", environment="production", start=start, chain=""
        )
        assert [one.kind for one in each] == (["environment"] if expected else [])
