"""What needs the reader: questions, what they asked for and where it stands, what is stuck, what leaves today."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Request
from pydantic import Field

from interlock.adapters.overview.records import Recorded
from interlock.console.control.break_glass import OpenLedger
from interlock.console.pages.explain import explanation_of
from interlock.domain.canonical import Model
from interlock.domain.change.policy import flows_of
from interlock.domain.dag_names import REVIEW_RELEASE, dag_of_release, dag_of_train
from interlock.domain.errors import ReleaseError
from interlock.domain.forecast.forecast import Forecast, History
from interlock.domain.ledger.chain import Break, release_chain
from interlock.domain.measures.facts import measured
from interlock.domain.outcome.explain import Act, Explanation
from interlock.domain.outcome.review import unreviewed
from interlock.domain.outcome.standing import Refusal
from interlock.domain.overview.board import Flight
from interlock.domain.paths import dag_page, release_page

from .board import Overview
from .flights import planned_starts, service_of_flight
from .forecast import release_forecast
from .measures import MeasuredOverview
from .questions import Question, questions_for, readable_dags

MOST_QUESTIONS = 50
MOST_EXPLAINED = 20
"""So many releases are explained in one answer, for each explanation reads a chain of the ledger."""
TODAY = timedelta(hours=24)
"""What leaves today leaves within so long."""


class Standing(Model):
    """A release or a rollback under way, and why it does not move."""

    flight: Flight
    state: Literal["moves", "waits", "stuck", "ended", "unknown"]
    why: str = Field(description="In a sentence")
    acts: tuple[Act, ...] = Field(description="What lets it go on, by whom, until when")
    earliest: datetime | None = Field(description="When it moves by itself at the earliest; null: not known")
    refusals: tuple[Refusal, ...] = Field(description="What would be refused if a wave began now, or at its start")
    forecast: Forecast | None = Field(None, description="null: the ledger has no request of it")
    path: str = Field(description="Its page, below Airflow's address")


class Leaving(Model):
    """A departure of a train, or the planned start of a release that waits for it."""

    kind: Literal["train", "release"]
    title: str
    at: datetime
    moved: bool = Field(False, description="A calendar moved it from the time of its cadence")
    services: tuple[str, ...] = Field(description="That may be on it, or that it is a release of")
    path: str = Field(description="Its page, below Airflow's address; empty: the reader may not read its Dag")


class OwedReview(Model):
    """A release that must be reviewed before its service can have another one that is no emergency."""

    service: str
    version: str
    change_type: str
    due: datetime
    path: str = Field(description="Its page, below Airflow's address")


class NeedsMe(Model):
    """What needs the reader."""

    questions: tuple[Question, ...] = Field(description="The first 50; what ends first is first")
    total_questions: int
    requested: tuple[Standing, ...] = Field(description="Under way, and triggered by the reader; the first 20")
    stuck: tuple[Standing, ...] = Field(description="Of others: nobody and nothing that it waits for comes by itself")
    leaving: tuple[Leaving, ...] = Field(description="Departures and planned starts within 24 hours")
    reviews: tuple[OwedReview, ...] = Field(
        description="Reviews that are owed, the first one first; for readers who may record reviews"
    )
    at: datetime = Field(description="The time of this answer")


def needs_me(request: Request, user: GetUserDep) -> NeedsMe:
    """Return what the reader is asked, what they asked for and where it stands, what is stuck, and what leaves today.

    It has what the reader may read. Of others' releases, those are looked at that may be stuck: whose Dag is paused,
    which are queued, tried again, or between two tasks.
    """
    overview: Overview = request.app.state.overview
    readable = readable_dags(user)
    asked = questions_for(user, readable)
    under_way = overview.flights()
    flights = [one for dag, each in under_way.items() if dag in readable for one in each]
    own = [one for one in flights if one.requested_by == user.get_name()]
    others = [one for one in flights if one.requested_by != user.get_name() and _may_be_stuck(one)]
    open_ledger: OpenLedger = request.app.state.open_ledger
    now = datetime.now(UTC)
    return NeedsMe(
        questions=tuple(asked[:MOST_QUESTIONS]),
        total_questions=len(asked),
        requested=tuple(_foreseen(request, readable, _explained(own[-MOST_EXPLAINED:], open_ledger), now)),
        stuck=tuple(one for one in _explained(others[:MOST_EXPLAINED], open_ledger) if one.state == "stuck"),
        leaving=tuple(
            sorted(
                (*_departures(overview, readable, now), *_starts(open_ledger, flights, now)),
                key=lambda one: (one.at, one.title),
            )
        ),
        reviews=tuple(_owed(overview, overview.recorded(under_way), readable)) if _may_review(user) else (),
        at=now,
    )


def _may_be_stuck(flight: Flight) -> bool:
    return flight.state in ("paused", "queued", "retries") or not flight.stage


def _explained(flights: Iterable[Flight], open_ledger: OpenLedger) -> Iterator[Standing]:
    for flight in flights:
        try:
            found = explanation_of(flight.dag_id, flight.run_id, open_ledger)
        except HTTPException:  # its run was deleted meanwhile
            continue
        except ReleaseError as error:  # of one release: the others are worth an answer
            yield _standing(flight, "unknown", Explanation(state="waits", why=f"Why is not known: {error}"))
        else:
            yield _standing(flight, found.state, found)


def _foreseen(
    request: Request, readable: frozenset[str], standing: Iterable[Standing], now: datetime
) -> Iterator[Standing]:
    """Yield what stands where with the forecast of each, from one look at the ledger."""
    each = {release_chain(one.flight.dag_id, one.flight.run_id): one for one in standing}
    if not each:
        return
    measured_releases: MeasuredOverview = request.app.state.measured
    history = History(measured_releases.releases(readable))
    with request.app.state.open_ledger() as ledger:
        chains = ledger.whole([*each])
    for chain, one in each.items():
        entries = chains.get(chain, ())
        release = None if isinstance(entries, Break) else measured(chain, entries, None)
        expected = release_forecast(history, entries, release, now) if release else None
        yield one.model_copy(update={"forecast": expected})


def _standing(flight: Flight, state: Any, found: Explanation) -> Standing:
    return Standing(
        flight=flight,
        state=state,
        why=found.why,
        acts=found.acts,
        earliest=found.earliest,
        refusals=found.refusals,
        path=release_page(flight.dag_id, flight.run_id),
    )


def _departures(overview: Overview, readable: frozenset[str], now: datetime) -> Iterator[Leaving]:
    plans, idle = overview.plans(now)
    for name, train in plans.trains.items():
        if name in idle or not train.on_schedule:
            continue
        dag = dag_of_train(name)
        for one in plans.departures.get(name, ()):
            if now < one.at <= now + TODAY:
                yield Leaving(
                    kind="train",
                    title=train.title,
                    at=one.at,
                    moved=one.is_moved,
                    services=train.services,
                    path=dag_page(dag) if dag in readable else "",
                )


def _starts(open_ledger: OpenLedger, flights: Sequence[Flight], now: datetime) -> Iterator[Leaving]:
    """Yield the planned starts of releases under way."""
    with open_ledger() as ledger:
        starts = planned_starts(ledger, [(one.dag_id, one.run_id) for one in flights])
    for one in flights:
        at = starts.get((one.dag_id, one.run_id))
        if at is not None and now < at <= now + TODAY:
            service = service_of_flight(one)
            title = f"{'Rollback of ' if one.rollback else ''}{service} {one.version}".rstrip()
            page = release_page(one.dag_id, one.run_id)
            yield Leaving(kind="release", title=title, at=at, services=(service,), path=page)


def _may_review(user: Any) -> bool:
    """Tell whether a user may put reviews on record."""
    manager: Any = get_auth_manager()
    asked = {"method": "POST", "access_entity": DagAccessEntity.RUN, "details": DagDetails(id=REVIEW_RELEASE)}
    return bool(manager.is_authorized_dag(**asked, user=user))


def _owed(overview: Overview, recorded: Recorded, readable: frozenset[str]) -> Iterator[OwedReview]:
    catalogue = overview.known.at(recorded.now).catalogue
    found = []
    for name, previous in recorded.unreviewed.items():
        service = catalogue.services.get(name)
        if service is None or dag_of_release(name) not in readable:
            continue
        flows = flows_of(catalogue.policy, service)
        for one in unreviewed([each for each in previous if each.change_type in flows], flows):
            within = flows[one.change_type].review_within
            if within is not None:
                found.append((one.at + within, one))
    for due, one in sorted(found, key=lambda each: (each[0], each[1].run)):
        page = release_page(*one.run.split("/", 1))
        yield OwedReview(service=one.service, version=one.version, change_type=one.change_type, due=due, path=page)
