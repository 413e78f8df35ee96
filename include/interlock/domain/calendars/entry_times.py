"""The times of a calendar file's own entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from interlock.domain.catalogue.calendar_file import CalendarEntry, moment_of

from .entries import Entry, Fault, Occurrence, whole_days
from .recurrence import Recurrence

_A_DAY = timedelta(days=1)


class HolidaysOf(Protocol):
    """Returns the public holidays of a year."""

    def __call__(self, country: str, region: str | None, year: int) -> Mapping[date, str]:
        """Return the days, with their names."""


class EntryTimes:
    """The times of an entry with times of its own, or for holidays.

    Times are those on the wall: what lasts from 22:00 to 06:00 does so when the clocks change, too. A time that the
    clocks skip is an hour later; of one that they have twice, the first is meant.
    """

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]

    def __init__(self, written: CalendarEntry, entry: Entry, zone: ZoneInfo, holidays: HolidaysOf) -> None:
        self.entries, self.notes, self.faults = (entry,), (), ()
        self._written, self._entry, self._zone, self._holidays = written, entry, zone, holidays
        if written.from_ is None:
            return
        self._start, end = written.span()
        self._length = end - self._start
        self._except = frozenset(map(moment_of, written.except_))
        self._rule = Recurrence(written.repeat, self._start) if written.repeat else None

    def between(self, begin: datetime, end: datetime) -> Iterator[Occurrence]:
        """Yield what occurs between an instant and another, which is excluded."""
        if self._written.holidays is not None:
            yield from self._of_holidays(begin, end)
        elif self._start.tzinfo is not None:
            start = self._start.astimezone(UTC)
            yield Occurrence(start, start + self._length, self._entry, self._entry.title)
        else:
            for start in self._starts(begin, end):
                yield self._occurrence(start, start + self._length, self._entry.title)

    def _starts(self, begin: datetime, end: datetime) -> Iterable[datetime]:
        """Return the starts that may matter, in local time."""
        if self._rule is None:
            return [self._start]
        # No time zone is further from UTC than a day.
        first, last = begin.replace(tzinfo=None) - self._length - _A_DAY, end.replace(tzinfo=None) + _A_DAY
        starts = self._rule.between(first, last)
        return (start for start in starts if start not in self._except and start.date() not in self._except)

    def _of_holidays(self, begin: datetime, end: datetime) -> Iterator[Occurrence]:
        holidays = self._written.holidays
        if holidays is None:
            return
        for year in range((begin - _A_DAY).year, (end + _A_DAY).year + 1):
            for day, name in sorted(self._holidays(holidays.country, holidays.region, year).items()):
                start = datetime(day.year, day.month, day.day)
                yield self._occurrence(start, start + _A_DAY, name)

    def _occurrence(self, start: datetime, end: datetime, title: str) -> Occurrence:
        days = whole_days(start, end, self._zone)
        return Occurrence(in_utc(start, self._zone), in_utc(end, self._zone), self._entry, title, days)


def in_utc(local: datetime, zone: ZoneInfo) -> datetime:
    """Return a time on the wall as an instant."""
    return local.replace(tzinfo=zone).astimezone(UTC)
