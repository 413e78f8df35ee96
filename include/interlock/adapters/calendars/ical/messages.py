"""What is asked of the process that reads iCalendar files, and what it answers: plain data.

A message is four bytes with its length, and then its bytes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime

from interlock.domain.calendars.entries import Days, Entry, Occurrence
from interlock.domain.canonical import Model
from interlock.domain.catalogue.calendar_file import CalendarEntry
from interlock.domain.errors import CatalogueError

LARGEST_MESSAGE = 256 * 1024 * 1024
_LENGTH = 4

Row = tuple[AwareDatetime, AwareDatetime, int, str, tuple[date, date, str] | None]
"""An occurrence: start, end, number of its entry, title, and the days if it is written in whole days."""


@dataclass(frozen=True, slots=True)
class Named:
    """The entry of a YAML file that names an iCalendar file: what holds for all of its events."""

    entry: CalendarEntry
    calendar: str
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be taken for one file: seconds of a processor, seconds, and bytes of memory.

    Seconds are limited, too, because what is read may be no file, or on a disk that does not answer.
    """

    cpu: int = 20
    seconds: int = 60
    memory: int = 1024 * 1024 * 1024

    def __str__(self) -> str:
        return f"{self.cpu} s of a processor, {self.seconds} s and {self.memory >> 20} MiB of memory"


@dataclass(frozen=True, slots=True)
class Question:
    """What goes on in some years, by a file.

    :param named: the entry that names it; none: each event says by its categories what it is.
    :param known: the names that categories may use, by ``service``, ``business-unit`` and ``environment``.
    :param shown: how messages call it.
    """

    path: Path
    named: Named | None
    known: Mapping[str, Collection[str] | None]
    shown: str
    years: tuple[int, ...]
    limits: Limits = Limits()

    @property
    def owner(self) -> str:
        """Who can correct the file."""
        return f"the owner of {self.named.calendar if self.named else self.shown}"


class Refusal(Model):
    """Why a file cannot be used: the parts of an error."""

    what: str
    rule: str
    who: str
    next_step: str

    @classmethod
    def of(cls, error: CatalogueError) -> Refusal:
        """Return the parts of an error."""
        return cls(what=error.what, rule=error.rule, who=error.who, next_step=error.next_step)

    def error(self) -> CatalogueError:
        """Return the error."""
        return CatalogueError(self.what, rule=self.rule, who=self.who, next_step=self.next_step)


class WorkedOut(Model):
    """What goes on in the years that were asked about.

    :ivar refusal: why the file cannot be used; there is nothing else then.
    """

    refusal: Refusal | None = None
    entries: tuple[Entry, ...] = ()
    notes: tuple[str, ...] = ()
    years: dict[int, tuple[Row, ...]] = {}

    def occurrences(self, year: int) -> Iterator[Occurrence]:
        """Yield what goes on in one of the years."""
        for start, end, number, title, days in self.years[year]:
            yield Occurrence(start, end, self.entries[number], title, Days(*days) if days else None)


def send(pipe: int, message: bytes) -> None:
    """Write a message, all of it."""
    left = memoryview(len(message).to_bytes(_LENGTH, "big") + message)
    while left:
        left = left[os.write(pipe, left) :]


def receive(pipe: int) -> bytes | None:
    """Read a message; None at the end of the input."""
    length = _exactly(pipe, _LENGTH)
    if length is None:
        return None
    size = int.from_bytes(length, "big")
    if size > LARGEST_MESSAGE:
        raise ValueError(f"found a message of {size} bytes; allowed: {LARGEST_MESSAGE}")
    return _exactly(pipe, size)


def _exactly(pipe: int, size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        more = os.read(pipe, min(size - len(found), 1024 * 1024))
        if not more:
            return None
        found += more
    return bytes(found)
