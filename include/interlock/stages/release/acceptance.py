"""Stage 6, release accepted: the functional team validates the release on the test environment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import XComArg, chain

from interlock.adapters.templates import render
from interlock.domain.board import decision as boards
from interlock.domain.board.decision import APPROVE, REJECT
from interlock.domain.board.questions import ASK_APPROVERS
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Policy, Service
from interlock.domain.change.policy import time_limits_of
from interlock.domain.paths import quality_page
from interlock.domain.records import (
    Artifact,
    Decision,
    EnvironmentPassed,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    TestDeployment,
    Waiver,
)
from interlock.stages.approvals.decisions import settled
from interlock.stages.approvals.in_force import before_asking
from interlock.stages.approvals.people import ask, persons, question, votes_on
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import stage_group, stage_task, this_run


def acceptance_digest(artifact: Artifact, report: QualityReport, environments: Sequence[EnvironmentPassed] = ()) -> str:
    """Return the digest of an artifact with what its tests came to: an acceptance is bound to it.

    :param environments: how it passed the environments between test and production.
    """
    bound: dict[str, Any] = {"artifact": artifact.bundle.sha256, "quality": sha256_of(report)}
    if environments:
        bound["environments"] = [sha256_of(one) for one in environments]
    return sha256_of(bound)


def _asked(in_force: PolicyInForce, plan: ReleasePlan) -> bool:
    return in_force.flow.acceptance and not plan.rehearsal


@stage_task(task_display_name="Prepare the acceptance question", words=ASK_APPROVERS)
def prepare_acceptance(
    service: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    report: QualityReport,
    waivers: list[Waiver],
    deployment: TestDeployment,
    environments: tuple[EnvironmentPassed, ...] = (),
) -> list[dict[str, Any]]:
    """Prepare the question to the functional approvers. It includes the quality report."""
    if not _asked(in_force, plan):
        return []
    catalogue = resources.catalogue_of(service)
    board, described = catalogue.board, catalogue.service
    digest = acceptance_digest(artifact, report, environments)
    body = before_asking(catalogue, plan) + render(
        "acceptance.md.j2",
        plan=plan,
        service=described,
        artifact=artifact,
        waivers=waivers,
        report=report,
        deployment=deployment,
        environments=environments,
        answer_by=datetime.now(UTC) + in_force.time_limits.acceptance,
        names=board.names,
        quality_page=quality_page(*this_run()),
    )
    subject = f"Accept {described.title} {plan.version} on the test environment"
    asked = boards.others(
        described.functional_approvers, {plan.requested_by, *boards.barred_authors(in_force.flow, plan, board)}
    )
    return [question(subject, body, digest, persons(board, asked))] if asked else []


@stage_task(task_display_name="Decide on acceptance")
def decide_acceptance(
    service: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    report: QualityReport,
    environments: tuple[EnvironmentPassed, ...] = (),
) -> Decision:
    """Read the answer of the functional approver. A rejection ends the release and is sent to the development team."""
    digest = acceptance_digest(artifact, report, environments)
    if not _asked(in_force, plan):
        why = (
            "A rehearsal needs no acceptance."
            if plan.rehearsal
            else f"The policy requires no acceptance for a {plan.change_type} change."
        )
        return settled(Decision(subject="acceptance", digest=digest, approved=True, required=False, reason=why))
    _, book, described = resources.catalogue_of(service)
    return settled(
        boards.decide_single(
            described.functional_approvers,
            votes_on(ASK_APPROVERS, digest),
            subject="acceptance",
            digest=digest,
            requester=plan.requested_by,
            excluded=boards.barred_authors(in_force.flow, plan, book),
            expired=True,
            names=book.names,
        )
    )


@stage_group("acceptance", "the functional approver validates the release on the test environment")
def acceptance_stage(
    service: Service,
    policy: Policy,
    in_force: XComArg,
    plan: XComArg,
    artifact: XComArg,
    deployment: XComArg,
    report: XComArg,
    waivers: XComArg,
    environments: list[XComArg],
) -> XComArg:
    """Ask the functional approvers, and decide."""
    prepared = prepare_acceptance(service.name, in_force, plan, artifact, report, waivers, deployment, environments)
    asked = ask(
        prepared,
        task_id="ask_approver",
        title="Accept the release (functional approver)",
        options=[APPROVE, REJECT],
        default=REJECT,
        within=time_limits_of(policy, service).acceptance,
        doc_md="The functional approver validates the release on test. No answer in time counts as a rejection.",
    )
    decision = decide_acceptance(service.name, in_force, plan, artifact, report, environments)
    chain([prepared, asked], decision)
    return decision
