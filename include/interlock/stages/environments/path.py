"""The environments between test and production: a group of tasks each, in the order that the service's file says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import TaskGroup, TriggerRule, XComArg, chain
from airflow.sdk.exceptions import AirflowSkipException

from interlock.adapters.templates import render
from interlock.domain.board import decision as boards
from interlock.domain.board import voting
from interlock.domain.board.decision import ABSTAIN, APPROVE, REJECT
from interlock.domain.board.questions import ASK_PATH_WAIVERS, ASK_SIGN_OFF, of_environment
from interlock.domain.calendars.stops import refuse_halted
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Policy, Service, ServiceCatalogue
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.catalogue.values import in_words
from interlock.domain.change.amended import as_begun
from interlock.domain.change.environments import Stop, stops_on
from interlock.domain.change.policy import time_limits_of
from interlock.domain.errors import DeployError, PolicyViolation
from interlock.domain.ledger.kinds import (
    PATH_DEPLOYED,
    PATH_GATED,
    PATH_JUDGED,
    PATH_LOADED,
    PATH_PASSED,
    PATH_SOAKED,
    PATH_SUITES_RUN,
    PATH_TESTED,
    PATH_WAIVED,
    SIGN_OFF_DECIDED,
)
from interlock.domain.ledger.reading import last_of_each
from interlock.domain.paths import quality_page
from interlock.domain.records import (
    Artifact,
    AssetReport,
    CaseRuns,
    Decision,
    EnvironmentPassed,
    EnvironmentTested,
    LoadReport,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    SoakReport,
    SuiteRuns,
    TestDeployment,
    Waiver,
)
from interlock.stages.approvals import waivers as gates
from interlock.stages.approvals.in_force import before_asking
from interlock.stages.approvals.people import ask, ballots
from interlock.stages.approvals.sign_offs import AwaitSignOff
from interlock.stages.runbook.rehearsal import bring_databases
from interlock.stages.runtime import bookings, permits, resources
from interlock.stages.runtime.assets import environment_asset
from interlock.stages.runtime.calendars import AwaitStart, await_window, closed_now
from interlock.stages.runtime.evidence import chain_entries, record, record_worded
from interlock.stages.runtime.taskflow import on_build_workers, stage_task, this_run
from interlock.stages.runtime.versions import refuse_marked
from interlock.stages.strategies.rolling import what_runs
from interlock.stages.testing.cases import run_cases

from .review import deploy_bundle, judge_environment, measure_load_in, run_suites_in


def _stop(catalogue: ServiceCatalogue, plan: ReleasePlan, environment: str) -> Stop:
    return next(stop for stop in stops_on(catalogue, plan) if stop.environment == environment)


@stage_task(task_display_name="Book the environment")
def book(service: str, environment: str, plan: ReleasePlan) -> dict[str, Any]:
    """Book the environment for this release until it has passed it. If the policy leaves it out, skip its tasks.

    While no change window of the environment is open, the task waits without a worker slot.
    """
    catalogue = resources.catalogue_of(service)
    if left_out := _stop(catalogue, plan, environment).left_out:
        raise AirflowSkipException(f"Not for this release: {left_out}.")
    refuse_marked(service, environment, plan.version)
    await_window(catalogue, environment)
    refuse_halted(permits.stops_now(catalogue.service), closed_now(catalogue, environment))
    held = bookings.hold_for(
        catalogue.policy,
        environment=environment,
        service=service,
        version=plan.version,
        requested_by=plan.requested_by,
    )
    return held.model_dump(mode="json")


@stage_task(task_display_name="Begin")
def begin(service: str, environment: str, plan: ReleasePlan) -> None:
    """Begin the review in an environment without hosts, where nothing is deployed.

    If the policy leaves the environment out, skip its tasks.
    """
    if left_out := _stop(resources.catalogue_of(service), plan, environment).left_out:
        raise AirflowSkipException(f"Not for this release: {left_out}.")


@stage_task(task_display_name="Deploy", evidence=PATH_DEPLOYED)
def deploy(service: str, environment: str, artifact: Artifact, assets: AssetReport) -> TestDeployment:
    """Deploy the bundle to all hosts of the environment, in the same way as later to production."""
    catalogue = resources.catalogue_of(service)
    refuse_halted(permits.stops_now(catalogue.service), closed_now(catalogue, environment))
    if any(step.migrates for step in catalogue.service.runbook):
        bring_databases(service, environment, artifact, assets)
    return deploy_bundle(catalogue.service, environment, artifact, assets)


@stage_task(
    task_display_name="Run the test suites",
    evidence=PATH_SUITES_RUN,
    execution_timeout=timedelta(hours=2),
    **on_build_workers(),
)
def run_suites(
    service: str, environment: str, plan: ReleasePlan, deployment: TestDeployment | None = None
) -> SuiteRuns:
    """Run the suites of the environment, from the released commit, against its first host, if it has any."""
    there = deployment or TestDeployment.nowhere(environment)
    return run_suites_in(service, plan, there).model_copy(update={"environment": environment})


@stage_task(task_display_name="Run the load test", evidence=PATH_LOADED)
def measure_load(service: str, environment: str, assets: AssetReport) -> LoadReport:
    """Run the synthetic load of the environment."""
    measured = measure_load_in(resources.catalogue_of(service).service, environment, assets)
    return measured.model_copy(update={"environment": environment})


@stage_task(task_display_name="Evaluate the quality", evidence=PATH_JUDGED)
def judge(
    service: str,
    environment: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    suites: SuiteRuns | None = None,
    load: LoadReport | None = None,
    cases: CaseRuns | None = None,
) -> QualityReport:
    """Evaluate tests, performance and the release record of the environment with Great Expectations.

    If people ran test cases here, their results are evaluated together with these.
    """
    catalogue = resources.catalogue_of(service)
    return judge_environment(catalogue, environment, in_force, plan, artifact, suites, load, cases)


@stage_task(task_display_name="Prepare the waivers")
def prepare_waivers(
    service: str, environment: str, in_force: PolicyInForce, plan: ReleasePlan, report: QualityReport
) -> list[dict[str, Any]]:
    """Prepare one waiver question for each failed expectation, if the policy allows all of them to be waived."""
    questions = gates.waiver_questions(service, in_force, plan, report)
    record_worded(of_environment(ASK_PATH_WAIVERS, environment), questions)
    return questions


@stage_task(task_display_name="Quality gate")
def pass_gate(
    service: str, environment: str, in_force: PolicyInForce, plan: ReleasePlan, report: QualityReport
) -> list[Waiver]:
    """Let the release continue if all expectations passed or each failed expectation was waived; return the waivers."""
    asks = of_environment(ASK_PATH_WAIVERS, environment)
    granted = gates.waivers_granted(service, in_force, plan, report, asks=asks, kind=PATH_WAIVED)
    record(PATH_GATED, {"environment": environment, "digest": sha256_of(report), "waived": len(granted)})
    return granted


@stage_task(task_display_name="Begin the soak")
def begin_soak(service: str, environment: str, plan: ReleasePlan, waivers: list[Waiver]) -> dict[str, str]:
    """Return until when the release runs in the environment before it goes on, counted from its deployment."""
    stop = _stop(resources.catalogue_of(service), plan, environment)
    since = _deployed_at(environment)
    return {"until": (since + (stop.soak or timedelta())).isoformat()}


@stage_task(task_display_name="End the soak", evidence=PATH_SOAKED)
def end_soak(service: str, environment: str, plan: ReleasePlan, artifact: Artifact, assets: AssetReport) -> SoakReport:
    """Check that the release ran in the environment for as long as its file says, and that every host still runs it."""
    catalogue = resources.catalogue_of(service)
    stop = _stop(catalogue, plan, environment)
    hosts = _refuse_changed(catalogue, environment, artifact, assets)
    since, until = _deployed_at(environment), datetime.now(UTC)
    if stop.soak is not None and until - since < stop.soak:
        raise PolicyViolation(
            f"{plan.version} ran in {environment} for {in_words(until - since)} only; the soak is "
            f"{in_words(stop.soak)}.",
            rule=f"environments.{environment}.soak in services/{service}.yaml",
            who=f"{catalogue.service.owner}",
            next_step="trigger the release again: the wait was cut short",
        )
    return SoakReport(environment=environment, release=artifact.release, since=since, until=until, hosts=hosts)


@stage_task(task_display_name="Close the tests", evidence=PATH_TESTED, seal=True)
def close_tests(
    service: str,
    environment: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    assets: AssetReport,
    report: QualityReport,
    waivers: list[Waiver],
    soak: SoakReport | None = None,
) -> EnvironmentTested:
    """Put together what the tests came to, and check that every host still runs the release that was tested.

    An environment without hosts has none to check: its cases and its sign-off name the digest of the artifact.
    """
    catalogue = resources.catalogue_of(service)
    if environment not in catalogue.service.without_hosts:
        _refuse_changed(catalogue, environment, artifact, assets)
    begun = as_begun(catalogue, chain_entries())
    rule = voting.sign_off_rule(begun.board, begun.service, environment)
    return EnvironmentTested(
        environment=environment,
        service=service,
        version=plan.version,
        release=artifact.release,
        bundle=artifact.bundle.sha256,
        quality=sha256_of(report),
        waivers=tuple(waivers),
        soak=soak,
        requested_by=plan.requested_by,
        excluded=boards.barred_authors(in_force.flow, plan, catalogue.board),
        decide_by=datetime.now(UTC) + rule.deadline if rule else None,
    )


@stage_task(task_display_name="Prepare the sign-off")
def prepare_sign_off(
    service: str,
    environment: str,
    plan: ReleasePlan,
    artifact: Artifact,
    report: QualityReport,
    tested: EnvironmentTested,
    deployment: TestDeployment | None = None,
) -> list[dict[str, Any]]:
    """Prepare one ballot for each person who signs the environment off, or for their delegate."""
    catalogue = resources.catalogue_of(service)
    book = as_begun(catalogue, chain_entries()).board
    rule = voting.sign_off_rule(book, catalogue.service, environment)
    if rule is None or tested.decide_by is None:
        return []
    body = before_asking(catalogue, plan) + render(
        "sign_off.md.j2",
        plan=plan,
        service=catalogue.service,
        artifact=artifact,
        report=report,
        waivers=tested.waivers,
        deployment=deployment or TestDeployment.nowhere(environment),
        tested=tested,
        board=rule,
        names=catalogue.board.names,
        quality_page=quality_page(*this_run()),
    )
    questions = ballots(
        rule,
        book,
        f"Sign off {catalogue.service.title} {plan.version} in {environment}",
        body,
        tested.digest,
        until=tested.decide_by,
        requester=plan.requested_by,
        asked_by=[plan.requested_by],
        excluded=tested.excluded,
    )
    record_worded(of_environment(ASK_SIGN_OFF, environment), questions)
    return questions


@stage_task(task_display_name="Conclude", evidence=PATH_PASSED, seal=True, trigger_rule=TriggerRule.NONE_FAILED)
def conclude(service: str, environment: str, plan: ReleasePlan) -> EnvironmentPassed:
    """Record how the release passed the environment, or why the policy leaves it out; give back the booking.

    :raises PolicyViolation: the ledger does not have what the environment's tests, or its sign-off, came to.
    """
    catalogue, entries = resources.catalogue_of(service), chain_entries()
    stop = _stop(catalogue, plan, environment)
    if stop.left_out:
        return EnvironmentPassed(environment=environment, left_out=stop.left_out)
    tested = last_of_each(entries, PATH_TESTED, EnvironmentTested).get(environment)
    signed = last_of_each(entries, SIGN_OFF_DECIDED, Decision).get(environment)
    if tested is None:
        raise _not_on_record(service, environment, "what its tests came to")
    if stop.sign_off is not None and not (signed and signed.approved and signed.digest == tested.digest):
        raise _not_on_record(service, environment, "its sign-off")
    report = last_of_each(entries, PATH_JUDGED, QualityReport)[environment]
    bookings.free(service, environment)
    return EnvironmentPassed(
        environment=environment,
        cases=report.cases,
        defects=report.defects or (),
        tested=tested.digest,
        quality=tested.quality,
        waivers=tested.waivers,
        signed_off=signed.reason if signed and stop.sign_off is not None else None,
        soaked=tested.soak.until - tested.soak.since if tested.soak else None,
    )


def _not_on_record(service: str, environment: str, what: str) -> PolicyViolation:
    return PolicyViolation(
        f"The ledger does not have {what} in {environment} of {service}.",
        rule="an environment is passed by what the ledger recorded, not by the states of tasks",
        who="this cannot be changed: the finding stays in the ledger",
        next_step="have an auditor find out in the audit log who changed states of tasks, then trigger the release "
        "again",
    )


def _deployed_at(environment: str) -> datetime:
    """Return when the release was deployed to an environment, by the ledger."""
    return next(
        entry.at
        for entry in reversed(chain_entries())
        if entry.kind == PATH_DEPLOYED and entry.payload["environment"] == environment
    )


def _refuse_changed(
    catalogue: ServiceCatalogue, environment: str, artifact: Artifact, assets: AssetReport
) -> tuple[str, ...]:
    """Return the addresses of an environment's hosts, if each still runs the release that is tested."""
    running = what_runs(catalogue, environment, assets.hosts[environment])
    if other := [f"{one.host} runs {one.release or 'nothing'}" for one in running if one.release != artifact.release]:
        raise DeployError(
            f"{environment} was changed while {artifact.release} was tested there: {', '.join(other)}.",
            rule="what is tested is what goes to production",
            who=f"the people who can change hosts of {environment}",
            next_step="trigger the release again",
        )
    return tuple(one.host for one in running)


