"""iCalendar files are worked out in another process: what is in force is the same, and nothing in them holds it up."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.calendars.calendars import load_calendars
from interlock.adapters.calendars.ical import apart
from interlock.adapters.calendars.ical.apart import FileTimes, read_apart
from interlock.adapters.calendars.ical.messages import Limits, Named
from interlock.adapters.calendars.ical.reading import read_ical
from interlock.adapters.catalogue.names import Known
from interlock.domain.calendars.calendar import Calendars, may_change
from interlock.domain.calendars.spans import year_span
from interlock.domain.catalogue.calendar_file import CalendarEntry, zone_of
from interlock.domain.errors import CatalogueError
from tests.unit.domain.samples import service

SHOP = service(business_unit="retail")
KNOWN: dict[str, Any] = {"service": None, "business-unit": None, "environment": None}
NOW = datetime(2026, 6, 1, tzinfo=UTC)
PROGRAMS = sorted((Path(__file__).parent / "calendars_of_programs").glob("*.ics"))
HOURS, MINUTES, DAYS = (",".join(map(str, numbers)) for numbers in (range(24), range(60), range(1, 32)))
ALL_DAY = f"BYHOUR={HOURS};BYMINUTE={MINUTES}"
ONE_LINE_OF_CLOCKS = f"""\
BEGIN:VTIMEZONE
TZID:Own
BEGIN:STANDARD
DTSTART:19700101T000000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYMONTHDAY={DAYS};{ALL_DAY}
END:STANDARD
END:VTIMEZONE
"""


def event(rule: str = "", *lines: str, uid: str = "a", start: str = "20261201T100000Z", more: str = "") -> str:
    end = f"{start[:13]}30{start[15:]}" if "T" in start else start
    said = [
        f"UID:{uid}",
        "SUMMARY:Payroll",
        "CATEGORIES:freeze",
        f"DTSTART{more}:{start}",
        f"DTEND{more}:{end}",
        *lines,
    ]
    return "\n".join(["BEGIN:VEVENT", *said, *([f"RRULE:{rule}"] if rule else []), "END:VEVENT", ""])


def write(folder: Path, *parts: str) -> Path:
    path = folder / "feed.ics"
    path.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//test//\n{''.join(parts)}END:VCALENDAR\n")
    return path


def refusal(path: Path, **limits: int) -> str:
    with pytest.raises(CatalogueError) as caught:
        read_apart(path, None, KNOWN, shown="calendars/feed.ics", now=NOW, limits=Limits(**limits))
    return str(caught.value)


@pytest.mark.parametrize("path", PROGRAMS, ids=[path.stem for path in PROGRAMS])
def test_the_other_process_says_what_is_in_the_file(path: Path) -> None:
    """Also of years that are asked about later."""
    entry = CalendarEntry.model_validate({"name": "all", "title": "All", "kind": "freeze", "ical": {"file": path.name}})
    named = Named(entry, "calendars/own.yaml", zone_of("Europe/Berlin"))
    here = read_ical(path, named, KNOWN, shown="feed.ics")
    there = read_apart(path, named, KNOWN, shown="feed.ics", now=NOW)
    assert (there.entries, there.notes) == (here.entries, here.notes)
    for begin, end in map(year_span, (2025, 2026, 2027, 2031)):
        found = [one for one in here.between(begin, end) if one.start < end and one.end > begin]
        assert [*there.between(begin, end)] == found


HOSTILE = {
    "most of its times are in a later year": (
        [event(f"FREQ=YEARLY;INTERVAL=2;BYMONTHDAY={DAYS};{ALL_DAY}", start="20251231T235900Z")],
        "occurs more than 10000 times a year",
    ),
    "most of its times are in a later month": (
        [event(f"FREQ=MONTHLY;INTERVAL=13;BYMONTHDAY={DAYS};{ALL_DAY}", start="20251231T235900Z")],
        "occurs more than 10000 times a year",
    ),
    "most of its times are in a later week": (
        [event(f"FREQ=WEEKLY;INTERVAL=60;BYDAY=MO,TU,WE,TH,FR,SA,SU;{ALL_DAY}", start="20260607T235900Z")],
        "occurs more than 10000 times a year",
    ),
    "most of its times are in leap years": (
        [
            event(f"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;{ALL_DAY}", uid=f"u{number}", start="20240229T235900Z")
            for number in range(100)
        ],
        "its events occur more than 100000 times in 2028",
    ),
    "its clocks change each minute": (
        [ONE_LINE_OF_CLOCKS, event(start="20261201T100000", more=";TZID=Own")],
        "changes the clocks more than 1000 times",
    ),
    "a time at the beginning of all time": (
        [event("FREQ=DAILY", "EXDATE;VALUE=DATE:00010101", start="00010102T100000Z")],
        "EXDATE: found a day",
    ),
}


@pytest.mark.parametrize(("parts", "why"), HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_means_more_times_than_anybody_could_is_refused_with_its_reason(
    tmp_path: Path, parts: list[str], why: str
) -> None:
    path = write(tmp_path, *parts)
    now = datetime(2027, 6, 1, tzinfo=UTC)
    with pytest.raises(CatalogueError, match=why):
        read_apart(path, None, KNOWN, shown="calendars/feed.ics", now=now)


SLOW = f"FREQ=YEARLY;BYMONTHDAY=1,2,3;BYSETPOS={','.join(['-1'] * 60000)}"


def test_a_file_that_takes_more_of_a_processor_than_allowed_is_not_worked_out(tmp_path: Path) -> None:
    path = write(tmp_path, *(event(SLOW, uid=f"u{number}", start="20251203T100000Z") for number in range(20)))
    assert "calendars/feed.ics, cannot be worked out with 1 s of a processor" in refusal(path, cpu=1)


def test_a_file_that_takes_more_memory_than_allowed_is_not_worked_out(tmp_path: Path) -> None:
    path = write(tmp_path, *(event(uid=f"u{number}") for number in range(5000)))
    assert "and 48 MiB of memory" in refusal(path, memory=48 * 1024 * 1024)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "feed.ics")
    assert "cannot be worked out with" in refusal(tmp_path / "feed.ics", seconds=1)


def test_after_a_file_that_was_not_worked_out_the_next_one_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "feed.ics")
    refusal(tmp_path / "feed.ics", seconds=1)
    (tmp_path / "feed.ics").unlink()
    found = read_apart(write(tmp_path, event()), None, KNOWN, shown="feed.ics", now=NOW)
    assert [one.start for one in found.between(*year_span(2026))] == [datetime(2026, 12, 1, 10, tzinfo=UTC)]


def test_the_process_is_started_again_when_it_has_ended(tmp_path: Path) -> None:
    path = write(tmp_path, event())
    first = read_apart(path, None, KNOWN, shown="feed.ics", now=NOW)
    process = apart._reader._process
    assert process is not None
    process.kill()
    process.wait()
    again = read_apart(path, None, KNOWN, shown="feed.ics", now=NOW)
    assert again.entries == first.entries
    assert apart._reader._process is not process


def test_the_process_has_no_password_of_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart._reader._end()
    monkeypatch.setenv("AIRFLOW_CONN_INTERLOCK_LEDGER", "secret")
    read_apart(write(tmp_path, event()), None, KNOWN, shown="feed.ics", now=NOW)
    process = apart._reader._process
    assert process is not None
    assert b"AIRFLOW" not in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_a_fork_starts_a_process_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, event())
    read_apart(path, None, KNOWN, shown="feed.ics", now=NOW)
    before = apart._reader._process
    assert before is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            read_apart(path, None, KNOWN, shown="feed.ics", now=NOW)
            there = apart._reader._process
            code = 0 if there is not None and there.pid != before.pid else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert before.poll() is None


def test_a_year_that_cannot_be_worked_out_is_closed(tmp_path: Path) -> None:
    path = write(tmp_path, event("FREQ=YEARLY"))
    found = read_apart(path, None, KNOWN, shown="calendars/feed.ics", now=NOW)
    path.unlink()
    answer = may_change(Calendars([found]), SHOP, "production", datetime(2040, 7, 1, tzinfo=UTC))
    assert not answer.open
    assert answer.title.startswith("Payroll: calendars/feed.ics, line 1: cannot be read")
    assert may_change(Calendars([found]), SHOP, "production", datetime(2026, 7, 1, tzinfo=UTC)).open, "known before"


def test_what_was_not_worked_out_is_tried_again_after_a_while_and_not_at_each_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlock.adapters.calendars import calendars

    asked: list[Path] = []

    def never(path: Path, *_: object, **__: object) -> FileTimes:
        asked.append(path)
        raise apart.Unanswered(f"{path.name} cannot be worked out.")

    monkeypatch.setattr(apart, "read_apart", never)
    monkeypatch.setattr(calendars, "_unanswered", calendars._Unanswered())
    (tmp_path / "calendars").mkdir()
    write(tmp_path / "calendars", event())
    known = Known(frozenset({"bike-shop"}), frozenset({"retail"}))
    for _ in range(3):
        assert load_calendars(tmp_path, known).faults == ("feed.ics cannot be worked out.",)
    assert len(asked) == 1
    later = time.monotonic() + calendars.PAUSE_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    load_calendars(tmp_path, known)
    load_calendars(tmp_path, known)
    assert len(asked) == 2
