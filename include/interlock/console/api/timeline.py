"""The timeline: releases, trains, freezes, windows and bookings on one axis, by service, owner or environment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, status
from pydantic import AwareDatetime, Field

from interlock.adapters.calendars.schedule import A_WHILE, Item, of_service
from interlock.adapters.calendars.schedule_feed import path_of
from interlock.console.pages.schedule import look
from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION, Service
from interlock.domain.catalogue.calendar_file import Scope
from interlock.domain.dag_names import dag_of_release
from interlock.domain.overview.board import Flight
from interlock.domain.paths import release_page

from .board import MAX_LIMIT, Overview, Texts
from .flights import planned_starts, service_of_flight
from .questions import readable_dags

By = Literal["service", "owner", "environment"]
LONGEST = timedelta(days=200)
"""The longest time that is shown at once: a quarter, and as much around it."""
MOST_BARS = 200
"""So many bars of one lane are shown, the first ones first."""


class Bar(Model):
    """Something that goes on at some time."""

    id: str
    kind: str = Field(description="Such as release, train, departure, freeze, window, booking or conflict")
    title: str
    start: AwareDatetime
    end: AwareDatetime
    planned: AwareDatetime | None = Field(None, description="When it was to start; null: then, or it is not known")
    about: str = ""
    state: str = Field("", description="How it ended, what it does now, or whether it closes (deny) or opens (allow)")
    path: str = Field("", description="Its page, below Airflow's address; empty: it has none, or not for the reader")


class Lane(Model):
    """What goes on at one service, at the services of one owner, or in one environment."""

    key: str
    title: str
    bars: tuple[Bar, ...] = Field(description="By their start; the first 200")
    more: int = Field(0, description="Number of bars that are left out")


class Timeline(Model):
    """A part of the timeline."""

    lanes: tuple[Lane, ...] = Field(description="Those at which something goes on, by title")
    total_entries: int = Field(description="Number of lanes that the filters leave, on all pages")
    everywhere: tuple[Bar, ...] = Field(description="What concerns every lane, such as a freeze of everything")
    conflicts: tuple[Bar, ...] = Field(description="Of the next 60 days, whatever time is shown")
    owners: tuple[str, ...] = Field(description="What can be filtered by")
    since: datetime
    until: datetime
    at: datetime = Field(description="The time of this answer")
    faults: tuple[str, ...] = Field(description="What of the catalogue is wrong: it is left out, or closes everything")
    notes: tuple[str, ...] = Field(description="Which calendars may be out of date")


def timeline(
    request: Request,
    user: GetUserDep,
    since: AwareDatetime,
    until: AwareDatetime,
    by: By = "service",
    name: Annotated[str, Query(max_length=200, description="Part of the name or the title of a service")] = "",
    owner: Texts = [],  # noqa: B006 (FastAPI copies it)
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Timeline:
    """Return what was, is and will be, on one axis: planned against actual in the past, and what is planned.

    It has the services whose release Dag the reader may read. Calendars and departures are for everybody.
    """
    if not timedelta() < until - since <= LONGEST:
        raise HTTPException(
            status.HTTP_422_UNPROCESSABLE_CONTENT, f"until must be after since, and at most {LONGEST.days} days after"
        )
    overview: Overview = request.app.state.overview
    readable, now = readable_dags(user), datetime.now(UTC)
    found = look(request, user, since, until, clashing=True)
    seen = [one for one in overview.known.at(now).catalogue.services.values() if dag_of_release(one.name) in readable]
    services = [
        one
        for one in seen
        if name.casefold() in f"{one.name}\n{one.title}".casefold() and (not owner or one.owner in owner)
    ]
    flights = [one for dag, each in overview.flights().items() if dag in readable for one in each]
    with request.app.state.open_ledger() as ledger:
        ended = [(one.dag_id, one.run_id) for one in found.items if one.kind == "release" and one.dag_id]
        starts = planned_starts(ledger, [*ended, *((one.dag_id, one.run_id) for one in flights)])
    items = [_planned(one, starts) for one in found.items]
    items += [one for one in _under_way(flights, starts, now) if one.start < until and one.end > since]
    lanes = [lane for lane in _lanes(items, services, by) if lane[2]]
    return Timeline(
        lanes=tuple(_lane(*lane) for lane in lanes[offset : offset + limit]),
        total_entries=len(lanes),
        everywhere=tuple(_bar(one) for one in items if _is_everywhere(one.scope, by))[:MOST_BARS],
        conflicts=tuple(map(_bar, found.conflicts)),
        owners=tuple(sorted({one.owner for one in seen})),
        since=since,
        until=until,
        at=now,
        faults=tuple(found.faults),
        notes=tuple(found.notes),
    )


def _planned(one: Item, starts: Mapping[tuple[str, str], datetime]) -> Item:
    """Return a release that has ended with the start of its plan."""
    start = starts.get((one.dag_id, one.run_id)) if one.kind == "release" else None
    return one.model_copy(update={"planned": start}) if start else one


def _under_way(flights: Iterable[Flight], starts: Mapping[tuple[str, str], datetime], now: datetime) -> Iterator[Item]:
    """Yield each release under way; one that is to start later, also at its start."""
    for one in flights:
        service, begins = service_of_flight(one), starts.get((one.dag_id, one.run_id))
        what = f"{'Rollback of ' if one.rollback else ''}{service} {one.version}".rstrip()
        by = f"Requested by {one.requested_by}" if one.requested_by else "Requested by a program"
        about = {
            "dag_id": one.dag_id,
            "run_id": one.run_id,
            "scope": of_service(service),
        }
        if one.since is not None:
            stage = f", in stage {one.stage_number}: {one.stage_title}" if one.stage_title else ""
            said = f"{by}{stage}"
            yield Item(
                id=f"{one.dag_id}/{one.run_id}",
                kind="release",
                title=f"{what}: under way",
                start=one.since,
                end=max(now, one.since + A_WHILE),
                about=said,
                state=one.state,
                **about,
            )
        if begins is not None and begins > now:
            yield Item(
                id=f"{one.dag_id}/{one.run_id}/start",
                kind="release",
                title=f"{what}: planned start",
                start=begins,
                end=begins + A_WHILE,
                about=by,
                state="planned",
                **about,
            )


class _ByName:
    """What goes on, by the services and the business units that it names: to be looked up for 1,000 lanes."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._named: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in items:
            for kind, names in (("service", item.scope.services), ("unit", item.scope.business_units)):
                for name in names:
                    self._named[kind, name].append(item)

    def of(self, services: Iterable[Service]) -> list[Item]:
        """Return what names one of these services, by itself or by its business unit."""
        keys = (key for one in services for key in (("service", one.name), ("unit", one.business_unit or "")))
        return [*{id(item): item for key in keys for item in self._named.get(key, ())}.values()]


