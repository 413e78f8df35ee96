"""The Dag ``override_freeze``: override a calendar entry for one service, for some hours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow.sdk import Param

from interlock.adapters.catalogue.catalogue import environments_of
from interlock.adapters.templates import escape
from interlock.domain.calendars import overrides
from interlock.domain.calendars.overrides import Override
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import FREEZE_OVERRIDDEN, RELEASE_REQUESTED
from interlock.domain.trigger_form import environment_choices, fields_of
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.calendars import answer_now
from interlock.stages.runtime.history import append_once, chains_of, ends_of_releases
from interlock.stages.runtime.notices import notify
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_task, this_run


def override_params(folder: Path) -> dict[str, Param]:
    """Return the form of an override."""
    return form_params(fields_of(overrides.OverrideRequest, **environment_choices(environments_of(folder))))


@stage_task(task_display_name="Record the override")
def record_override() -> dict[str, Any]:
    """Record in the ledger that one service overrides the calendar entry that closes an environment now.

    Only a person with a role in ``override_by`` of the entry may override it, and not for a release that they
    requested. Until the override expires, releases of the service get permits as if the entry did not exist.
    """
    key = f"{FREEZE_OVERRIDDEN}/{'/'.join(this_run())}"
    with resources.ledger() as ledger:
        if known := ledger.find(INSTALLATION, key):
            return known.payload  # recorded by an earlier try of this task
    given = _decided(overrides.parse_override(entered(), environments_of(catalogue_folder())))
    with resources.ledger() as ledger:
        entry = append_once(ledger, FREEZE_OVERRIDDEN, given.model_dump(mode="json"), actor=given.by, key=key)
        ledger.sign_head(INSTALLATION, resources.signer())
    return entry.payload


def _decided(asked: overrides.OverrideRequest) -> Override:
    """Return the requested override.

    :raises PolicyViolation: the environment is open, or this person may not override the entry.
    """
    catalogue = resources.catalogue_of(asked.service)
    person = overrides.person_in(catalogue.board, requester())
    answer = answer_now(catalogue, asked.environment)
    return overrides.override(
        answer,
        person,
        reason=asked.reason,
        lasts=asked.lasts,
        requester=person.user if person.user in set(requesters_of(asked.service)) else "",
        now=datetime.now(UTC),
    )


def requesters_of(service: str) -> Iterator[str]:
    """Yield the requesters of the releases of a service that are under way."""
    with resources.ledger() as ledger:
        ended = ends_of_releases(ledger)
        for chain in [chain for run, chain in chains_of(ledger, service).items() if run not in ended]:
            for entry in ledger.entries(chain, kind=RELEASE_REQUESTED):
                yield str(entry.payload.get("requested_by"))


@stage_task(task_display_name="Send notifications")
def tell_of_override(recorded: dict[str, Any]) -> list[str]:
    """E-mail the people under findings.notify of the policy, and list other entries that close the environment."""
    given = Override.model_validate(recorded)
    answer = answer_now(resources.catalogue_of(given.service), given.environment)
    text = f"{escape(str(given))}\n\nCurrent state of the calendars: {escape(str(answer))}"
    same = sha256("/".join((*this_run(), FREEZE_OVERRIDDEN)).encode()).hexdigest()[:32]
    return list(notify(f"Freeze overridden for {given.service}: {given.place}", text, same=same))


def override_tasks() -> None:
    """Record the override, then notify people."""
    tell_of_override(record_override())
