"""The Dag ``rollback_<service>``: production goes back to a release that it ran before, without building it again.

It is a standard change: no board is asked if the policy asks none, and the board is asked if it does. In place of
building and reviewing, it takes over what the earlier release left in the ledger: bytes, quality report, waivers and
acceptance. Whatever of that does not hold, or is not on record, refuses the rollback. From the rollout plan on it is a
release as any other: the same permits, waves, verification and closure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, XComArg, chain, get_current_context, task_group

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, Service
from interlock.domain.change import policy as rules
from interlock.domain.change.request import LONGEST_SUMMARY
from interlock.domain.change.risk import assess
from interlock.domain.change.semver import bump
from interlock.domain.change.standard import template_for
from interlock.domain.errors import DigestMismatch, GateRejected, PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.outcome import versions
from interlock.domain.outcome.outcome import PRODUCTION
from interlock.domain.outcome.versions import DeployedRelease, RollbackRequest
from interlock.domain.records import (
    Artifact,
    AssetReport,
    Communication,
    Decision,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    RollBack,
    RolloutPlan,
    RunningRelease,
    Waiver,
)
from interlock.domain.rollout.rollout import course_of
from interlock.stages.approvals.people import ask, question, votes_on
from interlock.stages.release.acceptance import acceptance_digest
from interlock.stages.release.communication import announce
from interlock.stages.release.planning import decide_plan
from interlock.stages.release.rollout import board_decides, prepare_ballots, prove_back_out, rule_of
from interlock.stages.runtime import resources
from interlock.stages.runtime.bookings import await_others
from interlock.stages.runtime.catalogue import catalogue_digest, refuse_changed_catalogue
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.history import past_releases
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_task
from interlock.stages.runtime.versions import answers_since, deployed_release, deployed_releases, marks
from interlock.stages.strategies import fleets
from interlock.stages.strategies.rolling import what_runs

ASK = "planning.choose_release"
CANCEL = "Cancel the rollback"
PROVEN = "rollback.proven"
"""The entry with what proves that the release was there before, in the entries of its own chain."""


def rollback_params() -> dict[str, Param]:
    """Return the form of a rollback."""
    return {
        "version": Param(
            "",
            type=["string", "null"],
            maxLength=64,
            title="Back to version",
            description="A version that production ran before, such as 1.4.0. Empty: you are shown which there are, by "
            "the ledger, and choose one under Required Actions.",
        ),
        "reason": Param(
            type="string",
            minLength=5,
            maxLength=200,
            title="Reason",
            description="Why production goes back. Everybody who is told reads it, and it goes on record.",
        ),
        "incident": Param(
            "", type=["string", "null"], maxLength=100, title="Incident", description="Its number, if there is one."
        ),
    }


def asked_for() -> RollbackRequest:
    """Read what was asked for at the form of the rollback, or past it."""
    return versions.parse_rollback(dict(get_current_context()["params"]))


# --- 1 policy --------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Resolve the policy in force", evidence="policy.resolved")
def resolve_rollback(service: str) -> PolicyInForce:
    """Resolve the policy for standard changes; refuse what breaks the form's rules, and what no person asked for."""
    resources.refuse_unguarded()
    policy, _, described = resources.catalogue_of(service)
    request, by = asked_for(), requester()
    asked = {"service": service, "requested_by": by, "change_type": ChangeType.STANDARD.value, "rollback": True}
    record("release.requested", {**asked, **request.model_dump(mode="json")}, actor=by)
    in_force = rules.resolve_policy(policy, described, ChangeType.STANDARD)
    return in_force.model_copy(update={"digest": catalogue_digest(service)})


@task_group(
    group_id="policy", group_display_name="1 Release policy", tooltip="Release policy: which rules hold for a rollback"
)
def policy_stage(service: str) -> XComArg:
    """Resolve the policy in force."""
    return resolve_rollback(service)


