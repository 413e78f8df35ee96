"""The first wave as a canary: compared with freshly restarted hosts of the old version before the other waves.

Canary and baseline get a share of the traffic, if the catalogue says so. Interlock measures both itself: it sends the
same requests to each host of both at the same moments, and reads the metrics of the service, if it has any. Between two
rounds no worker is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any

from airflow.sdk import TriggerRule, XComArg, chain
from airflow.sdk.exceptions import AirflowSkipException

from interlock.adapters.hosts import load as hosts_load
from interlock.adapters.hosts import web
from interlock.adapters.permits.issuer import Admission
from interlock.adapters.templates import code, escape
from interlock.domain.board.decision import APPROVE, REJECT
from interlock.domain.board.questions import ASK_CANARY
from interlock.domain.canary.records import (
    MIN_ROUNDS,
    CanaryMeasured,
    CanaryReport,
    CanaryRound,
    CanaryWatch,
    Question,
    RestartReport,
    TrafficReport,
)
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Environment, Service
from interlock.domain.errors import GateRejected, VerificationFailed
from interlock.domain.ledger.kinds import (
    BASELINE_RESTARTED,
    CANARY_DECIDED,
    CANARY_JUDGED,
    CANARY_MEASURED,
    CANARY_WATCHED,
    PERMIT_USED,
    TRAFFIC_SHARED,
)
from interlock.domain.paths import docs_prefix, quality_page
from interlock.domain.records import CanaryPlan, Decision, RolloutPlan
from interlock.domain.rollout.rollout import canary_title
from interlock.stages.approvals.in_force import in_force_now
from interlock.stages.approvals.people import ask, question, votes_on
from interlock.stages.release.rollout import count
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.calendars import MIN_WAIT, put_off, wait
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.taskflow import push_result, stage_task, this_run

from . import rolling, traffic

ROUNDS = 20
"""The number of rounds in the time of a canary. More follow if the requests are not complete by then."""
MIN_REQUESTS = 20
"""The minimum for each host in each round: enough to tell a host that was down in a round from chance."""


@stage_task(task_display_name="Restart the baseline", evidence=BASELINE_RESTARTED, execution_timeout=timedelta(hours=1))
def restart_baseline(service: str, rollout: RolloutPlan) -> RestartReport:
    """Restart as many hosts of the old version as the canary has, so that both have run for the same time.

    Needs a permit. Does nothing without a canary, that is, in a rehearsal and in a rollback.
    """
    if rollout.canary is None:
        return RestartReport(results=())
    catalogue, canary = resources.catalogue_of(service), rollout.canary
    put_off(catalogue, rollout.environment)
    with permits.admission_to_restart(rollout, canary.baseline, count) as admission:
        results = rolling.restart(
            rollout,
            catalogue.service,
            canary.baseline,
            target_group=canary.baseline_group or rollout.target_group,
            admission=admission,
        )
    report = RestartReport(results=results, entered=admission.entered)
    if failed := [one for one in results if one.outcome == "failed"]:
        push_result(report, BASELINE_RESTARTED)
        raise rolling.deploy_error(
            failed,
            f"{len(failed)} hosts of the baseline could not be restarted: "
            + "; ".join(f"{one.host}: {one.error}" for one in failed),
            next_step="the release is backed out automatically; check these hosts",
        )
    return report


def watch_canary(service: str, rollout: RolloutPlan) -> CanaryWatch:
    """Give canary and baseline their share of the traffic, and send both the same requests until the time is up.

    Each round of requests is recorded. Between two rounds the task holds no worker, unless the pause is very short. An
    emergency stop ends it.
    """
    canary = rollout.canary
    if canary is None:
        return CanaryWatch(rounds=0, requests=0, since=None, until=None)
    catalogue = resources.catalogue_of(service)
    permits.refuse_emergency(catalogue.service)
    done = _rounds()
    if not done:
        put_off(catalogue, rollout.environment)
    _share(catalogue.service, rollout, canary)
    while not _is_enough(done, canary):
        done = (*done, _measure(catalogue.service, rollout, canary, len(done) + 1))
        if not _is_enough(done, canary):
            _pause(done, canary)
            permits.refuse_emergency(catalogue.service)
    return CanaryWatch(
        rounds=len(done), requests=sum(one.requests for one in done), since=done[0].at, until=done[-1].at
    )


def _share(service: Service, rollout: RolloutPlan, canary: CanaryPlan) -> None:
    """Give canary and baseline their shares of the traffic, once. Needs a permit."""
    if not canary.percent or any(entry.kind == TRAFFIC_SHARED for entry in chain_entries()):
        return
    with permits.admission_to_traffic(rollout, count) as admission:
        home, own, other = traffic.groups_of(rollout)
        weights = {home: traffic.ALL - 2 * canary.percent, own: canary.percent, other: canary.percent}
        told = TrafficReport(weights=weights, changed=True, entered=admission.entered)
        record(TRAFFIC_SHARED, told)  # before the change: a back-out then also restores it if this try dies
        traffic.share(rollout, service, weights, admission)


def _rounds() -> tuple[CanaryMeasured, ...]:
    found = (CanaryMeasured.model_validate(entry.payload) for entry in chain_entries() if entry.kind == CANARY_MEASURED)
    return tuple(sorted(found, key=lambda one: one.number))


def _pause(done: Sequence[CanaryMeasured], canary: CanaryPlan) -> None:
    """Wait for the next round, or put the task off until then."""
    due = done[0].at + len(done) * _step(canary)
    if _step(canary) >= MIN_WAIT:
        wait(f"{len(done)} rounds have been measured.", due)
    sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))


def _step(canary: CanaryPlan) -> timedelta:
    return timedelta(seconds=canary.bake_seconds / ROUNDS)


def _is_enough(done: Sequence[CanaryMeasured], canary: CanaryPlan) -> bool:
    """Tell whether time, requests and rounds are sufficient."""
    if len(done) < MIN_ROUNDS:
        return False
    baked = datetime.now(UTC) >= done[0].at + timedelta(seconds=canary.bake_seconds) - _step(canary)
    return baked and sum(one.requests for one in done) >= canary.requests


def _measure(service: Service, rollout: RolloutPlan, canary: CanaryPlan, number: int) -> CanaryMeasured:
    """Send a round of requests to each host of canary and baseline, and record the results."""
    at, hosts = datetime.now(UTC), (*rollout.waves[0], *canary.baseline)
    paths, port = service.load.paths, service.health.port
    requests = max(len(paths), MIN_REQUESTS, -(-canary.requests // ROUNDS))
    load = service.load.model_copy(update={"requests": requests})
    report = asyncio.run(hosts_load.run_load(hosts, load, port))
    told: Mapping[str, Mapping[str, float]] = {}
    if canary.metrics_path:
        told = asyncio.run(web.ask_numbers(hosts, port, canary.metrics_path))
    names = {one.name for one in Question.model_validate(canary.question).metrics}
    kept = {host: {name: value for name, value in said.items() if name in names} for host, said in told.items()}
    found = CanaryRound(number=number, at=at, loads=report.results, told=kept)
    blob = resources.store().put_bytes(found.model_dump_json().encode(), f"canary-{number}.json")
    asked = [sum(one.requests for one in report.results if one.host == host.address) for host in hosts]
    failed = {
        host.address: {one.path: (one.errors, one.requests) for one in report.results if one.host == host.address}
        for host in hosts
    }
    measured = CanaryMeasured(number=number, at=at, requests=min(asked), measured=blob, failed=failed)
    record(CANARY_MEASURED, measured)
    return measured


@stage_task(task_display_name="Evaluate the canary", evidence=CANARY_JUDGED, seal=True)
def judge_canary(service: str, rollout: RolloutPlan, watch: CanaryWatch) -> CanaryReport:
    """Compare canary and baseline: failed requests by their counts, other metrics with Kayenta's method, with plots.

    A failed canary backs the release out. A marginal canary does too, if the catalogue says so.
    """
    canary = rollout.canary
    if canary is None:
        return CanaryReport(
            verdict="pass", score=100, reason="", metrics=(), groups=(), pass_from=100, marginal_from=100
        )
    from interlock.adapters.quality.canary_report import write_report
    from interlock.domain.canary.rounds import judge_rounds, series  # not at the top: brings scipy

    store = resources.store()
    rounds = [CanaryRound.model_validate_json(store.get_bytes(one.measured)) for one in _rounds()]
    report = judge_rounds(
        Question.model_validate(canary.question),
        rounds,
        baseline=canary.baseline,
        canary=rollout.waves[0],
        requests=canary.requests,
    )
    baseline, tried = (series(rounds, hosts) for hosts in (canary.baseline, rollout.waves[0]))
    with resources.workspace() as folder:
        title = f"Canary: {service} {rollout.version}"
        write_report(folder, title=title, report=report, baseline=baseline, canary=tried)
        docs = store.put_tree(folder, docs_prefix(*this_run(), "canary"))
    report = report.model_copy(update={"docs": docs})
    if report.verdict == "fail" or (report.verdict == "marginal" and canary.marginal == "fail"):
        push_result(report, CANARY_JUDGED, seal=True)
        raise VerificationFailed(
            f"The canary of {service} {rollout.version} performs worse than the running version: {report.sentence()}",
            rule="canary of the environment, in the service's YAML",
            who="the service's team",
            next_step="the release is backed out automatically; fix what the report names and release a new version",
        )
    return report


@stage_task(task_display_name="Restore the traffic", trigger_rule=TriggerRule.ALL_DONE, after_end="way_back")
def end_canary(service: str) -> None:
    """Restore the original traffic shares, whatever the result of the canary.

    Runs even if an earlier task failed. Skipped if no wave started. After a failure, the back-out restores the hosts.
    """
    entries = chain_entries()
    rollout = permits.frozen_plan()
    if rollout is None or (not any(entry.kind == PERMIT_USED for entry in entries) and not rollout.rehearsal):
        raise AirflowSkipException("No wave started, so the traffic is unchanged.")
    if rollout.canary is None:
        return
    traffic.restore(rollout, resources.catalogue_of(service).service)


def _serve_with_all_others(service: str, rollout: RolloutPlan) -> None:
    """Return the hosts of canary and baseline to the target group of the environment. Needs a permit."""
    if rollout.canary is not None and rolling.canary_groups(rollout):
        with permits.admission_to_traffic(rollout, count) as admission:
            _bring_home(resources.catalogue_of(service).service, rollout, rollout.canary, admission)


def _bring_home(service: Service, rollout: RolloutPlan, canary: CanaryPlan, admission: Admission) -> None:
    environment = service.environments[rollout.environment]
    groups = rolling.canary_groups(rollout)
    home = resources.balancer(environment, rollout.target_group, groups, may=admission.refuse_lost)
    if home is None:
        return
    hosts = (*rollout.waves[0], *canary.baseline)

    async def bring() -> None:
        await asyncio.gather(*(home.restore(host.instance_id) for host in hosts))

    asyncio.run(bring())


@stage_task(task_display_name="Prepare the canary question", words=ASK_CANARY)
def prepare_canary(service: str, rollout: RolloutPlan, report: CanaryReport) -> list[dict[str, Any]]:
    """Prepare the question to the release manager about a marginal canary."""
    if report.verdict != "marginal":
        return []
    catalogue = resources.catalogue_of(service)
    if rollout.requested_by not in catalogue.board.names:
        return []
    title, page = catalogue.service.title, quality_page(*this_run())
    rows = "\n".join(f"| {escape(one.name)} | {one.classification} | {escape(one.reason)} |" for one in report.metrics)
    body = in_force_now(catalogue, rollout.environment) + (
        f"The canary of **{escape(title)} {escape(rollout.version)}** is marginal: it scored "
        f"{report.score:g} of 100 points. The release continues automatically from {report.pass_from:g} points, and is "
        f"backed out below {report.marginal_from:g}. Continue with the other waves?\n\n"
        f"| metric | result | reason |\n| --- | --- | --- |\n{rows}\n\n"
        f"[Canary report with a plot of each metric]({page}). Plan {code(rollout.digest[:12])}. "
        "If you do not answer in time, the release is backed out."
    )
    subject = f"Marginal canary: continue the rollout of {title} {rollout.version}?"
    return [question(subject, body, sha256_of(report), [catalogue.board.person(rollout.requested_by)])]


@stage_task(task_display_name="Decide on the canary", evidence=CANARY_DECIDED, seal=True)
def settle_canary(service: str, rollout: RolloutPlan, report: CanaryReport) -> Decision:
    """Continue with the other waves if the canary passed, or if the release manager approved a marginal canary.

    The hosts of canary and baseline then return to the target group of the environment.
    """
    digest = sha256_of(report)
    if rollout.canary is None or report.verdict == "pass":
        why = "There was no canary." if rollout.canary is None else f"The canary passed: {report.sentence()}"
        _serve_with_all_others(service, rollout)
        return Decision(subject="canary", digest=digest, approved=True, required=False, reason=why)
    votes = [vote for vote in votes_on(ASK_CANARY, digest) if vote.user == rollout.requested_by]
    approved = bool(votes) and votes[0].choice == APPROVE
    said = f"{rollout.requested_by} answered {votes[0].choice}." if votes else "No answer was given in time."
    decision = Decision(
        subject="canary",
        digest=digest,
        approved=approved,
        required=True,
        expired=not votes,
        reason=f"{said} {report.sentence()}",
        votes=tuple(votes),
    )
    if not approved:
        push_result(decision, CANARY_DECIDED, seal=True)
        raise GateRejected(
            f"The canary was marginal, and the rollout was not approved to continue. {decision.reason}",
            rule="marginal: ask (canary of the environment, in the service's YAML)",
            who="the release manager",
            next_step="the release is backed out automatically; read the canary report, then release again",
        )
    _serve_with_all_others(service, rollout)
    return decision


def canary_tasks(service: Service, rollout: XComArg, wave: XComArg) -> tuple[list[XComArg], XComArg]:
    """Test the first wave. Return the tasks whose failure backs the release out, and the task before the next wave."""
    environment: Environment = service.environments["production"]
    if environment.canary is None:
        raise ValueError("the environment has no canary")
    title = canary_title(environment.canary, environment.waves[0])
    watch_task = stage_task(
        task_display_name=title, evidence=CANARY_WATCHED, execution_timeout=timedelta(minutes=30), retries=5
    )(watch_canary)
    restarted = restart_baseline(service.name, rollout)
    watched = watch_task(service.name, rollout)
    judged = judge_canary(service.name, rollout, watched)
    ended = end_canary(service.name)
    settled = settle_canary(service.name, rollout, judged)
    chain(wave, restarted, watched, judged, ended, settled)
    if environment.canary.marginal == "ask":
        asked = prepare_canary(service.name, rollout, judged)
        over = ask(
            asked,
            task_id="ask_canary",
            title="Marginal canary: continue?",
            options=[APPROVE, REJECT],
            default=REJECT,
            within=environment.canary.answer_within,
            doc_md="Asks the requester of the release, if the canary is marginal.",
        )
        chain([ended, asked], over, settled)
    return [restarted, watched, judged, settled], settled