def _lanes(items: Sequence[Item], services: Sequence[Service], by: By) -> Iterator[tuple[str, str, list[Item]]]:
    """Yield key and title of each lane, by title, and what goes on there."""
    known = _ByName(items)
    if by == "environment":
        names = {each for one in services for each in (*one.environments, *one.path)}
        held = [*(one for one in items if _is_everywhere(one.scope, "service")), *known.of(services)]
        for key in sorted(names, key=lambda one: (one == PRODUCTION, one)):
            yield key, key, [one for one in held if key in one.scope.environments]
    elif by == "owner":
        owned = defaultdict[str, list[Service]](list)
        for service in services:
            owned[service.owner].append(service)
        for key in sorted(owned):
            yield key, key, known.of(owned[key])
    else:
        for service in sorted(services, key=lambda one: (one.title.casefold(), one.name)):
            yield service.name, service.title, known.of([service])


def _lane(key: str, title: str, items: Iterable[Item]) -> Lane:
    found = sorted(items, key=lambda one: (one.start, one.end, one.id))
    return Lane(key=key, title=title, bars=tuple(map(_bar, found[:MOST_BARS])), more=max(0, len(found) - MOST_BARS))


def _is_everywhere(scope: Scope, by: By) -> bool:
    return not scope.environments if by == "environment" else not scope.services and not scope.business_units


def _bar(one: Item) -> Bar:
    page = release_page(one.dag_id, one.run_id) if one.kind == "release" and one.dag_id else path_of(one)
    return Bar(**one.model_dump(include={*Bar.model_fields} - {"path"}), path=page)
