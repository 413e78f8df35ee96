"""The waves of a release: deploy to the hosts of each under a permit, and decide on failed hosts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import XComArg, chain

from interlock.adapters.templates import escape
from interlock.domain.board.questions import ask_wave
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Service
from interlock.domain.errors import GateRejected, PolicyViolation
from interlock.domain.ledger.kinds import FAILURE_DECIDED, WAVE_DEPLOYED
from interlock.domain.records import Decision, HostResult, RolloutPlan, WaveReport
from interlock.domain.rollout.pace import Pace, failed_elsewhere, tolerated
from interlock.stages.approvals.in_force import in_force_now
from interlock.stages.approvals.people import ask, question, votes_on
from interlock.stages.release.rollout import count
from interlock.stages.runtime import bookings, permits, resources
from interlock.stages.runtime.calendars import put_off
from interlock.stages.runtime.evidence import chain_entries, record, record_worded, under
from interlock.stages.runtime.taskflow import WHILE_HOSTS_ARE_SILENT, keep_result, push_result, stage_task

from . import traffic
from .blue_green import wait_until_kept
from .rolling import deploy, recorded_waves, refuse_failed_hosts

RETRY, EXCLUDE, BACK_OUT = "Try these hosts again", "Leave them out", "Back the release out"


@stage_task(execution_timeout=timedelta(hours=6), retries=WHILE_HOSTS_ARE_SILENT)
def run_wave(service: str, number: int, rollout: RolloutPlan) -> WaveReport:
    """Deploy to the hosts of one wave: drain, switch, check, and return each host to the load balancer.

    Needs a permit: votes, plan, bundle, quality report, catalogue and ledger are checked again before the first host.
    If more hosts fail than the error budget allows, no further host is changed. A retry continues from the current
    state of the hosts, with a new permit. If a freeze starts during the rollout, the release waits or is backed out,
    as the calendar entry says.
    """
    report = deploy_wave(service, number, rollout)
    if rollout.guidance is None:
        _refuse_beyond_budget(rollout, report)
    return report


def deploy_wave(service: str, number: int, rollout: RolloutPlan) -> WaveReport:
    """Deploy to the hosts of a wave, and record the result of each."""
    catalogue = resources.catalogue_of(service)
    done = {entry.kind for entry in chain_entries()}
    bookings.hold(catalogue.policy, rollout)
    if number > 1 or WAVE_DEPLOYED in done:
        put_off(catalogue, rollout.environment)
    if number == 1:
        wait_until_kept(service, rollout, datetime.now(UTC))
    wave, canary = rollout.waves[number - 1], rollout.canary if number == 1 else None
    with permits.admission_to_deploy(rollout, number, count) as admission:
        try:
            admission.begin()
        except PolicyViolation:
            put_off(catalogue, rollout.environment)
            raise
        if number == 1:
            traffic.attach(rollout, catalogue.service, admission)
        results = deploy(
            wave,
            catalogue.service,
            rollout.environment,
            rollout,
            target_group=(canary.canary_group if canary else None) or rollout.target_group,
            others=[rollout.target_group] if canary and canary.canary_group and rollout.target_group else [],
            admission=admission,
            pace=_pace(rollout, number),
        )
    report = WaveReport(number=number, of=len(rollout.waves), release=rollout.release, results=results)
    record(WAVE_DEPLOYED, {**report.to_xcom(), "digest": rollout.bundle.sha256, **under(admission)})
    if _was_held_back(results):
        put_off(catalogue, rollout.environment)
    keep_result(report)
    return report


def _pace(rollout: RolloutPlan, number: int) -> Pace | None:
    """Return the pace of a wave, with the error budget that the other waves left."""
    if rollout.strategy is None:
        return None
    failed = failed_elsewhere(recorded_waves(), number)
    return Pace(rollout.waves[number - 1], rollout.strategy, fleet=rollout.hosts, failed=failed)


def _refuse_beyond_budget(rollout: RolloutPlan, report: WaveReport) -> None:
    """Raise a DeployError if more hosts failed, or were not reached, than the error budget of the plan allows."""
    borne = tolerated(rollout, (*recorded_waves(), report))
    refuse_failed_hosts([one for one in report.results if one.instance_id not in borne], rollout.environment)


def _was_held_back(results: Sequence[HostResult]) -> bool:
    """Tell whether hosts failed only because the wave was halted."""
    failed = [result for result in results if result.outcome == "failed"]
    return bool(failed) and all(result.held_back for result in failed)


def _unwell(report: WaveReport) -> list[HostResult]:
    return [one for one in report.results if one.outcome in ("failed", "untouched")]


def answers_to(rollout: RolloutPlan, waves: Sequence[WaveReport], report: WaveReport) -> tuple[str, ...]:
    """Return the choices of the release manager. Hosts can be left out only within the error budget."""
    borne = tolerated(rollout, (*waves, report))
    left_out = all(one.instance_id in borne for one in _unwell(report))
    return (RETRY, EXCLUDE, BACK_OUT) if left_out else (RETRY, BACK_OUT)


@stage_task()
def prepare_guidance(service: str, number: int, rollout: RolloutPlan, report: WaveReport) -> list[dict[str, Any]]:
    """Prepare the question to the release manager about failed hosts of the wave, if there are any."""
    unwell, guidance = _unwell(report), rollout.guidance
    catalogue = resources.catalogue_of(service)
    if not unwell or guidance is None or rollout.requested_by not in catalogue.board.names:
        return []
    options = answers_to(rollout, recorded_waves(), report)
    budget = rollout.strategy.max_failed if rollout.strategy else 0
    rows = "\n".join(f"| {escape(one.host)} | {one.outcome} | {escape(one.error)} |" for one in unwell)
    silent = EXCLUDE if guidance.unanswered == "exclude" and EXCLUDE in options else BACK_OUT
    title = catalogue.service.title
    body = in_force_now(catalogue, rollout.environment) + (
        f"In wave {number} of {len(rollout.waves)} of **{escape(title)} {escape(rollout.version)}**, "
        f"{len(unwell)} of {len(report.results)} hosts did not get the release. Unless the table says otherwise, each "
        f"of them still runs its previous release.\n\n| host | outcome | reason |\n| --- | --- | --- |\n{rows}\n\n"
        f"- *{RETRY}*: one retry, with a new permit.\n"
        + (
            f"- *{EXCLUDE}*: the rollout continues without them; the error budget is {budget}.\n"
            if EXCLUDE in options
            else ""
        )
        + f"- *{BACK_OUT}*: every host returns to its previous release.\n\n"
        f"If you do not answer in time: *{silent}*."
    )
    asked = [catalogue.board.person(rollout.requested_by)]
    subject = f"{len(unwell)} hosts failed: {title} {rollout.version}, wave {number}"
    questions = [question(subject, body, sha256_of(report), asked, options=options)]
    record_worded(ask_wave(number), questions)
    return questions


@stage_task(evidence=FAILURE_DECIDED, seal=True, execution_timeout=timedelta(hours=6))
def settle_wave(service: str, number: int, rollout: RolloutPlan, report: WaveReport) -> Decision:
    """Handle the failed hosts as the release manager answered, or without an answer as the plan says.

    A retry happens once, with a new permit. If hosts fail again, the error budget decides.
    """
    digest = sha256_of(report)
    if not _unwell(report):
        why = f"All hosts of wave {number} got the release."
        return Decision(subject="failure", digest=digest, approved=True, required=False, reason=why)
    said = [vote for vote in votes_on(ask_wave(number), digest) if vote.user == rollout.requested_by]
    silent = EXCLUDE if rollout.guidance and rollout.guidance.unanswered == "exclude" else BACK_OUT
    choice = said[0].choice if said else silent
    who = f"{rollout.requested_by} answered" if said else "No answer was given in time, so the plan decides"
    decision = Decision(
        subject="failure",
        digest=digest,
        approved=choice != BACK_OUT,
        required=True,
        expired=not said,
        reason=f"{who}: {choice}.",
        votes=tuple(said),
    )
    push_result(decision, FAILURE_DECIDED, seal=True)
    if choice == BACK_OUT:
        names = "; ".join(f"{one.host}: {one.error}" for one in _unwell(report))
        raise GateRejected(
            f"{decision.reason} These hosts failed: {names}",
            rule="on_failure: ask (the environment, in the service's YAML)",
            who="the release manager",
            next_step="the release is backed out automatically; check these hosts",
        )
    _refuse_beyond_budget(rollout, deploy_wave(service, number, rollout) if choice == RETRY else report)
    return decision


def guidance_tasks(service: Service, number: int, rollout: XComArg, wave: XComArg) -> XComArg:
    """Ask about the failed hosts of a wave, and follow the answer; return the task before the next step."""
    guided = service.environments["production"].guided
    if guided is None:
        raise ValueError("the release manager is not asked about hosts that fail")
    asked = prepare_guidance.override(
        task_id=f"prepare_wave_{number}", task_display_name=f"Prepare the question about wave {number}"
    )(service.name, number, rollout, wave)
    over = ask(
        asked,
        task_id=ask_wave(number).partition(".")[2],
        title=f"Hosts of wave {number} failed: choose how to continue",
        default=BACK_OUT,
        within=guided.answer_within,
        doc_md="Asks the requester of the release, if hosts of the wave failed. The answer is recorded in the ledger.",
    )
    settled: XComArg = settle_wave.override(
        task_id=f"settle_wave_{number}", task_display_name=f"Complete wave {number}"
    )(service.name, number, rollout, wave)
    chain(wave, over, settled)
    return settled
