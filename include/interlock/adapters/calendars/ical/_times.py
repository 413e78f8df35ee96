"""When an event of an iCalendar file, or a series of them, takes place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from interlock.domain.calendars.entries import Entry, Occurrence, whole_days
from interlock.domain.calendars.recurrence import Recurrence

from ._events import A_DAY, LATEST, Event, instant, later
from ._values import Moment, Period, moment_of
from .text import Property

MAX_REPEATED_DURATION = timedelta(days=400)


class Times:
    """When an event, or a series of them, takes place.

    :param gone: starts at which it does not, or not as the series says.
    """

    def __init__(self, event: Event, entry: Entry, gone: Collection[datetime] = ()) -> None:
        start = event.start()
        self._entry, self._title = entry, event.title or entry.title
        self._start, self._zone = start, event.zone_of(start)
        self._length = event.length(start)
        self._rule = _rule_of(event, start)
        if self._rule is not None:
            self._rule.refuse_what_is_out_of_step()
        self._gone = frozenset(gone).union(self._excluded(event))
        self._single = sorted(self._added(event))
        repeated = self._rule is not None or len(self._single) > 1
        if repeated and self._length.wall + self._length.passing > MAX_REPEATED_DURATION:
            raise ValueError(f"it repeats, and lasts longer than {MAX_REPEATED_DURATION.days} days each time")
        self.a_year = len(self._single) + (self._rule.refuse_too_often() if self._rule else 0)

    def between(self, begin: datetime, end: datetime) -> Iterator[Occurrence]:
        """Yield the times that go on at some time from an instant to before another."""
        for start, until in self._single:
            if start < end and until > begin:
                yield self._occurrence(start, until)
        if self._rule is None:
            return
        # No time zone is further from UTC than a day.
        first = begin.replace(tzinfo=None) - self._length.wall - self._length.passing - A_DAY
        for local in self._rule.between(first, end.replace(tzinfo=None) + A_DAY):
            start = instant(local, self._zone)
            if start not in self._gone:
                yield self._occurrence(start, self._end(local, self._zone))

    def _occurrence(self, start: datetime, end: datetime) -> Occurrence:
        days = None
        if self._start.is_day:
            days = whole_days(start.astimezone(self._zone), end.astimezone(self._zone), self._zone)
        return Occurrence(start, end, self._entry, self._title, days)

    def _excluded(self, event: Event) -> Iterator[datetime]:
        """Yield the starts that EXDATE removes; a start without an occurrence is a remainder of an older series."""
        for one in event.starts("EXDATE"):
            if one.end is not None:
                raise ValueError("EXDATE: found a period; allowed: starts")
            if one.start.kind == self._start.kind:
                yield event.instant(one.start)
            elif self._is_about(one.start.local):
                found = f"{one.start.kind} ({one.start.local:%Y-%m-%d %H:%M})"
                raise ValueError(f"EXDATE: found {found}, and it begins with {self._start.kind}; allowed: the same")

    def _is_about(self, local: datetime) -> bool:
        """Tell whether it takes place on a day, or on the day before or after."""
        first, last = later(local, -2 * A_DAY), later(local, 2 * A_DAY)
        if self._rule is None:
            return first <= self._start.local <= last
        return any(True for _ in self._rule.between(first, last))

    def _added(self, event: Event) -> Iterator[tuple[datetime, datetime]]:
        """Yield the times outside of a rule: its own, and those of RDATE."""
        own = [] if self._rule is not None else [Period(self._start)]
        for one in [*own, *event.starts("RDATE")]:
            if one.start.kind != self._start.kind:
                raise ValueError(
                    f"RDATE: found {one.start.kind}, but the event starts with {self._start.kind}; allowed: the same"
                )
            begin = event.instant(one.start)
            if begin not in self._gone:
                yield begin, self._end_of(event, one)

    def _end_of(self, event: Event, one: Period) -> datetime:
        zone = event.zone_of(one.start)
        if one.end is None:
            return self._end(one.start.local, zone)
        if isinstance(one.end, Moment):
            end = event.instant(one.end)
        else:
            days, hours = one.end
            end = later(instant(later(one.start.local, days), zone), hours)
        if end <= event.instant(one.start):
            raise ValueError(f"RDATE: found a period from {one.start.local} whose end is not after its start")
        return end

    def _end(self, local: datetime, zone: tzinfo) -> datetime:
        return min(later(instant(later(local, self._length.wall), zone), self._length.passing), LATEST)


def _rule_of(event: Event, start: Moment) -> Recurrence | None:
    if event.component.all("EXRULE"):
        raise ValueError("EXRULE: found; allowed: EXDATE")
    said = event.component.one("RRULE")
    if said is None:
        return None
    until = re.search(r"UNTIL=([^;]*)", said.value, re.IGNORECASE)
    if until is None:
        return Recurrence(said.value, start.local)
    meant = sorted(_untils(until[1].strip().upper(), start, event))
    first, last = (
        Recurrence(said.value.replace(until[0], f"UNTIL={one:%Y%m%dT%H%M%S}"), start.local)
        for one in (meant[0], meant[-1])
    )
    if any(one > meant[0] for one in last.between(meant[0], meant[-1])):
        raise ValueError(f"UNTIL: found {until[1]}, and it begins with {start.kind}; whether its last time is in it?")
    return first


def _untils(text: str, start: Moment, event: Event) -> set[datetime]:
    """Return what UNTIL may mean, on the wall of the start; of a day, its end."""
    said = moment_of(Property("UNTIL", text), event.zones)
    if said.is_day:
        return {_end_of_day(said.local)}
    zone = event.zone_of(start)
    by_zone = _wall(said.local, UTC, zone)
    if start.is_day:
        return {_end_of_day(one) for one in ((said.local, by_zone) if said.zone else (said.local,))}
    if said.zone is not None:
        return {by_zone} if start.zone is not None else {by_zone, said.local}
    return {said.local} if start.zone is None else {said.local, by_zone}


def _wall(local: datetime, zone: tzinfo, other: tzinfo) -> datetime:
    """Return what the wall shows in another time zone."""
    return instant(local, zone).astimezone(other).replace(tzinfo=None, fold=0)


def _end_of_day(local: datetime) -> datetime:
    return datetime(local.year, local.month, local.day, 23, 59, 59)
