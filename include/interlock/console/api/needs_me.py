"""What needs the reader: questions, what they asked for and where it stands, what is stuck, what leaves today."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Request
from pydantic import Field

from interlock.console.control.break_glass import OpenLedger
from interlock.console.pages.explain import explanation_of
from interlock.domain.canonical import Model
from interlock.domain.dag_names import dag_of_train
from interlock.domain.errors import ReleaseError
from interlock.domain.outcome.explain import Act, Explanation
from interlock.domain.outcome.standing import Refusal
from interlock.domain.overview.board import Flight
from interlock.domain.paths import release_page

from .board import Overview
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
    path: str = Field(description="Its page, below Airflow's address")


class Leaving(Model):
    """A departure of a train."""

    train: str
    title: str
    at: datetime
    moved: bool = Field(description="A calendar moved it from the time of its cadence")
    services: tuple[str, ...] = Field(description="That may be on it")
    dag_id: str = Field(description="Empty: the reader may not read its Dag")


class NeedsMe(Model):
    """What needs the reader."""

    questions: tuple[Question, ...] = Field(description="The first 50; what ends first is first")
    total_questions: int
    requested: tuple[Standing, ...] = Field(description="Under way, and triggered by the reader; the first 20")
    stuck: tuple[Standing, ...] = Field(description="Of others: nobody and nothing that it waits for comes by itself")
    leaving: tuple[Leaving, ...] = Field(description="Departures within 24 hours")
    at: datetime = Field(description="The time of this answer")


def needs_me(request: Request, user: GetUserDep) -> NeedsMe:
    """Return what the reader is asked, what they asked for and where it stands, what is stuck, and what leaves today.

    It has what the reader may read. Of others' releases, those are looked at that may be stuck: whose Dag is paused,
    which are queued, tried again, or between two tasks.
    """
    overview: Overview = request.app.state.overview
    readable = readable_dags(user)
    asked = questions_for(user, readable)
    flights = [one for dag, each in overview.flights().items() if dag in readable for one in each]
    own = [one for one in flights if one.requested_by == user.get_name()]
    others = [one for one in flights if one.requested_by != user.get_name() and _may_be_stuck(one)]
    open_ledger: OpenLedger = request.app.state.open_ledger
    now = datetime.now(UTC)
    return NeedsMe(
        questions=tuple(asked[:MOST_QUESTIONS]),
        total_questions=len(asked),
        requested=tuple(_explained(own[-MOST_EXPLAINED:], open_ledger)),
        stuck=tuple(one for one in _explained(others[:MOST_EXPLAINED], open_ledger) if one.state == "stuck"),
        leaving=tuple(_leaving(overview, readable, now)),
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


def _leaving(overview: Overview, readable: frozenset[str], now: datetime) -> Iterator[Leaving]:
    plans, idle = overview.plans(now)
    found = [
        Leaving(
            train=name,
            title=train.title,
            at=one.at,
            moved=one.is_moved,
            services=train.services,
            dag_id=dag if (dag := dag_of_train(name)) in readable else "",
        )
        for name, train in plans.trains.items()
        if name not in idle and train.on_schedule
        for one in plans.departures.get(name, ())
        if now < one.at <= now + TODAY
    ]
    yield from sorted(found, key=lambda one: (one.at, one.train))