# --- 2 planning ------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Offer what there is to go back to", words=ASK)
def offer_releases(service: str, in_force: PolicyInForce) -> list[dict[str, Any]]:
    """Prepare the question which release to go back to, if the form does not say it.

    It offers the releases that the ledger proves production to have run, without those that are marked bad. While a
    release is under way in production, it waits for its end: what there is to go back to depends on it.
    """
    policy, book, described = resources.catalogue_of(service)
    await_others(policy, service, PRODUCTION)
    if asked_for().version:
        return []
    refuse_changed_catalogue(service, in_force.digest)
    may = versions.offers(deployed_releases(service), _running(service), marks(), PRODUCTION)
    if not may:
        raise PolicyViolation(
            f"By the ledger {PRODUCTION} of {service} ran no release before that it could go back to.",
            rule="an environment goes back only to what it ran before, by the ledger, and what is not marked bad",
            who="the release manager",
            next_step="release a version as a normal or an emergency change",
        )
    body = (
        f"# {described.title}: back to which release?\n\nProduction ran these before, by the ledger:\n\n"
        + "\n".join(f"- {versions.offer_line(one)}, commit `{one.commit.sha[:10]}`, `{one.chain}`" for one in may)
    )
    options = [*map(versions.offer_line, may), CANCEL]
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


def _running(service: str) -> tuple[RunningRelease, ...]:
    _, _, described = resources.catalogue_of(service)
    return what_runs(described, PRODUCTION, fleets.serving(described.environments[PRODUCTION]))


@stage_task(task_display_name="Plan the rollback", evidence="plan.made")
def plan_rollback(service: str, in_force: PolicyInForce) -> ReleasePlan:
    """Find the release in the ledger, prove that production ran it, and hold the rollback against the policy.

    Refuses a version that the ledger does not know, that is marked bad, or that is no way back; and a rollback that is
    like no template of the policy's standard changes, such as one past a release that said that there is no way back.
    """
    policy, _, described = resources.catalogue_of(service)
    request, running, said = asked_for(), _running(service), marks()
    deployed = deployed_releases(service, request.version)
    version = request.version or _chosen(versions.offers(deployed, running, said, PRODUCTION))
    release = versions.choose(version, deployed, running, said, PRODUCTION, service)
    step = bump(_previous(running), version)
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
    record(PROVEN, _proof(release, f"{like.name}: {like.title} (authorised by {like.authorised_by})"), seal=True)
    return ReleasePlan(
        service=service,
        version=version,
        ref=version,
        commit=release.commit,
        bump=step,
        change_type=ChangeType.STANDARD,
        summary=f"Back to {version}: {request.reason}"[:LONGEST_SUMMARY],
        tickets=(request.incident,) if request.incident else (),
        requested_by=requester(),
        target=PRODUCTION,
        rehearsal=False,
        not_before=None,
        running=running,
        previous_version=_previous(running),
        previous_commit=next((host.commit for host in running if host.version == _previous(running)), None),
        commits=(),
        commit_count=0,
        risk=risk,
        template=f"{like.name}: {like.title} (authorised by {like.authorised_by})",
        plan_approval=False,
    )


def _previous(running: Sequence[RunningRelease]) -> str | None:
    """Return the version that most hosts run."""
    found = [host.version for host in running if host.version]
    return max(found, key=found.count, default=None)


def _chosen(may: Sequence[DeployedRelease]) -> str:
    """Return the version that whoever asked for the rollback chose, by Airflow's record of the answer."""
    by = requester()
    answers = [vote for vote in votes_on(ASK, _digest_of(may)) if vote.user == by]
    chosen = [one.version for one in may for vote in answers[:1] if vote.choice == versions.offer_line(one)]
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


