"""Events of iCalendar files: in force as calendar programs show them, or refused with event and reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.calendars.ical.reading import IcsTimes, Named, read_ical
from interlock.domain.calendars.calendar import Calendars, may_change
from interlock.domain.catalogue.calendar_file import CalendarEntry, zone_of
from interlock.domain.errors import CatalogueError
from tests.unit.domain.samples import service

SHOP = service(business_unit="retail")
KNOWN: dict[str, Any] = {"service": None, "business-unit": None, "environment": None}
BERLIN = """\
BEGIN:VTIMEZONE
TZID:Customized Time Zone
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""
"""As Exchange writes the time zone of a meeting that somebody's own Outlook made."""


def event(text: str, uid: str = "a") -> str:
    """Return an event of lines that are separated by blanks; ~ is a blank in them."""
    lines = "\n".join(line.replace("~", " ") for line in text.split())
    return f"BEGIN:VEVENT\nUID:{uid}\n{lines}\nEND:VEVENT\n"


def ics(*parts: str) -> str:
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//test//\n{''.join(parts)}END:VCALENDAR\n"


def read(
    data: str | bytes,
    folder: Path,
    *,
    kind: str | None = "freeze",
    zone: str = "Europe/Berlin",
    by_itself: bool = False,
) -> IcsTimes:
    path = folder / "feed.ics"
    path.write_bytes(data if isinstance(data, bytes) else data.replace("\n", "\r\n").encode())
    entry = CalendarEntry.model_validate({"name": "feed", "title": "Feed", "kind": kind, "ical": {"file": "feed.ics"}})
    named = None if by_itself else Named(entry, "calendars/own.yaml", zone_of(zone))
    return read_ical(path, named, KNOWN, shown="calendars/feed.ics")


def times(found: IcsTimes, year: int = 2026) -> list[str]:
    """Return starts and ends in UTC, short: 1201T10-1201T12."""
    each = Calendars([found]).occurrences(year)
    return [f"{_short(one.start)}-{_short(one.end)}" for one in each]


def _short(at: datetime) -> str:
    return f"{at:%m%dT%H}" + (f"{at:%M}" if at.minute else "")


def refusal(data: str | bytes, folder: Path, **more: Any) -> str:
    with pytest.raises(CatalogueError) as refused:
        read(data, folder, **more)
    return str(refused.value)


