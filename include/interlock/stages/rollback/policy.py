"""The first stage of a rollback: its form, and the policy that is in force for it."""

from __future__ import annotations

from airflow.sdk import Param, XComArg, get_current_context

from interlock.domain.catalogue import ChangeType
from interlock.domain.change import policy as change_policy
from interlock.domain.ledger.kinds import POLICY_RESOLVED, RELEASE_REQUESTED
from interlock.domain.outcome import rollback
from interlock.domain.outcome.rollback import RollbackRequest
from interlock.domain.records import PolicyInForce
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import record
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_group, stage_task


def rollback_params() -> dict[str, Param]:
    """Return the form of a rollback."""
    return {
        "version": Param(
            "",
            type=["string", "null"],
            maxLength=64,
            title="Back to version",
            description="A version that production ran before, such as 1.4.0. Leave empty to choose from a list under "
            "Required Actions.",
        ),
        "reason": Param(
            type="string",
            minLength=5,
            maxLength=200,
            title="Reason",
            description="Why production is rolled back. It is sent to all audiences and recorded in the ledger.",
        ),
        "incident": Param(
            "",
            type=["string", "null"],
            maxLength=100,
            title="Incident",
            description="The incident number, if there is one.",
        ),
    }


def read_request() -> RollbackRequest:
    """Read the request of the rollback from the params of the run, and check it."""
    return rollback.parse_rollback(dict(get_current_context()["params"]))


@stage_task(task_display_name="Resolve the policy in force", evidence=POLICY_RESOLVED)
def resolve_rollback(service: str) -> PolicyInForce:
    """Resolve the policy for standard changes. Refuse an invalid form, and a run that no person requested."""
    resources.refuse_unguarded()
    catalogue = resources.catalogue_of(service)
    request, by = read_request(), requester()
    asked = {"service": service, "requested_by": by, "change_type": ChangeType.STANDARD.value, "rollback": True}
    record(RELEASE_REQUESTED, {**asked, **request.model_dump(mode="json")}, actor=by)
    in_force = change_policy.resolve_policy(catalogue.policy, catalogue.service, ChangeType.STANDARD)
    return in_force.model_copy(update={"digest": catalogue.digest})


@stage_group("policy", "the rules that apply to a rollback")
def policy_stage(service: str) -> XComArg:
    """Resolve the policy in force."""
    return resolve_rollback(service)
