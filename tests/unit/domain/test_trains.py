"""When trains depart: held against minutes that are counted, and against dateutil."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterError, croniter
from dateutil.rrule import rrulestr
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.domain.catalogue.train_file import Target, Train
from interlock.domain.trains.cadence import planned_departures
from interlock.domain.trains.departures import (
    cadence_in_words,
    departures,
    departures_between,
    freeze_in_words,
    next_departures,
)
from interlock.domain.trains.milestones import milestones, working_day_before
from tests.examples import examples

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]
"""Hours, half hours and, in Apia, a whole day that the clocks skip."""


def train(cron: str | None = "0 20 * * TUE", zone: str = "UTC", **changes: Any) -> Train:
    said: dict[str, Any] = {
        "name": "weekly",
        "title": "Weekly",
        "owner": "the office",
        "time_zone": zone,
        "cadence": {"cron": cron} if cron else None,
        "passengers": [{"service": "bike-shop", "tags": "*"}],
    }
    return Train.model_validate({**said, **changes})


def always(at: datetime) -> datetime | None:
    return at


def closed(*spans: tuple[datetime, datetime]) -> Callable[[datetime], datetime | None]:
    """Return what says when it opens, with these spans closed, in any order."""

    def opening(at: datetime) -> datetime | None:
        while True:
            later = [end for start, end in spans if start <= at < end]
            if not later:
                return at
            at = max(later)

    return opening


# --- the cadence -----------------------------------------------------------------------------------------------------

MINUTE = timedelta(minutes=1)


def by_counting(
    hours: set[int], minute: int, days: set[int], zone: str, begin: datetime, end: datetime
) -> list[datetime]:
    """Walk through each minute, and look at the clock on the wall.

    What the clock skips counts as that much later; what it shows twice counts the first time.
    """
    clock = ZoneInfo(zone)
    found = set()
    at = begin - timedelta(days=2)
    shown = at.astimezone(clock).replace(tzinfo=None)
    while at < end + timedelta(days=2):
        wanted = shown.minute == minute and shown.hour in hours and shown.weekday() in days
        if wanted and at.astimezone(clock).fold == 0:
            found.add(at)
        following = (at + MINUTE).astimezone(clock).replace(tzinfo=None)
        skipped = shown + MINUTE
        while following - skipped > timedelta(0):  # the clock is put forward: what it skips, in minutes
            if skipped.minute == minute and skipped.hour in hours and skipped.weekday() in days:
                found.add(at + MINUTE + (skipped - (shown + MINUTE)))
            skipped += MINUTE
        at, shown = at + MINUTE, following
    return sorted(one for one in found if begin < one < end)


@examples(25)
@given(
    zone=st.sampled_from(ZONES[:4]),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=3),
    minute=st.integers(0, 59),
    days=st.sets(st.integers(0, 6), min_size=1),
    month=st.sampled_from([(2026, 3), (2026, 10), (2027, 4), (2028, 2), (2026, 11)]),
)
def test_a_cron_cadence_is_what_the_clock_on_the_wall_shows(
    zone: str, hours: set[int], minute: int, days: set[int], month: tuple[int, int]
) -> None:
    begin = datetime(*month, 1, tzinfo=UTC)
    end = begin + timedelta(days=14) if month[1] != 3 else begin + timedelta(days=31)
    cron = f"{minute} {','.join(map(str, sorted(hours)))} * * {','.join(str((day + 1) % 7) for day in sorted(days))}"
    one = train(cron, zone)
    found = [each.at for each in departures_between(one, always, begin + MINUTE, end)]
    assert found == by_counting(hours, minute, days, zone, begin, end)


def test_a_year_of_a_nightly_train_is_right_across_both_changes_of_the_clocks() -> None:
    begin, end = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    one = train("30 2 * * *", "Europe/Berlin")
    found = [each.at for each in departures_between(one, always, begin, end)]
    assert found == by_counting({2}, 30, set(range(7)), "Europe/Berlin", begin, end)
    assert len(found) == 365
    assert datetime(2027, 3, 28, 1, 30, tzinfo=UTC) in found, "02:30 does not exist there: 03:30 summer time"
    assert datetime(2027, 10, 31, 0, 30, tzinfo=UTC) in found, "02:30 is there twice: the first"
    assert datetime(2027, 10, 31, 1, 30, tzinfo=UTC) not in found


@examples(60)
@given(
    rule=st.sampled_from(
        ["FREQ=WEEKLY;BYDAY=TU", "FREQ=MONTHLY;BYDAY=1TU", "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU"]
    ),
    zone=st.sampled_from(ZONES),
    days=st.integers(0, 2000),
)
def test_a_rule_is_what_dateutil_makes_of_it_from_its_start(rule: str, zone: str, days: int) -> None:
    start = datetime(2026, 1, 6, 20)
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)
    one = train(None, zone, cadence={"rule": rule, "from": "2026-01-06T20:00"})
    every = (at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for at in islice(rrulestr(rule, dtstart=start), 1000))
    assert list(islice(planned_departures(one, after), 5)) == list(islice((at for at in every if at > after), 5))


@pytest.mark.parametrize("zone", ZONES)
def test_departures_come_in_order_each_once(zone: str) -> None:
    one = train("0 * * * *", zone)
    after = datetime(2026, 10, 20, tzinfo=UTC)
    found = list(islice(planned_departures(one, after), 24 * 30))
    assert found == sorted(set(found))


FIELDS = st.tuples(
    st.sampled_from(["0", "30", "59"]),
    st.sampled_from(["*", "2", "1,13", "*/6", "9-11"]),
    st.sampled_from(["*", "1", "13,29", "*/10", "l"]),
    st.sampled_from(["*", "2", "jan,jun", "3-5"]),
    st.sampled_from(["*", "tue", "1-5", "0,6", "7", "fri#2", "l5"]),
).map(" ".join)


@examples(200)
@given(cron=FIELDS, days=st.integers(0, 3000))
def test_a_cron_cadence_is_what_croniter_makes_of_it(cron: str, days: int) -> None:
    after = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=days)
    times = croniter(cron, after.replace(tzinfo=None), ret_type=datetime)
    try:
        expected = [times.get_next(datetime).replace(tzinfo=UTC) for _ in range(12)]
    except CroniterError:
        reject()
    assert list(islice(planned_departures(train(cron), after), 12)) == expected


def test_a_cadence_without_a_date_is_refused_and_so_is_one_by_the_minute() -> None:
    for cron in ("0 0 30 2 *", "*/5 * * * *", "0,30 * * * *", "0 25 * * *", "nonsense"):
        with pytest.raises(ValidationError):
            train(cron)


# --- freezes ---------------------------------------------------------------------------------------------------------

START = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def naively(one: Train, opening: Any, plans: list[datetime], after: datetime) -> list[datetime]:
    """Decide on each departure by itself, hour by hour."""
    found = []
    for number, plan in enumerate(plans):
        following = plans[number + 1] if number + 1 < len(plans) else None
        at = plan
        while opening(at) != at:
            at += HOUR
        moved = at != plan
        too_far = at > plan + one.freeze.farthest or (following is not None and at >= following)
        if not moved or (one.freeze.then == "move" and not too_far):
            found.append(at)
    return [at for at in found if at > after]


@examples(150)
@given(
    spans=st.lists(st.tuples(st.integers(0, 24 * 20), st.integers(1, 90)), max_size=6),
    then=st.sampled_from(["move", "drop"]),
    farthest=st.integers(1, 72),
    after=st.integers(0, 24 * 20),
)
def test_a_departure_in_a_freeze_is_moved_or_dropped(
    spans: list[tuple[int, int]], then: str, farthest: int, after: int
) -> None:
    opening = closed(*((START + begin * HOUR, START + (begin + length) * HOUR) for begin, length in spans))
    one = train("0 20 * * *", freeze={"then": then, "farthest": f"PT{farthest}H"})
    plans = list(islice(planned_departures(one, START - timedelta(days=9)), 60))
    at = START + after * HOUR
    assert [each.at for each in next_departures(one, opening, at, 10)] == naively(one, opening, plans, at)[:10]


@examples(100)
@given(
    spans=st.lists(st.tuples(st.integers(0, 24 * 20), st.integers(1, 90)), max_size=6),
    later=st.lists(st.tuples(st.integers(0, 24 * 20), st.integers(1, 90)), max_size=6),
)
def test_a_planned_departure_departs_once_however_the_calendars_change(
    spans: list[tuple[int, int]], later: list[tuple[int, int]]
) -> None:
    def of(listed: list[tuple[int, int]]) -> Any:
        return closed(*((START + begin * HOUR, START + (begin + length) * HOUR) for begin, length in listed))

    one = train("0 20 * * *")
    made = next_departures(one, of(spans), START, 5)[-1]
    following = next(departures(one, of(later), made.at, done=made.at))
    assert following.at > made.at
    assert following.planned > made.at >= made.planned


def test_a_moved_departure_is_found_while_it_is_still_to_come() -> None:
    plan = datetime(2026, 12, 1, 20, tzinfo=UTC)
    opening = closed((plan - HOUR, plan + 10 * HOUR))
    (found,) = next_departures(train(), opening, plan + HOUR, 1)
    assert (found.planned, found.at, found.is_moved) == (plan, plan + 10 * HOUR, True)


def test_what_is_closed_for_ever_departs_never() -> None:
    assert list(departures(train("0 * * * *"), lambda at: None, START)) == []


def test_a_train_that_was_paused_for_months_departs_again() -> None:
    one = train("0 * * * *")
    after = START + timedelta(days=200)
    (following,) = islice(departures(one, always, after, done=START), 1)
    assert following.at == after + HOUR


def test_a_departure_that_was_made_is_not_made_again_where_it_would_be_moved_to() -> None:
    plan = datetime(2026, 12, 1, 20, tzinfo=UTC)
    opening = closed((plan - HOUR, plan + 10 * HOUR))
    (following,) = islice(departures(train(), opening, plan + HOUR, done=plan), 1)
    assert following.at == plan + timedelta(weeks=1)


def test_a_year_of_an_hourly_train_is_all_there_however_often_it_is_dropped() -> None:
    one = train("0 * * * *", freeze={"then": "drop"})
    found = departures_between(one, lambda at: at if at.hour >= 12 else None, START, START + timedelta(days=365))
    assert len(found) == 365 * 12


def test_an_enterprise_release_departs_once() -> None:
    one = train(None, "Europe/Berlin", target={"at": "2027-03-01T20:00"})
    assert [each.at for each in departures(one, always, START)] == [datetime(2027, 3, 1, 19, tzinfo=UTC)]
    assert list(departures(one, always, datetime(2027, 3, 2, tzinfo=UTC))) == []


# --- milestones ------------------------------------------------------------------------------------------------------


@given(
    day=st.dates(date(2026, 1, 1), date(2030, 1, 1)),
    number=st.integers(0, 60),
    free=st.sets(st.integers(0, 6), max_size=5),
)
def test_working_days_are_counted_back_one_by_one(day: date, number: int, free: set[int]) -> None:
    found = working_day_before(day, number, lambda one: one.weekday() in free)
    assert found.weekday() not in free
    days = [found + timedelta(days=offset) for offset in range((day - found).days + 1)]
    assert sum(one.weekday() not in free for one in days) == number + 1


def test_milestones_leave_out_weekends_and_holidays() -> None:
    target = Target.model_validate(
        {
            "at": "2027-01-08T20:00",
            "milestones": [
                {"name": "scope", "title": "Scope is fixed", "working_days_before": 2},
                {"name": "code", "title": "Code is fixed", "working_days_before": 1},
            ],
            "holidays": {"country": "DE", "region": "BY"},
        }
    )

    def holidays(country: str, region: str | None, year: int) -> dict[date, str]:
        assert (country, region) == ("DE", "BY")
        return {date(2027, 1, 6): "Epiphany", date(2027, 1, 1): "New Year"}

    assert milestones(target, holidays) == [
        (date(2027, 1, 5), "scope", "Scope is fixed"),
        (date(2027, 1, 7), "code", "Code is fixed"),
    ]


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cadence": None}, "either a cadence, or"),
        ({"target": {"at": "2027-01-01T10:00"}}, "either a cadence, or"),
        ({"boarding": {"opens": "PT1H", "cut_off": "PT2H"}}, "cut_off is longer"),
        ({"freeze": {"farthest": "P8D"}}, "at most 7 days"),
        ({"cadence": {"rule": "FREQ=DAILY"}}, "from goes with rule"),
        (
            {"cadence": {"rule": "FREQ=WEEKLY;BYDAY=MO", "from": "2026-01-06T20:00"}},
            "from must be the first occurrence of",
        ),
        ({"cadence": {"rule": "FREQ=HOURLY;INTERVAL=0", "from": "2026-01-06T20:00"}}, "INTERVAL: found 0"),
        ({"cadence": {"rule": "FREQ=HOURLY;BYSECOND=0,1", "from": "2026-01-06T20:00"}}, "several times a minute"),
        ({"passengers": [{"service": "a", "tags": "*", "accepted": True}]}, "exactly one of: tags, named, accepted"),
        ({"passengers": [{"service": "a", "tags": "*"}, {"service": "a", "tags": "*"}]}, "a is named twice"),
        ({"passengers": [{"service": "a", "tags": "*", "after": ["b"]}]}, "b, not on the train"),
        (
            {
                "passengers": [
                    {"service": "c", "tags": "*"},
                    {"service": "a", "tags": "*", "after": ["b", "c"]},
                    {"service": "b", "tags": "*", "after": ["a"]},
                ]
            },
            "a after b after a: the dependencies are circular",
        ),
        ({"time_zone": "Mars/Olympus"}, "is not a time zone"),
    ],
)
def test_a_train_that_cannot_be_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        train(**changes)


def test_a_passengers_own_rule_on_being_late_or_failed_counts_before_the_trains() -> None:
    one = train(
        passengers=[
            {"service": "a", "tags": "*", "late": "stop"},
            {"service": "b", "tags": "*", "failed": "wait", "after": ["a"]},
        ]
    )
    assert (one.when_late("a"), one.when_late("b")) == ("stop", "left_behind")
    assert (one.when_failed("a"), one.when_failed("b")) == ("left_behind", "wait")


def test_it_says_in_words_when_it_departs() -> None:
    assert cadence_in_words(train(zone="Europe/Berlin")) == "0 20 * * TUE Europe/Berlin"
    rule = {"rule": "FREQ=WEEKLY;BYDAY=TU", "from": "2026-01-06T20:00"}
    assert cadence_in_words(train(None, cadence=rule)) == "FREQ=WEEKLY;BYDAY=TU from 2026-01-06 20:00 UTC"
    assert cadence_in_words(train(None, target={"at": "2027-03-01T20:00"})) == "once, 2027-03-01 20:00 UTC"
    assert freeze_in_words(train()).endswith("by at most 48 hours")
    assert "cancelled" in freeze_in_words(train(freeze={"then": "drop"}))
