"""An event of an iCalendar file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ._values import Moment, Period, Zones, duration_of, moment_of, periods_of
from .text import Component

_EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""The end of the calendars' horizon; later times are never requested."""
A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a file; its properties are read on access."""

    component: Component
    zones: Zones
    zone: tzinfo | None
    uid: str
    title: str

    @property
    def is_cancelled(self) -> bool:
        """Say whether it does not take place."""
        said = self.component.one("STATUS")
        return said is not None and said.text.upper() == "CANCELLED"

    @property
    def sequence(self) -> int:
        """Say which revision of the event it is."""
        said = self.component.one("SEQUENCE")
        if said is not None and not re.fullmatch(r"\+?\d{1,9}", said.value, re.ASCII):
            raise ValueError(f"SEQUENCE: found {said.value[:100]}; allowed: a number")
        return int(said.value) if said is not None else 0

    def start(self) -> Moment:
        """Return its first start."""
        said = self.component.one("DTSTART")
        if said is None:
            raise ValueError("DTSTART is missing")
        return self._usable(moment_of(said, self.zones))

    def occurrence(self) -> Moment | None:
        """Return the occurrence of a series that it replaces; none: it replaces none."""
        said = self.component.one("RECURRENCE-ID")
        if said is None:
            return None
        if said.param("RANGE"):
            raise ValueError(
                "RECURRENCE-ID: found RANGE; allowed: one occurrence, because calendar programs handle "
                "RANGE differently"
            )
        return self._usable(moment_of(said, self.zones))

    def starts(self, name: str) -> Iterator[Period]:
        """Yield the days and times of RDATE or EXDATE."""
        for one in self.component.all(name):
            yield from periods_of(one, self.zones)

    def length(self, start: Moment) -> _Length:
        """Return how long it lasts each time."""
        end, duration = self.component.one("DTEND"), self.component.one("DURATION")
        if end is not None and duration is not None:
            raise ValueError("found DTEND and DURATION; allowed: one of them")
        if end is not None:
            return self._until(start, self._usable(moment_of(end, self.zones)))
        if duration is not None:
            days, hours = duration_of(duration.value)
            if start.is_day and hours:
                raise ValueError(f"DURATION: found {duration.value}, and it begins with a day; allowed: days or weeks")
            found = _Length(days, hours)
        else:
            found = _Length(A_DAY if start.is_day else timedelta())
        return self._lasting(found, start)

    def _until(self, start: Moment, end: Moment) -> _Length:
        if end.kind != start.kind:
            raise ValueError(f"DTEND: found {end.kind}, and it begins with {start.kind}; allowed: the same")
        if start.is_day and end.local == start.local:
            return _Length(A_DAY)  # each calendar program shows that day
        if end.zone is start.zone:
            return self._lasting(_Length(end.local - start.local), start, end)
        return self._lasting(_Length(timedelta(), self.instant(end) - self.instant(start)), start, end)

    def _lasting(self, length: _Length, start: Moment, end: Moment | None = None) -> _Length:
        whole = length.wall + length.passing
        if whole < timedelta():
            raise ValueError(f"it ends at {end.local if end else 'once'}, before it begins at {start.local}")
        if not whole:
            raise ValueError(f"it ends when it begins, at {start.local}; allowed: DTEND, or DURATION, after it")
        return length

    def _usable(self, moment: Moment) -> Moment:
        if moment.zone is None and self.zone is None:
            raise ValueError(
                "found a time without a time zone; allowed: X-WR-TIMEZONE with a time zone, or a calendar that names it"
            )
        return moment

    def instant(self, moment: Moment) -> datetime:
        """Return a moment as an instant."""
        return instant(moment.local, self.zone_of(moment))

    def zone_of(self, moment: Moment) -> tzinfo:
        """Return the time zone of a moment: its own, or that of the file."""
        return moment.zone or self.zone or UTC


@dataclass(frozen=True, slots=True)
class _Length:
    """How long something lasts: so long on the wall, and after that so long as time passes."""

    wall: timedelta
    passing: timedelta = timedelta()


def instant(local: datetime, zone: tzinfo) -> datetime:
    """Return a time on the wall as an instant, none beyond what can be asked about."""
    try:
        return min(max(local.replace(tzinfo=zone).astimezone(UTC), _EARLIEST), LATEST)
    except OverflowError:
        return _EARLIEST if local.year < LATEST.year else LATEST


def later(at: datetime, length: timedelta) -> datetime:
    """Return a time so much later, or earlier, none beyond the years that there are."""
    try:
        return at + length
    except OverflowError:
        return (datetime.max if length > timedelta() else datetime.min).replace(tzinfo=at.tzinfo)
