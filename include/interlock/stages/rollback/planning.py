"""The second stage of a rollback: which release production goes back to, and whether the policy allows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import XComArg, chain, task_group

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, Service
from interlock.domain.change.request import MAX_SUMMARY_LENGTH
from interlock.domain.change.risk import assess
from interlock.domain.change.semver import bump
from interlock.domain.change.standard import template_for
from interlock.domain.errors import GateRejected, PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.outcome import rollback
from interlock.domain.outcome.deployments import DeployedRelease
from interlock.domain.outcome.outcome import PRODUCTION
from interlock.domain.records import PolicyInForce, ReleasePlan, RunningRelease
from interlock.stages.approvals.people import ask, question, votes_on
from interlock.stages.release.planning import decide_plan
from interlock.stages.runtime import resources
from interlock.stages.runtime.bookings import await_others
from interlock.stages.runtime.catalogue import refuse_changed_catalogue
from interlock.stages.runtime.evidence import record
from interlock.stages.runtime.history import past_releases
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_task
from interlock.stages.runtime.versions import answers_since, deployed_releases, marks
from interlock.stages.strategies import fleets
from interlock.stages.strategies.rolling import what_runs

from .earlier_release import PROVEN
from .policy import read_request

ASK = "planning.choose_release"
CANCEL = "Cancel the rollback"


@stage_task(task_display_name="Offer what there is to go back to", words=ASK)
def offer_releases(service: str, in_force: PolicyInForce) -> list[dict[str, Any]]:
    """Prepare the question which release to go back to, if the form does not say it.

    It offers the releases that the ledger proves production to have run, without those that are marked bad. While a
    release is under way in production, it waits for its end: what there is to go back to depends on it.
    """
    policy, book, described = resources.catalogue_of(service)
    await_others(policy, service, PRODUCTION)
    if read_request().version:
        return []
    refuse_changed_catalogue(service, in_force.digest)
    may = rollback.find_candidates(deployed_releases(service), _running_releases(service), marks(), PRODUCTION)
    if not may:
        raise PolicyViolation(
            f"By the ledger {PRODUCTION} of {service} ran no release before that it could go back to.",
            rule="an environment goes back only to what it ran before, by the ledger, and what is not marked bad",
            who="the release manager",
            next_step="release a version as a normal or an emergency change",
        )
    body = (
        f"# {described.title}: back to which release?\n\nProduction ran these before, by the ledger:\n\n"
        + "\n".join(
            f"- {rollback.describe_candidate(one)}, commit `{one.commit.sha[:10]}`, `{one.chain}`" for one in may
        )
    )
    options = [*map(rollback.describe_candidate, may), CANCEL]
    return [
        question(
            f"Choose the release to go back to: {described.title}",
            body,
            _digest_of(may),
            [book.person(requester())],
            options=options,
        )
    ]


def _digest_of(may: Sequence[DeployedRelease]) -> str:
    return sha256_of({"offered": [one.closed for one in may]})


def _running_releases(service: str) -> tuple[RunningRelease, ...]:
    _, _, described = resources.catalogue_of(service)
    return what_runs(described, PRODUCTION, fleets.serving(described.environments[PRODUCTION]))


@stage_task(task_display_name="Plan the rollback", evidence="plan.made")
def plan_rollback(service: str, in_force: PolicyInForce) -> ReleasePlan:
    """Find the release in the ledger, prove that production ran it, and hold the rollback against the policy.

    Refuses a version that the ledger does not know, that is marked bad, or that is no way back; and a rollback that is
    like no template of the policy's standard changes, such as one past a release that said that there is no way back.
    """
    policy, _, described = resources.catalogue_of(service)
    request, running, said = read_request(), _running_releases(service), marks()
    deployed = deployed_releases(service, request.version)
    version = request.version or _chosen_version(rollback.find_candidates(deployed, running, said, PRODUCTION))
    release = rollback.choose_release(version, deployed, running, said, PRODUCTION, service)
    step = bump(_previous_version(running), version)
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
    record(PROVEN, _read_proof(release, f"{like.name}: {like.title} (authorised by {like.authorised_by})"), seal=True)
    return ReleasePlan(
        service=service,
        version=version,
        ref=version,
        commit=release.commit,
        bump=step,
        change_type=ChangeType.STANDARD,
        summary=f"Back to {version}: {request.reason}"[:MAX_SUMMARY_LENGTH],
        tickets=(request.incident,) if request.incident else (),
        requested_by=requester(),
        target=PRODUCTION,
        rehearsal=False,
        not_before=None,
        running=running,
        previous_version=_previous_version(running),
        previous_commit=next((host.commit for host in running if host.version == _previous_version(running)), None),
        commits=(),
        commit_count=0,
        risk=risk,
        template=f"{like.name}: {like.title} (authorised by {like.authorised_by})",
        plan_approval=False,
    )


def _previous_version(running: Sequence[RunningRelease]) -> str | None:
    """Return the version that most hosts run."""
    found = [host.version for host in running if host.version]
    return max(found, key=found.count, default=None)


def _chosen_version(may: Sequence[DeployedRelease]) -> str:
    """Return the version that whoever asked for the rollback chose, by Airflow's record of the answer."""
    by = requester()
    answers = [vote for vote in votes_on(ASK, _digest_of(may)) if vote.user == by]
    chosen = [one.version for one in may for vote in answers[:1] if vote.choice == rollback.describe_candidate(one)]
    if not chosen:
        raise GateRejected(
            "No release was chosen to go back to, or what there was to choose from has changed.",
            rule="whoever asks for a rollback says to which release",
            who="the release manager",
            next_step="trigger it again, with the version in the form",
        )
    return chosen[0]


