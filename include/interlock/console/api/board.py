"""The board: services down, environments across, with the reader's own rights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Query, Request, Response
from pydantic import Field

from interlock.adapters.calendars.copies import CopiesThere, copies_folder, shared_copies
from interlock.adapters.overview.plans import KnownPlans, Plans
from interlock.adapters.overview.records import Recorded, Records
from interlock.console.control.lookups import configured_store, unpaused
from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION, Service
from interlock.domain.dag_names import dag_of_release, dag_of_train, dags_of_service
from interlock.domain.errors import ReleaseError
from interlock.domain.overview.board import Circumstances, Flight, Row, State, row_of, states_of
from interlock.locations import catalogue_folder

from .flights import flights_under_way
from .questions import readable_dags

MAX_LIMIT = 100
"""Airflow's own limit of a page."""
MAX_CHOICES = 50
"""So many values of one filter at most."""


class BoardCollection(Model):
    """A page of the board."""

    services: tuple[Row, ...] = Field(description="By name")
    total_entries: int = Field(description="Number of services that the filters leave, on all pages")
    environments: tuple[str, ...] = Field(description="All environments of these services, on the way to production")
    business_units: tuple[str, ...] = Field(description="What can be filtered by")
    owners: tuple[str, ...] = Field(description="What can be filtered by")
    at: datetime = Field(description="The time of this answer, by the clock of the ledger's database")
    faults: tuple[str, ...] = Field(description="Files of the catalogue that are left out because they are wrong")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a reader wants to see; an empty filter leaves everything."""

    name: str
    units: frozenset[str]
    tiers: frozenset[int]
    owners: frozenset[str]
    states: frozenset[State]

    def keep(self, service: Service) -> bool:
        """Tell whether a service is left by all filters but that of its state."""
        return (
            self.name.casefold() in f"{service.name}\n{service.title}".casefold()
            and (not self.units or (service.business_unit or "") in self.units)
            and (not self.tiers or service.tier in self.tiers)
            and (not self.owners or service.owner in self.owners)
        )


class Overview:
    """What the board is made of, for all requests of a process.

    :param open_ledger: opens the ledger.
    :param flights: the releases under way, by Dag.
    :param runs: which of some Dags make runs.
    :param plans: what the catalogue says; none: the one that this process is set to, once it is asked for.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Any],
        *,
        flights: Callable[[], Mapping[str, list[Flight]]] = flights_under_way,
        runs: Callable[[list[str]], frozenset[str]] = unpaused,
        plans: KnownPlans | None = None,
    ) -> None:
        self._open_ledger, self.flights, self._runs = open_ledger, flights, runs
        self._records, self._plans = Records(), plans
        self._is_warm = False

    def page(self, readable: frozenset[str], wanted: Filters, limit: int, offset: int) -> BoardCollection:
        """Return a page of the board.

        :param readable: the Dags that the reader may read; services whose release Dag is not among them are left out.
        :raises ReleaseError: the ledger cannot be read, or the policy or the boards are wrong.
        """
        plans, idle = self.plans(datetime.now(UTC))
        flights = self.flights()
        recorded = self.recorded(flights)
        known = Circumstances(
            now=recorded.now,
            running=recorded.running,
            marks=recorded.marks,
            stops=recorded.stops,
            overrides=recorded.overrides,
            closings=plans.closings,
            ways=plans.ways,
            departures=plans.next_departures(recorded.now, idle),
            flights={dag: each for dag, each in flights.items() if dag in readable},
        )
        seen = [one for _, one in sorted(plans.catalogue.services.items()) if dag_of_release(one.name) in readable]
        left = [one for one in seen if wanted.keep(one)]
        if wanted.states:
            left = [
                one for one in left if not wanted.states.isdisjoint(states_of(one, dags_of_service(one.name), known))
            ]
        return BoardCollection(
            services=tuple(_rows(left[offset : offset + limit], known)),
            total_entries=len(left),
            environments=_environments({plans.ways[one.name] for one in seen}),
            business_units=tuple(sorted({one.business_unit for one in seen if one.business_unit})),
            owners=tuple(sorted({one.owner for one in seen})),
            at=recorded.now,
            faults=plans.faults,
        )

    def warm(self) -> None:
        """Read catalogue and ledger, unless this process has: with 1,000 services, that takes seconds."""
        if not self._is_warm:
            self._is_warm = True
            with suppress(ReleaseError):  # the page that is asked for says it
                self.known.at(datetime.now(UTC))
                self.recorded(self.flights())

    @property
    def known(self) -> KnownPlans:
        """What the catalogue says, for all requests of this process."""
        if self._plans is None:
            self._plans = KnownPlans(catalogue_folder(), _copies)
        return self._plans

    def recorded(self, flights: Mapping[str, list[Flight]]) -> Recorded:
        """Return what the ledger says.

        :param flights: the releases under way, by Dag.
        """
        under_way = [f"{one.dag_id}/{one.run_id}" for each in flights.values() for one in each]
        return self._records.read(self._open_ledger(), under_way)

    def plans(self, now: datetime) -> tuple[Plans, frozenset[str]]:
        """Return what the catalogue says, and the trains whose Dag makes no runs."""
        plans = self.known.at(now)
        making = self._runs([dag_of_train(name) for name in plans.trains])
        return plans, frozenset(name for name in plans.trains if dag_of_train(name) not in making)


def _copies(now: datetime) -> CopiesThere:
    return CopiesThere(copies_folder(), now=now, shared=shared_copies(configured_store))


def _rows(services: Iterable[Service], known: Circumstances) -> Iterator[Row]:
    return (row_of(one, dags_of_service(one.name), known) for one in services)


def _environments(ways: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the columns: each environment after those before it, production last."""
    place: dict[str, int] = {}
    for way in ways:
        for number, name in enumerate(way):
            place[name] = max(number, place.get(name, 0))
    return tuple(sorted(place, key=lambda name: (name == PRODUCTION, place[name], name)))


Texts = Annotated[list[Annotated[str, Query(max_length=200)]], Query(max_length=MAX_CHOICES)]


def board(
    request: Request,
    user: GetUserDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    name: Annotated[str, Query(max_length=200, description="Part of the name or the title")] = "",
    business_unit: Texts = [],  # noqa: B006 (FastAPI copies it)
    tier: Annotated[list[Annotated[int, Query(ge=1, le=4)]], Query(max_length=4)] = [],  # noqa: B006
    owner: Texts = [],  # noqa: B006
    state: Annotated[list[State], Query(max_length=MAX_CHOICES)] = [],  # noqa: B006
) -> Response:
    """Return which version each environment of each service runs, what is under way, and what holds it.

    A service is in it if the reader may read its release Dag. Several values of one filter are alternatives; several
    filters all have to hold.
    """
    overview: Overview = request.app.state.overview
    wanted = Filters(name, frozenset(business_unit), frozenset(tier), frozenset(owner), frozenset(state))
    readable = readable_dags(user)
    found = overview.page(readable, wanted, limit, offset)
    return Response(found.model_dump_json(), media_type="application/json")  # FastAPI would check each row once more
