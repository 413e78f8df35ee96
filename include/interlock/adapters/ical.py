"""iCalendar (RFC 5545): files, and the copies of those at URLs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from icalendar import Calendar, Event
from recurring_ical_events import of
from recurring_ical_events.adapters.event import EventAdapter
from recurring_ical_events.selection.name import ComponentsWithName

from include.interlock.domain.calendar import Entry, Occurrence, in_utc
from include.interlock.domain.catalogue.calendar_file import (
    EFFECTS,
    CalendarEntry,
    Feed,
    Kind,
    Scope,
    refuse_too_often,
    zone_of,
)
from include.interlock.domain.errors import CatalogueError

from .yaml_files import refused

LARGEST = 1024 * 1024
"""Bytes of an iCalendar file."""
MOST_EVENTS = 5000
LONGEST_FETCH = 10.0
"""Seconds in all, from the first byte asked for to the last one read."""
PAUSE_AFTER_FAILURE = timedelta(minutes=1)

_MARGIN = timedelta(days=2)
_KINDS: tuple[Kind, ...] = ("freeze", "window", "maintenance", "event")
_SCOPES = {"service": "services", "business-unit": "business_units", "environment": "environments"}


@dataclass(frozen=True, slots=True)
class Named:
    """The entry of a YAML file that names an iCalendar file: what holds for all of its events."""

    entry: CalendarEntry
    calendar: str
    zone: ZoneInfo


class IcsTimes:
    """The events of an iCalendar file."""

    def __init__(self, queries: Sequence[Any], entries: Mapping[str, Entry], zone: ZoneInfo | None) -> None:
        self._queries, self._by_uid, self._zone = queries, entries, zone
        self.entries = tuple(entries.values())

    def between(self, begin: datetime, end: datetime) -> Iterator[Occurrence]:
        """Yield the events that go on at some time from an instant to before another."""
        for query in self._queries:
            for found in query.between(begin - _MARGIN, end + _MARGIN):
                event = found["event"]
                if str(event.get("STATUS", "")).upper() != "CANCELLED":
                    entry = self._by_uid[str(event["UID"])]
                    start, until = (_instant(found[edge], self._zone) for edge in ("start", "end"))
                    yield Occurrence(start, until, entry, _line(event.get("SUMMARY")) or entry.title)


class _TimesOnly(EventAdapter):
    """Gives each time of an event without a copy of the event: for a busy calendar that is most of the work."""

    def as_component(self, start: Any, stop: Any, keep_recurrence_attributes: bool) -> dict[str, Any]:
        """Return a time, and the event that it is of."""
        return {"event": self._component, "start": start, "end": stop}


def read_ical(path: Path, named: Named | None, known: Mapping[str, Collection[str] | None], *, shown: str) -> IcsTimes:
    """Read an iCalendar file.

    :param named: the entry that names it; none: each event says by its categories what it is.
    :param known: the names that categories may use, by ``service``, ``business-unit`` and ``environment``.
    :param shown: how messages call it.
    :raises CatalogueError: it cannot be used, with every event that is wrong.
    """
    who = f"whoever keeps {named.calendar if named else shown}"
    try:
        data = path.read_bytes() if path.stat().st_size <= LARGEST else None
    except OSError as error:
        raise refused(shown, [f"line 1: cannot be read: {error.strerror}"], who=who) from None
    if data is None:
        raise refused(shown, [f"line 1: found a larger file; allowed: {LARGEST // 1024} KiB"], who=who)
    return _parsed(data, named, known, shown=shown, who=who)


def _parsed(
    data: bytes, named: Named | None, known: Mapping[str, Collection[str] | None], *, shown: str, who: str
) -> IcsTimes:
    try:
        calendars = [one for one in Calendar.from_ical(data.decode("utf-8-sig"), multiple=True) if one.name]
    except (ValueError, IndexError, KeyError) as error:
        raise refused(shown, [f"line 1: not iCalendar: {error}"], who=who) from None
    if not calendars or any(one.name != "VCALENDAR" for one in calendars):
        raise refused(shown, ["line 1: not iCalendar: found no VCALENDAR"], who=who)
    zone = _zone(calendars, named)
    events = [event for one in calendars for event in one.walk("VEVENT") if isinstance(event, Event)]
    reading = _Reading(named, known, zone, shown)
    faults = list(reading.faults(events))
    if faults:
        raise refused(shown, faults, who=who)
    try:
        queries = [of(one, components=[ComponentsWithName("VEVENT", _TimesOnly)]) for one in calendars]
        for query in queries:
            query.between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    except (ValueError, TypeError, KeyError) as error:
        raise refused(shown, [f"line 1: a recurrence cannot be worked out: {error}"], who=who) from None
    return IcsTimes(queries, reading.entries(events), zone)


def _zone(calendars: Sequence[Any], named: Named | None) -> ZoneInfo | None:
    """Return the time zone of days and of times without one: the file's own, or that of the calendar that names it."""
    own = next((str(one["X-WR-TIMEZONE"]) for one in calendars if one.get("X-WR-TIMEZONE")), None)
    try:
        return zone_of(own) if own else named.zone if named else None
    except ValueError:
        return named.zone if named else None


