"""May this service change this environment at this instant; if not, by which entry, and when next?

It may if nothing that denies is going on, and something that allows is, or nothing that allows is about it at all. The
question is asked of :class:`Calendars`: entries from any number of files, whose order makes no difference. Each is
expanded once for a year, and merged once for all services and environments that are in the same scopes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.catalogue.calendar_file import (
    CalendarEntry,
    DuringRollout,
    Effect,
    Kind,
    Scope,
    moment_of,
)
from interlock.domain.catalogue.service_file import Service

from .recurrence import Recurrence

HORIZON = timedelta(days=400)
"""So far ahead it is looked for when something may be changed next: each yearly window comes once."""
FIRST_YEAR, LAST_YEAR = 1970, 9000
"""The years that can be asked about."""
MOST_ASKED = 10_000
"""So many questions are kept in mind: each service, environment and override is one."""
_A_DAY = timedelta(days=1)


class Entry(Model):
    """Something in a calendar that says when what may be changed."""

    calendar: str = Field(description="Its file, such as calendars/enterprise.yaml")
    key: str = Field(description="Its name in the file; of iCalendar files, the event's UID")
    title: str
    kind: Kind
    effect: Effect
    scope: Scope = Scope()
    during_rollout: DuringRollout = "back_out"
    override_by: tuple[str, ...] = ()

    @cached_property
    def place(self) -> str:
        """Where it is written."""
        return f"{self.key} in {self.calendar}"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time of an entry, in UTC; the end is not in it.

    :ivar title: the entry's, or what is special: the name of a holiday, of one event.
    """

    start: datetime
    end: datetime
    entry: Entry
    title: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something of the calendars cannot be read: it closes what it is about, which is known for certain."""

    text: str
    scope: Scope


class Source(Protocol):
    """One calendar."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Everything that it has, also what is over."""

    @property
    def notes(self) -> Sequence[str]:
        """What is wrong with it, and closes nothing."""

    @property
    def faults(self) -> Sequence[Fault]:
        """What cannot be read of it, and closes what it is about."""

    def between(self, begin: datetime, end: datetime) -> Iterable[Occurrence]:
        """Return what goes on at some time from an instant to before another."""


class Answer(Model):
    """What the calendars say of a service, an environment and an instant."""

    open: bool
    service: str
    environment: str
    at: AwareDatetime
    by: Entry | None = Field(None, description="What closes it; none: it is open, or the calendars cannot be read")
    title: str = Field("", description="What closes it, for people")
    next: AwareDatetime | None = Field(None, description="Closed: from when on it is open; none: not within 400 days")
    until: AwareDatetime | None = Field(None, description="Open: when it closes; none: not within 400 days")
    closed_by: Entry | None = Field(
        None, description="No change window is open: what closed it when it was open last; none: not within 400 days"
    )
    faults: tuple[str, ...] = Field((), description="Why the calendars cannot be read: everything is closed")

    @property
    def place(self) -> str:
        """Where what closes it is written; empty if nothing does."""
        return self.by.place if self.by else ""

    @property
    def during_rollout(self) -> DuringRollout | None:
        """What becomes of a rollout that is under way; none: nothing closes it, or the calendars cannot be read.

        Outside of the change windows that is for what closed it last to say, such as the window that has ended, and
        not for the window that comes next.
        """
        entry = self.closed_by or self.by
        return entry.during_rollout if entry else None

    def __str__(self) -> str:
        """Say it in a sentence or two."""
        where = f"{self.service} in {self.environment}"
        if self.open:
            return f"{where} may be changed" + (f" until {_shown(self.until)}." if self.until else ".")
        if self.faults:
            return f"The calendars cannot be read, so nothing may be changed. {' '.join(self.faults)}"
        next_time = f"next: {_shown(self.next)}" if self.next else f"not within {HORIZON.days} days"
        what = "outside of the change window" if self.by and self.by.effect == "allow" else "closed by"
        sentence = f"{where} may not be changed: {what} {self.title} ({self.place}); {next_time}."
        if self.closed_by in (None, self.by):
            return sentence
        last = f"{self.closed_by.title} ({self.closed_by.place})"
        return f"{sentence} For a rollout that is under way, {last} says: {self.during_rollout}."


