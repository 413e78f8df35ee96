"""The rows of the page Board: a service with its environments, what it is about to do, and what holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from interlock.domain.calendars.calendar import Answer, Calendars, may_change
from interlock.domain.calendars.overrides import overridden
from interlock.domain.calendars.stops import EmergencyStop, scopes_about
from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION, Service
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    VERSION_MARKED_BAD,
    VERSION_MARKED_GOOD,
    VERSION_PINNED,
    VERSION_UNPINNED,
)
from interlock.domain.outcome.outcome import STAGE_TITLES, STAGES

from .running import Difference, Running

State = Literal["in_flight", "waiting", "drift", "uncertain", "marked", "pinned", "closed", "never_released"]
"""What a service can be filtered by; it may be in several."""
FlightState = Literal["queued", "asks", "waits", "retries", "runs", "paused"]
"""What a release under way does: queued behind another run, asks people, waits, tries a task again, or runs."""
_ASKED, _PARKED = ("awaiting_input",), ("deferred", "up_for_reschedule")


class Flight(Model):
    """A release or a rollback under way."""

    dag_id: str
    run_id: str
    version: str = Field(description="As it was requested; empty: it is worked out from the commits")
    requested_by: str
    since: datetime | None
    rollback: bool
    state: FlightState
    stage: str = Field("", description="The key of the stage that it is in, such as rollout; empty: between two tasks")
    stage_title: str = ""
    stage_number: int = Field(0, description="From 1 to 10; the closure is 11; 0: between two tasks")


class NextDeparture(Model):
    """The next departure of a train that the service may be on."""

    train: str
    title: str
    at: datetime
    moved: bool = Field(description="A calendar moved it from the time of its cadence")


class Closed(Model):
    """What keeps an environment from being changed now."""

    what: str = Field(description="Title of the freeze, or the emergency stop in words")
    place: str = Field(description="File and entry of the calendar; empty: an emergency stop, or a calendar's fault")
    until: datetime | None = None


class Mark(Model):
    """A version that is marked bad, or to which the environment is pinned."""

    version: str
    by: str
    reason: str


class Cell(Model):
    """One environment of a service."""

    environment: str
    version: str | None = Field(None, description="null: no release is known to have been deployed")
    since: datetime | None = None
    dag_id: str = Field("", description="Dag of the release or rollback that deployed it")
    run_id: str = ""
    certain: bool = Field(True, description="false: a release failed there since, or some of its hosts failed")
    drift: tuple[Difference, ...] = Field((), description="Hosts that do not run what was released")
    marked_bad: tuple[Mark, ...] = ()
    pinned: Mark | None = None
    closed: Closed | None = None


class Row(Model):
    """A service."""

    service: str
    title: str
    owner: str
    business_unit: str | None
    tier: int = Field(description="From 1, business critical, to 4")
    release_dag_id: str
    rollback_dag_id: str
    states: tuple[State, ...]
    cells: tuple[Cell, ...] = Field(description="One for each environment, on the way to production")
    in_flight: tuple[Flight, ...] = ()
    next_departure: NextDeparture | None = None


class Seen(Model):
    """A task of a run that has begun and not ended, by Airflow."""

    task_id: str
    state: str


def flight_of(
    *,
    dag_id: str,
    run_id: str,
    state: str,
    version: str,
    requested_by: str,
    since: datetime | None,
    paused: bool,
    tasks: Sequence[Seen],
    rollback: bool,
) -> Flight:
    """Return a release under way, with the furthest stage in which something of it goes on."""
    stages = [name for one in tasks if (name := one.task_id.partition(".")[0]) in STAGE_TITLES]
    stage = max(stages, key=STAGES.index, default="")
    return Flight(
        dag_id=dag_id,
        run_id=run_id,
        version=version,
        requested_by=requested_by,
        since=since,
        rollback=rollback,
        state=_state_of(state, {one.state for one in tasks}, paused=paused),
        stage=stage,
        stage_title=STAGE_TITLES.get(stage, ""),
        stage_number=STAGES.index(stage) + 1 if stage else 0,
    )


def _state_of(run: str, tasks: set[str], *, paused: bool) -> FlightState:
    if paused:
        return "paused"
    if run == "queued":
        return "queued"
    if tasks & {"running", "restarting"}:
        return "runs"
    if tasks & {*_ASKED}:
        return "asks"
    if "up_for_retry" in tasks:
        return "retries"
    return "waits" if tasks & {*_PARKED} else "runs"


class Marks:
    """Marks and pins in force, by service and environment."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._bad: dict[tuple[str, str], dict[str, Mark]] = {}
        self._pins: dict[tuple[str, str], Mark] = {}
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        told = {
            name: str(entry.payload.get(name, "")) for name in ("service", "environment", "version", "by", "reason")
        }
        place = (told["service"], told["environment"])
        mark = Mark(version=told["version"], by=told["by"], reason=told["reason"])
        if entry.kind == VERSION_MARKED_BAD:
            self._bad.setdefault(place, {})[mark.version] = mark
        elif entry.kind == VERSION_MARKED_GOOD:
            self._bad.get(place, {}).pop(mark.version, None)
        elif entry.kind == VERSION_PINNED:
            self._pins[place] = mark
        elif entry.kind == VERSION_UNPINNED:
            self._pins.pop(place, None)

    def bad(self, service: str, environment: str) -> tuple[Mark, ...]:
        """Return the versions that are marked bad."""
        return tuple(self._bad.get((service, environment), {}).values())

    def pin(self, service: str, environment: str) -> Mark | None:
        """Return the version to which an environment is pinned."""
        return self._pins.get((service, environment))


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is the same for all rows.

    :ivar overrides: the entries that override freezes, by service and environment.
    :ivar ways: the environments of each service, on the way to production.
    :ivar departures: by service.
    :ivar flights: by Dag.
    """

    now: datetime
    running: Running
    marks: Marks
    stops: tuple[EmergencyStop, ...]
    overrides: Mapping[tuple[str, str], Sequence[Entry]]
    closings: Closings
    ways: Mapping[str, tuple[str, ...]]
    departures: Mapping[str, NextDeparture]
    flights: Mapping[str, Sequence[Flight]]


def row_of(service: Service, dags: tuple[str, str], known: Circumstances) -> Row:
    """Return the row of a service.

    :param dags: of its releases and of its rollbacks.
    """
    return Row(
        service=service.name,
        title=service.title,
        owner=service.owner,
        business_unit=service.business_unit,
        tier=service.tier,
        release_dag_id=dags[0],
        rollback_dag_id=dags[1],
        states=states_of(service, dags, known),
        cells=tuple(_cell(service, name, known) for name in known.ways[service.name]),
        in_flight=_flights(dags, known),
        next_departure=known.departures.get(service.name),
    )


def states_of(service: Service, dags: tuple[str, str], known: Circumstances) -> tuple[State, ...]:
    """Return what a service can be filtered by; without its row, for all services are asked for it."""
    flights, places = _flights(dags, known), known.ways[service.name]
    runs = {name: known.running.deployed(service.name, name) for name in places}
    found: dict[State, bool] = {
        "in_flight": bool(flights),
        "waiting": any(one.state in ("asks", "waits", "queued", "paused") for one in flights),
        "drift": any(known.running.differences(service.name, name) for name in places),
        "uncertain": any(not one.certain for one in runs.values() if one is not None),
        "marked": any(known.marks.bad(service.name, name) for name in places),
        "pinned": any(known.marks.pin(service.name, name) for name in places),
        "closed": PRODUCTION in places and _closed(service, PRODUCTION, known) is not None,
        "never_released": runs.get(PRODUCTION) is None,
    }
    return tuple(name for name, holds in found.items() if holds)


def environments_of(service: Service) -> tuple[str, ...]:
    """Return the environments of a service, on the way to production."""
    way = (FIRST, *service.path, PRODUCTION)
    return tuple(dict.fromkeys(name for name in way if name in service.environments))


def _flights(dags: tuple[str, str], known: Circumstances) -> tuple[Flight, ...]:
    return tuple(one for dag in dags for one in known.flights.get(dag, ()))


def _cell(service: Service, environment: str, known: Circumstances) -> Cell:
    deployed = known.running.deployed(service.name, environment)
    found = {} if deployed is None else deployed.model_dump(include={"version", "since", "dag_id", "run_id", "certain"})
    return Cell(
        environment=environment,
        drift=known.running.differences(service.name, environment),
        marked_bad=known.marks.bad(service.name, environment),
        pinned=known.marks.pin(service.name, environment),
        closed=_closed(service, environment, known),
        **found,
    )


def _closed(service: Service, environment: str, known: Circumstances) -> Closed | None:
    if environment == PRODUCTION:
        scopes = scopes_about(service)
        for stop in known.stops:
            if stop.scope in scopes:
                return Closed(what=f"Emergency stop of {stop}", place="", until=stop.until)
    entries = known.overrides.get((service.name, environment), ())
    return known.closings.at(service, environment, known.now, entries)


class Closings:
    """What calendars close; what they said of an environment holds until they say that it opens or closes."""

    def __init__(self, calendars: Calendars) -> None:
        self._calendars = calendars
        self._known: dict[tuple[str, str], tuple[datetime, datetime, Closed | None]] = {}

    def at(self, service: Service, environment: str, now: datetime, overrides: Sequence[Entry]) -> Closed | None:
        """Return what closes an environment; none: it is open.

        :param overrides: entries that override a freeze for it.
        """
        place = (service.name, environment)
        asked = self._known.get(place)
        if asked is not None and not overrides and asked[0] <= now < asked[1]:
            return asked[2]
        over = overridden(overrides, service.name, environment, now)
        answer = may_change(self._calendars, service, environment, now, overridden=over)
        found = None if answer.open else _in_words(answer)
        if not overrides:
            turn = answer.until if answer.open else answer.next
            end = now + AT_MOST if turn is None else min(turn, now + AT_MOST)
            self._known[place] = (now, end, found)
        return found


AT_MOST = timedelta(minutes=10)
"""So long an answer of the calendars is kept at most: a freeze may follow another one, with another title."""


def _in_words(answer: Answer) -> Closed:
    what = answer.title if answer.frozen else f"Outside of the change window {answer.title}"
    return Closed(what=what if answer.by else str(answer), place=answer.place, until=answer.next)