@dataclass(frozen=True, slots=True)
class _Reading:
    """Turns events into entries, or says what is wrong with them."""

    named: Named | None
    known: Mapping[str, Collection[str] | None]
    zone: ZoneInfo | None
    shown: str

    def faults(self, events: Sequence[Event]) -> Iterator[str]:
        """Yield what is wrong, each with the UID of its event."""
        if len(events) > MOST_EVENTS:
            yield f"found {len(events)} events; allowed: {MOST_EVENTS}"
            return
        for number, event in enumerate(events, start=1):
            uid = _line(event.get("UID"))
            where = f"event {uid}" if uid else f"the event number {number} ({_line(event.get('SUMMARY'))})"
            yield from (f"{where}: {problem}" for problem in self._faults_of(event, uid))

    def _faults_of(self, event: Event, uid: str) -> Iterator[str]:
        if not uid:
            yield "found no UID; allowed: one for each event"
        yield from (f"{name}: {problem}" for name, problem in event.errors)
        try:
            self._times(event)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            yield str(error) or type(error).__name__
        if not event.get("RECURRENCE-ID"):
            yield from self._faults_of_categories(event)

    def _times(self, event: Event) -> None:
        """Raise if an event has no times that can be used."""
        start, end = event.start, event.end
        if self.zone is None and not all(isinstance(one, datetime) and one.tzinfo for one in (start, end)):
            raise ValueError("found a time without a time zone; allowed: X-WR-TIMEZONE, or a calendar that names it")
        if _instant(end, self.zone) < _instant(start, self.zone):
            raise ValueError(f"it ends at {end}, before it begins at {start}")
        rules = event.get("RRULE") or ()
        for rule in [rules] if hasattr(rules, "to_ical") else rules:
            refuse_too_often(rule.to_ical().decode())

    def _faults_of_categories(self, event: Event) -> Iterator[str]:
        if self.named is not None and self.named.entry.kind is not None:
            return
        categories = _categories(event)
        kinds = [kind for kind in _KINDS if kind in categories]
        if len(kinds) != 1:
            found = ", ".join(kinds) or "no kind"
            yield f"CATEGORIES: found {found}; allowed: one of {', '.join(_KINDS)}"
        for category in categories:
            kind, colon, name = category.partition(":")
            names = self.known.get(kind)
            if colon and names is not None and name not in names:
                yield f"CATEGORIES: found {category}; allowed: a {kind} that there is"

    def entries(self, events: Sequence[Event]) -> dict[str, Entry]:
        """Return an entry for each UID: what is repeated, and what was moved, is one."""
        found: dict[str, Entry] = {}
        for event in sorted(events, key=lambda event: bool(event.get("RECURRENCE-ID"))):
            uid = str(event["UID"])
            if uid not in found:
                found[uid] = self._entry(event, uid)
        return found

    def _entry(self, event: Event, uid: str) -> Entry:
        title = _line(event.get("SUMMARY")) or uid
        if self.named is None:
            return Entry(calendar=self.shown, key=uid, title=title, **_by_categories(event))
        written = self.named.entry
        if written.kind is None:
            told = _by_categories(event)
        else:
            told = {"kind": written.kind, "effect": written.acts, "scope": written.scope}
        return Entry(
            calendar=self.named.calendar,
            key=f"{written.name}/{uid}",
            title=title,
            during_rollout=written.during_rollout,
            override_by=written.override_by,
            **told,
        )


def _by_categories(event: Event) -> dict[str, Any]:
    categories = _categories(event)
    kind = next(kind for kind in _KINDS if kind in categories)
    pairs = [(kind, name) for kind, colon, name in (one.partition(":") for one in categories) if colon]
    scope = {field: tuple(name for kind, name in pairs if kind == said) for said, field in _SCOPES.items()}
    return {"kind": kind, "effect": EFFECTS.get(kind, "none"), "scope": Scope.model_validate(scope)}


