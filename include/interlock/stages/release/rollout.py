"""Stage 7, rollout plan and CAB: freeze waves and a verified back-out; the board votes on the digest of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import XComArg, chain

from interlock.adapters.airflow.rest_api import Answer
from interlock.adapters.artifacts.bundle import executables
from interlock.adapters.templates import render
from interlock.adapters.testing.matrices import matrix_of
from interlock.domain.board import decision as boards
from interlock.domain.board import seats, voting
from interlock.domain.board.questions import ASK_BOARD
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PRODUCTION, Policy, Service, ServiceCatalogue
from interlock.domain.change.amended import rule_in_force
from interlock.domain.change.request import ReleaseRequest
from interlock.domain.dag_names import is_rollback
from interlock.domain.errors import AssetMissing, GateRejected
from interlock.domain.ledger.kinds import MIGRATION_REHEARSED, ROLLOUT_FROZEN
from interlock.domain.ledger.reading import last_in
from interlock.domain.paths import matrix_page, quality_page
from interlock.domain.records import (
    Artifact,
    AssetReport,
    BackOutPlan,
    Decision,
    EnvironmentPassed,
    Host,
    MigrationRehearsal,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    RollBack,
    RolloutPlan,
    Waiver,
)
from interlock.domain.rollout.rollout import course_of, describe_strategy
from interlock.domain.runbook import rehearsal
from interlock.domain.runbook.planning import (
    describe_irreversible,
    describe_steps,
    planned_steps,
    refuse_missing_scripts,
    refuse_unvoted,
)
from interlock.domain.testing.matrix import worst_first
from interlock.stages.approvals.amended import note, refuse_unasked
from interlock.stages.approvals.await_authorities import AwaitAuthorities
from interlock.stages.approvals.ballots import AwaitBallots
from interlock.stages.approvals.decisions import settled
from interlock.stages.approvals.elsewhere import note_conflicts_elsewhere
from interlock.stages.approvals.in_force import before_asking
from interlock.stages.approvals.people import ask_board, ballots, votes_on
from interlock.stages.approvals.reminders import remind_in_time
from interlock.stages.rollback.earlier_release import read_earlier_release
from interlock.stages.runbook.contract import refuse_contracts
from interlock.stages.runbook.places import pinned_steps
from interlock.stages.runtime import resources
from interlock.stages.runtime.calendars import foreseen, overrides_at
from interlock.stages.runtime.conflicts import noted
from interlock.stages.runtime.evidence import chain_entries, refuse_void
from interlock.stages.runtime.taskflow import stage_group, stage_task, this_run
from interlock.stages.strategies.rolling import hosts_lacking, what_runs
from interlock.stages.trains import passengers

from .acceptance import acceptance_digest
from .policy import requested


@stage_task(task_display_name="Freeze the rollout plan", evidence=ROLLOUT_FROZEN, seal=True)
def freeze_plan(
    service: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    assets: AssetReport,
    artifact: Artifact,
    report: QualityReport,
    waivers: list[Waiver],
    acceptance: Decision,
    environments: tuple[EnvironmentPassed, ...] = (),
) -> RolloutPlan:
    """Freeze hosts, waves, bundle and back-out plan. Votes and permits are bound to the digest of this plan.

    The back-out is checked first: each host must still have the release that it would return to. The plan of a rollback
    names the release to roll back to by the hash of its closing entry in the ledger.
    """
    catalogue = resources.catalogue_of(service)
    back = read_earlier_release() if is_rollback(this_run()[0]) else None
    passed = (back.rollout.environments or ()) if back else environments
    if not acceptance.approved or acceptance.digest != acceptance_digest(artifact, report, passed):
        raise GateRejected("This artifact with this quality report was not accepted.")
    train = None if back else requested(catalogue).train
    targets = assets.hosts[plan.target]
    steps = () if back else planned_steps(catalogue.service, targets, rehearsal=plan.rehearsal)
    runbook = pinned_steps(steps)
    rule = rule_of(catalogue, plan, irreversible=any(step.is_irreversible for step in runbook))
    refuse_contracts(catalogue, runbook)
    refuse_unvoted(runbook, plan.change_type, asked=rule is not None)
    ticket, chose_passengers = passengers.decision_of(train)
    # A rehearsal on test goes through production's waves: the graph is the same.
    production, paths = catalogue.service.environments[PRODUCTION], catalogue.service.load.paths
    course = course_of(production, assets, plan.target, paths, directly=back is not None)
    bundle = resources.store().get_bytes(artifact.bundle)  # verifies that the store has the recorded bytes
    refuse_missing_scripts(runbook, executables(bundle) if runbook else ())
    barred = (*boards.barred_authors(in_force.flow, plan, catalogue.board), *chose_passengers)
    rehearsed = None if back else last_in(chain_entries(), MIGRATION_REHEARSED, MigrationRehearsal)
    frozen = RolloutPlan(
        service=service,
        version=plan.version,
        commit=plan.commit.sha,
        change_type=plan.change_type,
        environment=plan.target,
        environments=passed or None,
        rehearsal=plan.rehearsal,
        summary=plan.summary,
        tickets=plan.tickets,
        ticket_details=plan.ticket_details,
        requested_by=plan.requested_by,
        excluded=tuple(dict.fromkeys(barred)),
        risk=plan.risk.score,
        bundle=artifact.bundle,
        **course.fields(),
        not_before=plan.not_before,
        decide_by=datetime.now(UTC) + rule.deadline if rule and not ticket else None,
        train=ticket,
        back_out=prove_back_out(catalogue, plan.target, targets),
        policy_digest=in_force.digest,
        quality_digest=sha256_of(report),
        waivers=tuple(waivers),
        acceptance_digest=acceptance.digest,
        connections=resources.connections_now(catalogue.service, targets),
        artifact=artifact.origin.sha256 if artifact.origin else None,
        rolls_back=RollBack(chain=back.chain, closed=back.closed, template=plan.template or "") if back else None,
        runbook=runbook or None,
        migrations=rehearsed,
    )
    rehearsal.refuse_unproven(frozen, rehearsed)
    return frozen


def rule_of(
    catalogue: ServiceCatalogue, plan: ReleasePlan | RolloutPlan, *, irreversible: bool | None = None
) -> voting.VotingRule | None:
    """Return what the boards and rules that match a release ask, merged; None if it needs no vote.

    :param irreversible: a step of it cannot be taken back; none: the frozen plan says so.
    """
    return rule_in_force(catalogue, plan, chain_entries(), irreversible=irreversible)


def prove_back_out(catalogue: ServiceCatalogue, environment: str, targets: tuple[Host, ...]) -> BackOutPlan:
    """Find the release that each host would return to, and check that the host still has all its files.

    :raises AssetMissing: a host no longer has the release that it runs.
    """
    running = what_runs(catalogue, environment, targets)
    releases = {host.host: host.release for host in running}
    if lacking := hosts_lacking(catalogue, environment, targets, releases):
        raise AssetMissing(
            f"A back-out is not possible: {', '.join(lacking)} of {environment} no longer has the files of the release "
            "that it runs.",
            rule="a rollout plan is frozen only if its back-out is possible",
            who="the service's team",
            next_step="repair these hosts, then trigger the release again",
        )
    return BackOutPlan(releases=releases, versions={host.host: host.version for host in running}, on_hosts=True)


@stage_task(task_display_name="Prepare the ballots", words=ASK_BOARD)
def prepare_ballots(
    service: str,
    plan: ReleasePlan,
    report: QualityReport,
    rollout: RolloutPlan,
    acceptance: Decision,
) -> list[dict[str, Any]]:
    """Prepare one ballot for each member of the board who may vote on this release, or for their delegate."""
    catalogue = resources.catalogue_of(service)
    board, book = rule_of(catalogue, rollout), catalogue.board
    if board is None or rollout.decide_by is None:  # no vote is required, or the board of its train voted
        return []
    note_conflicts_elsewhere()
    moments = {"at the planned start": rollout.not_before, "at the deadline of this vote": rollout.decide_by}
    coming = {moment: at for moment, at in moments.items() if at is not None}
    body = before_asking(catalogue, plan) + render(
        "ballot.md.j2",
        plan=plan,
        calendars=foreseen(catalogue, rollout.environment, coming),
        overrides=overrides_at(catalogue.service, rollout.environment, datetime.now(UTC)),
        service=catalogue.service,
        report=report,
        rollout=rollout,
        waivers=rollout.waivers,
        strategy=describe_strategy(rollout),
        runbook=describe_steps(rollout.steps, book.names),
        irreversible=describe_irreversible(rollout),
        rehearsed_back=rehearsal.describe_way_back(rollout.steps),
        board=board,
        acceptance=acceptance,
        answered_yes=[] if rollout.rolls_back else _answered_yes(catalogue.policy, requested(catalogue)),
        names=book.names,
        conflicts=noted(),
        left_out=seats.describe_exclusions(
            board,
            asked_by=[plan.requested_by],
            authors=[user for user in boards.authors_of(plan.wrote, book) if user in rollout.excluded],
            excluded=rollout.excluded,
        ),
        quality_page=quality_page(*this_run()),
        matrix=worst_first(matrix_of(chain_entries(), resources.store()) or ()),
        matrix_page=matrix_page(*this_run()),
    )
    return ballots(
        board,
        book,
        f"Vote: {catalogue.service.title} {plan.version} to {rollout.environment}",
        body,
        rollout.digest,
        until=rollout.decide_by,
        requester=plan.requested_by,
        asked_by=[plan.requested_by],
        excluded=rollout.excluded,
    )


def _answered_yes(policy: Policy, request: ReleaseRequest) -> list[str]:
    return [question.question for question in policy.risk.questions if request.risk.get(question.key)]


def count(catalogue: ServiceCatalogue, rollout: RolloutPlan, *, expired: bool = True) -> Decision | None:
    """Count the ballots of this run from Airflow's record of them; None while the board is still open.

    :param expired: no further vote counts.
    """
    board = rule_of(catalogue, rollout)
    if board is None:
        why = (
            "A rehearsal needs no vote."
            if rollout.rehearsal
            else f"The policy requires no vote for a {rollout.change_type} change."
        )
        return Decision(subject="board", digest=rollout.digest, approved=True, required=False, reason=why)
    if rollout.train is not None:
        return passengers.count_on_train(board, rollout)
    in_time = [
        vote
        for vote in votes_on(ASK_BOARD, rollout.digest)
        if vote.at is not None and (rollout.decide_by is None or vote.at <= rollout.decide_by)
    ]
    return boards.count_votes(
        board,
        in_time,
        digest=rollout.digest,
        requester=rollout.requested_by,
        excluded=rollout.excluded,
        expired=expired,
    )


class AwaitBoard(AwaitBallots):
    """Wait until the board has decided or its deadline has passed, then close the open ballots. Uses no worker slot.

    Members who have not voted get one reminder by e-mail before the deadline.

    :param service: the service's name.
    :param rollout: the frozen rollout plan.
    :param ballots: the prepared ballots; empty if no vote is required.
    """

    template_fields = ("rollout", "ballots")
    asks = ASK_BOARD

    def __init__(self, *, service: str, rollout: Any, ballots: Any, **kwargs: Any) -> None:
        super().__init__(ballots=ballots, **kwargs)
        self.service = service
        self.rollout = rollout

    @property
    def plan(self) -> RolloutPlan:
        """The frozen rollout plan."""
        return RolloutPlan.from_xcom(self.rollout)

    @property
    def decide_by(self) -> datetime | None:
        """The board's deadline; None if it needs no vote."""
        return self.plan.decide_by

    def count(self, *, expired: bool) -> Decision | None:
        """Count the votes on the recorded plan; None while the board is still open."""
        plan, catalogue = self.plan, resources.catalogue_of(self.service)
        refuse_void([plan])
        amendments = note(catalogue)
        if self.ballots and (rule := rule_of(catalogue, plan)):
            refuse_unasked(rule, amendments, self.ballots)
        return count(catalogue, plan, expired=expired)

    def next_look(self, cast: Sequence[Answer]) -> datetime | None:
        """Send the reminders if they are due; return when to check next."""
        catalogue = resources.catalogue_of(self.service)
        rule = rule_of(catalogue, self.plan)
        return remind_in_time(catalogue, rule, self.plan, cast) if rule else self.decide_by

    def settled(self, decision: Decision) -> dict[str, Any]:
        """Record the decision with the rule by which it was made; raise GateRejected if the board rejected."""
        rule = rule_of(resources.catalogue_of(self.service), self.plan)
        return settled(decision, board=rule and rule.model_dump(mode="json"), **_about(self.plan, rule)).to_xcom()


