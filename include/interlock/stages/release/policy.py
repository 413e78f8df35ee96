"""Stage 1, release policy: check the request, and resolve the rules for it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import XComArg

from interlock.adapters.build.tools import runs_unit_tests
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.change import effective
from interlock.domain.change import policy as change_policy
from interlock.domain.change.pipelines import refuse_foreign_pipeline
from interlock.domain.change.request import ReleaseRequest, parse_request, refuse_wrong_artifact
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.kinds import FINDING, POLICY_RESOLVED, RELEASE_REQUESTED
from interlock.domain.records import PolicyInForce
from interlock.stages.approvals.amended import at_its_commit
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.requests import entered, requester
from interlock.stages.runtime.taskflow import stage_group, stage_task
from interlock.stages.trains import passengers


def requested(catalogue: ServiceCatalogue) -> ReleaseRequest:
    """Read the request from the params of the run, and check it, whether it came from the form or from the API.

    :raises PolicyViolation: the request or its requester was changed after the release started.
    """
    service = catalogue.service.name
    request = parse_request(entered(), policy=catalogue.policy)
    refuse_wrong_artifact(request, catalogue.service, catalogue.policy)
    first = next((entry.payload for entry in chain_entries() if entry.kind == RELEASE_REQUESTED), None)
    if first is not None and first != as_asked(service, request):
        what = f"The request of this run of {service} was changed after the run started."
        record(FINDING, {"what": what, "asked": as_asked(service, request)})
        raise PolicyViolation(
            what,
            rule="the form and the requester of a release do not change after it started",
            who="this cannot be changed: the finding stays in the ledger",
            next_step="have an auditor find out who edited Airflow's database, then trigger the release again",
        )
    return request


def as_asked(service: str, request: ReleaseRequest) -> dict[str, Any]:
    """Return a request as the ledger records it."""
    plain = request.model_dump(mode="json", exclude={"train"} if request.train is None else None)
    return {"service": service, "requested_by": requester(), **plain}


@stage_task(task_display_name="Resolve the policy in force", evidence=POLICY_RESOLVED)
def resolve_policy(service: str) -> PolicyInForce:
    """Resolve the policy for this change type: the enterprise policy, tightened by the business unit and the service.

    Refuses a request that breaks the rules of the form, however it was sent, and an Airflow configuration in which
    tasks of other Dags could interfere with the release.
    """
    resources.refuse_unguarded()
    catalogue = resources.catalogue_of(service)
    policy, described = catalogue.policy, catalogue.service
    request = requested(catalogue)
    asked = as_asked(service, request)
    by = asked["requested_by"]
    record(RELEASE_REQUESTED, asked, actor=by)
    refuse_foreign_pipeline(policy, by, service)
    passengers.refuse_beside_its_train(policy, service, request, by)
    in_force = at_its_commit(effective.bound_to(catalogue, request.change_type))
    change_policy.refuse_unmeasured(policy, described)
    change_policy.refuse_untested(policy, described, has_unit_tests=runs_unit_tests(described.build))
    return in_force.model_copy(update={"on_train": passengers.recorded_with(request.train)})


@stage_group("policy", "the rules that apply to this release")
def policy_stage(service: str) -> XComArg:
    """Resolve the policy in force."""
    return resolve_policy(service)
