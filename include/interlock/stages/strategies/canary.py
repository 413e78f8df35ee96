"""The first wave as a canary: watched beside hosts of the old version that are as old, judged, and only then followed.

Both take their share of the traffic, if the catalogue gives them one. What is judged was measured by Interlock itself:
the same requests, to each host of both, at the same moments; and what the service tells of its hosts, if it does.
Between two rounds no worker is held.
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
from interlock.domain.paths import docs_prefix, quality_page
from interlock.domain.records import CanaryPlan, Decision, RolloutPlan
from interlock.domain.rollout.rollout import canary_title
from interlock.stages.approvals.people import APPROVE, REJECT, ask, question, votes_on
from interlock.stages.release.rollout import count
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.calendars import MIN_WAIT, put_off, wait
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.taskflow import push_result, stage_task, this_run

from . import rolling, traffic

ASK = "implementation.ask_canary"
ROUNDS = 20
"""So many rounds the time of a canary is cut into; more, if the requests are not done by then."""
MIN_REQUESTS = 20
"""To each host in each round, however few are asked for: they tell a host that is dead for a round from chance."""
MEASURED = "canary.measured"


@stage_task(
    task_display_name="Restart the baseline", evidence="baseline.restarted", execution_timeout=timedelta(hours=1)
)
def restart_baseline(service: str, rollout: RolloutPlan) -> RestartReport:
    """Restart as many hosts of the old version as the canary has: what has run for weeks is warm, a canary is not.

    Needs a permit. Does nothing without a canary: in a rehearsal, and in a rollback.
    """
    if rollout.canary is None:
        return RestartReport(results=())
    policy, _, described = resources.catalogue_of(service)
    put_off(service=described, policy=policy, environment=rollout.environment)
    canary = rollout.canary
    with permits.admission_to_restart(
        service, rollout, canary.baseline, lambda: count(service, rollout, expired=True)
    ) as admission:
        results = rolling.restart(
            rollout,
            described,
            canary.baseline,
            target_group=canary.baseline_group or rollout.target_group,
            admission=admission,
        )
    report = RestartReport(results=results, entered=admission.entered)
    if failed := [one for one in results if one.outcome == "failed"]:
        push_result(report, "baseline.restarted")
        raise rolling.deploy_error(
            failed,
            f"{len(failed)} hosts of the baseline could not be restarted: "
            + "; ".join(f"{one.host}: {one.error}" for one in failed),
            next_step="the release is backed out; look at the hosts named",
        )
    return report


def watch_canary(service: str, rollout: RolloutPlan) -> CanaryWatch:
    """Give canary and baseline their share of the traffic, and send both the same requests until the time is up.

    A round every so often, each on record; in between no worker is held, unless that is for less than it takes to let
    go of one. An emergency stop ends it.
    """
    canary = rollout.canary
    if canary is None:
        return CanaryWatch(rounds=0, requests=0, since=None, until=None)
    policy, _, described = resources.catalogue_of(service)
    permits.refuse_emergency(service)
    done = _rounds()
    if not done:
        put_off(service=described, policy=policy, environment=rollout.environment)
    _share(service, described, rollout, canary)
    while not _is_enough(done, canary):
        done = (*done, _measure(described, rollout, canary, len(done) + 1))
        if not _is_enough(done, canary):
            _pause(done, canary)
            permits.refuse_emergency(service)
    return CanaryWatch(
        rounds=len(done), requests=sum(one.requests for one in done), since=done[0].at, until=done[-1].at
    )


def _share(service: str, described: Service, rollout: RolloutPlan, canary: CanaryPlan) -> None:
    """Give both their share of the traffic, once; needs a permit."""
    if not canary.percent or any(entry.kind == traffic.SHARED for entry in chain_entries()):
        return
    decision = count(service, rollout, expired=True)
    with permits.admission_to_traffic(service, rollout, decision) as admission:
        home, own, other = traffic.groups_of(rollout)
        weights = {home: traffic.ALL - 2 * canary.percent, own: canary.percent, other: canary.percent}
        told = TrafficReport(weights=weights, changed=True, entered=admission.entered)
        record(traffic.SHARED, told)  # before: a try that dies is put right, too
        traffic.share(rollout, described, weights, admission)


def _rounds() -> tuple[CanaryMeasured, ...]:
    found = (CanaryMeasured.model_validate(entry.payload) for entry in chain_entries() if entry.kind == MEASURED)
    return tuple(sorted(found, key=lambda one: one.number))


def _pause(done: Sequence[CanaryMeasured], canary: CanaryPlan) -> None:
    """Wait for the next round, or put the task off until then."""
    due = done[0].at + len(done) * _step(canary)
    if _step(canary) >= MIN_WAIT:
        wait(f"{len(done)} rounds are measured.", due)
    sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))


def _step(canary: CanaryPlan) -> timedelta:
    return timedelta(seconds=canary.bake_seconds / ROUNDS)


def _is_enough(done: Sequence[CanaryMeasured], canary: CanaryPlan) -> bool:
    """Say whether time, requests and rounds are what they have to be."""
    if len(done) < MIN_ROUNDS:
        return False
    baked = datetime.now(UTC) >= done[0].at + timedelta(seconds=canary.bake_seconds) - _step(canary)
    return baked and sum(one.requests for one in done) >= canary.requests


def _measure(described: Service, rollout: RolloutPlan, canary: CanaryPlan, number: int) -> CanaryMeasured:
    """Send one round of requests to each host of canary and baseline, in turn, and record what came back."""
    at, hosts = datetime.now(UTC), (*rollout.waves[0], *canary.baseline)
    paths, port = described.load.paths, described.health.port
    requests = max(len(paths), MIN_REQUESTS, -(-canary.requests // ROUNDS))
    load = described.load.model_copy(update={"requests": requests})
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
    record(MEASURED, measured)
    return measured


# --- judging ---------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Judge the canary", evidence="canary.judged", seal=True)
def judge_canary(service: str, rollout: RolloutPlan, watch: CanaryWatch) -> CanaryReport:
    """Compare canary and baseline: failed requests by their numbers, all else by Kayenta's method; with plots.

    A canary that fails, or that is marginal where the catalogue says so, backs the release out.
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
        push_result(report, "canary.judged", seal=True)
        raise VerificationFailed(
            f"The canary of {service} {rollout.version} is not as good as what runs: {report.sentence()}",
            rule="canary of the environment, in the service's YAML",
            who="the service's team",
            next_step="the release is backed out; mend what the report names and release a new version",
        )
    return report