def path_groups(
    service: Service,
    policy: Policy,
    in_force: XComArg,
    plan: XComArg,
    assets: XComArg,
    artifact: XComArg,
    *,
    gate: XComArg,
) -> list[XComArg]:
    """Compose a group of tasks for each environment between test and production; return how each is passed.

    Environments that do not come after each other run side by side.

    :param gate: what lets the release pass test.
    """
    passed: dict[str, XComArg] = {}
    for name in service.path:
        with TaskGroup(
            group_id=name,
            group_display_name=f"Environment {name}",
            tooltip=f"{name}: test, and pass the gate of this environment",
        ):
            first, passed[name] = _group(service, policy, name, in_force, plan, assets, artifact)
        before = [gate if one == FIRST else passed[one] for one in service.stations[name].after]
        chain(before, first)
    return list(passed.values())


def _group(
    service: Service, policy: Policy, name: str, in_force: XComArg, plan: XComArg, assets: XComArg, artifact: XComArg
) -> tuple[XComArg, XComArg]:
    """Compose the tasks of one environment; return the first and the last."""
    described = service.stations[name]
    found: dict[str, XComArg] = {}
    deployed: dict[str, XComArg] = {}
    if name in service.without_hosts:
        first = begin(service.name, name, plan)
        if described.suites:
            found["suites"] = run_suites(service.name, name, plan)
            chain(first, found["suites"])
    else:
        first = book(service.name, name, plan)
        outlet = environment_asset(service, name)
        deployment = deploy.override(outlets=[outlet])(service.name, name, artifact, assets)
        deployed = {"deployment": deployment}
        found["suites"] = run_suites(service.name, name, plan, deployment)
        found["load"] = measure_load(service.name, name, assets)
        chain(first, deployment, *found.values())
    found |= run_cases(service, name, in_force, plan, artifact, after=first, **deployed)
    report = judge(service.name, name, in_force, plan, artifact, **found)
    chain(first, report)
    questions = prepare_waivers(service.name, name, in_force, plan, report)
    asked = gates.ask_waivers(questions, within=time_limits_of(policy, service).acceptance)
    waivers = pass_gate(service.name, name, in_force, plan, report)
    chain([questions, asked], waivers)
    soaked: dict[str, XComArg] = {}
    if described.soak is not None:
        soaked = {"soak": _soak(service, name, plan, assets, artifact, waivers)}
    tested = close_tests(service.name, name, in_force, plan, artifact, assets, report, waivers, **soaked)
    passed = conclude(service.name, name, plan)
    if described.sign_off is None:
        chain(tested, passed)
    else:
        chain(_sign_off(service, name, plan, artifact, report, tested, **deployed), passed)
    return first, passed