def _shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


# --- the question ----------------------------------------------------------------------------------------------------


class Calendars:
    """All calendars together; each is expanded once for each year that is asked about, if it matters.

    :param faults: why some of them cannot be read; each closes everything.
    :ivar faults: all of them, also those of sources, which close what they are about.
    """

    def __init__(self, sources: Iterable[Source], faults: Iterable[str] = ()) -> None:
        self._sources = tuple(sources)
        self._faults = (
            *(Fault(text, Scope()) for text in faults),
            *(fault for source in self._sources for fault in source.faults),
        )
        self.faults = tuple(sorted(fault.text for fault in self._faults))
        self.notes = tuple(sorted(note for source in self._sources for note in source.notes))
        found = (entry for source in self._sources for entry in source.entries)
        self.entries = tuple(sorted(found, key=lambda entry: (entry.calendar, entry.key)))
        self._source_of: dict[str, list[int]] = {}
        for number, source in enumerate(self._sources):
            for entry in source.entries:
                self._source_of.setdefault(entry.place, []).append(number)
        self._scopes = {scope: number for number, scope in enumerate(dict.fromkeys(one.scope for one in self.entries))}
        self._scope_of = {entry.place: self._scopes[entry.scope] for entry in self.entries}
        self._years: dict[tuple[int, int], tuple[Occurrence, ...]] = {}
        self._rules: dict[tuple[frozenset[int], frozenset[str]], _Rules] = {}
        self._asked: dict[tuple[str, str | None, str, frozenset[str]], _Rules] = {}

    def faults_about(self, service: Service, environment: str) -> tuple[str, ...]:
        """Return why it cannot be said whether a service may change an environment; nothing: it can."""
        asked = (service.name, service.business_unit, environment)
        return tuple(sorted(fault.text for fault in self._faults if fault.scope.holds(*asked)))

    def about(self, service: Service, environment: str) -> tuple[Entry, ...]:
        """Return the entries that are about a service in an environment."""
        held = self._held(service, environment)
        return tuple(entry for entry in self.entries if self._scope_of[entry.place] in held)

    def occurrences(self, year: int, entries: Collection[Entry] | None = None) -> tuple[Occurrence, ...]:
        """Return what goes on in a year (UTC), by its start.

        :param entries: only these; none: all.
        """
        places = frozenset(entry.place for entry in (self.entries if entries is None else entries))
        numbers = sorted({number for place in places for number in self._source_of.get(place, ())})
        found = (one for number in numbers for one in self._expanded(number, year) if one.entry.place in places)
        return tuple(sorted(found, key=lambda one: (one.start, one.end, one.entry.place, one.title)))

    def rules(self, service: Service, environment: str, overridden: frozenset[str]) -> _Rules:
        """Return what closes and opens an environment to a service, but for what is overridden."""
        asked = (service.name, service.business_unit, environment, overridden)
        if (known := self._asked.get(asked)) is not None:
            return known
        same = (self._held(service, environment), overridden)
        if same not in self._rules:
            self._rules[same] = _Rules(self, _acting(self.about(service, environment), overridden))
        if len(self._asked) >= MOST_ASKED:
            self._asked.clear()
        self._asked[asked] = self._rules[same]
        return self._rules[same]

    def _held(self, service: Service, environment: str) -> frozenset[int]:
        """Return the scopes that a service in an environment is in: those with the same are answered the same."""
        asked = (service.name, service.business_unit, environment)
        return frozenset(number for scope, number in self._scopes.items() if scope.holds(*asked))

    def _expanded(self, number: int, year: int) -> tuple[Occurrence, ...]:
        if (number, year) not in self._years:
            begin, end = _year(year)
            found = self._sources[number].between(begin, end)
            within = (one for one in found if one.start < end and one.end > begin and one.start < one.end)
            self._years[number, year] = tuple(within)
        return self._years[number, year]


def _acting(entries: Iterable[Entry], overridden: Collection[str]) -> list[Entry]:
    """Return the entries that do something; with a change window that is overridden, no window does."""
    acting = [entry for entry in entries if entry.effect != "none"]
    unlimited = any(entry.effect == "allow" and entry.place in overridden for entry in acting)
    left = (entry for entry in acting if entry.place not in overridden)
    return [entry for entry in left if not (unlimited and entry.effect == "allow")]


