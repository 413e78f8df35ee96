"""May this service change this environment now, and if not, when?"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import recurring_ical_events
from dateutil.rrule import rrulestr
from hypothesis import example, given
from hypothesis import strategies as st
from icalendar import Calendar
from pydantic import ValidationError

from interlock.domain.calendars.calendar import HORIZON, Calendars, may_change
from interlock.domain.calendars.entries import Entry
from interlock.domain.calendars.entry_times import EntryTimes
from interlock.domain.calendars.spans import merge_spans, subtract_spans
from interlock.domain.catalogue.calendar_file import CalendarEntry
from tests.examples import examples

from .samples import service

SHOP = service(business_unit="retail")
BERLIN = "Europe/Berlin"
ZONES = (BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def source(zone: str = BERLIN, *, calendar: str = "calendars/x.yaml", **entry: Any) -> EntryTimes:
    written = CalendarEntry.model_validate({"name": "entry", "title": "An entry", "kind": "freeze", **entry})
    assert written.kind is not None
    named = Entry(
        calendar=calendar,
        key=written.name,
        title=written.title,
        kind=written.kind,
        effect=written.acts,
        scope=written.scope,
        during_rollout=written.during_rollout,
        override_by=written.override_by,
    )
    return EntryTimes(written, named, ZoneInfo(zone), lambda country, region, year: {date(year, 12, 25): "Christmas"})


def freeze(start: str, end: str, **entry: Any) -> EntryTimes:
    return source(**{"name": "freeze", "title": "Year's end", "from": start, "until": end, **entry})


def window(start: str, end: str, **entry: Any) -> EntryTimes:
    return source(**{"name": "window", "title": "Tuesdays", "kind": "window", "from": start, "until": end, **entry})


def ask(sources: Iterable[EntryTimes], when: str, **more: Any) -> Any:
    return may_change(Calendars(sources), SHOP, "production", at(when), **more)


# --- the rules


def test_without_calendars_everything_is_open() -> None:
    answer = ask([], "2026-03-01T12:00Z")
    assert (answer.open, answer.by, answer.until, answer.next) == (True, None, None, None)


def test_a_freeze_holds_from_its_beginning_to_before_its_end() -> None:
    one = freeze("2026-12-18T18:00", "2027-01-04T06:00")
    before = ask([one], "2026-12-18T17:59:59+01:00")
    assert before.open
    assert before.until == at("2026-12-18T17:00Z")
    during = ask([one], "2026-12-18T18:00+01:00")
    assert (during.open, during.next) == (False, at("2027-01-04T05:00Z"))
    assert (during.by.key, during.place) == ("freeze", "freeze in calendars/x.yaml")
    assert str(during) == (
        "bike-shop in production may not be changed: closed by Year's end (freeze in calendars/x.yaml); "
        "next: 2027-01-04 05:00 UTC."
    )
    assert ask([one], "2027-01-04T06:00+01:00").open


def test_with_a_window_in_scope_only_the_window_is_open() -> None:
    tuesdays = window("2026-03-03T20:00", "2026-03-03T23:00", repeat="FREQ=WEEKLY")
    closed = ask([tuesdays], "2026-03-02T12:00Z")
    assert (closed.open, closed.next, closed.by.key) == (False, at("2026-03-03T19:00Z"), "window")
    assert "outside of the change window Tuesdays" in str(closed)
    assert ask([tuesdays], "2026-03-03T19:00Z").until == at("2026-03-03T22:00Z")
    assert ask([tuesdays], "2026-07-07T18:00Z").open  # 20:00 in summer


def test_a_freeze_in_a_window_closes_it() -> None:
    both = [
        window("2026-03-03T20:00", "2026-03-04T04:00", repeat="FREQ=DAILY"),
        freeze("2026-03-05T22:00", "2026-03-07T12:00"),
    ]
    assert ask(both, "2026-03-05T20:30Z").until == at("2026-03-05T21:00Z")
    closed = ask(both, "2026-03-05T21:00Z")
    assert (closed.by.key, closed.next) == ("freeze", at("2026-03-07T19:00Z"))
    assert ask(both, "2026-03-07T11:30Z").by.key == "window"


def test_a_window_that_is_over_stays_the_only_time_that_was_open() -> None:
    answer = ask([window("2026-03-03T20:00", "2026-03-03T23:00")], "2026-04-01T00:00Z")
    assert (answer.open, answer.next, answer.by.key) == (False, None, "window")
    assert "not within 400 days" in str(answer)


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        ({}, True),
        ({"services": ["bike-shop"]}, True),
        ({"services": ["till"]}, False),
        ({"business_units": ["retail"]}, True),
        ({"business_units": ["wholesale"], "services": ["bike-shop"]}, True),
        ({"business_units": ["wholesale"]}, False),
        ({"environments": ["production"]}, True),
        ({"environments": ["test"]}, False),
        ({"services": ["bike-shop"], "environments": ["test"]}, False),
    ],
)
def test_an_entry_is_about_its_scope_and_nothing_else(scope: dict[str, Any], held: bool) -> None:
    assert ask([freeze("2026-03-01", "2026-03-02", scope=scope)], "2026-03-01T12:00Z").open is not held
    shut = ask([window("2026-03-01", "2026-03-02", scope=scope)], "2026-04-01T12:00Z")
    assert shut.open is not held


@pytest.mark.parametrize("entry", [{"kind": "event"}, {"kind": "maintenance"}, {"kind": "event", "effect": "none"}])
def test_what_is_only_shown_closes_nothing(entry: dict[str, Any]) -> None:
    assert ask([freeze("2026-03-01", "2026-03-02", **entry)], "2026-03-01T12:00Z").open


def test_maintenance_and_holidays_close_if_the_entry_says_so() -> None:
    assert not ask([freeze("2026-03-01", "2026-03-02", kind="maintenance", effect="deny")], "2026-03-01T12:00Z").open
    day = {"kind": "holiday", "holidays": {"country": "DE"}}
    assert ask([source(**day)], "2026-12-25T12:00Z").open
    answer = ask([source(**day, effect="deny")], "2026-12-24T23:00Z")
    assert (answer.open, answer.title, answer.next) == (False, "Christmas", at("2026-12-25T23:00Z"))


def test_of_several_freezes_the_strictest_is_named_and_the_last_one_ends_it() -> None:
    both = [
        freeze("2026-03-01", "2026-03-09", name="long", during_rollout="finish"),
        freeze("2026-03-02", "2026-03-03", name="short", during_rollout="stop"),
    ]
    answer = ask(both, "2026-03-02T12:00Z")
    assert (answer.by.key, answer.next) == ("short", at("2026-03-09T23:00Z"))
    assert ask(both, "2026-03-05T12:00Z").by.key == "long"


def test_a_calendar_that_cannot_be_read_closes_everything() -> None:
    broken = Calendars([], ["calendars/x.yaml, line 3: broken."])
    answer = may_change(broken, SHOP, "production", at("2026-03-02T12:00Z"))
    assert not answer.open
    assert "line 3: broken" in str(answer)


def test_what_is_overridden_does_not_close() -> None:
    both = [
        freeze("2026-03-01", "2026-03-09"),
        window("2026-03-03T20:00", "2026-03-03T23:00"),
        window("2026-03-05T20:00", "2026-03-05T23:00", name="other"),
    ]
    place = "freeze in calendars/x.yaml"
    answer = ask(both, "2026-03-03T12:00Z", overridden=[place])
    assert answer.by.key == "window"
    assert ask(both, "2026-03-03T12:00Z", overridden=[place, answer.place]).open


# --- what becomes of a rollout that is under way


def tuesdays(**more: Any) -> EntryTimes:
    return window("2026-03-03T20:00", "2026-03-03T23:00", name="tuesdays", during_rollout="stop", **more)


def thursdays(**more: Any) -> EntryTimes:
    return window("2026-03-05T20:00", "2026-03-05T23:00", name="thursdays", during_rollout="finish", **more)


def test_when_a_window_has_ended_a_rollout_does_as_that_one_says_and_not_as_the_next_one() -> None:
    both = [tuesdays(), thursdays()]
    ended = ask(both, "2026-03-03T22:00Z")
    assert (ended.by.key, ended.next) == ("thursdays", at("2026-03-05T19:00Z"))
    assert (ended.closed_by.key, ended.during_rollout) == ("tuesdays", "stop")
    assert "next: 2026-03-05 19:00 UTC. For a rollout in progress, Tuesdays (tuesdays in " in str(ended)
    assert str(ended).endswith("calendars/x.yaml) says: stop.")
    assert ask(both, "2026-03-05T22:00Z").during_rollout == "finish"
    assert ask(both, "2027-03-05T22:00Z").during_rollout == "finish", "within the horizon, in another year"


def test_of_windows_that_end_together_the_strictest_says_it() -> None:
    lax = window("2026-03-03T22:00", "2026-03-03T23:00", name="lax", during_rollout="finish")
    assert ask([lax, tuesdays()], "2026-03-04T12:00Z").during_rollout == "stop"
    short = window("2026-03-03T20:00", "2026-03-03T22:00", name="short")
    assert ask([lax, short], "2026-03-04T12:00Z").during_rollout == "finish", "it was open until the later one ended"


def test_a_rollout_that_a_freeze_halted_goes_on_waiting_when_the_freeze_ends_outside_of_a_window() -> None:
    mondays = window("2026-03-02T20:00", "2026-03-02T23:00", repeat="FREQ=WEEKLY")
    halted = [mondays, freeze("2026-03-02T21:00", "2026-03-03T12:00", during_rollout="stop")]
    assert ask(halted, "2026-03-02T20:00Z").during_rollout == "stop"
    after = ask(halted, "2026-03-03T12:00Z")
    assert (after.by.key, after.next) == ("window", at("2026-03-09T19:00Z"))
    assert (after.closed_by.key, after.during_rollout) == ("freeze", "stop")


def test_before_the_first_window_and_long_after_the_last_the_one_named_says_it() -> None:
    one = thursdays()
    before = ask([one], "2026-03-02T12:00Z")
    assert (before.closed_by, before.during_rollout) == (None, "finish")
    assert ask([one], "2028-03-02T12:00Z").closed_by is None
    assert ask([one], "2026-03-05T20:00Z").during_rollout is None, "it is open"


def test_a_window_may_end_with_the_year() -> None:
    one = window("2026-12-31T20:00", "2027-01-01T00:00", name="last", zone="UTC")
    shut = freeze("2027-01-01T00:00", "2027-01-01T06:00", zone="UTC", during_rollout="finish")
    assert ask([one], "2027-01-01T00:00Z").closed_by.key == "last"
    assert ask([one, shut], "2027-01-01T07:00Z").closed_by.key == "freeze"


# --- time zones, leap days, far years


def test_what_lasts_over_midnight_lasts_over_the_change_of_the_clocks() -> None:
    nights = window("2026-03-27T22:00", "2026-03-28T06:00", repeat="FREQ=DAILY")
    spring = ask([nights], "2026-03-28T21:30Z")  # the clocks go from 02:00 to 03:00
    assert spring.until == at("2026-03-29T06:00+02:00")
    autumn = ask([nights], "2026-10-24T20:30Z")
    assert autumn.until == at("2026-10-25T06:00+01:00")
    assert autumn.until - at("2026-10-24T22:00+02:00") == timedelta(hours=9)


def test_a_time_that_the_clocks_skip_is_an_hour_later_and_of_two_the_first_is_meant() -> None:
    skipped = freeze("2026-03-29T02:30", "2026-03-29T05:00")
    assert ask([skipped], "2026-03-28T12:00Z").until == at("2026-03-29T03:30+02:00")
    twice = freeze("2026-10-25T02:30", "2026-10-25T05:00")
    assert ask([twice], "2026-10-24T12:00Z").until == at("2026-10-25T00:30Z")


def test_days_are_those_of_the_calendars_time_zone() -> None:
    answer = ask([freeze("2026-03-29", "2026-03-29")], "2026-03-28T23:00Z")
    assert answer.next == at("2026-03-29T22:00Z")  # 23 hours
    assert ask([freeze("2026-01-01", "2026-01-01", zone="Pacific/Apia")], "2025-12-31T11:00Z").open is False


def test_a_leap_day_comes_in_leap_years_only() -> None:
    leap = freeze("2024-02-29", "2024-02-29", repeat="FREQ=YEARLY")
    assert ask([leap], "2026-03-02T12:00Z").until is None  # the next one is more than 400 days away
    assert ask([leap], "2028-02-28T12:00Z").until == at("2028-02-28T23:00Z")
    assert ask([leap], "2100-02-28T23:30Z").open  # no leap year
    assert not ask([leap], "2096-02-29T12:00Z").open


@pytest.mark.parametrize("year", [1970, 2099, 4000, 8999])
def test_far_years_are_answered_as_near_ones(year: int) -> None:
    nights = [window("2026-01-01T22:00", "2026-01-02T02:00", repeat="FREQ=DAILY", zone="UTC")]
    answer = ask(nights, f"{year}-06-15T12:00Z")
    assert answer.next == (at(f"{year}-06-15T22:00Z") if year > 2026 else None)


def test_a_year_beyond_the_calendars_is_closed() -> None:
    answer = may_change(Calendars([]), SHOP, "production", datetime(9999, 12, 31, 23, tzinfo=UTC))
    assert not answer.open
    assert "the year 9999" in str(answer)


def test_what_is_forty_years_apart_is_found() -> None:
    mondays = freeze("2072-02-29", "2072-02-29", repeat="FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", zone="UTC")
    assert not ask([mondays], "2112-02-29T12:00Z").open
    assert ask([mondays], "2108-02-29T12:00Z").open


def test_what_repeats_in_weeks_far_from_its_start_keeps_all_of_its_days() -> None:
    shifts = window("2026-01-07T20:00", "2026-01-07T21:00", repeat="FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE", zone="UTC")
    days, now = [], at("2029-12-28T00:00Z")
    for _ in range(4):
        now = ask([shifts], now.isoformat()).next
        days.append(f"{now:%Y-%m-%d}")
        now += timedelta(hours=1)
    assert days == ["2029-12-31", "2030-01-02", "2030-01-14", "2030-01-16"]


def test_a_freeze_over_many_years_has_no_next_within_the_horizon() -> None:
    long = freeze("2020-01-01", "2029-12-31")
    assert ask([long], "2026-06-01T00:00Z").next is None
    assert ask([long], "2029-06-01T00:00Z").next == at("2029-12-31T23:00Z")


@pytest.mark.parametrize("end", ["UNTIL=20260305", "UNTIL=20260305T220000", "COUNT=3"])
def test_a_rule_that_ends_on_a_day_has_its_last_night(end: str) -> None:
    nights = freeze("2026-03-03T22:00", "2026-03-04T05:00", repeat=f"FREQ=DAILY;{end}")
    assert not ask([nights], "2026-03-05T22:30+01:00").open
    assert ask([nights], "2026-03-06T22:30+01:00").open


def test_exceptions_are_days_or_starts() -> None:
    nights = {"repeat": "FREQ=DAILY", "except": ["2026-03-05", "2026-03-06T22:00"]}
    one = window("2026-03-03T22:00", "2026-03-03T23:00", **nights)
    assert ask([one], "2026-03-04T22:30Z").next == at("2026-03-07T21:00Z")


# --- what cannot be written


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"from": "2026-03-02", "until": "2026-03-01"}, "it ends at 2026-03-01"),
        ({"from": "2026-03-02", "until": "2026-03-03T12:00"}, "both days, both local"),
        ({"from": "2026-03-02T10:00", "until": "2026-03-03T12:00Z"}, "both days, both local"),
        ({"from": "2026-03-02T10:00"}, "it ends at"),
        ({"from": "2026-02-30"}, "day"),
        ({}, "exactly one of"),
        ({"from": "2026-03-02", "ical": {"file": "x.ics"}}, "exactly one of"),
        ({"kind": None, "from": "2026-03-02"}, "kind is missing"),
        ({"ical": {"url": "http://example.com/x.ics"}}, "pattern"),
        ({"ical": {"file": "../x.ics"}}, "pattern"),
        ({"ical": {}}, "either a file or a url"),
        ({"effect": "none", "from": "2026-03-02"}, "always has effect: deny"),
        ({"kind": "holiday", "from": "2026-03-02"}, "goes with holidays"),
        ({"holidays": {"country": "DE"}}, "goes with holidays"),
        ({"from": "2026-03-02", "repeat": "FREQ=MINUTELY"}, "HOURLY"),
        ({"from": "2026-03-02", "repeat": "FREQ=WEEKLY;BYDAY=XX"}, "BYDAY: found XX"),
        ({"from": "2026-03-02", "repeat": "FREQ=WEEKLY;BYDAY=TU"}, "from must be the first occurrence"),
        ({"from": "2026-03-02", "repeat": "FREQ=HOURLY;INTERVAL=0"}, "INTERVAL: found 0"),
        ({"from": "2026-03-02", "repeat": "FREQ=HOURLY;BYSECOND=1,2,3"}, "several times a minute"),
        ({"from": "2026-03-02", "repeat": "FREQ=HOURLY;BYMINUTE=0,20,40"}, "more than 10000 times a year"),
        ({"from": "2026-03-02", "repeat": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}, "never occurs"),
        ({"from": "2026-03-02", "repeat": "FREQ=HOURLY;INTERVAL=168;BYDAY=TU"}, "which is never"),
        ({"from": "2026-03-02", "repeat": "FREQ=DAILY;INTERVAL=7;BYDAY=TU;COUNT=3"}, "which is never"),
        ({"from": "2026-03-02", "repeat": "FREQ=MONTHLY;BYDAY=5MO;BYSETPOS=2"}, "which is never"),
        ({"from": "2026-03-02", "repeat": "FREQ=YEARLY;BYYEARDAY=100;BYMONTH=1"}, "which is never"),
        ({"from": "2026-03-02", "repeat": "FREQ=HOURLY;BYMINUTE=0,1;BYSETPOS=300"}, "BYSETPOS: found 300"),
        ({"from": "2026-03-02", "repeat": "FREQ=DAILY;COUNT=1000000"}, "COUNT: found 1000000"),
        ({"from": "2026-03-02", "repeat": "FREQ=YEARLY;BYEASTER=1"}, "BYEASTER"),
        ({"from": "2026-03-02", "repeat": "FREQ=DAILY;UNTIL=20260401T000000Z"}, "without Z"),
        ({"from": "2026-03-02T10:00Z", "until": "2026-03-02T12:00Z", "repeat": "FREQ=DAILY"}, "without an offset"),
        ({"from": "2026-03-02", "except": ["2026-03-03"]}, "except goes with repeat"),
        ({"until": "2026-03-02", "ical": {"file": "x.ics"}}, "go with from"),
    ],
)
def test_an_entry_that_means_nothing_is_refused(entry: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CalendarEntry.model_validate({"name": "entry", "title": "An entry", "kind": "freeze", **entry})


# --- against oracles

minutes = st.integers(0, 60 * 24 * 3)
lengths = st.integers(1, 60 * 24 * 2)
rules = st.sampled_from(
    [
        "",
        "FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=3",
        "FREQ=DAILY;COUNT=40",
        "FREQ=WEEKLY",
        "FREQ=WEEKLY;INTERVAL=2",
        "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,TU,WE,TH,FR,SA,SU",
        "FREQ=HOURLY;INTERVAL=7",
        "FREQ=MONTHLY",
        "FREQ=YEARLY",
        "FREQ=DAILY;UNTIL=20270401T120000",
    ]
)
# Close to where clocks change and days leap.
origins = st.sampled_from(
    ["2026-03-27", "2026-10-23", "2024-02-28", "2025-12-30", "2026-04-03", "2026-10-02", "2026-03-06", "2026-10-30"]
)


@st.composite
def written_entries(draw: st.DrawFn) -> dict[str, Any]:
    start = datetime.fromisoformat(draw(origins)) + timedelta(minutes=draw(minutes))
    return {
        "zone": draw(st.sampled_from(ZONES)),
        "from": start.isoformat(),
        "until": (start + timedelta(minutes=draw(lengths))).isoformat(),
        "kind": draw(st.sampled_from(["freeze", "window", "event"])),
        "name": f"e{draw(st.integers(0, 10**6))}",
        **({"repeat": rule} if (rule := draw(rules)) else {}),
    }


def brute(written: list[dict[str, Any]], moment: datetime) -> bool:
    """Say whether it is open, by the rule as it is written, from every start there is."""
    active = {"freeze": False, "window": False}
    for one in written:
        if one["kind"] in active:
            active[one["kind"]] |= any(start <= moment < end for start, end in spans_of(one, moment))
    has_window = any(one["kind"] == "window" for one in written)
    return not active["freeze"] and (active["window"] or not has_window)


def spans_of(one: dict[str, Any], moment: datetime) -> list[tuple[datetime, datetime]]:
    start, end = datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["until"])
    zone, last = ZoneInfo(one["zone"]), moment.replace(tzinfo=None) + timedelta(days=2)
    starts = rrulestr(one["repeat"], dtstart=start).xafter(start, inc=True) if "repeat" in one else [start]
    found = []
    for each in starts:
        if each > last:
            break
        wall = (each.replace(tzinfo=zone), (each + (end - start)).replace(tzinfo=zone))
        found.append((wall[0].astimezone(UTC), wall[1].astimezone(UTC)))
    return found


@examples(150)
@given(st.lists(written_entries(), max_size=4, unique_by=lambda one: one["name"]), origins, st.integers(0, 60 * 24 * 5))
def test_the_answer_is_that_of_brute_force(written: list[dict[str, Any]], origin: str, minute: int) -> None:
    moment = datetime.fromisoformat(origin).replace(tzinfo=UTC) + timedelta(minutes=minute)
    calendars = Calendars([source(**one) for one in written])
    answer = may_change(calendars, SHOP, "production", moment)
    assert answer.open is brute(written, moment)
    turn = answer.until if answer.open else answer.next
    if turn is None:
        return
    assert moment < turn <= moment + HORIZON
    assert brute(written, turn) is not answer.open
    assert brute(written, turn - timedelta(seconds=1)) is answer.open
    for share in (0.01, 0.3, 0.6, 0.99):
        assert brute(written, moment + (turn - moment) * share) is answer.open


def test_every_minute_of_a_year_is_answered_as_by_counting() -> None:
    nightly = {"from": "2026-01-01T21:10", "until": "2026-01-02T05:50", "repeat": "FREQ=DAILY"}
    spring = {"from": "2026-03-28T23:07", "until": "2026-03-29T02:31", "repeat": "FREQ=HOURLY;INTERVAL=50"}
    monthly = {"from": "2026-01-31T18:00", "until": "2026-02-01T06:00", "repeat": "FREQ=MONTHLY"}
    weekend = {"from": "2026-01-03T00:00", "until": "2026-01-05T00:00", "repeat": "FREQ=WEEKLY"}
    thanksgiving = {"from": "2026-11-26T00:00", "until": "2026-12-01T00:00", "zone": "America/New_York"}
    kinds = [
        (nightly, "window"),
        (weekend, "window"),
        (spring, "freeze"),
        (monthly, "freeze"),
        (thanksgiving, "freeze"),
    ]
    written = [{"zone": BERLIN, "name": f"e{number}", **one, "kind": kind} for number, (one, kind) in enumerate(kinds)]
    first, last = at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z")
    counted = {"window": bytearray(525_600), "freeze": bytearray(525_600)}
    for one in written:
        for span in spans_of(one, last):
            a, b = (int((min(max(edge, first), last) - first).total_seconds() // 60) for edge in span)
            counted[one["kind"]][a:b] = b"\x01" * (b - a)
    expected = bytes(w and not f for w, f in zip(counted["window"], counted["freeze"], strict=True))

    calendars = Calendars([source(**one) for one in written])
    told, now = bytearray(), first
    while now < last:
        answer = may_change(calendars, SHOP, "production", now)
        turn = min((answer.until if answer.open else answer.next) or last, last)
        told += bytes([answer.open]) * int((turn - now).total_seconds() // 60)
        now = turn
    assert bytes(told) == expected
    assert 0 < sum(expected) < 525_600


@examples(60)
@given(st.lists(written_entries(), min_size=2, max_size=6, unique_by=lambda one: one["name"]), st.randoms(), origins)
def test_the_order_of_calendars_makes_no_difference(
    written: list[dict[str, Any]], chance: random.Random, origin: str
) -> None:
    moment = datetime.fromisoformat(origin).replace(tzinfo=UTC) + timedelta(hours=7)
    shuffled = chance.sample(written, len(written))
    one, other = (
        may_change(Calendars([source(**each) for each in order]), SHOP, "production", moment)
        for order in (written, shuffled)
    )
    assert one == other


@examples(60)
@given(written_entries(), st.integers(2024, 2032))
@example({"zone": BERLIN, "from": "2026-03-29T02:30:00", "until": "2026-03-29T04:30:00", "kind": "freeze"}, 2026)
def test_recurring_ical_events_agrees(written: dict[str, Any], year: int) -> None:
    ours = source(**written)
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year, 4, 15, tzinfo=UTC)
    found = {(one.start, one.end) for one in ours.between(begin, end) if one.start < end and one.end > begin}
    assert {span for span in found if span[0] < span[1]} == theirs(written, begin, end)


def theirs(written: dict[str, Any], begin: datetime, end: datetime) -> set[tuple[datetime, datetime]]:
    zone = ZoneInfo(written["zone"])
    stamp = {key: datetime.fromisoformat(written[key]).strftime("%Y%m%dT%H%M%S") for key in ("from", "until")}
    rule = written.get("repeat", "")
    if "UNTIL=" in rule:  # RFC 5545: in UTC
        until = datetime(2027, 4, 1, 12, tzinfo=zone).astimezone(UTC)
        rule = rule.replace("20270401T120000", until.strftime("%Y%m%dT%H%M%SZ"))
    lines = ["BEGIN:VCALENDAR", "BEGIN:VEVENT", "UID:1", f"DTSTART;TZID={zone.key}:{stamp['from']}"]
    lines += [f"DTEND;TZID={zone.key}:{stamp['until']}", *([f"RRULE:{rule}"] if rule else [])]
    calendar = Calendar.from_ical("\r\n".join([*lines, "END:VEVENT", "END:VCALENDAR", ""]))
    margin = timedelta(days=3)
    events = recurring_ical_events.of(calendar).between(begin - margin, end + margin)
    spans = {(event.start.astimezone(UTC), event.end.astimezone(UTC)) for event in events}
    return {span for span in spans if span[0] < end and span[1] > begin and span[0] < span[1]}


pairs = st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda one: (one[0], one[0] + one[1]))
spans = st.lists(pairs, max_size=8)


@given(spans, spans)
def test_what_is_left_of_spans_is_what_counting_gives(
    some: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    epoch = datetime(2026, 1, 1, tzinfo=UTC)

    def times(pairs: list[tuple[int, int]]) -> list[tuple[datetime, datetime]]:
        return merge_spans((epoch + timedelta(hours=a), epoch + timedelta(hours=b)) for a, b in pairs)

    left = list(subtract_spans(times(some), times(others)))
    assert left == merge_spans(left)
    inside = {hour for a, b in some for hour in range(a, b)} - {hour for a, b in others for hour in range(a, b)}
    assert {hour for hour in range(60) if any(a <= epoch + timedelta(hours=hour) < b for a, b in left)} == inside