# --- after it --------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Give the traffic back", trigger_rule=TriggerRule.ALL_DONE, after_end="way_back")
def end_canary(service: str) -> None:
    """Put the shares of the traffic back, whatever became of the canary.

    Runs even if a task before it failed; skipped if no wave began. After a failure, the back-out does the hosts.
    """
    entries = chain_entries()
    rollout = permits.frozen_plan()
    if rollout is None or (not any(entry.kind == "permit.used" for entry in entries) and not rollout.rehearsal):
        raise AirflowSkipException("No wave was begun; the traffic is where it was.")
    if rollout.canary is None:
        return
    _, _, described = resources.catalogue_of(service)
    traffic.restore(rollout, described)


def _serve_with_all_others(service: str, rollout: RolloutPlan) -> None:
    """Let the hosts of a canary that is followed, and of its baseline, serve where they did before; needs a permit."""
    if rollout.canary is not None and rolling.canary_groups(rollout):
        with permits.admission_to_traffic(service, rollout, count(service, rollout, expired=True)) as admission:
            _bring_home(resources.catalogue_of(service)[2], rollout, rollout.canary, admission)


def _bring_home(described: Service, rollout: RolloutPlan, canary: CanaryPlan, admission: Admission) -> None:
    """Let the hosts of both serve with all others again."""
    environment = described.environments[rollout.environment]
    groups = rolling.canary_groups(rollout)
    home = resources.balancer(environment, rollout.target_group, groups, may=admission.refuse_lost)
    if home is None:
        return
    hosts = (*rollout.waves[0], *canary.baseline)

    async def bring() -> None:
        await asyncio.gather(*(home.restore(host.instance_id) for host in hosts))

    asyncio.run(bring())


