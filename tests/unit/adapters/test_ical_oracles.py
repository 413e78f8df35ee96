"""iCalendar files that a machine makes up: read as others read them, and each question has an answer."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
import recurring_ical_events
from dateutil.rrule import rrulestr
from hypothesis import assume, example, given
from hypothesis import strategies as st
from icalendar import Calendar

from interlock.adapters.calendars.ical._values import Zones
from interlock.adapters.calendars.ical.reading import IcsTimes, Named, read_ical
from interlock.adapters.calendars.ical.text import calendars_in
from interlock.domain.calendars.calendar import Calendars, may_change
from interlock.domain.calendars.recurrence import Recurrence
from interlock.domain.catalogue.calendar_file import CalendarEntry, zone_of
from interlock.domain.errors import CatalogueError
from tests.examples import examples
from tests.unit.domain.samples import service

SHOP = service(business_unit="retail")
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "UTC")
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 7, 1, tzinfo=UTC)
MARGIN = timedelta(days=40)


def read(text: str | bytes, kind: str = "freeze") -> IcsTimes:
    entry = CalendarEntry.model_validate({"name": "feed", "title": "Feed", "kind": kind, "ical": {"file": "feed.ics"}})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "feed.ics"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_ical(path, Named(entry, "calendars/own.yaml", zone_of("UTC")), {}, shown="calendars/feed.ics")


# --- against recurring-ical-events

days = st.sampled_from(
    ["2026-03-27", "2026-10-23", "2024-02-28", "2025-12-30", "2026-04-03", "2026-10-02", "2026-03-06"]
)
weekdays = st.lists(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=4, unique=True)


@st.composite
def rules(draw: st.DrawFn, ends: tuple[str, ...] = ("", "COUNT=7", "COUNT=40")) -> str:
    frequency = draw(st.sampled_from(["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, 9))}"]
    if draw(st.booleans()):
        parts.append(f"BYDAY={','.join(draw(weekdays))}")
    if draw(st.booleans()):
        parts.append(f"BYMONTH={','.join(map(str, draw(st.lists(st.integers(1, 12), min_size=4, unique=True))))}")
    if frequency in ("MONTHLY", "YEARLY") and draw(st.booleans()):
        parts.append(f"BYMONTHDAY={','.join(map(str, draw(st.lists(st.integers(1, 31), min_size=4, unique=True))))}")
    if frequency == "WEEKLY" and draw(st.booleans()):
        parts.append("WKST=SU")
    end = draw(st.sampled_from(ends))
    return ";".join([*parts, end]) if end else ";".join(parts)


@st.composite
def series(draw: st.DrawFn) -> list[str]:
    """Make up a series that nobody reads in two ways, with exceptions, more times, and what was moved or cancelled."""
    near = datetime.fromisoformat(draw(days)) + timedelta(minutes=draw(st.integers(0, 60 * 24 * 3)))
    zone, is_day = draw(st.sampled_from(ZONES)), draw(st.booleans())
    rule = draw(st.one_of(st.none(), rules()))
    if is_day:
        near = datetime(near.year, near.month, near.day)
        assume(rule is None or "HOURLY" not in rule)
    first = near if rule is None else next(iter(rrulestr(rule, dtstart=near)), None)
    assume(first is not None)
    assert first is not None
    length = draw(st.integers(1, 5)) * timedelta(days=1) if is_day else timedelta(minutes=draw(st.integers(1, 3000)))

    def written(at: datetime) -> str:
        return f";VALUE=DATE:{at:%Y%m%d}" if is_day else f";TZID={zone}:{at:%Y%m%dT%H%M%S}"

    coming = [first] if rule is None else list(rrulestr(rule, dtstart=first)[:12])
    lines = [f"DTSTART{written(first)}", f"DTEND{written(first + length)}", *([f"RRULE:{rule}"] if rule else [])]
    # Theirs takes an hour's exception for that of another hour, of the same name in UTC.
    most = 0 if rule and "HOURLY" in rule else 3
    picked = draw(st.lists(st.sampled_from(coming), max_size=most, unique=True))
    gone, moved = picked[:1], picked[1:]
    lines += [f"EXDATE{written(at)}" for at in gone]
    lines += [
        f"RDATE{written(near + timedelta(days=draw(st.integers(400, 500))))}" for _ in range(draw(st.integers(0, 1)))
    ]
    events = ["BEGIN:VEVENT", "UID:1", *lines, "END:VEVENT"]
    for at in moved:
        start = at + timedelta(days=draw(st.integers(-9, 9)), hours=0 if is_day else draw(st.integers(0, 23)))
        state = draw(st.sampled_from(["CONFIRMED", "CANCELLED"]))
        events += ["BEGIN:VEVENT", "UID:1", f"RECURRENCE-ID{written(at)}", f"DTSTART{written(start)}"]
        events += [f"DTEND{written(start + length)}", f"STATUS:{state}", "END:VEVENT"]
    return events


def theirs(text: str) -> set[tuple[datetime, datetime]]:
    found = recurring_ical_events.of(Calendar.from_ical(text)).between(BEGIN - MARGIN, END + MARGIN)
    each = (event for event in found if event.get("STATUS") != "CANCELLED")
    return within({(instant(event.start), instant(event.end)) for event in each})


def instant(at: datetime) -> datetime:
    whole = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)
    return whole.astimezone(UTC)


def within(spans: set[tuple[datetime, datetime]]) -> set[tuple[datetime, datetime]]:
    return {span for span in spans if span[0] < END and span[1] > BEGIN and span[0] < span[1]}


@examples(150)
@given(series())
def test_recurring_ical_events_reads_the_same(events: list[str]) -> None:
    text = "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *events, "END:VCALENDAR", ""])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(text)
    found = read(text)
    assert within({(one.start, one.end) for one in found.between(BEGIN, END)}) == expected


# --- against the zones of the world

RULES = {
    "Europe/Berlin": [("-1SU", 3, "020000", "+0100", "+0200"), ("-1SU", 10, "030000", "+0200", "+0100")],
    "America/New_York": [("2SU", 3, "020000", "-0500", "-0400"), ("1SU", 11, "020000", "-0400", "-0500")],
    "Australia/Lord_Howe": [("1SU", 10, "020000", "+1030", "+1100"), ("1SU", 4, "020000", "+1100", "+1030")],
}
"""When the clocks change there, as programs write it."""


def zone_written(name: str) -> str:
    parts = [
        f"BEGIN:{half}\nDTSTART:16010101T{at}\nTZOFFSETFROM:{before}\nTZOFFSETTO:{after}\n"
        f"RRULE:FREQ=YEARLY;BYDAY={day};BYMONTH={month}\nEND:{half}"
        for half, (day, month, at, before, after) in zip(("DAYLIGHT", "STANDARD"), RULES[name], strict=True)
    ]
    return "\n".join(["BEGIN:VCALENDAR", "BEGIN:VTIMEZONE", "TZID:Own", *parts, "END:VTIMEZONE", "END:VCALENDAR"])


@pytest.mark.parametrize("name", RULES)
def test_a_time_zone_that_a_file_defines_is_that_of_the_world(name: str) -> None:
    own, theirs = Zones(calendars_in(zone_written(name).encode())[0]).of("Own"), ZoneInfo(name)
    local = datetime(2026, 1, 1)
    while local.year < 2028:
        near_a_change = local.day < 16 or local.day > 22
        local += timedelta(minutes=15) if near_a_change and local.weekday() == 6 else timedelta(hours=24)
        instant = local.replace(tzinfo=theirs).astimezone(UTC)
        assert local.replace(tzinfo=own).astimezone(UTC) == instant, local
        assert local.replace(tzinfo=UTC).astimezone(own).replace(tzinfo=None) == local.replace(tzinfo=UTC).astimezone(
            theirs
        ).replace(tzinfo=None), local


# --- against every start that there is


@st.composite
def far_rules(draw: st.DrawFn) -> tuple[str, datetime]:
    """Make up a rule and its first start, long before it is asked for."""
    near = datetime(draw(st.integers(2012, 2020)), 1, 1) + timedelta(minutes=draw(st.integers(0, 60 * 24 * 366)))
    rule = draw(rules(ends=("",)))
    first = next(iter(rrulestr(rule, dtstart=near)), None)
    assume(first is not None)
    assert first is not None
    return rule, first


@examples(80)
@given(far_rules(), st.integers(2021, 2030), st.sampled_from(["", ";UNTIL=20300704", ";UNTIL=20251231T120000"]))
@example(("FREQ=MONTHLY;INTERVAL=7", datetime(1999, 1, 31, 5)), 2026, "")
@example(("FREQ=YEARLY;INTERVAL=4", datetime(1996, 2, 29, 5)), 2028, "")
@example(("FREQ=YEARLY;INTERVAL=3;BYDAY=-1FR", datetime(1999, 12, 31, 5)), 2029, "")
@example(("FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU", datetime(1999, 1, 3, 5)), 2027, "")
@example(("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,MO;WKST=SU", datetime(1999, 1, 3, 5)), 2026, "")
def test_a_rule_that_is_far_from_its_start_goes_on_in_step(made: tuple[str, datetime], year: int, end: str) -> None:
    rule, first = made
    begin, last = datetime(year, 1, 1), datetime(year + 1, 1, 1)
    until = {"": last, ";UNTIL=20300704": datetime(2030, 7, 4, 23, 59, 59)}.get(end, datetime(2025, 12, 31, 12))
    every = rrulestr(rule, dtstart=first).xafter(begin, inc=True)
    expected = []
    for at in every:
        if at > min(last, until):
            break
        expected.append(at)
    assert list(Recurrence(f"{rule}{end}", first).between(begin, last)) == expected


# --- whatever a file holds

names = st.sampled_from(
    [
        "DTSTART",
        "DTEND",
        "DURATION",
        "RRULE",
        "RDATE",
        "EXDATE",
        "EXRULE",
        "RECURRENCE-ID",
        "STATUS",
        "CATEGORIES",
        "SEQUENCE",
        "UID",
        "SUMMARY",
        "BEGIN",
        "END",
        "X-WR-TIMEZONE",
        "TZOFFSETFROM",
        "TZOFFSETTO",
        "TZID",
        "METHOD",
        "CALSCALE",
        "GEO",
    ]
)
params = st.sampled_from(
    [
        "",
        ";VALUE=DATE",
        ";VALUE=PERIOD",
        ";TZID=Europe/Berlin",
        ";TZID=Own",
        ";TZID=",
        ";TZID",
        ";RANGE=THISANDFUTURE",
        ";=",
    ]
)
values = st.one_of(
    st.sampled_from(
        [
            "VEVENT",
            "VCALENDAR",
            "VTIMEZONE",
            "STANDARD",
            "DAYLIGHT",
            "a",
            "freeze",
            "CANCELLED",
            "20261201",
            "20261201T100000",
            "20261201T100000Z",
            "99991231T235959Z",
            "00010101T000000Z",
            "00000101",
            "20260230",
            "PT1H",
            "P1D",
            "-P1D",
            "PT0S",
            "P999999D",
            "+0100",
            "-2359",
            "+9999",
            "Europe/Berlin",
            "20261201T100000Z/PT1H",
            "20261201,20261202",
            "FREQ=DAILY",
            "FREQ=HOURLY;INTERVAL=0",
            "FREQ=SECONDLY",
            "FREQ=YEARLY;BYDAY=6MO",
            "FREQ=DAILY;UNTIL=99991231T235959Z",
            "FREQ=DAILY;UNTIL=00010101",
            "FREQ=WEEKLY;BYMONTH=2;BYSETPOS=300;BYDAY=MO",
            "FREQ=HOURLY;BYSECOND=1,2,3",
            "FREQ=YEARLY;BYEASTER=1",
            "FREQ=DAILY;COUNT=-1",
            "FREQ=",
            ";",
            "1",
            "-1",
            "99999999999",
        ]
    ),
    st.text(max_size=12),
)
lines = st.builds("{}{}:{}".format, names, params, values)
ZONE = """\
BEGIN:VTIMEZONE
TZID:Own
BEGIN:STANDARD
DTSTART:{start}
TZOFFSETFROM:{before}
TZOFFSETTO:{after}
RRULE:{rule}
END:STANDARD
END:VTIMEZONE"""
zones = st.sampled_from(
    [
        ZONE.format(start=start, before=before, after=after, rule=rule)
        for start in ("16010101T000000", "99991231T235959", "never", "20260101")
        for before, after in (("+0100", "+0200"), ("-2359", "+2359"), ("east", "+0100"))
        for rule in ("FREQ=YEARLY", "FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10", "FREQ=YEARLY;UNTIL=00010101T000000Z", "X")
    ]
)
event_lines = st.lists(lines, max_size=7).map(lambda each: "\n".join(["BEGIN:VEVENT", *each, "END:VEVENT"]))
plausible = st.builds(
    "BEGIN:VEVENT\nUID:{}\nDTSTART{}:{}\nDURATION:{}\n{}\nEND:VEVENT".format,
    st.sampled_from("ab"),
    params,
    values,
    st.sampled_from(["PT1H", "P1D", "P999999D", "PT999999999S"]),
    lines,
)
files = st.lists(st.one_of(event_lines, plausible, zones, lines), max_size=6).map(
    lambda each: "\n".join(["BEGIN:VCALENDAR", *each, "END:VCALENDAR"])
)
"""Files of which some can be read."""


@examples(300)
@given(st.one_of(files.map(str.encode), st.binary(max_size=200)), st.sampled_from(["freeze", "window", "event"]))
def test_whatever_a_file_holds_it_is_read_or_refused_and_each_question_has_an_answer(data: bytes, kind: str) -> None:
    try:
        found = Calendars([read(data, kind)])
    except CatalogueError:
        return
    for year in (1970, 2026, 8999):
        answer = may_change(found, SHOP, "production", datetime(year, 12, 1, 10, 30, tzinfo=UTC))
        assert answer.open or answer.by is not None
        for one in found.occurrences(year):
            assert one.start < one.end