def _categories(event: Event) -> list[str]:
    """Return an event's categories: freeze, service:bike-shop."""
    found = event.get("CATEGORIES") or ()
    each = found if isinstance(found, list) else [found]
    return list(dict.fromkeys(str(name).strip().lower() for one in each for name in getattr(one, "cats", ())))


def _line(text: object) -> str:
    return re.sub(r"\s+", " ", str(text or "")).strip()[:300]


def _instant(at: date | datetime, zone: ZoneInfo | None) -> datetime:
    """Return a day's midnight, or a time, as an instant."""
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day)
    return at.astimezone(UTC) if at.tzinfo else in_utc(at, zone or ZoneInfo("UTC"))


# --- at URLs ---------------------------------------------------------------------------------------------------------


class Copies:
    """Copies of the iCalendar files at URLs, in a folder; each as old as its file says.

    :param client: a context manager that gives an HTTP client.
    """

    def __init__(
        self, folder: Path, client: Callable[[], httpx.Client], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._client, self._clock = folder, client, clock
        self._failed: dict[str, tuple[float, str]] = {}

    def copy_of(self, feed: Feed) -> Path:
        """Return a copy that is young enough, fetched if it has to be.

        :raises CatalogueError: it cannot be fetched, and there is no copy that is not too old.
        """
        url = str(feed.url)
        path = path_of_copy(self._folder, feed)
        age = self._age(path)
        if age is not None and age <= feed.refresh:
            return path
        problem = self._fetched(url, path)
        if problem and (age is None or age > feed.oldest):
            there = f"the copy is {str(age).partition('.')[0]} old" if age is not None else "there is no copy"
            raise CatalogueError(
                f"The calendar {url} cannot be fetched ({problem}), and {there}; allowed: {feed.oldest}.",
                rule="a calendar that nobody can read opens nothing (ical.oldest in calendars/*.yaml)",
                who="whoever keeps the calendar, and the platform engineer for the network",
                next_step="mend the address or the server, or name a file instead",
            )
        return path

    def _age(self, path: Path) -> timedelta | None:
        """Return how old a copy is; none: there is none, or it is from later than now."""
        try:
            age = self._clock() - path.stat().st_mtime
        except FileNotFoundError:
            return None
        return timedelta(seconds=age) if age > -60 else None

    def _fetched(self, url: str, path: Path) -> str:
        """Fetch a calendar into its place; return why it was not possible, and then do not try for a minute."""
        now = self._clock()
        at, problem = self._failed.get(url, (0.0, ""))
        if problem and 0 <= now - at < PAUSE_AFTER_FAILURE.total_seconds():
            return problem
        try:
            with self._client() as client:
                data = fetch(client, url)
            Calendar.from_ical(data.decode("utf-8-sig"), multiple=True)
            if b"BEGIN:VCALENDAR" not in data:
                raise ValueError("what is there is not iCalendar")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, IndexError, KeyError) as error:
            problem = str(error) or type(error).__name__
            self._failed[url] = (now, problem)
            return problem
        self._keep(path, data, now)
        return ""

    def _keep(self, path: Path, data: bytes, now: float) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile("wb", dir=self._folder, prefix=".fetched-", delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.utime(file.name, (now, now))
        os.replace(file.name, path)


def path_of_copy(folder: Path, feed: Feed) -> Path:
    """Return where the copy of the calendar at a URL is, if there is one."""
    return folder / f"{sha256(str(feed.url).encode()).hexdigest()}.ics"


def web_client() -> httpx.Client:
    """Return a client for calendars: the surroundings' proxy and certificates, and no redirects."""
    return httpx.Client(follow_redirects=False, timeout=LONGEST_FETCH)


def fetch(client: httpx.Client, url: str) -> bytes:
    """Return what is at a URL, if it comes in time, whole and not too large."""
    if not url.startswith("https://"):
        raise ValueError("only https is fetched")
    give_up = time.monotonic() + LONGEST_FETCH
    data = bytearray()
    with client.stream("GET", url, headers={"Accept": "text/calendar"}) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"its server answers {answer.status_code}")
        for piece in answer.iter_bytes():
            data += piece
            if len(data) > LARGEST:
                raise ValueError(f"it is larger than {LARGEST // 1024} KiB")
            if time.monotonic() > give_up:
                raise ValueError(f"it takes longer than {LONGEST_FETCH:.0f} s")
    return bytes(data)
