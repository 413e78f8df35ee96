"""The Dag ``overtake_releases``: a release goes before others of its service, as the policy of its change type allows.

What is overtaken follows from the ledger, the policy and Airflow's queue alone, and from nothing in the form but the
service: whoever triggers it, and however often, the same releases are overtaken.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.catalogue.catalogue import environments_of
from interlock.adapters.ledger.withdrawals import releases_under_way
from interlock.adapters.signing.witness import only_witnessed
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.policy import flows_of, source_of_overtakes
from interlock.domain.dag_names import dag_of_release
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import RELEASE_OVERTAKEN, RUN_ASKED
from interlock.domain.permits.overtaking import (
    Overtaking,
    OvertakingRequest,
    QueuedRelease,
    find_overtaken,
    has_begun,
    overtaking_in,
)
from interlock.domain.permits.withdrawal import called_off
from interlock.domain.trigger_form import fields_of
from interlock.stages.runtime import resources
from interlock.stages.runtime.history import append_once, sign_if_possible
from interlock.stages.runtime.requests import entered, form_params
from interlock.stages.runtime.taskflow import stage_task, this_run
from interlock.stages.runtime.triggers import UNDER_WAY

from .ends import see_to_its_end, wait_again

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)


def overtake_params(folder: Path) -> dict[str, Param]:
    """Return the form."""
    return form_params(fields_of(OvertakingRequest, service={"enum": sorted(environments_of(folder))}))


@stage_task(task_display_name="Record what is overtaken")
def record_overtakings() -> list[dict[str, Any]]:
    """Record in the ledger which releases of the service are overtaken; return the records of all that have not ended.

    From then on such a release gets no permit and asks nobody. A release that got a permit meanwhile is not overtaken:
    the other one waits for its end.
    """
    service = str(entered()["service"])
    policy, _, described = resources.catalogue_of(service)
    flows = flows_of(policy, described)
    with resources.ledger() as ledger, resources.airflow_api() as api:
        queue = [*queue_of(ledger, api, service)]
        for ahead, by in find_overtaken(queue, flows):
            _overtake(ledger, ahead, by, source_of_overtakes(policy, described, by.change_type))
        found = [overtaking_in(ledger.entries(release_chain(one.dag_id, one.run_id))) for one in queue]
    return [one.model_dump(mode="json") for one in found if one is not None]


def queue_of(ledger: Ledger, api: AirflowApi, service: str) -> Iterator[QueuedRelease]:
    """Yield the releases of a service that have not ended, and that the API server put on record as asked for.

    A run whose form is not the one on record does nothing: its first task refuses it.
    """

    def is_under_way(dag_id: str, run_id: str) -> bool:
        return dag_id == dag_of_release(service) and api.run_state(dag_id, run_id) in UNDER_WAY

    for one in releases_under_way(ledger, service, is_under_way):
        entries = ledger.entries(release_chain(one.dag_id, one.run_id))
        asked = only_witnessed([entry for entry in entries if entry.kind == RUN_ASKED], resources.witness_key())
        form = (api.run_if_any(one.dag_id, one.run_id) or {}).get("conf") or {}
        if not asked or asked[0].payload["conf"] != sha256_of(form):
            log.warning("%s is left out: its form is not on record as it was asked for", one)
            continue
        kind = form.get("change_type") or ChangeType.NORMAL
        if kind not in list(ChangeType):  # its first task refuses it
            continue
        rehearsal = form.get("rehearsal") is True
        yield QueuedRelease(
            dag_id=one.dag_id,
            run_id=one.run_id,
            asked_at=asked[0].at,
            requested_by=str(asked[0].payload["user"]),
            change_type=ChangeType(kind),
            version=str(form.get("version") or "?"),
            summary=str(form.get("summary") or ""),
            rehearsal=rehearsal,
            begun=has_begun(entries, rehearsal=rehearsal),
            called_off=called_off(entries) is not None,
        )


def _overtake(ledger: Ledger, ahead: QueuedRelease, by: QueuedRelease, source: str) -> None:
    of_release = release_chain(ahead.dag_id, ahead.run_id)
    overtaking = Overtaking(
        release=ahead.run,
        change_type=ahead.change_type,
        by=by.run,
        by_change_type=by.change_type,
        by_version=by.version,
        requested_by=by.requested_by,
        reason=by.summary,
        rule=f"change_types.{by.change_type}.overtakes, in {source}",
        run="/".join(this_run()),
        at=ledger.now(),
    )
    plain = overtaking.model_dump(mode="json")
    try:
        entry = append_once(
            ledger, RELEASE_OVERTAKEN, plain, actor=by.requested_by, key=RELEASE_OVERTAKEN, chain=of_release
        )
    except PolicyViolation as error:  # it got its permit, or ended, a moment before
        log.info("%s is not overtaken, and %s waits for its end: %s", ahead.run, by.run, error)
        return
    sign_if_possible(ledger, entry)


@stage_task(task_display_name="Close their questions and wait for their end")
def await_ends(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Close the open questions of the overtaken releases and wait until they have ended; return how they ended.

    A queued release is not waited for: it ends as soon as Airflow starts it.
    """
    overtakings = [Overtaking.model_validate(one) for one in recorded]
    ends = [see_to_its_end(one.release, one.sentence) for one in overtakings]
    if None in ends:
        wait_again("the overtaken releases are about to end")
    return [{"release": one.release, **end} for one, end in zip(overtakings, ends, strict=True) if end is not None]


def overtake_tasks() -> None:
    """Record what is overtaken, then see it to its end."""
    await_ends(record_overtakings())