def _about(rollout: RolloutPlan, rule: voting.VotingRule | None) -> dict[str, Any]:
    """Return further fields of the recorded decision: for a passenger, the train whose votes were counted."""
    if rollout.train is None or rule is None:
        return {}
    passengers.keep_proof(rollout)
    return {"train": rollout.train.model_dump(mode="json")}


@stage_group("rollout", "freeze the plan; the board votes on its digest, if the policy requires a vote")
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
    environments: Sequence[XComArg] = (),
    *,
    elsewhere: bool = False,
) -> tuple[XComArg, XComArg, EmptyOperator | None]:
    """Freeze the plan, ask the board and wait for it; return the plan, the decision, and the end of the ballots.

    :param deadline: the longest that a board may take; none: no change type requires a vote.
    :param environments: how the release passed the environments between test and production.
    :param elsewhere: releases of the service may need approvals in other systems.
    """
    rollout = freeze_plan(
        service.name, in_force, plan, assets, artifact, report, waivers, acceptance, list(environments)
    )
    ballots = prepare_ballots(service.name, plan, report, rollout, acceptance)
    doc = "One ballot for each member of the board, on the digest of the frozen rollout plan, if a vote is required."
    over = ask_board(ballots, deadline, doc_md=doc)
    decision = AwaitBoard(
        task_id="await_board",
        task_display_name="Wait for the board",
        service=service.name,
        rollout=rollout,
        ballots=ballots,
        retries=5,
        doc_md=AwaitBoard.__doc__,
    )
    chain(rollout, ballots, decision)
    if not elsewhere:
        return rollout, decision.output, over
    approved = AwaitAuthorities(
        task_id="await_authorities",
        task_display_name="Wait for approvals in other systems",
        service=service.name,
        rollout=rollout,
        decision=decision.output,
        retries=5,
        doc_md=AwaitAuthorities.__doc__,
    )
    return rollout, approved.output, over
