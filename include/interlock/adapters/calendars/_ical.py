"""iCalendar (RFC 5545): the events of a file, and when they are in force.

An event is in force as its author's calendar program shows it. Where programs differ, or something of it cannot be read
for certain, the file is refused with the event and the reason. What does nothing to changes cannot matter: an event
that is only shown, or cancelled, closes nothing, whatever is wrong with it (docs/adr/0012).
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from interlock.adapters.catalogue.yaml_files import refused
from interlock.domain.calendars.entries import Entry, Fault, Occurrence
from interlock.domain.calendars.recurrence import Recurrence
from interlock.domain.catalogue.calendar_file import EFFECTS, CalendarEntry, Kind, Scope

from ._ical_text import (
    Component,
    Moment,
    Period,
    Property,
    Zones,
    calendars_in,
    categories_of,
    duration_of,
    moment_of,
    periods_of,
    zone_said,
)

LARGEST = 4 * 1024 * 1024
"""Bytes of an iCalendar file."""
MOST_EVENTS = 5000
MOST_A_YEAR = 100_000
"""So many times of all its events a year."""
LONGEST_WORK = 10.0
"""Seconds of computing for the events of a file: what takes longer was made for that."""
MOST_FAULTS = 50
LONGEST_REPEATED = timedelta(days=400)

_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Nobody can ask about what is beyond."""
_A_DAY = timedelta(days=1)
_KINDS: tuple[Kind, ...] = ("freeze", "window", "maintenance", "event")
_SCOPES = {"service": "services", "business-unit": "business_units", "environment": "environments"}
_IN_FORCE = ("PUBLISH", "REQUEST", "ADD", "")


@dataclass(frozen=True, slots=True)
class Named:
    """The entry of a YAML file that names an iCalendar file: what holds for all of its events."""

    entry: CalendarEntry
    calendar: str
    zone: ZoneInfo


class IcsTimes:
    """The events of an iCalendar file.

    :ivar notes: what is wrong with events that can close nothing.
    :ivar faults: why they cannot be read.
    """

    def __init__(
        self,
        times: Iterable[_Times] = (),
        entries: Iterable[Entry] = (),
        *,
        notes: Iterable[str] = (),
        faults: Iterable[Fault] = (),
    ) -> None:
        self._times = tuple(times)
        self.entries, self.notes, self.faults = tuple(entries), tuple(notes), tuple(faults)

    def between(self, begin: datetime, end: datetime) -> Iterator[Occurrence]:
        """Yield the events that go on at some time from an instant to before another."""
        for one in self._times:
            yield from one.between(begin, end)


def read_ical(path: Path, named: Named | None, known: Mapping[str, Collection[str] | None], *, shown: str) -> IcsTimes:
    """Read an iCalendar file.

    :param named: the entry that names it; none: each event says by its categories what it is.
    :param known: the names that categories may use, by ``service``, ``business-unit`` and ``environment``.
    :param shown: how messages call it.
    :raises CatalogueError: it cannot be used, with every event that is wrong.
    """
    who = f"whoever keeps {named.calendar if named else shown}"
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise refused(shown, [f"line 1: cannot be read: {error.strerror}"], who=who) from None
    if len(data) > LARGEST:
        raise refused(shown, [f"line 1: found a larger file; allowed: {LARGEST // 1024} KiB"], who=who)
    reading = _Reading(named, known, shown)
    try:
        reading.read(calendars_in(data))
    except ValueError as error:
        raise refused(shown, [str(error)], who=who) from None
    if reading.faults:
        raise refused(shown, reading.faults, who=who)
    return IcsTimes(reading.times, reading.entries, notes=reading.notes)


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Event:
    """An event as it stands in a file; what of it matters is read when it is asked for."""

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
        """Return which occurrence of a series it stands for; none: it stands for itself."""
        said = self.component.one("RECURRENCE-ID")
        if said is None:
            return None
        if said.param("RANGE"):
            raise ValueError("RECURRENCE-ID: found RANGE; allowed: one occurrence, for calendar programs differ in it")
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
            found = _Length(_A_DAY if start.is_day else timedelta())
        return self._lasting(found, start)

    def _until(self, start: Moment, end: Moment) -> _Length:
        if end.kind != start.kind:
            raise ValueError(f"DTEND: found {end.kind}, and it begins with {start.kind}; allowed: the same")
        if start.is_day and end.local == start.local:
            return _Length(_A_DAY)  # each calendar program shows that day
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
        return _instant(moment.local, self.zone_of(moment))

    def zone_of(self, moment: Moment) -> tzinfo:
        """Return the time zone of a moment: its own, or that of the file."""
        return moment.zone or self.zone or UTC


