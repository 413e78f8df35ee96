"""Stage 1, release policy: is this a release that may be asked for, and which rules hold for it?"""

from __future__ import annotations

from typing import Any

from airflow.sdk import XComArg, get_current_context, task_group

from include.interlock.domain import policy as rules
from include.interlock.domain.canonical import sha256_of
from include.interlock.domain.errors import PolicyViolation
from include.interlock.domain.records import PolicyInForce
from include.interlock.domain.request import ReleaseRequest, parse_request

from . import resources
from .evidence import record
from .taskflow import stage_task

NOT_BY_A_PERSON = "nobody: the run was not triggered by a person"


def requested(service: str) -> ReleaseRequest:
    """Read what was asked for at the trigger form; a run that was started past the form is checked just the same."""
    policy, _, _ = resources.catalogue_of(service)
    return parse_request(dict(get_current_context()["params"]), policy=policy)


def requester() -> str:
    """Return the user name of who triggered the release."""
    dag_run: Any = get_current_context()["dag_run"]
    return dag_run.triggering_user_name or NOT_BY_A_PERSON


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

    Refuses a request that breaks the form's rules, whoever sent it and by whatever way.
    """
    policy, _, described = resources.catalogue_of(service)
    request = requested(service)
    record(
        "release.requested",
        {"service": service, "requested_by": requester(), **request.model_dump(mode="json")},
        actor=requester(),
    )
    in_force = rules.resolve_policy(policy, described, request.change_type)
    return in_force.model_copy(update={"digest": catalogue_digest(service)})


@task_group(
    group_id="policy",
    group_display_name="1 Release policy",
    tooltip="Release policy: which rules hold for this release",
)
def policy_stage(service: str) -> XComArg:
    """Resolve the policy in force."""
    return resolve_policy(service)
