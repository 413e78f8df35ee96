"""Stage 2, release planning: changes, target, schedule, risk, and the approval of senior management."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import XComArg, chain

from interlock.adapters.source.git import Repository
from interlock.adapters.templates import render
from interlock.domain.board import decision as boards
from interlock.domain.board.decision import APPROVE, REJECT
from interlock.domain.board.questions import ASK_MANAGEMENT
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import BoardBook, ChangeType, Flow, Policy, Service
from interlock.domain.change.policy import flows_of, time_limits_of
from interlock.domain.change.request import ReleaseRequest
from interlock.domain.change.risk import assess
from interlock.domain.change.semver import BRANCHES, TAGS, bump, contradicts, version_in
from interlock.domain.change.standard import template_for
from interlock.domain.errors import PolicyViolation, RequestRefused
from interlock.domain.ledger.kinds import PLAN_MADE
from interlock.domain.outcome.review import refuse_unreviewed
from interlock.domain.records import Decision, PastRelease, PolicyInForce, ReleasePlan, Risk, RunningRelease
from interlock.domain.tickets.demands import refuse_unmet
from interlock.stages.approvals.decisions import settled
from interlock.stages.approvals.in_force import before_asking
from interlock.stages.approvals.people import ask, persons, question, votes_on
from interlock.stages.runtime import conflicts, resources
from interlock.stages.runtime.history import past_releases
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_group, stage_task
from interlock.stages.runtime.versions import refuse_marked
from interlock.stages.strategies import fleets
from interlock.stages.strategies.rolling import what_runs

from .policy import requested
from .tickets import tickets_of, unread


@stage_task(task_display_name="Plan the release", evidence=PLAN_MADE)
def plan_release(service: str, in_force: PolicyInForce) -> ReleasePlan:
    """Pin the commit, read which version the target runs, list the changes, assess the risk, and find conflicts.

    The conflicts are in the XCom ``conflicts`` of this task, and on the ballot.
    """
    catalogue = resources.catalogue_of(service)
    policy, described, request = catalogue.policy, catalogue.service, requested(catalogue)
    past = past_releases(service)
    refuse_unreviewed(
        past,
        service=service,
        change_type=in_force.change_type,
        flows=flows_of(policy, described),
        now=datetime.now(UTC),
    )
    target = "test" if request.rehearsal else "production"
    refuse_marked(service, target, request.version)
    running = what_runs(catalogue, target, fleets.serving(described.environments[target]))
    previous_version, previous_commit = most_common(running)
    with resources.repository(described) as repository:
        commit, ref = repository.resolve(request.ref), repository.full_name(request.ref)
        _refuse_second_commit(repository, request, service, commit.sha)
        commits, count = repository.commits(previous_commit, commit.sha)
        authors = repository.authors(previous_commit, commit.sha)
        messages = repository.messages(previous_commit, commit.sha)
    step = bump(previous_version, request.version)
    _refuse_contradictions(request, step, same_commit=previous_commit == commit.sha, ref=ref)
    risk = assess_risk(policy, described, request, commits=count, step=step, past_releases=past)
    like = None
    if in_force.change_type is ChangeType.STANDARD:
        like = template_for(policy, described, bump=step, risk=risk.score, answers=request.risk, now=datetime.now(UTC))
    tickets, details = tickets_of(policy, request, service, messages)
    plan = ReleasePlan(
        template=like.sentence if like else None,
        service=service,
        version=request.version,
        ref=request.ref,
        commit=commit,
        bump=step,
        change_type=in_force.change_type,
        summary=request.summary,
        tickets=tickets,
        ticket_details=details,
        requested_by=requester(),
        target=target,
        rehearsal=request.rehearsal,
        not_before=request.not_before,
        artifact=request.artifact.removeprefix("sha256:") if request.artifact else None,
        running=running,
        previous_version=previous_version,
        previous_commit=previous_commit,
        commits=commits,
        commit_count=count,
        authors=authors,
        risk=risk,
        plan_approval=_needs_approval(in_force.flow, step, risk.score) and not request.rehearsal,
    )
    if not plan.rehearsal:
        refuse_unmet(in_force, details or unread(tickets), version=plan.version, service=described)
    conflicts.note_of_release(plan, in_force, by_train=request.train is not None)
    return plan


def assess_risk(
    policy: Policy,
    service: Service,
    request: ReleaseRequest,
    *,
    commits: int,
    step: str,
    past_releases: Sequence[PastRelease],
) -> Risk:
    """Assess the risk of a request with the policy's formula.

    :param past_releases: releases that have ended, in any order; those of other services do not count.
    """
    return assess(
        policy.risk,
        answers=request.risk,
        commits=commits,
        tier=service.tier,
        bump=step,
        history=[release for release in past_releases if release.service == service.name],
        declared=request.declared_risk,
    )


def most_common(running: Sequence[RunningRelease]) -> tuple[str | None, str | None]:
    """Return version and commit that most hosts run."""
    counted = Counter((host.version, host.commit) for host in running if host.version)
    return counted.most_common(1)[0][0] if counted else (None, None)


def _refuse_contradictions(request: ReleaseRequest, step: str, *, same_commit: bool, ref: str = "") -> None:
    """Refuse a version that its tag, the target, or the train contradicts.

    :param ref: the full name of the requested tag or branch, if it is one.
    """
    if contradicts(ref or request.ref, request.version):
        said = version_in(ref or request.ref) or f"the version that {request.ref} names"
        raise RequestRefused(
            f"The tag {request.ref} names another version than the requested version {request.version}.",
            rule="a version belongs to one commit: the commit of its tag",
            who="the release manager",
            next_step=f"release it as {said}, or choose the tag {request.version}; if {request.ref} is a branch, enter "
            f"{BRANCHES}{request.ref.removeprefix(TAGS)}",
        )
    if step == "same" and not same_commit:
        raise PolicyViolation(
            f"The target already runs version {request.version}, built from another commit.",
            rule="a version belongs to one commit",
            who="the service's team",
            next_step="release the new commit under a new version",
        )
    if step == "downgrade" and request.train is not None:
        raise PolicyViolation(
            f"The target already runs a later version than {request.version}, which the train would deploy.",
            rule="a train does not deploy an earlier version: its board decided on an upgrade",
            who="the service's team",
            next_step="take the next train, or make a release outside of the train if the downgrade is intended",
        )


def _refuse_second_commit(repository: Repository, request: ReleaseRequest, service: str, commit: str) -> None:
    """Refuse a version whose tag in the repository names another commit."""
    tags = set(repository.tags())
    for tag in (f"{before}{request.version}" for before in ("", "v", f"{service}-", f"{service}-v", f"{service}/v")):
        if tag in tags and (other := repository.resolve(f"{TAGS}{tag}").sha) != commit:
            raise RequestRefused(
                f"The tag {tag} is commit {other[:12]}, but {request.ref} is commit {commit[:12]}.",
                rule="a version belongs to one commit: the commit of its tag",
                who="the release manager",
                next_step=f"release {TAGS}{tag}, or release this commit under a new version",
            )


def _needs_approval(flow: Flow, step: str, risk: int) -> bool:
    return (step == "major" and flow.plan_approval_for_major) or risk >= flow.plan_approval_from_risk


def _authors(policy: Policy, service: Service, book: BoardBook, plan: ReleasePlan) -> tuple[str, ...]:
    """Return the authors of a change, if the policy says that they do not approve it."""
    return boards.barred_authors(flows_of(policy, service)[plan.change_type], plan, book)


@stage_task(task_display_name="Prepare the plan approval", words=ASK_MANAGEMENT)
def prepare_approval(service: str, plan: ReleasePlan) -> list[dict[str, Any]]:
    """Prepare the question to senior management, if the policy requires their approval for this release."""
    if not plan.plan_approval:
        return []
    catalogue = resources.catalogue_of(service)
    policy, board, described = catalogue
    digest = sha256_of(plan)
    answer_by = datetime.now(UTC) + time_limits_of(policy, described).plan_approval
    body = before_asking(catalogue, plan) + render(
        "plan_approval.md.j2", plan=plan, service=described, names=board.names, answer_by=answer_by
    )
    subject = f"Approve the plan of {described.title} {plan.version}"
    asked = boards.others(board.senior_management, {plan.requested_by, *_authors(policy, described, board, plan)})
    return [question(subject, body, digest, persons(board, asked))] if asked else []


@stage_task(task_display_name="Decide on the plan")
def decide_plan(service: str, plan: ReleasePlan) -> Decision:
    """Read the answer of senior management. A rejection, or no answer in time, ends the release."""
    digest = sha256_of(plan)
    if not plan.plan_approval:
        nobody = "The policy requires no approval of this plan."
        return settled(Decision(subject="plan", digest=digest, approved=True, required=False, reason=nobody))
    policy, board, described = resources.catalogue_of(service)
    return settled(
        boards.decide_single(
            board.senior_management,
            votes_on(ASK_MANAGEMENT, digest),
            subject="plan",
            digest=digest,
            requester=plan.requested_by,
            excluded=_authors(policy, described, board, plan),
            expired=True,
            names=board.names,
        )
    )


@stage_group("planning", "changes, target, schedule and risk")
def planning_stage(service: Service, policy: Policy, in_force: XComArg) -> tuple[XComArg, XComArg]:
    """Plan the release, and request the approval if the policy requires it; return the plan and the decision."""
    plan = plan_release(service.name, in_force)
    prepared = prepare_approval(service.name, plan)
    asked = ask(
        prepared,
        task_id="approve_plan",
        title="Approve the plan (senior management)",
        options=[APPROVE, REJECT],
        default=REJECT,
        within=time_limits_of(policy, service).plan_approval,
        doc_md="Senior management approves the plans of major and risky releases. No answer in time is a rejection.",
    )
    decision = decide_plan(service.name, plan)
    chain([prepared, asked], decision)
    return plan, decision