@dataclass(frozen=True, slots=True)
class _Length:
    """How long something lasts: so long on the wall, and after that so long as time passes."""

    wall: timedelta
    passing: timedelta = timedelta()


def _instant(local: datetime, zone: tzinfo) -> datetime:
    """Return a time on the wall as an instant, none beyond what can be asked about."""
    try:
        return min(max(local.replace(tzinfo=zone).astimezone(UTC), _EARLIEST), _LATEST)
    except OverflowError:
        return _EARLIEST if local.year < _LATEST.year else _LATEST


def _later(at: datetime, length: timedelta) -> datetime:
    try:
        return at + length
    except OverflowError:
        return datetime.max.replace(tzinfo=at.tzinfo)


# --- times -----------------------------------------------------------------------------------------------------------


class _Times:
    """When an event, or a series of them, takes place.

    :param gone: starts at which it does not, or not as the series says.
    """

    def __init__(self, event: _Event, entry: Entry, gone: Collection[datetime] = ()) -> None:
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
        if repeated and self._length.wall + self._length.passing > LONGEST_REPEATED:
            raise ValueError(f"it repeats, and lasts longer than {LONGEST_REPEATED.days} days each time")
        self.a_year = len(self._single) + (self._rule.refuse_too_often() if self._rule else 0)

    def between(self, begin: datetime, end: datetime) -> Iterator[Occurrence]:
        """Yield the times that go on at some time from an instant to before another."""
        for start, until in self._single:
            if start < end and until > begin:
                yield Occurrence(start, until, self._entry, self._title)
        if self._rule is None:
            return
        # No time zone is further from UTC than a day.
        first = begin.replace(tzinfo=None) - self._length.wall - self._length.passing - _A_DAY
        for local in self._rule.between(first, end.replace(tzinfo=None) + _A_DAY):
            start = _instant(local, self._zone)
            if start not in self._gone:
                yield Occurrence(start, self._end(local, self._zone), self._entry, self._title)

    def _excluded(self, event: _Event) -> Iterator[datetime]:
        """Yield what EXDATE takes away; one that nothing begins at is what is left of an older series."""
        for one in event.starts("EXDATE"):
            if one.end is not None:
                raise ValueError("EXDATE: found a period; allowed: starts")
            if one.start.kind == self._start.kind:
                yield event.instant(one.start)
            elif self._is_about(one.start.local):
                found = f"{one.start.kind} ({one.start.local:%Y-%m-%d %H:%M})"
                raise ValueError(f"EXDATE: found {found}, and it begins with {self._start.kind}; allowed: the same")

    def _is_about(self, local: datetime) -> bool:
        """Say whether it takes place on a day, or on one beside it."""
        first, last = local - 2 * _A_DAY, local + 2 * _A_DAY
        if self._rule is None:
            return first <= self._start.local <= last
        return any(True for _ in self._rule.between(first, last))

    def _added(self, event: _Event) -> Iterator[tuple[datetime, datetime]]:
        """Yield the times that no rule says: its own, and those of RDATE."""
        own = [] if self._rule is not None else [Period(self._start)]
        for one in [*own, *event.starts("RDATE")]:
            if one.start.kind != self._start.kind:
                raise ValueError(
                    f"RDATE: found {one.start.kind}, and it begins with {self._start.kind}; allowed: the same"
                )
            begin = event.instant(one.start)
            if begin not in self._gone:
                yield begin, self._end_of(event, one)

    def _end_of(self, event: _Event, one: Period) -> datetime:
        zone = event.zone_of(one.start)
        if one.end is None:
            return self._end(one.start.local, zone)
        if isinstance(one.end, Moment):
            end = event.instant(one.end)
        else:
            days, hours = one.end
            end = _later(_instant(_later(one.start.local, days), zone), hours)
        if end <= event.instant(one.start):
            raise ValueError(f"RDATE: found a period from {one.start.local} that does not end after it begins")
        return end

    def _end(self, local: datetime, zone: tzinfo) -> datetime:
        return min(_later(_instant(_later(local, self._length.wall), zone), self._length.passing), _LATEST)