def may_change(
    calendars: Calendars, service: Service, environment: str, at: datetime, *, overridden: Collection[str] = ()
) -> Answer:
    """Say whether a service may change an environment at an instant; if not, by what, and when next.

    :param overridden: places of entries that somebody has overridden for this service; of a change window: all windows.
    """

    def answer(**found: Any) -> Answer:
        return Answer(service=service.name, environment=environment, at=at, **found)

    if faults := calendars.faults_about(service, environment):
        return answer(open=False, faults=faults)
    instant = at.astimezone(UTC)
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        return answer(open=False, faults=(f"Nobody can say what the year {instant.year} brings.",))
    rules = calendars.rules(service, environment, frozenset(overridden))
    times = rules.times(instant.year)
    if times.open_at(instant):
        return answer(open=True, until=rules.turn(instant, opens=False))
    denied, opening = times.reason(instant), rules.turn(instant, opens=True)
    entry, title = denied or rules.window(instant)
    closed_by = None if denied else rules.closed_by(instant)
    return answer(open=False, by=entry, title=title, next=opening, closed_by=closed_by)


def opens_at(calendars: Calendars, service: Service, environment: str, at: datetime) -> datetime | None:
    """Return the first instant from one on at which a service may change an environment; none: not within the horizon.

    What :func:`may_change` says, without a word: for whoever asks for a year.
    """
    instant = at.astimezone(UTC)
    if calendars.faults_about(service, environment) or not FIRST_YEAR <= instant.year <= LAST_YEAR:
        return None
    return calendars.rules(service, environment, frozenset()).turn(instant, opens=True)


class _Rules:
    """Entries that hold together for some services and environments; merged once for each year."""

    def __init__(self, calendars: Calendars, entries: Sequence[Entry]) -> None:
        self._calendars, self._entries = calendars, entries
        self._limited = any(entry.effect == "allow" for entry in entries)
        self._years: dict[int, _Times] = {}

    def times(self, year: int) -> _Times:
        """Return when it is open in a year."""
        if year not in self._years:
            concerned = self._calendars.occurrences(year, self._entries)
            self._years[year] = _Times.of(concerned, *_year(year), limited=self._limited)
        return self._years[year]

    def turn(self, at: datetime, *, opens: bool) -> datetime | None:
        """Return when it next opens or closes; none: not within the horizon."""
        last = at + HORIZON
        for year in range(at.year, last.year + 1):
            turn = self.times(year).turn(max(at, _year(year)[0]), opens=opens)
            if turn is not None:
                return turn if turn <= last else None
        return None

    def window(self, at: datetime) -> tuple[Entry, str]:
        """Return the change window that comes next; if none does, the first by name."""
        for year in range(at.year, (at + HORIZON).year + 1):
            if one := self.times(year).window(at):
                return one.entry, one.title
        first = next(entry for entry in self._entries if entry.effect == "allow")
        return first, first.title

    def closed_by(self, at: datetime) -> Entry | None:
        """Return what closed it when it was open last: what denied then, else the window that ended.

        None: it was not open within the horizon.
        """
        for year in range(at.year, (at - HORIZON).year - 1, -1):
            end = self.times(year).last_end(at)
            if end is None:
                continue
            if end < at - HORIZON:
                return None
            denied = self.times(end.year).reason(end)
            return denied[0] if denied else self.times(year).ended(end)
        return None


# --- merged times ----------------------------------------------------------------------------------------------------

_STRICTNESS = {"stop": 2, "back_out": 1, "finish": 0}


