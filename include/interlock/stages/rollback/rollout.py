"""The seventh stage of a rollback: the rollout plan, and the board if the policy asks for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import XComArg, task_group

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Service
from interlock.domain.errors import GateRejected
from interlock.domain.ledger.kinds import ROLLOUT_FROZEN
from interlock.domain.records import (
    Artifact,
    AssetReport,
    Decision,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    RollBack,
    RolloutPlan,
    Waiver,
)
from interlock.domain.rollout.rollout import course_of
from interlock.stages.release.acceptance import acceptance_digest
from interlock.stages.release.rollout import board_decides, prepare_ballots, prove_back_out, rule_of
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import stage_task

from .earlier_release import read_earlier_release


@stage_task(task_display_name="Freeze the rollout plan", evidence=ROLLOUT_FROZEN, seal=True)
def freeze_rollback(
    service: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    assets: AssetReport,
    artifact: Artifact,
    report: QualityReport,
    waivers: list[Waiver],
    acceptance: Decision,
) -> RolloutPlan:
    """Freeze hosts, waves, bundle, and the back-out plan in case the rollback fails. Permits cover only this plan.

    The plan names the release to roll back to by the hash of its closing entry in the ledger.
    """
    catalogue = resources.catalogue_of(service)
    described = catalogue.service
    if not acceptance.approved or acceptance.digest != acceptance_digest(artifact, report):
        raise GateRejected("This artifact with this quality report was not accepted.")
    release, targets, asked = read_earlier_release(), assets.hosts[plan.target], rule_of(catalogue, plan)
    course = course_of(described.environments[plan.target], assets, plan.target, described.load.paths, directly=True)
    return RolloutPlan(
        service=service,
        version=plan.version,
        commit=plan.commit.sha,
        change_type=plan.change_type,
        environment=plan.target,
        rehearsal=False,
        summary=plan.summary,
        tickets=plan.tickets,
        requested_by=plan.requested_by,
        risk=plan.risk.score,
        bundle=artifact.bundle,
        **course.fields(),
        not_before=None,
        decide_by=datetime.now(UTC) + asked.deadline if asked else None,
        back_out=prove_back_out(catalogue, plan.target, targets),
        policy_digest=in_force.digest,
        quality_digest=sha256_of(report),
        waivers=tuple(waivers),
        acceptance_digest=acceptance.digest,
        connections=resources.connections_now(described, targets),
        rolls_back=RollBack(chain=release.chain, closed=release.closed, template=plan.template or ""),
    )


@task_group(
    group_id="rollout",
    group_display_name="7 Rollout plan and CAB",
    tooltip="Rollout plan and CAB: freeze the plan; a board votes if the policy requires it for standard changes",
)
def rollout_stage(
    service: Service,
    deadline: timedelta | None,
    in_force: XComArg,
    plan: XComArg,
    assets: XComArg,
    artifact: XComArg,
    report: XComArg,
    waivers: XComArg,
    acceptance: XComArg,
) -> tuple[XComArg, XComArg, EmptyOperator | None]:
    """Freeze the plan and ask the board, if one is to be asked; return plan, decision, and the end of the ballots."""
    rollout = freeze_rollback.override(task_id="freeze_plan")(
        service.name, in_force, plan, assets, artifact, report, waivers, acceptance
    )
    ballots = prepare_ballots(service.name, plan, report, rollout, acceptance)
    doc = "One ballot for each member of the board, if the policy requires a vote on this rollback."
    return rollout, *board_decides(service, rollout, ballots, deadline, doc_md=doc)
