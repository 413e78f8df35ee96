"""What calendars are made of: entries, the times at which they occur, and faults in their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from functools import cached_property
from typing import Protocol

from pydantic import Field

from interlock.domain.canonical import Model
from interlock.domain.catalogue.calendar_file import DuringRollout, Effect, Kind, Scope

FIRST_YEAR, LAST_YEAR = 1970, 9000
"""The years that can be asked about."""


class Entry(Model):
    """An entry of a calendar: when it allows or denies which changes."""

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
class Days:
    """Whole days: the first, and the day after the last, as the wall has them in a time zone.

    :ivar zone: the time zone's name; empty: it has none.
    """

    first: date
    after: date
    zone: str


def whole_days(start: datetime, end: datetime, zone: tzinfo) -> Days | None:
    """Return the days from one time on the wall to another; None: these are no whole days."""
    if start.time() != time() or end.time() != time() or end <= start:
        return None
    return Days(start.date(), end.date(), getattr(zone, "key", ""))


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time of an entry, in UTC; the end is not in it.

    :ivar title: the entry's, or what is special: the name of a holiday, of one event.
    :ivar days: the days that it lasts, if it is written in whole days.
    """

    start: datetime
    end: datetime
    entry: Entry
    title: str
    days: Days | None = None


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
        """Faults of the calendar that do not close an environment."""

    @property
    def faults(self) -> Sequence[Fault]:
        """What cannot be read of it, and closes what it is about."""

    def between(self, begin: datetime, end: datetime) -> Iterable[Occurrence]:
        """Return what occurs between an instant and another, which is excluded."""