def _rule_of(event: _Event, start: Moment) -> Recurrence | None:
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


def _untils(text: str, start: Moment, event: _Event) -> set[datetime]:
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
    return _instant(local, zone).astimezone(other).replace(tzinfo=None, fold=0)


def _end_of_day(local: datetime) -> datetime:
    return datetime(local.year, local.month, local.day, 23, 59, 59)


# --- a file ----------------------------------------------------------------------------------------------------------


class _Reading:
    """Turns the events of a file into entries and times, or says what is wrong with them."""

    def __init__(self, named: Named | None, known: Mapping[str, Collection[str] | None], shown: str) -> None:
        self._named, self._known, self._shown = named, known, shown
        self._began = time.thread_time()
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.times: list[_Times] = []
        self.entries: list[Entry] = []

    def read(self, calendars: Sequence[Component]) -> None:
        """Read all events.

        :raises ValueError: the file as a whole cannot be used.
        """
        series: dict[str, list[_Event]] = {}
        number = 0
        for number, event in enumerate(self._events(calendars), start=1):
            # Those without a UID are each a series of their own.
            series.setdefault(event.uid or f"number {number} ({event.title})", []).append(event)
        if number > MOST_EVENTS:
            raise ValueError(f"found {number} events; allowed: {MOST_EVENTS}")
        for name, events in series.items():
            self._read(name, events)
            if time.thread_time() - self._began > LONGEST_WORK:
                raise ValueError(f"event {name}: up to it, the file takes longer than {LONGEST_WORK:.0f} s to work out")
            if len(self.faults) >= MOST_FAULTS:
                return
        if (times := sum(one.a_year for one in self.times)) > MOST_A_YEAR:
            raise ValueError(f"its events come {times} times a year; allowed: {MOST_A_YEAR}")
        if not self.entries and self._named is not None and self._named.entry.acts == "allow":
            self.entries.append(self._entry(self._named.entry.name, self._named.entry.title, []))

    def _events(self, calendars: Sequence[Component]) -> Iterator[_Event]:
        for calendar in calendars:
            _refuse_other_calendars(calendar)
            zones, zone = Zones(calendar), self._zone_of(calendar)
            for component in calendar.components:
                if any(component.walk("VEVENT")):
                    raise ValueError(f"not iCalendar: found an event inside of {component.name}")
                if component.name == "VEVENT":
                    yield _Event(component, zones, zone, _line(component, "UID"), _line(component, "SUMMARY"))

    def _zone_of(self, calendar: Component) -> tzinfo | None:
        """Return the time zone of days and of times without one; none: nobody knows the one that the file says."""
        said = {one.text for one in calendar.properties if one.name == "X-WR-TIMEZONE"} - {""}
        if not said:
            return self._named.zone if self._named else None
        return zone_said(said.pop()) if len(said) == 1 else None

    def _read(self, name: str, events: Sequence[_Event]) -> None:
        where = f"event {name}" if events[0].uid else f"the event {name}"
        first = next((one for one in events if not _is_moved(one)), events[0])
        entry: Entry | None = None
        try:
            entry = self._entry(first.uid or name, first.title or first.uid or name, categories_of(first.component))
            times = list(self._times_of(events, entry))
            if not first.uid and times:
                raise ValueError("found no UID; allowed: one for each event")
        except ValueError as error:
            if entry is not None and entry.effect == "none":
                self.notes.append(f"{self._shown}, {where}: {error}. It closes nothing, and is not shown.")
            elif not _are_cancelled(events):
                self.faults.append(f"{where}: {error}")
            return
        self.entries.append(entry)
        self.times += times

    def _times_of(self, events: Sequence[_Event], entry: Entry) -> Iterator[_Times]:
        """Yield the times of the events of one UID: of a series, of what was moved or cancelled of it, of both."""
        series = [one for one in events if not _is_moved(one)]
        moved = [one for one in events if _is_moved(one)]
        if len(series) > 1:
            series = self._told_apart(series, moved)
        standing = [one for one in series if not one.is_cancelled]
        instead: dict[datetime, list[_Event]] = {}
        for one in moved:
            instead.setdefault(_replaced(one, standing), []).append(one)
        latest = [one for each in instead.values() if not (one := _latest(each)).is_cancelled]
        if series and not standing and latest:
            raise ValueError("it is cancelled, and one of its occurrences is not; allowed: STATUS:CANCELLED of both")
        for one in standing:
            yield _Times(one, entry, instead.keys())
        for one in latest:
            yield _Times(one, entry)

    def _told_apart(self, series: list[_Event], moved: Sequence[_Event]) -> list[_Event]:
        """Return events that share a UID: each as it stands, if nothing says that one is in place of another."""
        if all(one.component.properties == series[0].component.properties for one in series):
            return series[:1]
        told = {self._entry("same", "same", categories_of(one.component)) for one in series}
        one_revision = len({(one.sequence, one.is_cancelled) for one in series}) == 1
        if moved or len(told) > 1 or not one_revision:
            raise ValueError(f"stands {len(series)} times in the file, and differs; allowed: a UID for each event")
        return series

    def _entry(self, key: str, title: str, categories: Sequence[str]) -> Entry:
        if self._named is None:
            return Entry(calendar=self._shown, key=key, title=title, **self._told(categories))
        written = self._named.entry
        if written.kind is None:
            told = self._told(categories)
        else:
            told = {"kind": written.kind, "effect": written.acts, "scope": written.scope}
        return Entry(
            calendar=self._named.calendar,
            key=f"{written.name}/{key}",
            title=title,
            during_rollout=written.during_rollout,
            override_by=written.override_by,
            **told,
        )

    def _told(self, categories: Sequence[str]) -> dict[str, Any]:
        """Return what an event says of itself by its categories: freeze, service:bike-shop."""
        kinds = [kind for kind in _KINDS if kind in categories]
        if len(kinds) != 1:
            found = ", ".join(kinds) or "no kind"
            raise ValueError(f"CATEGORIES: found {found}; allowed: one of {', '.join(_KINDS)}")
        pairs = [(what, name) for what, colon, name in (one.partition(":") for one in categories) if colon]
        for what, name in pairs:
            names = self._known.get(what)
            if names is not None and name not in names:
                raise ValueError(f"CATEGORIES: found {what}:{name}; allowed: a {what} that there is")
        scope = {field: tuple(name for what, name in pairs if what == said) for said, field in _SCOPES.items()}
        return {"kind": kinds[0], "effect": EFFECTS.get(kinds[0], "none"), "scope": Scope.model_validate(scope)}


