"""The Dag ``override_freeze``: what closes an environment does not count for one service, for some hours; on record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow.sdk import Param, chain, get_current_context

from interlock.domain.calendars import overrides
from interlock.domain.calendars.overrides import MAX_OVERRIDE_DURATION, OVERRIDDEN, Override
from interlock.domain.catalogue import BoardBook, Person
from interlock.domain.errors import AlreadyRecorded, PolicyViolation
from interlock.domain.ledger.chain import ENDED, INSTALLATION
from interlock.domain.ledger.runs import dags_of, run_of
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.calendars import answer_now
from interlock.stages.runtime.notices import notify
from interlock.stages.runtime.requests import REQUESTED, requester
from interlock.stages.runtime.taskflow import stage_task, this_run

from .marks import places_of


def override_params(folder: Path) -> dict[str, Param]:
    """Return the form of an override."""
    places = places_of(folder)
    environments = sorted({name for found in places.values() for name in found} or {"production"})
    return {
        "service": Param(type="string", enum=sorted(places), title="Service", description="For whom it is."),
        "environment": Param(
            "production" if "production" in environments else environments[0],
            type="string",
            enum=environments,
            title="Environment",
            description="Where. What closes it now, by the calendars, is overridden.",
        ),
        "reason": Param(
            type="string",
            minLength=5,
            maxLength=1000,
            title="Reason",
            description="Why it cannot wait. It is told to those whom the policy names, and goes on record.",
        ),
        "hours": Param(
            2,
            type="integer",
            minimum=1,
            maximum=round(MAX_OVERRIDE_DURATION.total_seconds() / 3600),
            title="Hours",
            description="After so many the calendar holds again.",
        ),
    }


@stage_task(task_display_name="Record the override")
def record_override() -> dict[str, Any]:
    """Put into the installation's chain that what closes an environment now does not count for one service.

    Only somebody whose role the calendar's entry names in ``override_by`` may, and not for a release that they asked
    for. From then on permits are given as if the entry were not there, until its time is up.
    """
    key = f"{OVERRIDDEN}/{'/'.join(this_run())}"
    with resources.ledger() as ledger:
        if known := ledger.find(INSTALLATION, key):
            return known.payload  # by an earlier try of this task
    given = _decided(overrides.parse_override(get_current_context()["params"], places_of(catalogue_folder())))
    with resources.ledger() as ledger:
        try:
            entry = ledger.append_once(INSTALLATION, OVERRIDDEN, given.model_dump(mode="json"), actor=given.by, key=key)
        except AlreadyRecorded as error:
            entry = error.entry
        ledger.sign_head(INSTALLATION, resources.signer())
    return entry.payload


def _decided(asked: overrides.OverrideRequest) -> Override:
    """Return the override that was asked for; PolicyViolation if nothing is closed, or not this person may."""
    policy, book, service = resources.catalogue_of(asked.service)
    person = _person(book, requester())
    answer = answer_now(policy, service, asked.environment)
    return overrides.override(
        answer,
        person,
        reason=asked.reason,
        lasts=timedelta(hours=asked.hours),
        requester=person.user if person.user in set(_requesters(service.name)) else "",
        now=datetime.now(UTC),
    )


def _person(book: BoardBook, user: str) -> Person:
    found = next((person for person in book.people if person.user == user), None)
    if found is None:
        raise PolicyViolation(
            f"{user}, who asks for this, is not among the people of board.yaml.",
            rule="what a calendar closes is overridden by people with a role (override_by of its entry)",
            who="whoever keeps board.yaml",
            next_step="ask somebody whose role the entry names to trigger override_freeze",
        )
    return found


def _requesters(service: str) -> Iterator[str]:
    """Yield who asked for the releases of a service that are under way."""
    with resources.ledger() as ledger:
        ended = {entry.payload["run"] for entry in ledger.entries(INSTALLATION, kind=ENDED)}
        for one in ledger.chains():
            run = run_of(one)
            if run is not None and run[0] in dags_of(service) and "/".join(run) not in ended:
                for entry in ledger.entries(one, kind=REQUESTED):
                    yield str(entry.payload.get("requested_by"))


@stage_task(task_display_name="Tell people")
def tell_of_override(recorded: dict[str, Any]) -> list[str]:
    """Send a mail about it to those whom the policy names for findings; it says what else closes the environment."""
    given = Override.model_validate(recorded)
    policy, _, service = resources.catalogue_of(given.service)
    answer = answer_now(policy, service, given.environment)
    text = (
        f"{given.by} ({given.role}) overrode {given.place} for {given.service} in {given.environment}, until "
        f"{given.until:%Y-%m-%d %H:%M} UTC: {given.reason}\n\nThe calendars now: {answer}"
    )
    same = sha256("/".join((*this_run(), OVERRIDDEN)).encode()).hexdigest()[:32]
    return list(notify(f"Overridden for {given.service}: {given.place}", text, same=same))


def override_tasks() -> None:
    """Record the override, then tell people."""
    recorded = record_override()
    chain(recorded, tell_of_override(recorded))