def _refuse_unasked(in_force: PolicyInForce, release: DeployedRelease, risk: int) -> None:
    """Refuse a rollback for which the policy asks people whom only a release asks."""
    problem = ""
    if risk >= in_force.flow.plan_approval_from_risk:
        problem = (
            f"its risk is {risk}, and from {in_force.flow.plan_approval_from_risk} on management approves the plan"
        )
    elif in_force.flow.acceptance and not release.acceptance.required:
        problem = f"nobody accepted {release.version} when it was released, and the policy asks for an acceptance"
    if problem:
        raise PolicyViolation(
            f"This is no rollback that may be done without them: {problem}.",
            rule="change_types.standard, in policy.yaml",
            who="whoever keeps that file",
            next_step=f"release {release.version} as a normal or an emergency change",
        )


def _read_proof(release: DeployedRelease, template: str) -> dict[str, Any]:
    """Return the entries that prove that the release was deployed, and the signatures on them."""
    with resources.ledger() as ledger:
        entries, heads = ledger.entries(release.chain), ledger.heads(release.chain)
    kept = {kind: _last_entry(entries, kind) for kind in ("rollout.frozen", "release.closed")}
    hashes = {entry.hash for entry in kept.values()}
    return {
        "chain": release.chain,
        "template": template,
        "entries": [entry.model_dump(mode="json") for entry in kept.values()],
        "heads": [head.envelope for head in heads if head.hash in hashes],
    }


def _last_entry(entries: Sequence[Entry], kind: str) -> Entry:
    return next(entry for entry in reversed(entries) if entry.kind == kind)


@task_group(
    group_id="planning",
    group_display_name="2 Release planning",
    tooltip="Release planning: which release to go back to, and whether that may be done",
)
def planning_stage(service: Service, in_force: XComArg) -> tuple[XComArg, XComArg]:
    """Offer, choose and plan; return the plan and the decision on it."""
    offered = offer_releases(service.name, in_force)
    over = ask(
        offered,
        task_id="choose_release",
        title="Choose the release to go back to",
        default=CANCEL,
        within=timedelta(hours=4),
        doc_md="Asked of whoever triggered the rollback, if the form does not name a version. Silence cancels it.",
    )
    plan = plan_rollback(service.name, in_force)
    chain([offered, over], plan)
    return plan, decide_plan(service.name, plan)
