"""Stage 1, release policy: is this a release that may be asked for, and which rules hold for it?"""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any

from airflow.sdk import XComArg, get_current_context, task_group

from include.interlock.adapters.tools import runs_unit_tests
from include.interlock.adapters.witness import only_witnessed
from include.interlock.domain import policy as rules
from include.interlock.domain.canonical import sha256_of
from include.interlock.domain.errors import PolicyViolation
from include.interlock.domain.ledger import Entry
from include.interlock.domain.records import PolicyInForce
from include.interlock.domain.request import ReleaseRequest, parse_request
from include.interlock.domain.witness import AskedRun, refuse_unasked

from . import passengers, resources
from .evidence import chain_entries, record
from .taskflow import stage_task

REQUESTED = "release.requested"
PATIENCE = 10.0
"""Seconds in which the API's server puts on record who asked for a run that it has just made."""


def requested(service: str) -> ReleaseRequest:
    """Read what was asked for at the trigger form; a run that was started past the form is checked just the same.

    :raises PolicyViolation: it is no longer what was asked for when the release began, or by whom.
    """
    policy, _, _ = resources.catalogue_of(service)
    request = parse_request(dict(get_current_context()["params"]), policy=policy)
    first = next((entry.payload for entry in chain_entries() if entry.kind == REQUESTED), None)
    if first is not None and first != as_asked(service, request):
        what = f"The run of {service} no longer asks for what it asked for when it began, or not for the same person."
        record("finding", {"what": what, "asked": as_asked(service, request)})
        raise PolicyViolation(
            what,
            rule="a release ends as what it began as; its run's configuration is not edited",
            who="nobody; the finding stays on record",
            next_step="find out who edited Airflow's database, and trigger the release again",
        )
    return request


def as_asked(service: str, request: ReleaseRequest) -> dict[str, Any]:
    """Return a request as the ledger has it."""
    plain = request.model_dump(mode="json", exclude={"train"} if request.train is None else None)
    return {"service": service, "requested_by": requester(), **plain}


def requester() -> str:
    """Return the user name of who asked for the running run, at its form.

    :raises PolicyViolation: by the ledger nobody did, somebody else did, or for something else.
    """
    dag_run: Any = get_current_context()["dag_run"]
    user, form = dag_run.triggering_user_name or "", sha256_of(dag_run.conf or {})
    run = AskedRun(dag_id=dag_run.dag_id, run_id=dag_run.run_id, user=user, conf=form)
    refuse_unasked(run, next(iter(only_witnessed(_asked(run), resources.witness_key())), None))
    return user


def _asked(run: AskedRun) -> tuple[Entry, ...]:
    """Return what is on record of a run, if anything; a task may begin a moment before it is."""
    latest = monotonic() + PATIENCE
    with resources.ledger() as ledger:
        while (found := ledger.find(run.chain, run.key)) is None and monotonic() < latest:
            sleep(0.2)
    return (found,) if found else ()


def catalogue_digest(service: str) -> str:
    """Return the digest of everything that the catalogue says now about a service, its policy and its boards."""
    policy, board, described = resources.catalogue_of(service)
    parts = {"policy": policy, "board": board, "service": described}
    return sha256_of({name: part.model_dump(mode="json") for name, part in parts.items()})


def refuse_changed_catalogue(service: str, digest: str) -> None:
    """Refuse to go on with a release whose catalogue is no longer the one that it was planned and decided with.

    :raises PolicyViolation: the catalogue changed since the release began.
    """
    if catalogue_digest(service) != digest:
        raise PolicyViolation(
            f"The catalogue's policy.yaml, board.yaml or services/{service}.yaml changed since this release began.",
            rule="what was decided is what is deployed (the rollout plan names the catalogue's digest)",
            who="the release manager",
            next_step="trigger the release again, so that it is planned and decided with the catalogue as it is now",
        )


@stage_task(task_display_name="Resolve the policy in force", evidence="policy.resolved")
def resolve_policy(service: str) -> PolicyInForce:
    """Resolve the enterprise's policy, tightened by the business unit's and the service's, for this change type.

    Refuses a request that breaks the form's rules, whoever sent it and by whatever way; and any, where tasks of other
    Dags could interfere with the release.
    """
    resources.refuse_unguarded()
    policy, _, described = resources.catalogue_of(service)
    request = requested(service)
    asked = as_asked(service, request)
    by = asked["requested_by"]
    record(REQUESTED, asked, actor=by)
    passengers.refuse_beside_its_train(policy, service, request, by)
    in_force = rules.resolve_policy(policy, described, request.change_type)
    rules.refuse_unmeasured(policy, described)
    rules.refuse_untested(policy, described, has_unit_tests=runs_unit_tests(described.build))
    return in_force.model_copy(update={"digest": catalogue_digest(service)})


@task_group(
    group_id="policy",
    group_display_name="1 Release policy",
    tooltip="Release policy: which rules hold for this release",
)
def policy_stage(service: str) -> XComArg:
    """Resolve the policy in force."""
    return resolve_policy(service)