@stage_task(task_display_name="Prepare the question about the canary", words=ASK)
def prepare_canary(service: str, rollout: RolloutPlan, report: CanaryReport) -> list[dict[str, Any]]:
    """Word the question to the release manager about a canary that is neither good nor bad."""
    if report.verdict != "marginal":
        return []
    _, book, described = resources.catalogue_of(service)
    if rollout.requested_by not in book.names:
        return []
    page = quality_page(*this_run())
    rows = "\n".join(f"| {escape(one.name)} | {one.classification} | {escape(one.reason)} |" for one in report.metrics)
    body = (
        f"The canary of **{escape(described.title)} {escape(rollout.version)}** has {report.score:g} of 100 points: "
        f"from {report.pass_from:g} on it would go on by itself, below {report.marginal_from:g} it would be backed "
        f"out. Shall the other waves follow?\n\n| metric | judged | why |\n| --- | --- | --- |\n{rows}\n\n"
        f"[The report, with a plot of each metric]({page}). Plan {code(rollout.digest[:12])}. "
        "No answer in time backs the release out."
    )
    asked = [book.person(rollout.requested_by)]
    return [question(f"Canary: shall {described.title} {rollout.version} go on?", body, sha256_of(report), asked)]


@stage_task(task_display_name="Decide on the canary", evidence="canary.decided", seal=True)
def settle_canary(service: str, rollout: RolloutPlan, report: CanaryReport) -> Decision:
    """Let the other waves follow a canary that passed, or that the release manager lets pass, by Airflow's record.

    Its hosts, and those of the baseline, then serve with the others again.
    """
    digest = sha256_of(report)
    if rollout.canary is None or report.verdict == "pass":
        why = "There was no canary." if rollout.canary is None else f"It passed: {report.sentence()}"
        _serve_with_all_others(service, rollout)
        return Decision(subject="canary", digest=digest, approved=True, required=False, reason=why)
    votes = [vote for vote in votes_on(ASK, digest) if vote.user == rollout.requested_by]
    approved = bool(votes) and votes[0].choice == APPROVE
    said = f"{rollout.requested_by} answered {votes[0].choice}." if votes else "Nobody answered in time."
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
        push_result(decision, "canary.decided", seal=True)
        raise GateRejected(
            f"The canary was marginal, and no other wave follows it. {decision.reason}",
            rule="marginal: ask (canary of the environment, in the service's YAML)",
            who="the release manager",
            next_step="the release is backed out; read the report, then release again",
        )
    _serve_with_all_others(service, rollout)
    return decision


def canary_tasks(service: Service, rollout: XComArg, wave: XComArg) -> tuple[list[XComArg], XComArg]:
    """Try the first wave; return what backs the release out if it fails, and what the next wave follows."""
    environment: Environment = service.environments["production"]
    if environment.canary is None:
        raise ValueError("the environment has no canary")
    title = canary_title(environment.canary, environment.waves[0])
    watch_task = stage_task(
        task_display_name=title, evidence="canary.watched", execution_timeout=timedelta(minutes=30), retries=5
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
            title="Marginal canary: go on?",
            options=[APPROVE, REJECT],
            default=REJECT,
            within=environment.canary.answer_within,
            doc_md="Asked of whoever asked for the release, if the canary is neither good nor bad.",
        )
        chain([ended, asked], over, settled)
    return [restarted, watched, judged, settled], settled
