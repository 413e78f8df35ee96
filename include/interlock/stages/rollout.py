"""Stage 7, rollout plan and CAB: waves and a proven back-out, frozen; then the board votes on exactly that digest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator, XComArg, chain, task_group

from include.interlock.adapters.templates import render
from include.interlock.domain import board as boards
from include.interlock.domain.canonical import sha256_of
from include.interlock.domain.catalogue import Board, BoardBook, Flow, Policy, Service
from include.interlock.domain.errors import AssetMissing, DigestMismatch, GateRejected, TransientError
from include.interlock.domain.records import (
    Artifact,
    AssetReport,
    BackOutPlan,
    Decision,
    Host,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    RolloutPlan,
)
from include.interlock.domain.rollout import split_waves

from . import resources
from .people import ABSTAIN, APPROVE, CLERK, REJECT, ask, persons, question, votes_on
from .planning import settled
from .policy import refuse_changed_catalogue
from .rolling import hosts_lacking, what_runs
from .taskflow import reasons_kept, stage_task, this_run
from .triggers import AnswersTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

ASK = "rollout.cast_ballot"
CLOSING_TIME = 60.0
"""Seconds that closing the ballots left open may take."""


@stage_task(task_display_name="Freeze the rollout plan")
def freeze_plan(
    service: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    assets: AssetReport,
    artifact: Artifact,
    report: QualityReport,
    acceptance: Decision,
) -> RolloutPlan:
    """Fix hosts, waves, bundle and back-out; the digest of this record is what the board decides on.

    The back-out is proven first: every host still has the release that it would go back to.
    """
    _, board, described = resources.catalogue_of(service)
    targets = assets.hosts[plan.target]
    asked = board_of(in_force.flow, board, plan)
    resources.store().get_bytes(artifact.bundle)  # the bytes are there, and are those that were recorded
    return RolloutPlan(
        service=service,
        version=plan.version,
        commit=plan.commit.sha,
        change_type=plan.change_type,
        environment=plan.target,
        rehearsal=plan.rehearsal,
        summary=plan.summary,
        tickets=plan.tickets,
        requested_by=plan.requested_by,
        risk=plan.risk.score,
        bundle=artifact.bundle,
        # A rehearsal on test goes through production's waves: the graph is the same.
        waves=split_waves(targets, described.environments["production"].waves),
        target_group=assets.target_groups.get(plan.target),
        not_before=plan.not_before,
        decide_by=datetime.now(UTC) + asked.quorum.deadline if asked else None,
        back_out=prove_back_out(described, plan.target, targets),
        policy_digest=in_force.digest,
        quality_digest=sha256_of(report),
        acceptance_digest=acceptance.digest,
    )


def board_of(flow: Flow, board: BoardBook, plan: ReleasePlan | RolloutPlan) -> Board | None:
    """Return the board that votes on a release, if any does."""
    return None if plan.rehearsal or flow.board is None else board.boards[flow.board]


def prove_back_out(service: Service, environment: str, targets: tuple[Host, ...]) -> BackOutPlan:
    """Find what each host would go back to, and check that it is still there, whole.

    :raises AssetMissing: a host no longer has the release that it runs.
    """
    described = service.environments[environment]
    running = what_runs(described, targets)
    releases = {host.host: host.release for host in running}
    if lacking := hosts_lacking(described, targets, releases):
        raise AssetMissing(
            f"No back-out is possible: {', '.join(lacking)} of {environment} no longer has the release that it runs.",
            rule="a rollout plan is frozen only with a back-out that can be done",
            who="the service's team",
            next_step="repair those hosts, then trigger the release again",
        )
    return BackOutPlan(releases=releases, versions={host.host: host.version for host in running}, on_hosts=True)


@stage_task(task_display_name="Prepare the ballots")
def prepare_ballots(
    service: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    report: QualityReport,
    rollout: RolloutPlan,
) -> list[dict[str, Any]]:
    """Prepare one ballot for each member of the board who may vote on this release."""
    _, book, described = resources.catalogue_of(service)
    board = board_of(in_force.flow, book, rollout)
    if board is None:
        return []
    body = render(
        "ballot.md.j2",
        plan=plan,
        service=described,
        artifact=artifact,
        report=report,
        rollout=rollout,
        board=board,
        in_force=in_force,
        digest=rollout.digest,
    )
    subject = f"{board.title}: release {described.title} {plan.version} to {rollout.environment}?"
    members = boards.eligible_members(board, requester=plan.requested_by)
    return [question(subject, body, rollout.digest, [member]) for member in persons(book, members)]


def count(service: str, rollout: RolloutPlan, *, expired: bool) -> Decision | None:
    """Count the ballots of this run from Airflow's record of them; None while the board is still open."""
    policy, book, _ = resources.catalogue_of(service)
    board = board_of(policy.change_types[rollout.change_type], book, rollout)
    if board is None:
        why = (
            "A rehearsal asks no board."
            if rollout.rehearsal
            else f"The policy asks no board for a {rollout.change_type} change."
        )
        return Decision(subject="board", digest=rollout.digest, approved=True, required=False, reason=why)
    in_time = [
        vote
        for vote in votes_on(ASK, rollout.digest)
        if vote.at is not None and (rollout.decide_by is None or vote.at <= rollout.decide_by)
    ]
    return boards.count_votes(board, in_time, digest=rollout.digest, requester=rollout.requested_by, expired=expired)


