"""May this service change this environment at this time? If not, because of which entry, and when is the next time?

It may if no entry that denies is in force, and an entry that allows is in force or no entry that allows applies to it.
:class:`Calendars` answers: entries from any number of files, whose order makes no difference. Each entry is expanded
once for a year, and merged once for all services and environments that are in the same scopes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.catalogue.calendar_file import DuringRollout, Scope
from interlock.domain.catalogue.service_file import Service

from .entries import FIRST_YEAR, LAST_YEAR, Entry, Fault, Occurrence, Source
from .spans import YearTimes, year_span

HORIZON = timedelta(days=400)
"""The search for the next opening goes this far ahead, which includes each yearly window once."""
MAX_CACHED_QUESTIONS = 10_000
"""Size of the cache; each combination of service, environment and override is an entry."""


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
        """The places of the entries that close it; empty: it is open."""
        return self.by.place if self.by else ""

    @property
    def frozen(self) -> bool:
        """Whether an entry closes it, and not only that no change window is open."""
        return not self.open and self.by is not None and self.by.effect == "deny"

    @property
    def during_rollout(self) -> DuringRollout | None:
        """What happens to a rollout in progress; none: it is open, or the calendars cannot be read.

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
            return f"The calendars cannot be read, so no changes are allowed. {' '.join(self.faults)}"
        next_time = f"next: {_shown(self.next)}" if self.next else f"not within {HORIZON.days} days"
        what = "outside of the change window" if self.by and self.by.effect == "allow" else "closed by"
        sentence = f"{where} may not be changed: {what} {self.title} ({self.place}); {next_time}."
        if self.closed_by in (None, self.by):
            return sentence
        last = f"{self.closed_by.title} ({self.closed_by.place})"
        return f"{sentence} For a rollout in progress, {last} says: {self.during_rollout}."


def _shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


class Calendars:
    """All calendars; each is expanded once for each requested year, if it applies.

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
        """Return why the calendars cannot tell whether a service may change an environment; empty: they can."""
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
            self._rules[same] = _Rules(self, _entries_in_force(self.about(service, environment), overridden))
        if len(self._asked) >= MAX_CACHED_QUESTIONS:
            self._asked.clear()
        self._asked[asked] = self._rules[same]
        return self._rules[same]

    def _held(self, service: Service, environment: str) -> frozenset[int]:
        """Return the scopes of a service in an environment; the same scopes have the same answer."""
        asked = (service.name, service.business_unit, environment)
        return frozenset(number for scope, number in self._scopes.items() if scope.holds(*asked))

    def _expanded(self, number: int, year: int) -> tuple[Occurrence, ...]:
        if (number, year) not in self._years:
            begin, end = year_span(year)
            found = self._sources[number].between(begin, end)
            within = (one for one in found if one.start < end and one.end > begin and one.start < one.end)
            self._years[number, year] = tuple(within)
        return self._years[number, year]


def _entries_in_force(entries: Iterable[Entry], overridden: Collection[str]) -> list[Entry]:
    """Return the entries that do something; with a change window that is overridden, no window does."""
    acting = [entry for entry in entries if entry.effect != "none"]
    unlimited = any(entry.effect == "allow" and entry.place in overridden for entry in acting)
    left = (entry for entry in acting if entry.place not in overridden)
    return [entry for entry in left if not (unlimited and entry.effect == "allow")]


def may_change(
    calendars: Calendars, service: Service, environment: str, at: datetime, *, overridden: Collection[str] = ()
) -> Answer:
    """Tell whether a service may change an environment at an instant; if not, because of what, and when next.

    :param overridden: places of entries that are overridden for this service; of a change window: all windows.
    """

    def answer(**found: Any) -> Answer:
        return Answer(service=service.name, environment=environment, at=at, **found)

    if faults := calendars.faults_about(service, environment):
        return answer(open=False, faults=faults)
    instant = at.astimezone(UTC)
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        return answer(open=False, faults=(f"The calendars do not cover the year {instant.year}.",))
    rules = calendars.rules(service, environment, frozenset(overridden))
    times = rules.times(instant.year)
    if times.open_at(instant):
        return answer(open=True, until=rules.turn(instant, opens=False))
    denied, opening = times.reason(instant), rules.turn(instant, opens=True)
    entry, title = denied or rules.window(instant)
    closed_by = None if denied else rules.closed_by(instant)
    return answer(open=False, by=entry, title=title, next=opening, closed_by=closed_by)


def opens_at(calendars: Calendars, service: Service, environment: str, at: datetime) -> datetime | None:
    """Return the first instant at or after a start when a service may change an environment; none within the horizon.

    The same as :func:`may_change`, but without sentences, because callers ask for a whole year.
    """
    instant = at.astimezone(UTC)
    if calendars.faults_about(service, environment) or not FIRST_YEAR <= instant.year <= LAST_YEAR:
        return None
    return calendars.rules(service, environment, frozenset()).turn(instant, opens=True)


class _Rules:
    """Entries that apply to the same services and environments, merged once for each year."""

    def __init__(self, calendars: Calendars, entries: Sequence[Entry]) -> None:
        self._calendars, self._entries = calendars, entries
        self._limited = any(entry.effect == "allow" for entry in entries)
        self._years: dict[int, YearTimes] = {}

    def times(self, year: int) -> YearTimes:
        """Return when it is open in a year."""
        if year not in self._years:
            concerned = self._calendars.occurrences(year, self._entries)
            self._years[year] = YearTimes.of(concerned, *year_span(year), limited=self._limited)
        return self._years[year]

    def turn(self, at: datetime, *, opens: bool) -> datetime | None:
        """Return when it next opens or closes; none: not within the horizon."""
        last = at + HORIZON
        for year in range(at.year, last.year + 1):
            turn = self.times(year).turn(max(at, year_span(year)[0]), opens=opens)
            if turn is not None:
                return turn if turn <= last else None
        return None

    def window(self, at: datetime) -> tuple[Entry, str]:
        """Return the next change window; if none follows, the first by name."""
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