def _proof(release: DeployedRelease, template: str) -> dict[str, Any]:
    """Return the entries that prove that the release was deployed, and the signatures on them."""
    with resources.ledger() as ledger:
        entries, heads = ledger.entries(release.chain), ledger.heads(release.chain)
    kept = {kind: _last(entries, kind) for kind in ("rollout.frozen", "release.closed")}
    hashes = {entry.hash for entry in kept.values()}
    return {
        "chain": release.chain,
        "template": template,
        "entries": [entry.model_dump(mode="json") for entry in kept.values()],
        "heads": [head.envelope for head in heads if head.hash in hashes],
    }


def _last(entries: Sequence[Entry], kind: str) -> Entry:
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


# --- 3 to 6: what was there before, taken over -----------------------------------------------------------------------


def release_gone_back_to() -> DeployedRelease:
    """Return the release that this rollback goes back to: read from its own chain again, and proven again."""
    proofs = [entry for entry in chain_entries() if entry.kind == PROVEN]
    release = deployed_release(proofs[-1].payload["chain"]) if proofs else None
    if release is not None and release.closed in {entry["hash"] for entry in proofs[-1].payload["entries"]}:
        return release
    raise PolicyViolation(
        "The release to go back to is not on record as deployed, or its record does not hold.",
        rule="an environment goes back only to what it ran before, by the ledger",
        who="the release manager",
        next_step="release that version as a normal or an emergency change",
    )


@stage_task(task_display_name="Check hosts and load balancer", evidence="assets.checked")
def check_targets(service: str, plan: ReleasePlan) -> AssetReport:
    """Compare the hosts and the load balancer with what there is; start hosts that are stopped.

    A rollback needs neither a build tool nor the test environment.
    """
    _, _, described = resources.catalogue_of(service)
    return fleets.ready(service, plan.target, described.environments[plan.target])


@task_group(
    group_id="design",
    group_display_name="3 Hardware and software design",
    tooltip="Hardware and software design: the hosts that go back",
)
def design_stage(service: Service, plan: XComArg) -> XComArg:
    """Check the assets."""
    return check_targets(service.name, plan)


@stage_task(task_display_name="Take the bytes of then", evidence="artifact.built")
def take_artifact(service: str, plan: ReleasePlan) -> Artifact:
    """Take the artifact that the earlier release built, by its record; the bytes in the store are read and checked."""
    release = release_gone_back_to()
    if (release.service, release.version) != (service, plan.version):
        raise PolicyViolation(f"The record is of {release.service} {release.version}, not of {service} {plan.version}.")
    resources.store().get_bytes(release.artifact.bundle)  # the bytes are there, and are those that were recorded
    return release.artifact


@task_group(
    group_id="build",
    group_display_name="4 Build and configure",
    tooltip="Build and configure: nothing is built, the bytes of then are taken",
)
def build_stage(service: Service, plan: XComArg) -> XComArg:
    """Take the artifact."""
    return take_artifact(service.name, plan)


@stage_task(task_display_name="Take the quality report of then", evidence="quality.judged")
def take_report(artifact: Artifact) -> QualityReport:
    """Take the quality report by which the earlier release was judged."""
    release = release_gone_back_to()
    if release.artifact != artifact:
        raise DigestMismatch("The quality report on record is of other bytes than those to go back to.")
    return release.quality


@stage_task(task_display_name="Take the waivers of then")
def take_waivers(report: QualityReport) -> list[Waiver]:
    """Take the waivers that the earlier release had and that still hold.

    :raises PolicyViolation: one is over: what failed then fails again, and somebody has to answer for it.
    """
    now = datetime.now(UTC)
    release = release_gone_back_to()
    holding = [one for one in release.waivers if one.at <= now < one.until]
    bare = [failure for failure in report.failures if not any(one.covers(failure, now) for one in holding)]
    if bare:
        names = "; ".join(f"{failure.suite}: {failure.expected}" for failure in bare)
        raise PolicyViolation(
            f"{release.version} was deployed with waivers, and these are over: {names}.",
            rule="a failed expectation counts unless a waiver holds, after a rollback, too",
            who="those whom the policy names for waivers",
            next_step=f"release {release.version} as an emergency change, and have it waived anew",
        )
    for waiver in holding:
        record("quality.waived", waiver, actor=waiver.by, seal=True)
    return holding


