"""The second stage of a rollback: choose the release to roll back to, and check it against the policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import XComArg, chain

from interlock.domain.board.questions import ASK_ROLLBACK
from interlock.domain.calendars import stops
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PRODUCTION, ChangeType, Service, ServiceCatalogue
from interlock.domain.change import amended
from interlock.domain.change.request import MAX_SUMMARY_LENGTH
from interlock.domain.change.risk import assess
from interlock.domain.change.semver import bump
from interlock.domain.change.standard import template_for
from interlock.domain.errors import GateRejected, PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import PLAN_MADE, RELEASE_CLOSED, ROLLBACK_PROVEN, ROLLOUT_FROZEN
from interlock.domain.outcome import rollback
from interlock.domain.outcome.deployments import DeployedRelease
from interlock.domain.records import PolicyInForce, ReleasePlan, RunningRelease
from interlock.stages.approvals.in_force import in_force_now
from interlock.stages.approvals.people import ask, question, votes_on
from interlock.stages.release.planning import decide_plan, most_common
from interlock.stages.runtime import resources
from interlock.stages.runtime.bookings import await_others
from interlock.stages.runtime.evidence import record
from interlock.stages.runtime.history import past_releases
from interlock.stages.runtime.permits import stops_now
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_group, stage_task
from interlock.stages.runtime.versions import answers_since, deployed_releases, marks
from interlock.stages.strategies import fleets
from interlock.stages.strategies.rolling import what_runs

from .policy import read_request

CANCEL = "Cancel the rollback"


@stage_task(task_display_name="List the releases to roll back to", words=ASK_ROLLBACK)
def offer_releases(service: str, in_force: PolicyInForce) -> list[dict[str, Any]]:
    """Prepare the question which release to roll back to, if the form does not name a version.

    The question lists the releases that production ran according to the ledger, except those that are marked bad. If
    another release is in progress in production, this task first waits until it has ended.
    """
    catalogue = resources.catalogue_of(service)
    policy, book, described = catalogue
    await_others(policy, service, PRODUCTION)
    if read_request().version:
        return []
    _refuse_changed(catalogue, in_force)
    stops.refuse_stopped_release(stops_now(described), None)
    may = rollback.find_candidates(deployed_releases(service), _running_releases(catalogue), marks(), PRODUCTION)
    if not may:
        raise PolicyViolation(
            f"The ledger has no earlier release of {service} in {PRODUCTION} to roll back to.",
            rule="a rollback returns to a release that the environment ran before and that is not marked bad",
            who="the release manager",
            next_step="release a version as a normal or an emergency change",
        )
    body = (
        f"{in_force_now(catalogue, PRODUCTION)}"
        f"# {described.title}: which release to roll back to?\n\nProduction ran these releases before:\n\n"
        + "\n".join(
            f"- {rollback.describe_candidate(one)}, commit `{one.commit.sha[:10]}`, `{one.chain}`" for one in may
        )
    )
    options = [*map(rollback.describe_candidate, may), CANCEL]
    return [
        question(
            f"Choose the release to roll back to: {described.title}",
            body,
            _digest_of(may),
            [book.person(requester())],
            options=options,
        )
    ]


def _digest_of(may: Sequence[DeployedRelease]) -> str:
    return sha256_of({"offered": [one.closed for one in may]})


def _refuse_changed(catalogue: ServiceCatalogue, in_force: PolicyInForce) -> None:
    """Refuse to go on if the catalogue changed since the rollback started."""
    if changed := amended.what_voids(in_force, catalogue):
        raise PolicyViolation(
            f"The rules of this release changed after it started: {'; '.join(changed)}.",
            rule="a release is deployed by the rules by which it was approved",
            who="the release manager",
            next_step="trigger the release again, so that it is planned and approved with the current catalogue",
        )


def _running_releases(catalogue: ServiceCatalogue) -> tuple[RunningRelease, ...]:
    return what_runs(catalogue, PRODUCTION, fleets.serving(catalogue.service.environments[PRODUCTION]))


@stage_task(task_display_name="Plan the rollback", evidence=PLAN_MADE)
def plan_rollback(service: str, in_force: PolicyInForce) -> ReleasePlan:
    """Find the release in the ledger, verify that production ran it, and check the rollback against the policy.

    Refuses a version that the ledger does not know, that is marked bad, or that is not an earlier version. Refuses a
    rollback that matches no template of standard changes, for example because a later release cannot be undone.
    """
    catalogue = resources.catalogue_of(service)
    policy, described = catalogue.policy, catalogue.service
    request, running, said = read_request(), _running_releases(catalogue), marks()
    deployed = deployed_releases(service, request.version)
    version = request.version or _chosen_version(rollback.find_candidates(deployed, running, said, PRODUCTION))
    release = rollback.choose_release(version, deployed, running, said, PRODUCTION, service)
    previous_version, previous_commit = most_common(running)
    step = bump(previous_version, version)
    answers = answers_since(release, policy)
    risk = assess(
        policy.risk,
        answers=answers,
        commits=0,
        tier=described.tier,
        bump=step,
        history=past_releases(service),
        declared=None,
    )
    like = template_for(policy, described, bump="rollback", risk=risk.score, answers=answers, now=datetime.now(UTC))
    _refuse_unasked(in_force, release, risk.score)
    record(
        ROLLBACK_PROVEN,
        _read_proof(release, like.sentence),
        seal=True,
    )
    return ReleasePlan(
        service=service,
        version=version,
        ref=version,
        commit=release.commit,
        bump=step,
        change_type=ChangeType.STANDARD,
        summary=f"Roll back to {version}: {request.reason}"[:MAX_SUMMARY_LENGTH],
        tickets=(request.incident,) if request.incident else (),
        requested_by=requester(),
        target=PRODUCTION,
        rehearsal=False,
        not_before=None,
        running=running,
        previous_version=previous_version,
        previous_commit=previous_commit,
        commits=(),
        commit_count=0,
        risk=risk,
        template=like.sentence,
        plan_approval=False,
    )


def _chosen_version(may: Sequence[DeployedRelease]) -> str:
    """Return the version that the requester chose, according to Airflow's record of the answer."""
    by = requester()
    answers = [vote for vote in votes_on(ASK_ROLLBACK, _digest_of(may)) if vote.user == by]
    chosen = [one.version for one in may for vote in answers[:1] if vote.choice == rollback.describe_candidate(one)]
    if not chosen:
        raise GateRejected(
            "No release was chosen to roll back to, or the list of releases has changed since.",
            rule="the requester of a rollback chooses the release",
            who="the release manager",
            next_step="trigger the rollback again, with the version in the form",
        )
    return chosen[0]


