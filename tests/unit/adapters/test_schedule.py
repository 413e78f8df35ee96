"""What the release calendar and its feed hold, and how conflicts are found by the ledger."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from icalendar import Calendar

from interlock.adapters.calendars.calendars import load_calendars
from interlock.adapters.calendars.conflicts import conflicts_of_release, conflicts_of_trains, longest_of
from interlock.adapters.calendars.schedule import Item, Schedule
from interlock.adapters.calendars.schedule_feed import path_of, write_ical
from interlock.adapters.catalogue.catalogue import load_catalogue, load_rules
from interlock.adapters.catalogue.names import Known
from interlock.adapters.catalogue.trains import load_trains
from interlock.domain.calendars.bookings import booking_chain
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.catalogue.train_file import Train
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ENVIRONMENT_BOOKED,
    MANIFEST_FROZEN,
    TRAIN_ARRIVED,
    TRAIN_DEPARTED,
    TRAIN_OPENED,
)
from interlock.domain.trains.arrivals import Arrival, PassengerOutcome
from interlock.domain.trains.manifest import PlannedRun
from interlock.locations import CATALOGUE as FOLDER
from tests.memory_ledger import MemoryLedger
from tests.unit.domain.test_train_manifest import boarded, manifest

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUN = "release_bike_shop/manual__1"
CATALOGUE = load_catalogue(FOLDER)
CALENDARS = load_calendars(FOLDER, Known())
OFF = load_trains(FOLDER, *load_rules(FOLDER)).trains
"""As they are delivered: they depart only by hand."""
TRAINS = {name: train.model_copy(update={"on_schedule": True}) for name, train in OFF.items()}


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger with a release that took two hours, a train run, and a booking."""
    kept = MemoryLedger()
    chain = release_chain(*RUN.split("/"))
    began = NOW - 10 * HOUR
    kept.append(chain, "baseline.measured", {}, actor="x", key="1", at=began)
    kept.append(chain, "release.closed", {}, actor="x", key="2", at=began + 2 * HOUR)
    told = {"run": RUN, "service": "bike-shop", "version": "1.1.0", "change_type": "normal", "outcome": "deployed"}
    kept.append(INSTALLATION, "release.ended", told, actor="x", key="3", at=began + 2 * HOUR)
    lost = PassengerOutcome(service="bike-shop", version="1.2.0", outcome="failed", reason="slow")
    came = Arrival(train="weekly", departure=NOW - 6 * HOUR, departed=True, passengers=(lost,))
    of_train = release_chain("train_weekly", "scheduled__1")
    kept.append(of_train, TRAIN_ARRIVED, came.to_xcom(), actor="x", key="1", at=NOW - 4 * HOUR)
    booking = {
        "environment": "production",
        "service": "bike-shop",
        "holder": chain,
        "version": "1.2.0",
        "by": "rita",
        "since": NOW.isoformat(),
        "until": (NOW + 6 * HOUR).isoformat(),
    }
    kept.append(booking_chain("production", "bike-shop"), ENVIRONMENT_BOOKED, booking, actor="x", key="1", at=NOW)
    return kept


def test_it_holds_what_was_what_is_and_what_will_be(ledger: MemoryLedger) -> None:
    begin = NOW - timedelta(days=2)
    found = Schedule(CATALOGUE, CALENDARS, ledger, TRAINS, now=NOW).items(begin, NOW + timedelta(days=14))
    assert [(one.kind, one.title, one.state) for one in found if one.kind != "holiday"] == [
        ("release", "bike-shop 1.1.0: deployed", "deployed"),
        ("train", "The weekly train: some passengers did not arrive", "failed"),
        ("booking", "bike-shop in production is booked", "running"),
        ("departure", "The weekly train", "planned"),
        ("departure", "The weekly train", "planned"),
    ]
    assert [path_of(one) for one in found if one.kind in ("train", "departure")][:2] == [
        "dags/train_weekly/runs/scheduled__1",
        "dags/train_weekly",
    ]