@task_group(
    group_id="quality",
    group_display_name="5 Quality review",
    tooltip="Quality review: the report of then, and the waivers that still hold",
)
def quality_stage(artifact: XComArg) -> tuple[XComArg, XComArg]:
    """Take report and waivers."""
    report = take_report(artifact)
    return report, take_waivers(report)


@stage_task(task_display_name="Take the acceptance of then", evidence="acceptance.decided", seal=True)
def take_acceptance(artifact: Artifact, report: QualityReport) -> Decision:
    """Take over that the earlier release was accepted: exactly these bytes, with exactly this report."""
    release = release_gone_back_to()
    digest = acceptance_digest(artifact, report)
    if release.acceptance.digest != digest:
        raise GateRejected("What was accepted then is not this artifact with this quality report.")
    said = release.acceptance.reason.rstrip(".")
    why = f"It was decided when this was released, in {release.chain}: {said}. A rollback asks nobody again."
    return Decision(subject="acceptance", digest=digest, approved=True, required=False, reason=why)


@task_group(
    group_id="acceptance",
    group_display_name="6 Release accepted",
    tooltip="Release accepted: as it was when it was released",
)
def acceptance_stage(artifact: XComArg, report: XComArg) -> XComArg:
    """Take the acceptance."""
    return take_acceptance(artifact, report)


# --- 7 rollout plan --------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Freeze the rollout plan", evidence="rollout.frozen", seal=True)
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
    """Fix hosts, waves, bundle, and the way forward again if going back fails; a permit is for this and nothing else.

    The plan names the release that it goes back to, by the hash of the entry that closed it.
    """
    _, _, described = resources.catalogue_of(service)
    if not acceptance.approved or acceptance.digest != acceptance_digest(artifact, report):
        raise GateRejected("What was accepted, if anything, is not this artifact with this quality report.")
    release, targets, asked = release_gone_back_to(), assets.hosts[plan.target], rule_of(service, plan)
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
        back_out=prove_back_out(described, plan.target, targets),
        policy_digest=in_force.digest,
        quality_digest=sha256_of(report),
        waivers=tuple(waivers),
        acceptance_digest=acceptance.digest,
        rolls_back=RollBack(chain=release.chain, closed=release.closed, template=plan.template or ""),
    )


@task_group(
    group_id="rollout",
    group_display_name="7 Rollout plan and CAB",
    tooltip="Rollout plan: frozen; a board votes if the policy asks one for standard changes",
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
    doc = "One ballot for each member of the board, if the policy asks one for this rollback."
    return rollout, *board_decides(service, rollout, ballots, deadline, doc_md=doc)


# --- 8 communication -------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Write what people are told", evidence="notes.written")
def write_rollback_notes(service: str, plan: ReleasePlan, decision: Decision) -> Communication:
    """Write for those concerned what production goes back to, and why."""
    _, _, described = resources.catalogue_of(service)
    notes = versions.rollback_notes(described, plan, release_gone_back_to())
    return Communication(notes=resources.store().put_bytes(notes.encode(), "rollback.md"), sent={}, acknowledged={})


@stage_task(task_display_name="Record who was told", evidence="communication.recorded")
def record_told(announced: Communication) -> Communication:
    """Record who was told; nobody is trained again for what they worked with before."""
    return announced


@task_group(
    group_id="communication",
    group_display_name="8 Communicate and train",
    tooltip="Communicate: those concerned are told, while production goes back already",
)
def communication_stage(service: Service, plan: XComArg, decision: XComArg) -> XComArg:
    """Tell people."""
    notes = write_rollback_notes(service.name, plan, decision)
    return record_told(announce(service.name, plan, notes))
