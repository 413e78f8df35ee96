"""iCalendar (RFC 5545): the events of a file, and when they are in force.

An event is in force as its author's calendar program shows it. Where programs differ, or something of it cannot be read
for certain, the file is refused with the event and the reason. What does nothing to changes cannot matter: an event
that is only shown, or cancelled, closes nothing, whatever is wrong with it (docs/adr/0012).
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from interlock.adapters.catalogue.yaml_files import refused
from interlock.domain.calendars.entries import Entry, Fault, Occurrence
from interlock.domain.catalogue.calendar_file import EFFECTS, Kind, Scope

from ._events import Event
from ._times import Times
from ._values import Zones, zone_said
from .messages import Named
from .text import Component, calendars_in, categories_of

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Bytes of an iCalendar file."""
MAX_EVENTS = 5000
MAX_OCCURRENCES_PER_YEAR = 100_000
"""So many times of all its events a year."""
MAX_WORK = 10.0
"""Maximum CPU seconds for the events of a file; a longer time indicates an attack."""
MAX_FAULTS = 50
_KINDS: tuple[Kind, ...] = ("freeze", "window", "maintenance", "event")
_SCOPES = {"service": "services", "business-unit": "business_units", "environment": "environments"}
_IN_FORCE = ("PUBLISH", "REQUEST", "ADD", "")


class IcsTimes:
    """The events of an iCalendar file.

    :ivar notes: what is wrong with events that can close nothing.
    """

    def __init__(
        self,
        times: Iterable[Times] = (),
        entries: Iterable[Entry] = (),
        *,
        notes: Iterable[str] = (),
    ) -> None:
        self._times = tuple(times)
        self.entries, self.notes = tuple(entries), tuple(notes)
        self.faults: tuple[Fault, ...] = ()

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
    who = f"the owner of {named.calendar if named else shown}"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise refused(shown, [f"line 1: cannot be read: {error.strerror}"], who=who) from None
    if len(data) > MAX_FILE_BYTES:
        raise refused(shown, [f"line 1: found a larger file; allowed: {MAX_FILE_BYTES // 1024} KiB"], who=who)
    reading = _Reading(named, known, shown)
    try:
        reading.read(calendars_in(data))
    except ValueError as error:
        raise refused(shown, [str(error)], who=who) from None
    if reading.faults:
        raise refused(shown, reading.faults, who=who)
    return IcsTimes(reading.times, reading.entries, notes=reading.notes)


class _Reading:
    """Converts the events of a file into entries and times, and collects their faults."""

    def __init__(self, named: Named | None, known: Mapping[str, Collection[str] | None], shown: str) -> None:
        self._named, self._known, self._shown = named, known, shown
        self._began = time.thread_time()
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.times: list[Times] = []
        self.entries: list[Entry] = []

    def read(self, calendars: Sequence[Component]) -> None:
        """Read all events.

        :raises ValueError: the file as a whole cannot be used.
        """
        series: dict[str, list[Event]] = {}
        number = 0
        for number, event in enumerate(self._events(calendars), start=1):
            # Events without a UID are each a series of their own.
            series.setdefault(event.uid or f"number {number} ({event.title})", []).append(event)
        if number > MAX_EVENTS:
            raise ValueError(f"found {number} events; allowed: {MAX_EVENTS}")
        for name, events in series.items():
            self._read(name, events)
            if time.thread_time() - self._began > MAX_WORK:
                raise ValueError(
                    f"event {name}: processing the file up to this event takes longer than {MAX_WORK:.0f} s"
                )
            if len(self.faults) >= MAX_FAULTS:
                return
        if (times := sum(one.a_year for one in self.times)) > MAX_OCCURRENCES_PER_YEAR:
            raise ValueError(f"its events occur {times} times a year; allowed: {MAX_OCCURRENCES_PER_YEAR}")
        if not self.entries and self._named is not None and self._named.entry.acts == "allow":
            self.entries.append(self._entry(self._named.entry.name, self._named.entry.title, []))

    def _events(self, calendars: Sequence[Component]) -> Iterator[Event]:
        for calendar in calendars:
            _refuse_other_calendars(calendar)
            zones, zone = Zones(calendar), self._zone_of(calendar)
            for component in calendar.components:
                if any(component.walk("VEVENT")):
                    raise ValueError(f"not iCalendar: found an event inside of {component.name}")
                if component.name == "VEVENT":
                    yield Event(component, zones, zone, _line(component, "UID"), _line(component, "SUMMARY"))

    def _zone_of(self, calendar: Component) -> tzinfo | None:
        """Return the time zone of days and of times without one; none: the time zone of the file is unknown."""
        said = {one.text for one in calendar.properties if one.name == "X-WR-TIMEZONE"} - {""}
        if not said:
            return self._named.zone if self._named else None
        return zone_said(said.pop()) if len(said) == 1 else None

    def _read(self, name: str, events: Sequence[Event]) -> None:
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
                self.notes.append(
                    f"{self._shown}, {where}: {error}. It does not close an environment and is not shown."
                )
            elif not _are_cancelled(events):
                self.faults.append(f"{where}: {error}")
            return
        self.entries.append(entry)
        self.times += times

    def _times_of(self, events: Sequence[Event], entry: Entry) -> Iterator[Times]:
        """Yield the times of the events of one UID: of a series, of what was moved or cancelled of it, of both."""
        series = [one for one in events if not _is_moved(one)]
        moved = [one for one in events if _is_moved(one)]
        if len(series) > 1:
            series = self._told_apart(series, moved)
        standing = [one for one in series if not one.is_cancelled]
        instead: dict[datetime, list[Event]] = {}
        for one in moved:
            instead.setdefault(_replaced(one, standing), []).append(one)
        latest = [one for each in instead.values() if not (one := _latest(each)).is_cancelled]
        if series and not standing and latest:
            raise ValueError("it is cancelled, but an occurrence of it is not; allowed: STATUS:CANCELLED for both")
        for one in standing:
            yield Times(one, entry, instead.keys())
        for one in latest:
            yield Times(one, entry)

    def _told_apart(self, series: list[Event], moved: Sequence[Event]) -> list[Event]:
        """Return events that share a UID, unchanged if none of them replaces another."""
        if all(one.component.properties == series[0].component.properties for one in series):
            return series[:1]
        told = {self._entry("same", "same", categories_of(one.component)) for one in series}
        one_revision = len({(one.sequence, one.is_cancelled) for one in series}) == 1
        if moved or len(told) > 1 or not one_revision:
            raise ValueError(
                f"is in the file {len(series)} times with different content; allowed: a UID for each event"
            )
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
        """Return the meaning of an event's categories: freeze, service:bike-shop."""
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


def _is_moved(event: Event) -> bool:
    return any(one.name == "RECURRENCE-ID" for one in event.component.properties)


def _are_cancelled(events: Iterable[Event]) -> bool:
    try:
        return all(one.is_cancelled for one in events)
    except ValueError:
        return False


def _replaced(event: Event, series: Sequence[Event]) -> datetime:
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


def _latest(events: Sequence[Event]) -> Event:
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