def releases_shown(ledger: MemoryLedger, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    found = Schedule(CATALOGUE, CALENDARS, ledger, TRAINS, now=NOW).items(begin, end)
    return [(one.start, one.end) for one in found if one.kind == "release"]


def test_a_past_release_lasts_from_its_first_entry_in_the_ledger_to_its_end(ledger: MemoryLedger) -> None:
    began, ended = NOW - 10 * HOUR, NOW - 8 * HOUR
    assert releases_shown(ledger, NOW - DAY, NOW) == [(began, ended)]
    assert releases_shown(ledger, began, began + HOUR) == [(began, ended)]


def test_the_entry_about_the_end_of_a_release_says_when_it_began_and_its_chain_is_not_read(
    ledger: MemoryLedger,
) -> None:
    told = {"run": "release_till/manual__1", "service": "till", "version": "2.0.0", "change_type": "normal"}
    told |= {"outcome": "failed", "began": "2027-02-28T12:00:00.000000Z"}
    ledger.append(INSTALLATION, "release.ended", told, actor="x", key="4", at=NOW - HOUR)
    assert (NOW - DAY, NOW - HOUR) in releases_shown(ledger, NOW - 2 * DAY, NOW)


def test_a_release_whose_beginning_is_not_on_record_is_shown_at_its_end(ledger: MemoryLedger) -> None:
    del ledger.kept[release_chain(*RUN.split("/"))]
    assert releases_shown(ledger, NOW - DAY, NOW) == [(NOW - 8.5 * HOUR, NOW - 8 * HOUR)]


def test_what_is_booked_is_its_holders_as_long_as_that_is_under_way(ledger: MemoryLedger) -> None:
    def ends(*under_way: str) -> list[datetime]:
        later = NOW + 9 * HOUR
        found = Schedule(CATALOGUE, CALENDARS, ledger, TRAINS, now=later, under_way=under_way).items(NOW, later + DAY)
        return [one.end for one in found if one.kind == "booking"]

    assert ends(RUN, "release_bike_shop/another") == [NOW + 9 * HOUR]
    assert ends("release_bike_shop/another") == []


def test_holidays_come_once_also_over_the_turn_of_the_year(ledger: MemoryLedger) -> None:
    begin, end = datetime(2026, 12, 30, tzinfo=UTC), datetime(2027, 1, 10, tzinfo=UTC)
    found = Schedule(CATALOGUE, CALENDARS, ledger, TRAINS, now=end).items(begin, end)
    titles = [one.title for one in found if one.kind == "holiday"]
    assert titles == ["New Year's Day", "Epiphany"]


def test_the_feed_is_icalendar_with_links_to_runs(ledger: MemoryLedger) -> None:
    found = Schedule(CATALOGUE, CALENDARS, ledger, TRAINS, now=NOW).items(NOW - timedelta(days=2), NOW + HOUR)
    read = Calendar.from_ical(write_ical(found, address="https://airflow.example/", now=NOW).decode())
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


# --- whole days ------------------------------------------------------------------------------------------------------

DAYS = """\
title: Calendar
owner: o
time_zone: Europe/Berlin
entries:
  - { name: fair, title: Fair, kind: freeze, from: 2027-03-10, until: 2027-03-12 }
  - { name: night, title: Night, kind: freeze, from: 2027-03-11T18:00, until: 2027-03-13T06:00 }
"""
OUTING = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
X-WR-TIMEZONE:America/New_York
BEGIN:VEVENT
UID:outing
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20270314
DTEND;VALUE=DATE:20270315
RRULE:FREQ=DAILY;COUNT=2
SUMMARY:Outing
CATEGORIES:EVENT
END:VEVENT
END:VCALENDAR
"""
"""The clocks change on its first day."""


def test_entries_of_whole_days_say_which_days_in_their_own_time_zone(tmp_path: Path) -> None:
    (tmp_path / "calendars").mkdir()
    (tmp_path / "calendars" / "office.yaml").write_text(DAYS)
    (tmp_path / "calendars" / "outing.ics").write_text(OUTING.replace("\n", "\r\n"))
    calendars = load_calendars(tmp_path, Known())
    assert calendars.faults == ()
    shown_there = schedule(calendars=calendars).items(NOW, NOW + 20 * DAY)
    found = [one for one in shown_there if one.kind != "departure"]
    assert [(one.title, one.day, one.until_day) for one in found] == [
        ("Fair", date(2027, 3, 10), date(2027, 3, 13)),
        ("Night", None, None),
        ("Outing", date(2027, 3, 14), date(2027, 3, 15)),
        ("Outing", date(2027, 3, 15), date(2027, 3, 16)),
    ]
    assert [one.about.partition("; ")[2] for one in found] == [
        "days in Europe/Berlin",
        "",
        "days in America/New_York",
        "days in America/New_York",
    ]
    events = Calendar.from_ical(write_ical(found, address="", now=NOW).decode()).walk("VEVENT")
    assert (events[0].decoded("DTSTART"), events[0].decoded("DTEND")) == (date(2027, 3, 10), date(2027, 3, 13))
    assert events[1].decoded("DTSTART") == datetime(2027, 3, 11, 17, tzinfo=UTC)


# --- what is to come -------------------------------------------------------------------------------------------------

FREEZE = """\
title: Calendar
owner: o
time_zone: UTC
entries:
  - name: audit
    title: Audit
    kind: freeze
    from: 2027-03-02T{start}
    until: 2027-03-03T06:00
"""
TUESDAY = datetime(2027, 3, 2, 19, tzinfo=UTC)
"""When the weekly train departs next."""
DAY = timedelta(days=1)
SATURDAY = datetime(2027, 3, 6, 10, tzinfo=UTC)


def frozen(folder: Path, start: str = "12:00") -> Calendars:
    """Return calendars with a freeze, in which a departure falls if nothing else is said."""
    (folder / "calendars").mkdir()
    (folder / "calendars" / "audit.yaml").write_text(FREEZE.format(start=start))
    return load_calendars(folder, Known())


def schedule(
    *trains: Train, kept: MemoryLedger | None = None, calendars: Calendars = CALENDARS, now: datetime = NOW, **seen: Any
) -> Schedule:
    by_name = {one.name: one for one in trains} or TRAINS
    return Schedule(CATALOGUE, calendars, kept or MemoryLedger(), by_name, now=now, **seen)


def shown(*trains: Train, begin: datetime = NOW - DAY, end: datetime = NOW + 14 * DAY, **asked: Any) -> list[Item]:
    """Return what is shown, of two weeks if nothing else is said, but for holidays."""
    return [one for one in schedule(*trains, **asked).items(begin, end) if one.kind != "holiday"]


def another(**said: Any) -> Train:
    """Return a train with the passenger of the weekly one, half an hour later."""
    weekly = TRAINS["weekly"].model_dump(mode="json", by_alias=True)
    changed = {"name": "late", "title": "The late train", "cadence": {"cron": "30 20 * * TUE"}, **said}
    return Train.model_validate({**weekly, **changed})


def opened(kept: MemoryLedger, run_id: str, departure: datetime, *, by: str = "") -> str:
    """Open boarding in a run of the weekly train."""
    chain = release_chain("train_weekly", run_id)
    planned_run = PlannedRun(train="weekly", departure=departure, cut_off=departure - 2 * HOUR, asked_by=by)
    kept.append(chain, TRAIN_OPENED, planned_run.to_xcom(), actor="x", key="1", at=NOW)
    return chain


def told(found: list[Item]) -> list[tuple[str, str, str]]:
    return [(one.kind, one.title, one.state) for one in found]


def test_a_departure_that_a_freeze_moves_stays_the_same_event(tmp_path: Path) -> None:
    before, after = shown(end=NOW + 3 * DAY), shown(calendars=frozen(tmp_path), end=NOW + 3 * DAY)
    (planned,) = [one for one in before if one.kind == "departure"]
    (moved,) = [one for one in after if one.kind == "departure"]
    assert (planned.start, moved.start) == (TUESDAY, datetime(2027, 3, 3, 6, tzinfo=UTC))
    assert moved.id == planned.id == "train/weekly/2027-03-02T19:00:00+00:00"
    assert (moved.state, moved.about.partition("; ")[2]) == ("moved", "moved from 2027-03-02 19:00 UTC by a calendar")


@pytest.mark.parametrize(
    ("unpaused", "expected"),
    [
        pytest.param(None, ("The weekly train", "planned"), id="not known"),
        pytest.param({"train_weekly"}, ("The weekly train", "planned"), id="running"),
        pytest.param({"train_other"}, ("The weekly train (paused)", "paused"), id="paused, or without a Dag yet"),
    ],
)
def test_a_departure_of_a_paused_train_says_so(unpaused: set[str] | None, expected: tuple[str, str]) -> None:
    first = next(one for one in shown(unpaused=unpaused) if one.kind == "departure")
    assert (first.title, first.state) == expected
    assert ("paused: it departs only if" in first.about) == (first.state == "paused")


def test_a_departure_of_a_train_off_schedule_says_what_would_bring_it_about() -> None:
    first = next(one for one in shown(*OFF.values(), unpaused={"train_weekly"}) if one.kind == "departure")
    assert (first.title, first.state) == ("The weekly train (off schedule)", "paused")
    assert first.about.endswith("; off schedule: it departs only if on_schedule is true in its file by then")


def test_a_train_off_schedule_that_is_sent_by_hand_is_like_any_other() -> None:
    kept = MemoryLedger()
    opened(kept, "manual__1", TUESDAY + 3 * HOUR / 4, by="rita")
    found = shown(OFF["weekly"], another(), kept=kept, unpaused={"train_weekly", "train_late"}, end=NOW + 3 * DAY)
    (sent,) = [one for one in found if one.run_id and one.kind == "departure"]
    assert (sent.title, sent.state) == ("The weekly train (manual)", "boarding")
    clashes = {one.state: one.about for one in found if one.kind == "conflict"}
    assert sorted(clashes) == ["paused", "warning"]
    assert clashes["paused"].endswith("Only if The weekly train departs on schedule.")
    assert "on schedule" not in clashes["warning"]


def test_what_does_not_depart_is_in_nobodys_way() -> None:
    for trains, number in ((TRAINS, 1), (OFF, 0)):
        found = conflicts_of_release(
            CATALOGUE,
            CALENDARS,
            MemoryLedger(),
            trains,
            service="bike-shop",
            environment="production",
            start=TUESDAY,
            chain="",
        )
        assert len([one for one in found if "The weekly train" in one.what]) == number
    for trains, number in (({**TRAINS, "late": another()}, 1), ({**OFF, "late": another()}, 0)):
        found = conflicts_of_trains(CATALOGUE, CALENDARS, None, trains, NOW)
        assert len([one for one in found if one.kind == "two_trains"]) == number
    sent = conflicts_of_trains(CATALOGUE, CALENDARS, None, {**OFF, "late": another()}, NOW, sent={"weekly": TUESDAY})
    assert [one.kind for one in sent] == ["two_trains"]


def test_a_train_that_was_sent_by_hand_is_shown_before_it_arrives() -> None:
    kept = MemoryLedger()
    opened(kept, "manual__1", SATURDAY, by="rita")
    (sent,) = [one for one in shown(kept=kept, end=NOW + 7 * DAY) if one.run_id]
    assert (sent.kind, sent.title, sent.state) == ("departure", "The weekly train (manual)", "boarding")
    assert (sent.start, path_of(sent)) == (SATURDAY, "dags/train_weekly/runs/manual__1")
    (held,) = [one for one in shown(kept=kept, unpaused=set(), end=NOW + 7 * DAY) if one.run_id]
    assert (held.title, held.state) == ("The weekly train (manual, paused)", "paused")
    assert sent.about.startswith("Triggered by rita; manifest frozen at 2027-03-06 08:00 UTC")


def test_a_departure_that_has_its_run_is_shown_once_and_leads_to_it() -> None:
    kept = MemoryLedger()
    planned = [one for one in shown() if one.kind == "departure"]
    chain = opened(kept, "scheduled__1", TUESDAY)
    listed = manifest(boarded("bike-shop"))
    kept.append(chain, MANIFEST_FROZEN, {**listed.to_xcom(), "digest": listed.digest}, actor="x", key="2", at=NOW)
    running = [one for one in shown(kept=kept) if one.kind == "departure"]
    assert [one.id for one in running] == [one.id for one in planned]
    assert [one.run_id for one in running] == ["scheduled__1", ""]
    assert "on board: bike-shop 1.1.0" in running[0].about


def test_a_moved_departure_that_has_its_run_stays_the_same_event_until_it_arrives(tmp_path: Path) -> None:
    kept, calendars = MemoryLedger(), frozen(tmp_path)
    moved = datetime(2027, 3, 3, 6, tzinfo=UTC)
    chain = opened(kept, "scheduled__1", moved)
    first = shown(kept=kept, calendars=calendars)
    assert [one.id for one in first if one.start == moved] == ["train/weekly/2027-03-02T19:00:00+00:00"]
    later = moved + HOUR
    kept.append(chain, TRAIN_DEPARTED, {}, actor="x", key="2", at=moved)
    (under_way,) = [one for one in shown(kept=kept, calendars=calendars, now=later) if one.run_id]
    assert (under_way.kind, under_way.state, under_way.end) == ("train", "running", later)
    there = PassengerOutcome(service="bike-shop", version="1.2.0", outcome="deployed")
    came = Arrival(train="weekly", departure=moved, departed=True, passengers=(there,))
    kept.append(chain, TRAIN_ARRIVED, came.to_xcom(), actor="x", key="3", at=later)
    (arrived,) = [one for one in shown(kept=kept, calendars=calendars, now=later) if one.run_id]
    assert (arrived.id, arrived.title) == (under_way.id, "The weekly train: arrived")


def test_a_train_that_took_nobody_has_not_arrived_and_says_why() -> None:
    kept = MemoryLedger()
    chain = opened(kept, "scheduled__1", TUESDAY)
    left = PassengerOutcome(service="bike-shop", boarded=False, outcome="left behind", reason="it runs 1.2.0 already")
    came = Arrival(train="weekly", departure=TUESDAY, departed=True, passengers=(left,))
    kept.append(chain, TRAIN_ARRIVED, came.to_xcom(), actor="x", key="2", at=TUESDAY + HOUR)
    (empty,) = [one for one in shown(kept=kept, now=TUESDAY + 2 * HOUR) if one.run_id]
    assert (empty.title, empty.state) == ("The weekly train: departed without passengers", "empty")
    assert "it runs 1.2.0 already" in empty.about


def test_a_train_that_ended_before_its_departure_departs_no_more() -> None:
    kept = MemoryLedger()
    chain = opened(kept, "scheduled__1", TUESDAY)
    stopped = Arrival(train="weekly", departed=False, reason="late: stop")
    kept.append(chain, TRAIN_ARRIVED, stopped.to_xcom(), actor="x", key="2", at=NOW)
    assert [one.start for one in shown(kept=kept) if one.kind == "departure"] == [TUESDAY + 7 * DAY]


def test_a_train_whose_run_ended_without_an_arrival_is_no_departure() -> None:
    kept = MemoryLedger()
    opened(kept, "manual__1", SATURDAY, by="rita")
    assert [one.state for one in shown(kept=kept, under_way={"train_weekly/manual__1"}) if one.run_id] == ["boarding"]
    (lost,) = [one for one in shown(kept=kept, under_way=set()) if one.run_id]
    assert (lost.kind, lost.state) == ("train", "failed")
    assert "ended without an arrival" in lost.title


def test_milestones_of_an_enterprise_release_are_days() -> None:
    fair = another(
        name="fair",
        title="The spring fair",
        cadence=None,
        target={
            "at": "2027-03-10T20:00",
            "holidays": {"country": "DE", "region": "BY"},
            "milestones": [{"name": "scope", "title": "Scope is fixed", "working_days_before": 4}],
        },
    )
    found = shown(fair)
    assert told(found) == [
        ("milestone", "The spring fair: Scope is fixed", ""),
        ("departure", "The spring fair", "planned"),
    ]
    assert (found[0].day, found[0].until_day, path_of(found[0])) == (
        date(2027, 3, 4),
        date(2027, 3, 5),
        "dags/train_fair",
    )
    assert (found[0].id, found[0].start) == ("milestone/fair/scope", datetime(2027, 3, 3, 23, tzinfo=UTC))
    event = Calendar.from_ical(write_ical(found, address="", now=NOW).decode()).walk("VEVENT")[0]
    assert (event.decoded("DTSTART"), event.decoded("DTEND")) == (date(2027, 3, 4), date(2027, 3, 5))


# --- conflicts -------------------------------------------------------------------------------------------------------


def test_each_clash_of_two_trains_is_in_the_feed_when_it_happens() -> None:
    found = shown(TRAINS["weekly"], another())
    first, second = (one for one in found if one.kind == "conflict")
    assert (first.start, first.end) == (TUESDAY + HOUR / 2, TUESDAY + HOUR)
    assert second.start == first.start + 7 * DAY
    assert first.state == "warning"
    event = next(
        one
        for one in Calendar.from_ical(write_ical(found, address="", now=NOW).decode()).walk("VEVENT")
        if str(one["UID"]) == f"{first.id}@interlock"
    )
    assert event.decoded("DTSTART") == first.start
    assert str(event["SUMMARY"]) == (
        "Warning: The weekly train (weekly) departs at 2027-03-02 19:00 UTC and The late train (late) at "
        "2027-03-02 19:30 UTC, both with bike-shop."
    )
    assert str(event["DESCRIPTION"]) == "Next free slot: 2027-03-02 20:30 UTC."


def test_the_next_free_slot_after_a_clash_is_one_that_the_calendars_have(tmp_path: Path) -> None:
    calendars = frozen(tmp_path, "20:15")
    found = shown(TRAINS["weekly"], another(), calendars=calendars, end=NOW + 3 * DAY)
    (clash,) = [one for one in found if one.kind == "conflict"]
    assert (clash.start, clash.end) == (TUESDAY + HOUR / 2, TUESDAY + HOUR)
    assert clash.about == "Next free slot: 2027-03-03 06:00 UTC."


def test_of_trains_that_clash_every_week_the_first_time_is_named() -> None:
    (first,) = schedule(TRAINS["weekly"], another()).conflicts()
    assert first.start == TUESDAY + HOUR / 2
    assert schedule(TRAINS["weekly"]).conflicts() == []


def test_a_clash_lasts_as_long_as_past_releases_took(ledger: MemoryLedger) -> None:
    found = shown(TRAINS["weekly"], another(), kept=ledger, begin=NOW, end=NOW + 3 * DAY)
    (clash,) = [one for one in found if one.kind == "conflict"]
    assert (clash.start, clash.end) == (TUESDAY + HOUR / 2, TUESDAY + 2 * HOUR)


def test_a_clash_with_a_paused_train_is_one_if_that_is_unpaused() -> None:
    found = shown(TRAINS["weekly"], another(), unpaused={"train_weekly"}, end=NOW + 3 * DAY)
    (clash,) = [one for one in found if one.kind == "conflict"]
    assert clash.state == "paused"
    assert clash.about.endswith("Only if The late train departs on schedule.")


def test_a_train_sent_by_hand_clashes_with_another_one() -> None:
    kept = MemoryLedger()
    late = another(cadence={"cron": "30 11 * * SAT"})  # half an hour after it, in Berlin
    opened(kept, "manual__1", SATURDAY, by="rita")
    found = shown(TRAINS["weekly"], late, kept=kept)
    assert [one.start for one in found if one.kind == "conflict"] == [SATURDAY + HOUR / 2]


def test_what_a_planned_release_clashes_with_is_shown_until_it_has_ended() -> None:
    kept = MemoryLedger()
    chain, start = release_chain("release_bike_shop", "manual__2"), NOW + 30 * HOUR
    kept.append(chain, "plan.made", {"not_before": start.isoformat()}, actor="x", key="1", at=NOW)
    clash = {"kind": "window", "severity": "severe", "what": "The calendars cannot be read.", "next_free": None}
    kept.append(chain, "conflicts.found", {"conflicts": [clash]}, actor="x", key="2", at=NOW)
    (found,) = [one for one in shown(kept=kept) if one.kind == "conflict"]
    assert (found.title, found.state, found.start) == ("Severe: The calendars cannot be read.", "severe", start)
    assert path_of(found) == "dags/release_bike_shop/runs/manual__2"
    assert not [one for one in shown(kept=kept, under_way={"release_bike_shop/x"}) if one.kind == "conflict"]
    ended = {"run": "release_bike_shop/manual__2", "service": "bike-shop", "version": "1.2.0"}
    ended |= {"change_type": "normal", "outcome": "rejected"}
    kept.append(INSTALLATION, "release.ended", ended, actor="x", key="3", at=NOW)
    assert not [one for one in shown(kept=kept) if one.kind == "conflict"]


def test_what_a_train_noted_of_its_board_is_shown_and_of_other_trains_only_once() -> None:
    kept = MemoryLedger()
    chain = opened(kept, "scheduled__1", TUESDAY)
    noted = [
        {"kind": "two_trains", "severity": "warning", "what": "Both with bike-shop.", "next_free": None},
        {"kind": "quorum", "severity": "severe", "what": "The CAB cannot come to its quorum.", "next_free": None},
    ]
    kept.append(chain, "conflicts.found", {"conflicts": noted}, actor="x", key="2", at=NOW)
    found = [one for one in shown(kept=kept) if one.kind == "conflict"]
    assert [(one.title, one.start) for one in found] == [("Severe: The CAB cannot come to its quorum.", TUESDAY)]