def _soak(service: Service, name: str, plan: XComArg, assets: XComArg, artifact: XComArg, waivers: XComArg) -> XComArg:
    begun = begin_soak(service.name, name, plan, waivers)
    wait = AwaitStart(
        task_id="await_soak",
        task_display_name="Wait for the end of the soak",
        target_time=f"{{{{ ti.xcom_pull(task_ids='quality.{name}.begin_soak')['until'] }}}}",
        execution_timeout=None,
        doc_md="Wait until the release has run in the environment for the time in its file. Uses no worker slot.",
    )
    ended: XComArg = end_soak(service.name, name, plan, artifact, assets)
    chain(begun, wait, ended)
    return ended


def _sign_off(
    service: Service,
    name: str,
    plan: XComArg,
    artifact: XComArg,
    report: XComArg,
    tested: XComArg,
    **deployed: XComArg,
) -> list[Any]:
    """Compose the sign-off; return the tasks that end it."""
    asked = service.stations[name].sign_off
    if asked is None:
        raise ValueError(f"{name} is not signed off by anybody")
    questions = prepare_sign_off(service.name, name, plan, artifact, report, tested, **deployed)
    over = ask(
        questions,
        task_id="sign_off",
        title=f"Sign {name} off ({asked.title})",
        options=[APPROVE, REJECT, ABSTAIN],
        default=ABSTAIN,
        conditions=True,
        within=asked.within * 2,  # the decision closes ballots in time; this only matters after an outage
        doc_md="One ballot for each person who signs the environment off, on the digest of what its tests came to.",
    )
    decided = AwaitSignOff(
        task_id="await_sign_off",
        task_display_name="Wait for the sign-off",
        service=service.name,
        environment=name,
        tested=tested,
        ballots=questions,
        retries=5,
        doc_md=AwaitSignOff.__doc__,
    )
    chain(questions, decided)
    return [over, decided]
