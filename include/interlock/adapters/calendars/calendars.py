"""The calendars in ``calendars/``: YAML files, and iCalendar files beside them or at URLs, as one to be asked.

A calendar that cannot be read is a fault, which closes everything; of an iCalendar file that an entry
names, it closes what that entry is about.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from interlock.adapters.catalogue.names import Known, unknown_name
from interlock.adapters.catalogue.yaml_files import (
    YamlFile,
    names_in,
    read_yaml,
    refuse_other_ending,
    refused,
    stamp_of,
)
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.calendars.entries import Entry, Fault, Source
from interlock.domain.calendars.entry_times import EntryTimes
from interlock.domain.catalogue.calendar_file import CalendarEntry, CalendarFile, Feed, zone_of
from interlock.domain.catalogue.problem import Place, Problem
from interlock.domain.errors import CatalogueError

from .holidays import public_holidays, unknown_holidays

if TYPE_CHECKING:
    from .ical.apart import FileTimes

log = logging.getLogger(__name__)
CopyOf = Callable[[Feed], Path | None]
"""Gives the copy of what is at a URL, or raises a CatalogueError; none: it is to be left out."""
_KEPT = 2
PAUSE_SECONDS = 600.0
"""So long a file that could not be worked out within its limits is not tried again."""


def load_calendars(folder: Path, known: Known, copy_of: CopyOf | None = None) -> Calendars:
    """Read the calendars of a catalogue; what was read and has not changed is not read again.

    This is called before every wave and between two hosts. So when no file has changed, it is one look at the folder.

    :param copy_of: gives the calendars that are at URLs; none: they are left out, which is for checking files only.
    """
    looked = _look(folder / "calendars")
    copies = tuple(_copies(path, copy_of) for path in _naming_ical(folder, looked))
    return _loaded(folder, looked, known, copies, _unanswered.round)


class _Unanswered:
    """Counts the rounds in which files that could not be worked out within their limits are tried again."""

    def __init__(self) -> None:
        self._first: float | None = None

    def note(self) -> None:
        """Have what failed now tried again later."""
        self._first = self._first or time.monotonic()

    @property
    def round(self) -> int:
        """The number of the round; it is part of the key of what is kept."""
        return 0 if self._first is None else int((time.monotonic() - self._first) // PAUSE_SECONDS)


_unanswered = _Unanswered()


Look = tuple[tuple[str, tuple[int, ...]], ...]
"""The files of a folder by name, each with what changes when it does; nothing: it cannot be read."""


def _look(folder: Path) -> Look:
    """Look at the files of calendars, also those with the wrong ending."""
    where = str(folder)  # a Path for each would take longer than the look
    return tuple((name, _stamp_of(f"{where}/{name}")) for name in names_in(folder, ".yaml", ".yml", ".ics"))


def _stamp_of(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=_KEPT)
def _loaded(folder: Path, looked: Look, known: Known, copies: tuple[Copies, ...], round_: int) -> Calendars:
    paths = [folder / "calendars" / name for name, _ in looked]
    by_file = {one.file: one for one in copies}
    named = _named_beside(paths)
    sources: list[Source] = []
    faults: list[str] = []
    for path in paths:
        try:
            sources += _sources(path, known, by_file.get(path.name, Copies(path.name)), named, round_)
        except CatalogueError as error:
            faults.append(str(error))
        except Exception as error:  # whatever a file contains, callers get an error that people can read
            log.exception("The calendar %s cannot be read", path.name)
            faults.append(str(refused(_shown(path), [f"cannot be read: {error!r}"], who="its author")))
    return _together(tuple(sources), tuple(faults))


def faults_of(folder: Path, known: Known) -> Iterator[str]:
    """Yield everything that is wrong with the calendars of a catalogue; what is at URLs is not looked at."""
    calendars = load_calendars(folder, known)
    yield from (*calendars.faults, *calendars.notes)


@lru_cache(maxsize=_KEPT)
def _together(sources: tuple[Source, ...], faults: tuple[str, ...]) -> Calendars:
    return Calendars(sources, faults)


def _sources(path: Path, known: Known, copies: Copies, named: Collection[str], round_: int) -> tuple[Source, ...]:
    """Return the sources of one file; of iCalendar files that a YAML file names, none by themselves."""
    if path.suffix == ".ics":
        return () if path.name in named else (_own_ical(path, *_stamp(path), known, round_),)
    refuse_other_ending(path, _shown(path))
    return _of_yaml(path, *_stamp(path), known, copies, round_)


def _shown(path: Path) -> str:
    return f"calendars/{path.name}"


def _stamp(path: Path) -> tuple[int, int]:
    return stamp_of(path, _shown(path))


@lru_cache(maxsize=4096)
def _read(path: Path, *stamp: int) -> tuple[YamlFile, CalendarFile]:
    file = read_yaml(path, shown=_shown(path))
    return file, file.parse(CalendarFile)


def _by_ical(path: Path) -> list[CalendarEntry]:
    """Return the entries of a YAML file that mean an iCalendar file; of a broken file, which is a fault, none."""
    try:
        _, calendar = _read(path, *_stamp(path))
    except CatalogueError:
        return []
    return [entry for entry in calendar.entries if entry.ical is not None]


@lru_cache(maxsize=_KEPT)
def _naming_ical(folder: Path, looked: Look) -> tuple[Path, ...]:
    """Return the YAML files that name iCalendar files."""
    paths = [folder / "calendars" / name for name, _ in looked]
    return tuple(path for path in paths if path.suffix == ".yaml" and _by_ical(path))


def _named_beside(paths: Iterable[Path]) -> set[str]:
    """Return the iCalendar files beside them that YAML files name."""
    each = (entry.ical for path in paths if path.suffix == ".yaml" for entry in _by_ical(path))
    return {feed.file for feed in each if feed and feed.file}


class Copy(NamedTuple):
    """The iCalendar file that an entry of a YAML file means.

    :param path: none: left out.
    :param stamp: what changes when it does.
    :param problem: why it is not to be had.
    """

    entry: str
    path: Path | None
    stamp: tuple[int, ...] = ()
    problem: str = ""


class Copies(NamedTuple):
    """The iCalendar files that the entries of a YAML file mean."""

    file: str
    files: tuple[Copy, ...] = ()


def _copies(path: Path, copy_of: CopyOf | None) -> Copies:
    return Copies(path.name, tuple(_copy_for(path, entry, copy_of) for entry in _by_ical(path)))


def _copy_for(path: Path, entry: CalendarEntry, copy_of: CopyOf | None) -> Copy:
    try:
        copy = _copy(path, entry.ical, copy_of) if entry.ical else None
        return Copy(entry.name, copy, _stamp(copy) if copy else ())
    except CatalogueError as error:
        return Copy(entry.name, None, problem=str(error))


def _copy(path: Path, feed: Feed, copy_of: CopyOf | None) -> Path | None:
    if feed.file:
        return path.parent / feed.file
    return copy_of(feed) if copy_of else None


@lru_cache(maxsize=4096)
def _of_yaml(path: Path, mtime: int, size: int, known: Known, copies: Copies, round_: int) -> tuple[Source, ...]:
    file, calendar = _read(path, mtime, size)
    if problems := [*_unknown_names(calendar, known)]:
        raise file.error(problems)
    zone = zone_of(calendar.time_zone)
    by_name = {one.entry: (one.path, one.problem) for one in copies.files}
    sources: list[Source] = []
    for entry in calendar.entries:
        if entry.ical is None:
            sources.append(EntryTimes(entry, _entry(entry, file.shown), zone, public_holidays))
        else:
            sources.append(_of_named(*by_name[entry.name], known, entry, calendar, file.shown))
    return tuple(sources)


def _entry(written: CalendarEntry, shown: str) -> Entry:
    if written.kind is None:
        raise ValueError(f"{written.name} of {shown} has no kind")
    return Entry(
        calendar=shown,
        key=written.name,
        title=written.title,
        kind=written.kind,
        effect=written.acts,
        scope=written.scope,
        during_rollout=written.during_rollout,
        override_by=written.override_by,
    )


def _unknown_names(calendar: CalendarFile, known: Known) -> Iterator[Problem]:
    """Find unknown names: a freeze of a misspelled service would have no effect."""
    for index, entry in enumerate(calendar.entries):
        at: Place = ("entries", index)
        scope = entry.scope
        for place, names, those, what in (
            ((*at, "scope", "services"), scope.services, known.services, "service"),
            ((*at, "scope", "business_units"), scope.business_units, known.business_units, "unit"),
            ((*at, "scope", "environments"), scope.environments, known.environments, "environment"),
            ((*at, "override_by"), entry.override_by, known.roles, "role of board.yaml"),
        ):
            for number, name in enumerate(names):
                yield from unknown_name((*place, number), name, those, f"an existing {what}")
        yield from unknown_holidays((*at, "holidays"), entry.holidays, datetime.now(UTC).year)


@lru_cache(maxsize=1024)
def _own_ical(path: Path, mtime: int, size: int, known: Known, round_: int) -> Source:
    return _of_ical(path, known, None, None, _shown(path))


def _of_named(
    path: Path | None, problem: str, known: Known, entry: CalendarEntry, calendar: CalendarFile, shown: str
) -> FileTimes:
    """Return the events of a file that an entry names; if it cannot be read, why.

    That closes what the entry is about; of one that is only shown, it closes nothing.

    :param problem: why the file is not to be had.
    :raises CatalogueError: it cannot be read, and only its events could say what they are about.
    """
    from .ical.apart import FileTimes  # not at the top: for catalogues that have some

    try:
        if path is not None:
            return _of_ical(path, known, entry, calendar, shown)
    except CatalogueError as error:
        problem = str(error)
    if entry.kind is None and problem:
        raise CatalogueError(problem)
    if entry.acts == "none" or not problem:
        return FileTimes(notes=[problem] if problem else ())
    return FileTimes(faults=[Fault(problem, entry.scope)])


def _of_ical(
    path: Path, known: Known, entry: CalendarEntry | None, calendar: CalendarFile | None, shown: str
) -> FileTimes:
    from .ical.apart import Unanswered, read_apart
    from .ical.messages import Named  # not at the top: for catalogues that have some

    named = None
    if entry is not None and calendar is not None:
        named = Named(entry, shown, zone_of(calendar.time_zone))
    places: dict[str, Collection[str] | None] = {
        "service": known.services,
        "business-unit": known.business_units,
        "environment": known.environments,
    }
    try:
        return read_apart(path, named, places, shown=_shown(path) if entry is None or not _url(entry) else _url(entry))
    except Unanswered:
        _unanswered.note()
        raise


def _url(entry: CalendarEntry) -> str:
    return (entry.ical.url or "") if entry.ical else ""
