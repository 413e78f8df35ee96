"""Stage 10, verify implementation: smoke tests and load, compared with before; on failure the back-out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, TriggerRule, XComArg, chain, get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from interlock.adapters.hosts import load
from interlock.adapters.hosts import smoke as hosts_smoke
from interlock.adapters.quality import expectations
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Health, Service
from interlock.domain.errors import PolicyViolation, VerificationFailed
from interlock.domain.ledger.kinds import BACK_OUT_DONE, HOSTS_SMOKED, LOAD_MEASURED, VERIFICATION_JUDGED
from interlock.domain.paths import docs_prefix
from interlock.domain.permits.withdrawal import refuse_called_off
from interlock.domain.quality.verification import compare_hosts
from interlock.domain.records import (
    Artifact,
    BackOutReport,
    LoadReport,
    PolicyInForce,
    RolloutPlan,
    SmokeReport,
    SmokeResult,
    VerificationReport,
)
from interlock.stages.approvals.amended import thresholds_in_force
from interlock.stages.runbook.planned import NOTHING_CHANGED
from interlock.stages.runbook.ways_back import begin_back_out, reason_of_back_out, ways_back
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.assets import changed, deployed, environment_asset
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.taskflow import (
    WHILE_HOSTS_ARE_SILENT,
    push_result,
    stage_group,
    stage_task,
    this_run,
)
from interlock.stages.runtime.versions import as_it_was
from interlock.stages.strategies import rolling, traffic


@stage_task(task_display_name="Run the smoke tests", evidence=HOSTS_SMOKED)
def smoke_hosts(service: str, rollout: RolloutPlan) -> SmokeReport:
    """Send the smoke requests of the service to every host, and check the version that each host reports."""
    described = as_it_was(resources.catalogue_of(service).service, rollout)
    hosts = rolling.hosts_to_verify(rollout)
    results = asyncio.run(hosts_smoke.smoke(hosts, described.smoke, described.health.port))
    versions = rolling.answered_versions(hosts, described.health)
    return SmokeReport(results=(*results, *_of_versions(versions, described.health, rollout.version)))


def _of_versions(versions: Mapping[str, str | None], health: Health, expected: str) -> list[SmokeResult]:
    return [
        SmokeResult(
            host=host,
            path=health.path,
            expected=f"{health.version_key} {expected}",
            found=f"{health.version_key} {version or 'unknown'}",
            passed=version == expected,
        )
        for host, version in versions.items()
    ]


@stage_task(task_display_name="Measure the load after the release", evidence=LOAD_MEASURED)
def measure_after(service: str, rollout: RolloutPlan) -> LoadReport:
    """Run the same synthetic load against the target as before the release."""
    described = as_it_was(resources.catalogue_of(service).service, rollout)
    hosts = rolling.hosts_to_verify(rollout)
    return asyncio.run(load.run_load(hosts, described.load, described.health.port, moment="after"))


@stage_task(task_display_name="Evaluate the implementation", evidence=VERIFICATION_JUDGED)
def judge_verification(
    service: str,
    in_force: PolicyInForce,
    rollout: RolloutPlan,
    smoke: SmokeReport,
    before: LoadReport,
    after: LoadReport,
) -> VerificationReport:
    """Evaluate smoke tests and load with Great Expectations. A failed expectation backs the release out."""
    if (before.moment, after.moment) != ("before", "after"):
        raise PolicyViolation(
            f"The load reports are from {before.moment} and {after.moment} the release; expected: before and after."
        )
    thresholds = thresholds_in_force(resources.catalogue_of(service), in_force)
    dag_id, run_id = this_run()
    tables: Mapping[str, Sequence[Model]] = {
        "smoke": smoke.results,
        "load": compare_hosts(
            [host.address for host in rolling.hosts_to_verify(rollout)],
            before.results,
            after.results,
            other_fleet=rollout.switch is not None,
        ),
    }
    with resources.workspace() as folder:
        judged = expectations.judge(tables, thresholds, folder=folder)
        report = VerificationReport(
            success=not judged.failures,
            smoke=smoke.results,
            before=before.results,
            after=after.results,
            failures=judged.failures,
            docs=resources.store().put_tree(judged.docs, docs_prefix(dag_id, run_id, "verification")),
        )
    if not report.success:
        push_result(report, VERIFICATION_JUDGED)
        raise VerificationFailed(
            f"The verification of {service} {rollout.version} in {rollout.environment} failed. {report.reason()}.",
            rule=f"thresholds of {', '.join(sorted(set(in_force.sources.values())))}",
            who="the service's team",
            next_step="the release is backed out automatically; fix the failures and release a new version",
        )
    record(VERIFICATION_JUDGED, report)
    refuse_called_off(chain_entries())  # a withdrawal just before still counts; from here on, none does
    return report


@stage_task(task_display_name="Publish the deployment")
def publish_deployment(service: str, rollout: RolloutPlan, artifact: Artifact, report: VerificationReport) -> None:
    """Update the Airflow asset of production with version, digest and run. Skipped in a rehearsal."""
    _refuse_rehearsal(rollout)
    deployed(environment_asset(resources.catalogue_of(service).service, rollout.environment), artifact)


@stage_task(task_display_name="Publish the back-out", after_end="way_back")
def publish_back_out(service: str, report: BackOutReport) -> None:
    """Update the Airflow asset of production after a back-out. Skipped in a rehearsal."""
    rollout = permits.frozen_plan()
    if rollout is None:
        raise AirflowSkipException("No rollout plan was frozen, so there was nothing to back out.")
    described = resources.catalogue_of(service).service
    _refuse_rehearsal(rollout)
    versions: Mapping[str, str | None] = rollout.back_out.versions
    if rollout.switch:
        versions = rolling.answered_versions(rollout.switch.live_hosts, described.health)
    version = next(iter(versions.values()), None)
    changed(environment_asset(described, rollout.environment), version=version, digest=None)


def _refuse_rehearsal(rollout: RolloutPlan) -> None:
    if rollout.rehearsal:
        raise AirflowSkipException("A rehearsal does not change production.")


@stage_task(
    task_display_name="Back the release out",
    trigger_rule=TriggerRule.ONE_FAILED,
    execution_timeout=timedelta(hours=6),
    retries=WHILE_HOSTS_ARE_SILENT,
    after_end="way_back",
)
def back_out(service: str) -> BackOutReport:
    """Return every host to the release that the back-out plan names, and verify the version that each host reports.

    Skipped if the release never got a permit to deploy. Hosts that were not changed stay as they are.
    """
    ti: Any = get_current_context()["ti"]
    rollout = permits.frozen_plan()
    if rollout is None or not permits.came_to_its_target(rollout):
        raise AirflowSkipException(NOTHING_CHANGED)
    described = resources.catalogue_of(service).service
    traffic.restore(rollout, described)  # first: users get the previous version again at once
    results = rolling.back_out(rollout, described, rollout.hosts)
    versions = rolling.answered_versions(rollout.hosts, described.health)
    wrong = {
        host: versions.get(host)
        for host, version in rollout.back_out.versions.items()
        if version and versions.get(host) != version
    }
    report = BackOutReport(because=reason_of_back_out(ti), results=results, verified=not wrong)
    push_result(report, BACK_OUT_DONE)
    if wrong:
        raise rolling.deploy_error(
            results,
            "The back-out did not restore every host: "
            + ", ".join(f"{host} reports version {version or 'unknown'}" for host, version in wrong.items()),
            who="the service's team and the platform engineer",
            next_step="repair these hosts, then ask a person with the role break_glass to clear this task",
        )
    return report


@stage_group("verification", "smoke tests, load, evaluation; back-out on failure")
def verification_stage(
    service: Service,
    in_force: XComArg,
    rollout: XComArg,
    artifact: XComArg,
    baseline: XComArg,
    waves: list[XComArg],
    *,
    runbook: bool = True,
) -> list[XComArg]:
    """Verify; publish the deployment, or back the release out. Return the tasks that the closure waits for.

    :param runbook: the implementation did the steps of the service's runbook, so that they are taken back, too.
    """
    outlets: list[Asset] = [environment_asset(service, "production")]
    smoke = smoke_hosts(service.name, rollout)
    after = measure_after(service.name, rollout)
    judged = judge_verification(service.name, in_force, rollout, smoke, baseline, after)
    published = publish_deployment.override(outlets=outlets)(service.name, rollout, artifact, judged)
    chain(waves[-1], smoke, after)
    may_fail = [*waves, smoke, after, judged]
    if not (runbook and service.runbook):
        back = back_out(service.name)
        chain(may_fail, back)
        return [published, publish_back_out.override(outlets=outlets)(service.name, back)]
    began = begin_back_out(service.name)
    back = back_out.override(trigger_rule=TriggerRule.NONE_SKIPPED)(service.name)
    chain(may_fail, began)
    last = ways_back(service, began, back)
    return [published, publish_back_out.override(outlets=outlets)(service.name, back), last]
