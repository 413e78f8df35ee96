"""The emergency stops and freezes in force, which the pages and the forms of releases show."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import Query, Request
from pydantic import Field

from interlock.adapters.calendars.copies import CopiesThere, copies_folder, shared_copies
from interlock.adapters.catalogue.catalogue import calendars_of
from interlock.adapters.catalogue.kept import kept_rules, kept_service, kept_train
from interlock.console.control.lookups import configured_store
from interlock.console.control.rules import service_of
from interlock.domain.calendars.entries import Entry, Occurrence
from interlock.domain.calendars.overrides import overridden
from interlock.domain.calendars.stops import EVERYTHING, STOPS, all_in_force, scopes_about, stops_in_force
from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION, Service
from interlock.domain.dag_names import ROLLBACKS, TRAINS
from interlock.domain.ledger.chain import INSTALLATION, Chains
from interlock.domain.ledger.chain import Entry as LedgerEntry
from interlock.domain.ledger.events import open_incidents
from interlock.domain.ledger.kinds import FREEZE_OVERRIDDEN, INCIDENT_SEEN
from interlock.locations import catalogue_folder


class InForce(Model):
    """What holds releases back now, in words."""

    stops: tuple[str, ...]
    freezes: tuple[str, ...]
    incidents: tuple[str, ...] = Field(description="Open incidents of other systems; they hold nothing back")


def in_force(request: Request, dag_id: Annotated[str, Query(max_length=250)] = "") -> InForce:
    """Return the stops, freezes and incidents in force; with a Dag, those for its service or its passengers."""
    with request.app.state.open_ledger() as ledger:
        return look(catalogue_folder(), ledger, dag_id)


def look(folder: Path, ledger: Chains, dag_id: str = "") -> InForce:
    """Return what is in force; without a Dag, for any service.

    :param folder: the catalogue's.
    """
    now = datetime.now(UTC)
    declared = ledger.entries(INSTALLATION, kind=STOPS)
    incidents = ledger.entries(INSTALLATION, kind=INCIDENT_SEEN)
    known = calendars_of(
        folder, kept_rules(folder)[0], CopiesThere(copies_folder(), now=now, shared=shared_copies(configured_store))
    )
    freezes = [one for one in known.occurrences(now.year) if one.entry.effect == "deny" and one.start <= now < one.end]
    if not dag_id:
        of_production = [one for one in freezes if PRODUCTION in (one.entry.scope.environments or (PRODUCTION,))]
        every = tuple(map(str, all_in_force(declared, now)))
        frozen = tuple(map(_in_words, of_production))
        return InForce(stops=every, freezes=frozen, incidents=open_incidents(incidents, (), now))
    services = _services_of(folder, dag_id)
    stops = (str(stop) for service in services for stop in stops_in_force(declared, service, now))
    overrides = ledger.entries(INSTALLATION, kind=FREEZE_OVERRIDDEN)
    back = dag_id.startswith(ROLLBACKS)
    ways = [(each, (PRODUCTION,) if back else (*each.path, PRODUCTION)) for each in services]
    held = tuple(
        _in_words(one, closed)
        for one in freezes
        if (
            closed := [*dict.fromkeys(at for each, way in ways for at in _closed(one.entry, each, way, overrides, now))]
        )
    )
    scopes = frozenset({EVERYTHING}).union(*map(scopes_about, services))
    shown = open_incidents(incidents, scopes, now)
    return InForce(stops=tuple(dict.fromkeys(stops)), freezes=held, incidents=shown)


def _closed(
    freeze: Entry, service: Service, way: Sequence[str], overrides: Sequence[LedgerEntry], now: datetime
) -> Iterator[str]:
    """Yield the environments that a freeze closes to a service, of those on the way to production."""
    for name in way:
        about_it = freeze.scope.holds(service.name, service.business_unit, name)
        if about_it and freeze.place not in overridden(overrides, service.name, name, now):
            yield name


def _in_words(one: Occurrence, closed: Collection[str] = (PRODUCTION,)) -> str:
    entry, whom = one.entry, ", ".join((*one.entry.scope.services, *one.entry.scope.business_units))
    where = "" if PRODUCTION in closed else f" in {' and '.join(closed)}"
    return f"{one.title} ({entry.place}){f' for {whom}' if whom else ''}{where}, until {one.end:%Y-%m-%d %H:%M} UTC."


def _services_of(folder: Path, dag_id: str) -> list[Service]:
    if not dag_id.startswith(TRAINS):
        name = service_of(dag_id)
        return [kept_service(folder, name).services[name]]
    catalogue, train = kept_train(folder, dag_id.removeprefix(TRAINS).replace("_", "-"))
    return [catalogue.services[service] for service in train.services if service in catalogue.services]