SHOWN = {
    "in UTC": ("DTSTART:20261201T100000Z DTEND:20261201T120000Z", ["1201T10-1201T12"]),
    "a name of the world": ("DTSTART;TZID=Europe/Berlin:20260701T100000 DURATION:PT2H", ["0701T08-0701T10"]),
    "a name in quotes": ('DTSTART;TZID="Europe/Berlin":20260701T100000 DURATION:PT2H', ["0701T08-0701T10"]),
    "a name of Windows": ("DTSTART;TZID=Pacific~Standard~Time:20261201T100000 DURATION:PT2H", ["1201T18-1201T20"]),
    "a name of Evolution": (
        "DTSTART;TZID=/freeassociation.sourceforge.net/Europe/Berlin:20260701T100000 DURATION:PT2H",
        ["0701T08-0701T10"],
    ),
    "a name of Thunderbird of old": (
        "DTSTART;TZID=/mozilla.org/20050126_1/America/Argentina/Salta:20260701T100000 DURATION:PT2H",
        ["0701T13-0701T15"],
    ),
    "without a time zone": ("DTSTART:20260701T100000 DTEND:20260701T120000", ["0701T08-0701T10"]),
    "a day": ("DTSTART;VALUE=DATE:20260701 DTEND;VALUE=DATE:20260702", ["0630T22-0701T22"]),
    "a day without an end": ("DTSTART;VALUE=DATE:20260701", ["0630T22-0701T22"]),
    "a day that ends when it begins": ("DTSTART;VALUE=DATE:20260701 DTEND;VALUE=DATE:20260701", ["0630T22-0701T22"]),
    "days by length": ("DTSTART;VALUE=DATE:20260701 DURATION:P1W", ["0630T22-0707T22"]),
    "a day when the clocks change": ("DTSTART;VALUE=DATE:20260329", ["0328T23-0329T22"]),
    "a time that the clocks skip": (
        "DTSTART;TZID=Europe/Berlin:20260329T023000 DTEND;TZID=Europe/Berlin:20260329T040000",
        ["0329T0130-0329T02"],
    ),
    "a time that the clocks have twice": (
        "DTSTART;TZID=Europe/Berlin:20261025T023000 DURATION:PT1H",
        ["1025T0030-1025T0130"],
    ),
    "hours that pass while the clocks change": (
        "DTSTART;TZID=Europe/Berlin:20260328T220000 DURATION:PT8H",
        ["0328T21-0329T05"],
    ),
    "ends in another time zone": (
        "DTSTART;TZID=Europe/Berlin:20261201T100000 DTEND;TZID=America/New_York:20261201T100000",
        ["1201T09-1201T15"],
    ),
    "nights over a change of the clocks": (
        "DTSTART;TZID=Europe/Berlin:20260327T220000 DTEND;TZID=Europe/Berlin:20260328T050000 RRULE:FREQ=DAILY;COUNT=3",
        ["0327T21-0328T04", "0328T21-0329T03", "0329T20-0330T03"],
    ),
    "until a day": (
        "DTSTART;TZID=Europe/Berlin:20261201T220000 DURATION:PT7H RRULE:FREQ=DAILY;UNTIL=20261203",
        ["1201T21-1202T04", "1202T21-1203T04", "1203T21-1204T04"],
    ),
    "until an instant": (
        "DTSTART;TZID=Europe/Berlin:20261201T220000 DURATION:PT7H RRULE:FREQ=DAILY;UNTIL=20261202T210000Z",
        ["1201T21-1202T04", "1202T21-1203T04"],
    ),
    "days until an instant of that day": (
        "DTSTART;VALUE=DATE:20261201 RRULE:FREQ=DAILY;UNTIL=20261202T120000Z",
        ["1130T23-1201T23", "1201T23-1202T23"],
    ),
    "until before it begins, as what somebody deleted": (
        "DTSTART:20261201T100000Z DURATION:PT1H RRULE:FREQ=DAILY;UNTIL=20261130T100000Z",
        [],
    ),
    "exceptions": (
        "DTSTART;TZID=Europe/Berlin:20261201T100000 DURATION:PT1H RRULE:FREQ=DAILY;COUNT=4 "
        "EXDATE;TZID=Europe/Berlin:20261202T100000 EXDATE:20261203T090000Z,20301203T090000Z",
        ["1201T09-1201T10", "1204T09-1204T10"],
    ),
    "an exception of another type that takes nothing away": (
        "DTSTART:20261201T100000Z DURATION:PT1H RRULE:FREQ=DAILY;COUNT=2 EXDATE;VALUE=DATE:20261224",
        ["1201T10-1201T11", "1202T10-1202T11"],
    ),
    "days that are left out": (
        "DTSTART;VALUE=DATE:20261201 RRULE:FREQ=DAILY;COUNT=3 EXDATE;VALUE=DATE:20261202",
        ["1130T23-1201T23", "1202T23-1203T23"],
    ),
    "more days": (
        "DTSTART;VALUE=DATE:20261201 RDATE;VALUE=DATE:20261203,20261205",
        ["1130T23-1201T23", "1202T23-1203T23", "1204T23-1205T23"],
    ),
    "more times and periods": (
        "DTSTART:20261201T100000Z DURATION:PT1H RDATE;TZID=Europe/Berlin:20261203T100000 "
        "RDATE;VALUE=PERIOD:20261204T100000Z/20261204T103000Z,20261205T100000Z/PT3H",
        ["1201T10-1201T11", "1203T09-1203T10", "1204T10-1204T1030", "1205T10-1205T13"],
    ),
    "a birthday without a year, as Apple has it": (
        "DTSTART;VALUE=DATE:16040229 RRULE:FREQ=YEARLY;INTERVAL=1;BYMONTH=2;BYMONTHDAY=-1",
        ["0227T23-0228T23"],
    ),
    "since the year 1": ("DTSTART:00010301T100000Z DURATION:PT1H RRULE:FREQ=MONTHLY;BYMONTH=3", ["0301T10-0301T11"]),
    "free time, and tentative": (
        "DTSTART:20261201T100000Z DURATION:PT1H TRANSP:TRANSPARENT STATUS:TENTATIVE X-MICROSOFT-CDO-BUSYSTATUS:FREE",
        ["1201T10-1201T11"],
    ),
    "cancelled": ("DTSTART:20261201T100000Z DURATION:PT1H STATUS:CANCELLED", []),
    "what matters to nobody": (
        "DTSTART:20261201T100000Z DURATION:PT1H GEO: PRIORITY:x CREATED:00001231T000000Z URL;X DTSTAMP:never X-Y;=: "
        "BEGIN:VALARM TRIGGER:oops DURATION:-PT99X END:VALARM",
        ["1201T10-1201T11"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), SHOWN.values(), ids=SHOWN)
def test_an_event_is_in_force_as_a_calendar_program_shows_it(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert times(read(ics(event(text)), tmp_path)) == expected


ONCE = "DTSTART:20261201T100000Z DURATION:PT1H"
DAILY = f"{ONCE} RRULE:FREQ=DAILY;COUNT=5"
REFUSED = {
    "no start": ("DURATION:PT1H", "DTSTART is missing"),
    "two starts": (f"{ONCE} DTSTART:20261202T100000Z", "DTSTART: found 2 times"),
    "a start that is none": ("DTSTART:yesterday DURATION:PT1H", "DTSTART: found YESTERDAY"),
    "no day": ("DTSTART:20260230T100000Z DURATION:PT1H", "DTSTART: found 20260230T100000Z: day"),
    "the year 0": ("DTSTART:00000101T100000Z DURATION:PT1H", "DTSTART: found 00000101T100000Z: year"),
    "a day that says that it is a time": ("DTSTART;VALUE=DATE-TIME:20261201", "with VALUE=DATE-TIME"),
    "a line without an end": (f"{ONCE} EXDATE:{'20261201T100000Z,' * 20_000}", "EXDATE: found 340007 characters"),
    "a line that was cut": ("DTSTART DURATION:PT1H", "DTSTART: found DTSTART"),
    "no end": ("DTSTART:20261201T100000Z", "it ends when it begins"),
    "an end that is its start": ("DTSTART:20261201T100000Z DTEND:20261201T100000Z", "it ends when it begins"),
    "an end before its start": ("DTSTART:20261201T100000Z DTEND:20261201T090000Z", "before it begins"),
    "an end of another type": ("DTSTART:20261201T100000Z DTEND;VALUE=DATE:20261202", "DTEND: found a day"),
    "an end without a time zone": ("DTSTART:20261201T100000Z DTEND:20261202T100000", "DTEND: found a time without"),
    "an end and a length": (f"{ONCE} DTEND:20261202T100000Z", "found DTEND and DURATION"),
    "a negative length": ("DTSTART:20261201T100000Z DURATION:-PT1H", "DURATION: found -PT1H"),
    "hours of a day": ("DTSTART;VALUE=DATE:20261201 DURATION:PT1H", "DURATION: found PT1H, and it begins with a day"),
    "a time zone that is none": ("DTSTART;TZID=Customized~Time~Zone:20261201T100000 DURATION:PT1H", "TZID=Customized"),
    "two time zones": ("DTSTART;TZID=UTC,GMT:20261201T100000 DURATION:PT1H", "found TZID with several values"),
    "two rules": (f"{DAILY} RRULE:FREQ=WEEKLY", "RRULE: found 2 times"),
    "an old exception rule": (f"{DAILY} EXRULE:FREQ=WEEKLY", "EXRULE"),
    "by the second": (f"{ONCE} RRULE:FREQ=SECONDLY", "a rule begins with FREQ="),
    "by seconds": (f"{ONCE} RRULE:FREQ=HOURLY;BYSECOND=0,1,2", "several times a minute"),
    "by minutes": (f"{ONCE} RRULE:FREQ=HOURLY;BYMINUTE=0,30", "more than 10000 times a year"),
    "no interval": (f"{ONCE} RRULE:FREQ=HOURLY;INTERVAL=0", "INTERVAL: found 0"),
    "no count": (f"{ONCE} RRULE:FREQ=DAILY;COUNT=0", "COUNT: found 0"),
    "a count without an end": (f"{ONCE} RRULE:FREQ=DAILY;COUNT=999999", "COUNT: found 999999"),
    "a count and an end": (f"{DAILY};UNTIL=20261203T100000Z", "COUNT and UNTIL"),
    "a day of the week that is none": (f"{ONCE} RRULE:FREQ=WEEKLY;BYDAY=XX", "BYDAY: found XX"),
    "days of the week of two kinds": (f"{ONCE} RRULE:FREQ=MONTHLY;BYDAY=TU,1TU", "all numbered, or none"),
    "a date that never occurs": (f"{ONCE} RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "never occurs"),
    "another calendar's months": (f"{ONCE} RRULE:RSCALE=HEBREW;FREQ=YEARLY", "found RSCALE"),
    "a start that its rule does not give": (f"{ONCE} RRULE:FREQ=WEEKLY;BYDAY=MO", "the start is not an occurrence"),
    "a rule of vCalendar": (f"{ONCE} RRULE:D1~#10", "is not a valid recurrence rule"),
    "until at the wall's time, with a time zone": (
        "DTSTART;TZID=Europe/Berlin:20261201T100000 DURATION:PT1H RRULE:FREQ=DAILY;UNTIL=20261203T090000",
        "UNTIL: found 20261203T090000",
    ),
    "days until an instant that is a day later on the wall": (
        "DTSTART;VALUE=DATE:20261201 RRULE:FREQ=DAILY;UNTIL=20261202T233000Z",
        "UNTIL: found 20261202T233000Z",
    ),
    "an exception of another type that falls on it": (f"{DAILY} EXDATE;VALUE=DATE:20261202", "EXDATE: found a day"),
    "an exception that is a period": (f"{DAILY} EXDATE:20261202T100000Z/PT1H", "EXDATE: found a period"),
    "an exception that is none": (f"{DAILY} EXDATE:tomorrow", "EXDATE: found TOMORROW"),
    "a further day of what has an hour": (f"{ONCE} RDATE;VALUE=DATE:20261202", "RDATE: found a day"),
    "a period that ends before it begins": (
        f"{ONCE} RDATE:20261202T100000Z/20261201T100000Z",
        "whose end is not after",
    ),
    "years of it each year": ("DTSTART;VALUE=DATE:20260101 DURATION:P800D RRULE:FREQ=YEARLY", "longer than 400 days"),
    "a state that is broken": (f"{ONCE} STATUS", "STATUS: found STATUS"),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_for_certain_is_refused_with_event_and_reason(tmp_path: Path, text: str, why: str) -> None:
    said = refusal(ics(event(f"DTSTART:20260101T000000Z {ONCE.split()[1]}", uid="fine"), event(text)), tmp_path)
    assert "calendars/feed.ics, event a: " in said
    assert why in said
    assert "event fine" not in said


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_only_shown_closes_nothing_whatever_is_wrong_with_it(tmp_path: Path, text: str, why: str) -> None:
    found = read(ics(event(text, uid="shown"), event(ONCE)), tmp_path, kind="event")
    assert times(found) == ["1201T10-1201T11"]
    (note,) = found.notes
    assert note.startswith("calendars/feed.ics, event shown: ")
    assert why in note


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_cancelled_closes_nothing_whatever_is_wrong_with_it(tmp_path: Path, text: str, why: str) -> None:
    if text.endswith("STATUS"):
        return
    found = read(ics(event(f"{text} STATUS:CANCELLED", uid="gone"), event(ONCE)), tmp_path)
    assert times(found) == ["1201T10-1201T11"]


# --- several events of one UID

MOVED = "RECURRENCE-ID:20261202T100000Z DTSTART:20261202T150000Z DURATION:PT2H"
TOGETHER = {
    "two that are not the same": ([ONCE, ONCE.replace("01T", "03T")], ["1201T10-1201T11", "1203T10-1203T11"]),
    "one that stands there twice": ([ONCE, ONCE], ["1201T10-1201T11"]),
    "one that was moved": ([DAILY.replace("5", "2"), MOVED], ["1201T10-1201T11", "1202T15-1202T17"]),
    "one that was moved, and stands first": ([MOVED, DAILY.replace("5", "2")], ["1201T10-1201T11", "1202T15-1202T17"]),
    "one that was moved, named in another time zone": (
        [DAILY.replace("5", "2"), MOVED.replace("ID:20261202T100000Z", "ID;TZID=Europe/Berlin:20261202T110000")],
        ["1201T10-1201T11", "1202T15-1202T17"],
    ),
    "one that was moved twice": (
        [DAILY.replace("5", "2"), f"{MOVED} SEQUENCE:1", f"{MOVED} SEQUENCE:2".replace("T15", "T17")],
        ["1201T10-1201T11", "1202T17-1202T19"],
    ),
    "one that was cancelled": ([DAILY.replace("5", "2"), f"{MOVED} STATUS:CANCELLED"], ["1201T10-1201T11"]),
    "one without its series, as who is invited to it has it": ([MOVED], ["1202T15-1202T17"]),
    "a series that was cancelled": ([f"{DAILY} STATUS:CANCELLED", f"{MOVED} STATUS:CANCELLED"], []),
    "a moved day": (
        [
            "DTSTART;VALUE=DATE:20261201 RRULE:FREQ=DAILY;COUNT=2",
            "RECURRENCE-ID;VALUE=DATE:20261202 DTSTART;VALUE=DATE:20261204",
        ],
        ["1130T23-1201T23", "1203T23-1204T23"],
    ),
}


@pytest.mark.parametrize(("each", "expected"), TOGETHER.values(), ids=TOGETHER)
def test_events_of_one_uid_are_in_force_as_they_stand(tmp_path: Path, each: list[str], expected: list[str]) -> None:
    assert times(read(ics(*map(event, each)), tmp_path)) == expected


DOUBTFUL = {
    "revisions": ([f"{ONCE} SEQUENCE:1", f"{ONCE} SEQUENCE:2".replace("01T", "03T")], "is in the file 2 times"),
    "one of two is cancelled": ([ONCE, f"{ONCE} STATUS:CANCELLED"], "is in the file 2 times"),
    "two series, and one was moved": ([DAILY, DAILY.replace("T10", "T20"), MOVED], "is in the file 2 times"),
    "moved twice without an order": ([DAILY, MOVED, MOVED.replace("T15", "T17")], "found 2 events in place of one"),
    "named by a day": (
        [DAILY, MOVED.replace("ID:20261202T100000Z", "ID;VALUE=DATE:20261202")],
        "RECURRENCE-ID: found a day, and the series begins with a time",
    ),
    "named by a time without a time zone": (
        [DAILY, MOVED.replace("ID:20261202T100000Z", "ID:20261202T100000")],
        "RECURRENCE-ID: found a time without a time zone",
    ),
    "moved with all that follow": ([DAILY, MOVED.replace("ID:", "ID;RANGE=THISANDFUTURE:")], "found RANGE"),
    "moved, and a series": ([DAILY, f"{MOVED} RRULE:FREQ=DAILY"], "found RECURRENCE-ID, and RRULE"),
    "cancelled but for one": ([f"{DAILY} STATUS:CANCELLED", MOVED], "it is cancelled, but an occurrence"),
}


@pytest.mark.parametrize(("each", "why"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_events_of_one_uid_that_leave_a_doubt_are_refused(tmp_path: Path, each: list[str], why: str) -> None:
    said = refusal(ics(*map(event, each)), tmp_path)
    assert "event a: " in said
    assert why in said


def test_events_of_one_uid_that_say_they_are_of_two_kinds_are_refused(tmp_path: Path) -> None:
    two = ics(event(f"{ONCE} CATEGORIES:freeze"), event(f"{ONCE} CATEGORIES:window"))
    assert "event a: is in the file 2 times" in refusal(two, tmp_path, by_itself=True)


# --- files

FINE = ics(event(ONCE))
WRITTEN = {
    "a mark of its order of bytes": b"\xef\xbb\xbf" + FINE.encode(),
    "line ends of Unix": FINE.encode(),
    "line ends of old Macs": FINE.replace("\n", "\r").encode(),
    "line ends of Windows, and blank lines": FINE.replace("\n", "\r\n\r\n").encode(),
    "a fold inside of a character": FINE.replace("UID:a", "UID:a\nSUMMARY:Jahresschlu@")
    .encode()
    .replace(b"@", b"\xc3\r\n \x9f"),
    "a fold inside of a time": FINE.replace("20261201", "2026\n 1201").encode(),
    "latin-1": FINE.replace("UID:a", "UID:a\nSUMMARY:Jahresschluß").encode("latin-1"),
    "small letters": FINE.lower().encode(),
    "two calendars": (ics(event("DTSTART:20270101T000000Z DURATION:PT1H", uid="b")) + FINE).encode(),
    "to-dos, journals and free times": ics(
        "BEGIN:VTODO\nUID:t\nDTSTART:never\nEND:VTODO\nBEGIN:VJOURNAL\nRRULE\nEND:VJOURNAL\n"
        "BEGIN:VFREEBUSY\nDTEND:x\nEND:VFREEBUSY\nBEGIN:X-OWN\nEND:X-OWN\n",
        event(ONCE),
    ).encode(),
    "a time zone that nobody uses": ics("BEGIN:VTIMEZONE\nTZID:X\nEND:VTIMEZONE\n", event(ONCE)).encode(),
    "lines of a text that was not folded": FINE.replace("UID:a", "UID:a\nDESCRIPTION:one\ntwo\n3: three").encode(),
}


@pytest.mark.parametrize("data", WRITTEN.values(), ids=WRITTEN)
def test_a_file_is_read_however_it_is_written(tmp_path: Path, data: bytes) -> None:
    assert times(read(data, tmp_path)) == ["1201T10-1201T11"]


BROKEN = {
    "nothing": (b"", "found no VCALENDAR"),
    "a page": (b"<html>\n", "is outside of VCALENDAR"),
    "an event outside": (event(ONCE).encode(), "begins VEVENT"),
    "cut in an event": (FINE.partition("DTSTART")[0].encode(), "VEVENT has no end"),
    "cut after an event": (FINE.partition("END:VCAL")[0].encode(), "VCALENDAR has no end"),
    "the second calendar is cut": ((FINE + FINE.partition("END:VE")[0]).encode(), "VEVENT has no end"),
    "an end that is missing": (
        FINE.replace("END:VEVENT\n", "").encode(),
        "ends VCALENDAR, which is not the open component",
    ),
    "an event in an event": (ics("BEGIN:VTODO\n", event(ONCE), "END:VTODO\n").encode(), "an event inside of VTODO"),
    "deep": (b"BEGIN:VCALENDAR\n" * 100, "more than 32 components deep"),
    "another calendar": (ics("CALSCALE:CHINESE\n", event(ONCE)).encode(), "CALSCALE: found CHINESE"),
    "what was taken back": (ics("METHOD:CANCEL\n", event(ONCE)).encode(), "METHOD: found CANCEL"),
    "two bytes for a character": (FINE.encode("utf-16"), "outside of VCALENDAR"),
    "a hundred thousand events": (ics(event(ONCE) * 100_000).encode(), "found a larger file; allowed: 4096 KiB"),
    "many events": (ics("".join(f"BEGIN:VEVENT\nUID:{n}\nEND:VEVENT\n" for n in range(5001))).encode(), "5001 events"),
}


@pytest.mark.parametrize(("data", "why"), BROKEN.values(), ids=BROKEN)
def test_a_file_of_which_not_all_can_be_read_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    assert why in refusal(data, tmp_path)


@pytest.mark.parametrize("name", ["W. Europe Standard Time", "Europe/Berlin"])
def test_times_without_a_time_zone_are_those_of_the_files_own(tmp_path: Path, name: str) -> None:
    text = ics(f"X-WR-TIMEZONE:{name}\n", event("DTSTART:20260701T100000 DURATION:PT1H"))
    assert times(read(text, tmp_path, zone="Asia/Tokyo")) == ["0701T08-0701T09"]
    assert times(read(text.replace("UID:a\n", "UID:a\nCATEGORIES:freeze\n"), tmp_path, by_itself=True)) == [
        "0701T08-0701T09"
    ]


def test_a_files_own_time_zone_that_nobody_knows_matters_to_times_without_one_only(tmp_path: Path) -> None:
    head = "X-WR-TIMEZONE:Office\n"
    assert times(read(ics(head, event(ONCE)), tmp_path)) == ["1201T10-1201T11"]
    for text in ("DTSTART:20260701T100000 DURATION:PT1H", "DTSTART;VALUE=DATE:20260701"):
        assert "event a: found a time without a time zone" in refusal(ics(head, event(text)), tmp_path)


def test_a_time_zone_is_what_the_file_defines_if_the_world_knows_no_such_name(tmp_path: Path) -> None:
    text = event("DTSTART;TZID=Customized~Time~Zone:20260328T100000 DURATION:PT1H RRULE:FREQ=DAILY;COUNT=2")
    assert times(read(ics(BERLIN, text), tmp_path)) == ["0328T09-0328T10", "0329T08-0329T09"]
    zones = {
        "which is neither a time zone": "",
        "that differ": BERLIN + BERLIN.replace("+0100", "+0300"),
        "RRULE: found FREQ=SECONDLY": BERLIN.replace("FREQ=YEARLY", "FREQ=SECONDLY"),
        "TZOFFSETTO is missing": BERLIN.replace("TZOFFSETTO:+0200\n", ""),
        "TZOFFSETFROM: found east": BERLIN.replace("FROM:+0100", "FROM:east"),
        "has no times": "BEGIN:VTIMEZONE\nTZID:Customized Time Zone\nEND:VTIMEZONE\n",
    }
    for why, zone in zones.items():
        said = refusal(ics(zone, text), tmp_path)
        assert "event a: " in said
        assert "TZID=Customized Time Zone" in said
        assert why in said


def test_one_files_time_zones_are_unknown_to_another(tmp_path: Path) -> None:
    text = event("DTSTART;TZID=Customized~Time~Zone:20260701T100000 DURATION:PT1H")
    read(ics(BERLIN, text), tmp_path)
    assert "which is neither a time zone" in refusal(ics(text), tmp_path)


def test_windows_without_an_event_open_nothing(tmp_path: Path) -> None:
    found = Calendars([read(ics(), tmp_path, kind="window")])
    answer = may_change(found, SHOP, "production", datetime(2026, 12, 1, tzinfo=UTC))
    assert (answer.open, answer.title, answer.next) == (False, "Feed", None)


def test_an_event_without_an_end_in_this_world_is_in_force_in_each_year(tmp_path: Path) -> None:
    found = read(ics(event("DTSTART:20260101T000000Z DTEND:99991231T235959Z")), tmp_path)
    for year in (2026, 5000, 9000):
        answer = may_change(Calendars([found]), SHOP, "production", datetime(year, 7, 1, tzinfo=UTC))
        assert (answer.open, answer.next) == (False, None)
    assert may_change(Calendars([found]), SHOP, "production", datetime(2025, 12, 31, tzinfo=UTC)).open


def test_more_times_than_anybody_could_mean_are_refused(tmp_path: Path) -> None:
    hourly = "".join(event("DTSTART:20260101T000000Z DURATION:PT1M RRULE:FREQ=HOURLY", uid=str(n)) for n in range(12))
    assert "allowed: 100000" in refusal(ics(hourly), tmp_path)


def test_a_file_that_takes_too_long_to_work_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.adapters.calendars.ical.reading.MAX_WORK", -1.0)
    assert "event a: processing the file up to this event takes longer than" in refusal(FINE, tmp_path)


# --- what programs write

PROGRAMS = {
    "outlook": ["1201T09-1201T11", "1215T09-1215T11", "1222T23-1223T23"],
    "exchange": ["1201T18-1201T20", "1210T00-1211T00"],
    "google": ["1202T03-1202T07", "1210T03-1210T07", "1224T05-1226T05"],
    "apple": ["1130T17-1130T20", "1130T23-1201T23", "1231T17-1231T20"],
    "nextcloud": ["1207T07-1207T08", "1208T07-1208T11", "1209T07-1209T08"],
    "thunderbird": ["1202T21-1203T01", "1205T21-1206T01"],
    "teamup": ["1204T19-1205T05", "1205T23-1206T23"],
    "confluence": ["1207T09-1207T17", "1221T09-1221T17"],
}


@pytest.mark.parametrize(("program", "expected"), PROGRAMS.items(), ids=PROGRAMS)
def test_what_programs_write_is_in_force_as_they_show_it(tmp_path: Path, program: str, expected: list[str]) -> None:
    text = (Path(__file__).parent / "calendars_of_programs" / f"{program}.ics").read_text()
    assert times(read(text, tmp_path)) == expected