def _refuse_other_calendars(calendar: Component) -> None:
    scale, method = calendar.one("CALSCALE"), calendar.one("METHOD")
    if scale is not None and scale.text.upper() != "GREGORIAN":
        raise ValueError(f"CALSCALE: found {scale.text[:100]}; allowed: GREGORIAN")
    if method is not None and method.text.upper() not in _IN_FORCE:
        raise ValueError(f"METHOD: found {method.text[:100]}; allowed: PUBLISH, for its events are not in force")


def _is_moved(event: _Event) -> bool:
    return any(one.name == "RECURRENCE-ID" for one in event.component.properties)


def _are_cancelled(events: Iterable[_Event]) -> bool:
    try:
        return all(one.is_cancelled for one in events)
    except ValueError:
        return False


def _replaced(event: _Event, series: Sequence[_Event]) -> datetime:
    """Return the start in whose place an occurrence is."""
    if any(one.name in ("RRULE", "RDATE") for one in event.component.properties):
        raise ValueError("found RECURRENCE-ID, and RRULE or RDATE; allowed: one occurrence, or a series")
    instead = event.occurrence()
    if instead is None:
        raise ValueError("RECURRENCE-ID is missing")
    for one in series:
        if (kind := one.start().kind) != instead.kind:
            raise ValueError(
                f"RECURRENCE-ID: found {instead.kind}, and the series begins with {kind}; allowed: the same"
            )
    return event.instant(instead)


def _latest(events: Sequence[_Event]) -> _Event:
    """Return the latest revision of an occurrence."""
    last = max(one.sequence for one in events)
    found = [one for one in events if one.sequence == last]
    if any(one.component.properties != found[0].component.properties for one in found):
        raise ValueError(
            f"found {len(found)} events in place of one occurrence; allowed: one, or SEQUENCE that differs"
        )
    return found[0]


def _line(component: Component, name: str) -> str:
    text = next((one.text for one in component.properties if one.name == name), "")
    return re.sub(r"\s+", " ", text).strip()[:300]