@dataclass(frozen=True, slots=True)
class _Times:
    """When it is open in a year: spans that do not touch, in order.

    :ivar denies: what denies, by its start; with the latest end up to each.
    """

    begin: datetime
    end: datetime
    starts: Sequence[datetime]
    ends: Sequence[datetime]
    denies: Sequence[Occurrence]
    latest: Sequence[datetime]
    windows: Sequence[Occurrence]

    @classmethod
    def of(cls, occurrences: Sequence[Occurrence], begin: datetime, end: datetime, *, limited: bool) -> _Times:
        """Merge what goes on between two instants.

        :param limited: something allows, so only what is allowed is open.
        """
        denies = [one for one in occurrences if one.entry.effect == "deny"]
        windows = [one for one in occurrences if one.entry.effect == "allow"]
        allowed = merged((one.start, one.end) for one in windows)
        spans = [(max(start, begin), min(until, end)) for start, until in allowed] if limited else [(begin, end)]
        spans = list(without(spans, merged((one.start, one.end) for one in denies)))
        latest: list[datetime] = []
        for one in denies:
            latest.append(max(one.end, latest[-1]) if latest else one.end)
        return cls(begin, end, [span[0] for span in spans], [span[1] for span in spans], denies, latest, windows)

    def open_at(self, at: datetime) -> bool:
        """Say whether it is open at an instant."""
        index = bisect_right(self.starts, at) - 1
        return index >= 0 and at < self.ends[index]

    def turn(self, at: datetime, *, opens: bool) -> datetime | None:
        """Return the first instant from one on at which it is open (or closed); none: not in this year."""
        if self.open_at(at) == opens:
            return at
        index = bisect_right(self.starts, at)
        if opens:
            return self.starts[index] if index < len(self.starts) else None
        return self.ends[index - 1] if self.ends[index - 1] < self.end else None

    def last_end(self, at: datetime) -> datetime | None:
        """Return when it closed last, up to an instant at which it is closed; none: not in this year."""
        index = bisect_right(self.ends, at)
        return self.ends[index - 1] if index else None

    def ended(self, at: datetime) -> Entry:
        """Return the change window that ends at an instant: of several the strictest."""
        found = (one.entry for one in self.windows if one.end == at)
        return max(found, key=lambda entry: (_STRICTNESS[entry.during_rollout], entry.place))

    def window(self, at: datetime) -> Occurrence | None:
        """Return the next change window to begin after an instant; none: none in this year."""
        index = bisect_right(self.windows, at, key=lambda one: one.start)
        return self.windows[index] if index < len(self.windows) else None

    def reason(self, at: datetime) -> tuple[Entry, str] | None:
        """Return what denies at an instant: of several the strictest, then the longest; none: no window is open."""
        index = bisect_right(self.denies, at, key=lambda one: one.start)
        active: list[Occurrence] = []
        while index > 0 and self.latest[index - 1] > at:
            index -= 1
            if self.denies[index].end > at:
                active.append(self.denies[index])
        if not active:
            return None
        one = max(active, key=lambda one: (_STRICTNESS[one.entry.during_rollout], one.end, one.entry.place, one.title))
        return one.entry, one.title


Span = tuple[datetime, datetime]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, with those that meet made one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def without(spans: Iterable[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Yield what is left of spans without others; both merged."""
    first = 0
    for start, end in spans:
        while first < len(others) and others[first][1] <= start:
            first += 1
        for other_start, other_end in others[first:]:
            if other_start >= end:
                break
            if start < other_start:
                yield start, other_start
            start = max(start, other_end)
        if start < end:
            yield start, end


def _year(year: int) -> Span:
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


# --- a calendar file's own entries -----------------------------------------------------------------------------------


class HolidaysOf(Protocol):
    """Says which days of a year are public holidays."""

    def __call__(self, country: str, region: str | None, year: int) -> Mapping[date, str]:
        """Return the days, with their names."""


class EntryTimes:
    """The times of an entry that has its own, or is about holidays.

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
        """Yield what goes on at some time from an instant to before another."""
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
        asked = self._written.holidays
        if asked is None:
            return
        for year in range((begin - _A_DAY).year, (end + _A_DAY).year + 1):
            for day, name in sorted(self._holidays(asked.country, asked.region, year).items()):
                start = datetime(day.year, day.month, day.day)
                yield self._occurrence(start, start + _A_DAY, name)

    def _occurrence(self, start: datetime, end: datetime, title: str) -> Occurrence:
        return Occurrence(in_utc(start, self._zone), in_utc(end, self._zone), self._entry, title)


def in_utc(local: datetime, zone: ZoneInfo) -> datetime:
    """Return a time on the wall as an instant."""
    return local.replace(tzinfo=zone).astimezone(UTC)