def authorise(service: str, rollout: RolloutPlan, decision: Decision) -> None:
    """Check once more, from the primary records, that this very plan was approved and that nothing changed since.

    :raises DigestMismatch: the decision is about another plan.
    :raises GateRejected: the votes, counted again, do not approve it.
    :raises PolicyViolation: the catalogue changed.
    """
    if decision.digest != rollout.digest:
        raise DigestMismatch(
            f"The board decided on the plan {decision.digest[:12]}, and this is the plan {rollout.digest[:12]}.",
            rule="votes bind to the digest of the frozen rollout plan",
            who="the release manager",
            next_step="trigger the release again; the votes are void",
        )
    refuse_changed_catalogue(service, rollout.policy_digest)
    counted = count(service, rollout, expired=True)
    if counted is None or not counted.approved:
        raise GateRejected(
            f"The votes on the plan {rollout.digest[:12]}, counted again, do not approve it."
            + (f" {counted.reason}" if counted else "")
        )


class AwaitBoard(BaseOperator):
    """Wait, without a worker, until the board has decided or its time is up; then close the ballots left open.

    :param service: the service's name.
    :param rollout: the frozen rollout plan.
    :param ballots: the prepared ballots; none: nobody is asked.
    """

    template_fields = ("rollout", "ballots")

    def __init__(self, *, service: str, rollout: Any, ballots: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.service = service
        self.rollout = rollout
        self.ballots = ballots

    def execute(self, context: Context) -> dict[str, Any]:
        """Count; wait for the next answer while the board is open; fail with the board's reason if it rejected."""
        with reasons_kept():
            rollout = RolloutPlan.from_xcom(self.rollout)
            expired = rollout.decide_by is not None and datetime.now(UTC) >= rollout.decide_by
            answered = _answered() if self.ballots else 0  # before counting: a later answer wakes the trigger
            decision = count(self.service, rollout, expired=expired)
            if decision is None:
                self._wait(rollout, answered)
            close_open_ballots(len(self.ballots))
            return settled(decision).to_xcom()

    def _wait(self, rollout: RolloutPlan, answered: int) -> None:
        dag_id, run_id = this_run()
        self.defer(
            trigger=AnswersTrigger(
                dag_id=dag_id,
                run_id=run_id,
                task_id=ASK,
                answered=answered,
                until=rollout.decide_by,
                connection=resources.AIRFLOW,
            ),
            method_name="execute_again",
        )

    def execute_again(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Count again; what the trigger says is only that it is time to."""
        self.log.info("Counting again: %s", event.get("why"))
        return self.execute(context)


def _answered() -> int:
    dag_id, run_id = this_run()
    with resources.airflow_api() as api:
        return sum(answer.answered for answer in api.answers(dag_id, run_id, ASK))


def close_open_ballots(expected: int) -> None:
    """Answer, as the board's clerk, every ballot that nobody needs to answer any more; such answers never count.

    :param expected: how many ballots there are; one that is not there yet is waited for.
    :raises TransientError: some are still open after :data:`CLOSING_TIME`.
    """
    if not expected:
        return
    dag_id, run_id = this_run()
    give_up = monotonic() + CLOSING_TIME
    with resources.airflow_api(resources.BOARD_CLERK) as api:
        while True:
            ballots = api.answers(dag_id, run_id, ASK)
            for ballot in (ballot for ballot in ballots if not ballot.answered):
                api.close_question(
                    dag_id, run_id, ballot, choice=ABSTAIN, comment=f"Closed by {CLERK}: the board has decided."
                )
            if len(ballots) >= expected and all(ballot.answered for ballot in ballots):
                return
            if monotonic() > give_up:
                raise TransientError(f"{expected} ballots were to be closed, and some are still open.")
            sleep(0.5)


def longest_deadline(policy: Policy, book: BoardBook) -> timedelta | None:
    """Return the longest deadline of the boards that the policy's change types ask."""
    asked = {flow.board for flow in policy.change_types.values() if flow.board}
    return max((book.boards[name].quorum.deadline for name in asked), default=None)


@task_group(
    group_id="rollout",
    group_display_name="7 Rollout plan and CAB",
    tooltip="Rollout plan and CAB: frozen, then voted on by its digest",
)
def rollout_stage(
    service: Service,
    deadline: timedelta | None,
    in_force: XComArg,
    plan: XComArg,
    assets: XComArg,
    artifact: XComArg,
    report: XComArg,
    acceptance: XComArg,
) -> tuple[XComArg, XComArg, EmptyOperator | None]:
    """Freeze the plan, ask the board and wait for it; return the plan, the decision, and the end of the ballots.

    :param deadline: the longest that a board may take; none: no change type asks one.
    """
    rollout = freeze_plan(service.name, in_force, plan, assets, artifact, report, acceptance)
    ballots = prepare_ballots(service.name, in_force, plan, artifact, report, rollout)
    over = None
    if deadline is not None:
        over = ask(
            ballots,
            task_id="cast_ballot",
            title="Cast a ballot (board member)",
            options=[APPROVE, REJECT, ABSTAIN],
            default=ABSTAIN,
            within=deadline * 2,  # the decision closes ballots in time; this is for a stack that was down
            doc_md="One ballot for each member of the board, on the digest of the frozen rollout plan.",
        )
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
    return rollout, decision.output, over
