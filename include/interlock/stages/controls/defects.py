"""The Dag ``accept_defect``: accept an open defect as known, for some days."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow.sdk import Param

from interlock.adapters.catalogue.catalogue import environments_of
from interlock.adapters.templates import escape
from interlock.domain.change.tightening import resolved
from interlock.domain.ledger.kinds import DEFECT_ACCEPTED
from interlock.domain.permits.permit import utc_text
from interlock.domain.testing.defects import AcceptedDefect, chain_of_defects
from interlock.domain.testing.known_defects import AcceptanceRequest, accepted, parse_acceptance
from interlock.domain.trigger_form import fields_of
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.history import append_once, sign_if_possible
from interlock.stages.runtime.notices import notify
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_task, this_run
from interlock.stages.testing.defects import open_defects_of

from .overrides import requesters_of


def acceptance_params(folder: Path) -> dict[str, Param]:
    """Return the form of an acceptance."""
    return form_params(fields_of(AcceptanceRequest, service={"enum": sorted(environments_of(folder))}))


@stage_task(task_display_name="Record the acceptance")
def record_acceptance() -> dict[str, Any]:
    """Record in the ledger that a person whom the policy names accepts an open defect as known, until a date.

    Until then, the defect does not stop releases, and a test case that fails because of it does not either.
    """
    asked = parse_acceptance(entered(), environments_of(catalogue_folder()))
    catalogue, chain = resources.catalogue_of(asked.service), chain_of_defects(asked.service)
    key = f"{DEFECT_ACCEPTED}/{'/'.join(this_run())}"
    with resources.ledger() as ledger:
        if known := ledger.find(chain, key):
            return {"service": asked.service, **known.payload}  # recorded by an earlier try of this task
    given = accepted(
        asked,
        open_defects_of(asked.service),
        resolved(catalogue.policy, catalogue.service).waivers.get("defects"),
        catalogue.board,
        requester(),
        requesters=set(requesters_of(asked.service)),
        now=datetime.now(UTC),
    )
    with resources.ledger() as ledger:
        entry = append_once(ledger, DEFECT_ACCEPTED, given.to_xcom(), key=key, actor=given.by, chain=chain)
        sign_if_possible(ledger, entry)
    return {"service": asked.service, **entry.payload}


@stage_task(task_display_name="Send notifications")
def tell_of_acceptance(recorded: dict[str, Any]) -> list[str]:
    """E-mail the development team and the people under findings.notify of the policy."""
    service = resources.catalogue_of(recorded["service"]).service
    given = AcceptedDefect.from_xcom({name: value for name, value in recorded.items() if name != "service"})
    text = (
        f"{given.by} accepted the defect {given.id} of {service.title} as known until {utc_text(given.until)}. "
        f"Reason: {given.reason}"
    )
    same = sha256("/".join((*this_run(), DEFECT_ACCEPTED)).encode()).hexdigest()[:32]
    also = service.cases.defects_to if service.cases else ()
    return list(notify(f"{service.title}: defect {given.id} accepted as known", escape(text), same=same, also=also))


def acceptance_tasks() -> None:
    """Record the acceptance, then notify people."""
    tell_of_acceptance(record_acceptance())