def _refuse_unasked(in_force: PolicyInForce, release: DeployedRelease, risk: int) -> None:
    """Refuse a rollback that needs an approval which only a release requests."""
    problem = ""
    if risk >= in_force.flow.plan_approval_from_risk:
        problem = (
            f"its risk is {risk}, and senior management approves plans with a risk of "
            f"{in_force.flow.plan_approval_from_risk} or more"
        )
    elif in_force.flow.acceptance and not release.acceptance.required:
        problem = f"the policy requires an acceptance, and {release.version} was released without one"
    if problem:
        raise PolicyViolation(
            f"The rollback needs an approval that a rollback does not request: {problem}.",
            rule="change_types.standard, in policy.yaml",
            who="the owner of policy.yaml",
            next_step=f"release {release.version} as a normal or an emergency change",
        )


def _read_proof(release: DeployedRelease, template: str) -> dict[str, Any]:
    """Return the entries that prove that the release was deployed, and the signatures on them."""
    with resources.ledger() as ledger:
        entries, heads = ledger.entries(release.chain), ledger.heads(release.chain)
    kept = {kind: _last_entry(entries, kind) for kind in (ROLLOUT_FROZEN, RELEASE_CLOSED)}
    hashes = {entry.hash for entry in kept.values()}
    return {
        "chain": release.chain,
        "template": template,
        "entries": [entry.model_dump(mode="json") for entry in kept.values()],
        "heads": [head.envelope for head in heads if head.hash in hashes],
    }


def _last_entry(entries: Sequence[Entry], kind: str) -> Entry:
    return next(entry for entry in reversed(entries) if entry.kind == kind)


@stage_group("planning", "choose the release to roll back to, and check it against the policy")
def planning_stage(service: Service, in_force: XComArg) -> tuple[XComArg, XComArg]:
    """List the releases, ask which one, and plan; return the plan and the decision on it."""
    offered = offer_releases(service.name, in_force)
    over = ask(
        offered,
        task_id="choose_release",
        title="Choose the release to roll back to",
        default=CANCEL,
        within=timedelta(hours=4),
        doc_md="Asks the requester of the rollback, if the form does not name a version. No answer in time cancels it.",
    )
    plan = plan_rollback(service.name, in_force)
    chain([offered, over], plan)
    return plan, decide_plan(service.name, plan)
