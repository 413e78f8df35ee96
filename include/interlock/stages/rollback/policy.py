"""The first stage of a rollback: its form, and the policy that is in force for it."""

from __future__ import annotations

from airflow.sdk import Param, XComArg

from interlock.domain.catalogue import ChangeType
from interlock.domain.change import effective
from interlock.domain.ledger.kinds import POLICY_RESOLVED, RELEASE_REQUESTED
from interlock.domain.outcome import rollback
from interlock.domain.outcome.rollback import RollbackRequest
from interlock.domain.records import PolicyInForce
from interlock.domain.trigger_form import fields_of
from interlock.stages.approvals.amended import at_its_commit
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import record
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_group, stage_task


def rollback_params() -> dict[str, Param]:
    """Return the form of a rollback."""
    return form_params(fields_of(RollbackRequest))


def read_request() -> RollbackRequest:
    """Read the request of the rollback from the params of the run, and check it."""
    return rollback.parse_rollback(entered())


@stage_task(task_display_name="Resolve the policy in force", evidence=POLICY_RESOLVED)
def resolve_rollback(service: str) -> PolicyInForce:
    """Resolve the policy for standard changes. Refuse an invalid form, and a run that no person requested."""
    resources.refuse_unguarded()
    catalogue = resources.catalogue_of(service)
    request, by = read_request(), requester()
    asked = {"service": service, "requested_by": by, "change_type": ChangeType.STANDARD.value, "rollback": True}
    record(RELEASE_REQUESTED, {**asked, **request.model_dump(mode="json")}, actor=by)
    return at_its_commit(effective.bound_to(catalogue, ChangeType.STANDARD))


@stage_group("policy", "the rules that apply to a rollback")
def policy_stage(service: str) -> XComArg:
    """Resolve the policy in force."""
    return resolve_rollback(service)
