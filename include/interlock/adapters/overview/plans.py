"""The catalogue, its calendars and the next departures, kept in memory until a file of the catalogue changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock

from interlock.adapters.calendars.conflicts import upcoming
from interlock.adapters.calendars.copies import CopiesThere
from interlock.adapters.catalogue.catalogue import calendars_of, load_catalogue
from interlock.adapters.catalogue.kept import State, state_of
from interlock.adapters.catalogue.trains import load_trains
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.catalogue import Catalogue
from interlock.domain.catalogue.train_file import Train
from interlock.domain.overview.board import Closings, NextDeparture, environments_of
from interlock.domain.trains.cadence import Departure

AHEAD = timedelta(days=60)
"""So far ahead departures are looked for."""
KEPT = timedelta(seconds=60)
"""After so long, calendars at URLs are looked at again, although no file of the catalogue has changed."""

CopiesAt = Callable[[datetime], CopiesThere]
"""Gives the copies of calendars at URLs, at an instant."""


@dataclass(frozen=True, slots=True)
class Plans:
    """What the catalogue says, at one moment.

    :ivar closings: what the calendars close.
    :ivar notes: which calendars may be out of date.
    :ivar ways: the environments of each service, on the way to production.
    :ivar departures: the departures of each train in the next 60 days.
    :ivar faults: what is left out because its file is wrong, or closes everything.
    """

    catalogue: Catalogue
    calendars: Calendars
    closings: Closings
    ways: Mapping[str, tuple[str, ...]]
    trains: Mapping[str, Train]
    departures: Mapping[str, tuple[Departure, ...]]
    faults: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def next_departures(self, now: datetime, idle: frozenset[str]) -> dict[str, NextDeparture]:
        """Return the next departure of each service.

        :param idle: trains that do not depart by their cadence.
        """
        found: dict[str, NextDeparture] = {}
        for name, train in self.trains.items():
            first = next((one for one in self.departures.get(name, ()) if one.at > now), None)
            if first is None or name in idle or not train.on_schedule:
                continue
            shown = NextDeparture(train=name, title=train.title, at=first.at, moved=first.is_moved)
            for service in train.services:
                if service not in found or shown.at < found[service].at:
                    found[service] = shown
        return found


class KnownPlans:
    """Reads the catalogue for all requests of a process.

    :param folder: the catalogue's.
    """

    def __init__(self, folder: Path, copies: CopiesAt) -> None:
        self._folder, self._copies = folder, copies
        self._lock = Lock()
        self._stamp: State | None = None
        self._read_at: datetime | None = None
        self._plans: Plans | None = None
        self._calendars: Calendars | None = None
        self._closings: Closings | None = None

    def at(self, now: datetime) -> Plans:
        """Return the plans; CatalogueError if ``policy.yaml`` or ``board.yaml`` is wrong."""
        with self._lock:
            stamp = state_of(self._folder)
            is_old = self._read_at is None or not timedelta() <= now - self._read_at < KEPT
            if self._plans is None or stamp != self._stamp:
                self._plans = self._read(now, load_catalogue(self._folder))
            elif is_old:
                self._plans = self._read(now, self._plans.catalogue)
            else:
                return self._plans
            self._stamp, self._read_at = stamp, now
            return self._plans

    def _read(self, now: datetime, catalogue: Catalogue) -> Plans:
        copies = self._copies(now)
        calendars = calendars_of(self._folder, catalogue.policy, copies)
        if self._closings is None or calendars is not self._calendars:
            self._calendars, self._closings = calendars, Closings(calendars)
        table = load_trains(self._folder, catalogue.policy, catalogue.board)
        departures = upcoming(catalogue, calendars, table.trains, now, now + AHEAD)
        return Plans(
            catalogue=catalogue,
            calendars=calendars,
            closings=self._closings,
            ways={name: environments_of(one) for name, one in catalogue.services.items()},
            trains=table.trains,
            departures={name: tuple(each) for name, each in departures.items()},
            faults=(*calendars.faults, *table.broken.values(), *catalogue.broken.values()),
            notes=(*copies.notes, *calendars.notes),
        )
