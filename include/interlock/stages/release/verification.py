"""Stage 10, verify implementation: smoke and load, judged against before; on failure the release is backed out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, TriggerRule, XComArg, chain, get_current_context, task_group
from airflow.sdk.exceptions import AirflowSkipException

from interlock.adapters.hosts import load
from interlock.adapters.hosts import smoke as hosts_smoke
from interlock.adapters.quality import expectations
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Health, Service
from interlock.domain.errors import PolicyViolation, VerificationFailed
from interlock.domain.paths import docs_prefix
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
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.assets import changed, deployed, environment_asset
from interlock.stages.runtime.taskflow import REASON, WHILE_HOSTS_ARE_SILENT, push_result, stage_task, this_run
from interlock.stages.runtime.versions import as_it_was
from interlock.stages.strategies import rolling, traffic


@stage_task(task_display_name="Smoke every host", evidence="hosts.smoked")
def smoke_hosts(service: str, rollout: RolloutPlan) -> SmokeReport:
    """Send the service's smoke requests to every host, and ask each which version it runs."""
    described = as_it_was(resources.catalogue_of(service)[2], rollout)
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


@stage_task(task_display_name="Measure the load after", evidence="load.measured")
def measure_after(service: str, rollout: RolloutPlan) -> LoadReport:
    """Put the same synthetic load on the target as before the release."""
    described = as_it_was(resources.catalogue_of(service)[2], rollout)
    hosts = rolling.hosts_to_verify(rollout)
    return asyncio.run(load.run_load(hosts, described.load, described.health.port, moment="after"))


@stage_task(task_display_name="Judge the implementation", evidence="verification.judged")
def judge_verification(
    service: str,
    in_force: PolicyInForce,
    rollout: RolloutPlan,
    smoke: SmokeReport,
    before: LoadReport,
    after: LoadReport,
) -> VerificationReport:
    """Judge smoke and load with Great Expectations; a failing expectation names the rows, and backs the release out."""
    if (before.moment, after.moment) != ("before", "after"):
        raise PolicyViolation(f"The loads to compare are of {before.moment} and {after.moment} the release.")
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
        judged = expectations.judge(tables, in_force.thresholds, folder=folder)
        report = VerificationReport(
            success=not judged.failures,
            smoke=smoke.results,
            before=before.results,
            after=after.results,
            failures=judged.failures,
            docs=resources.store().put_tree(judged.docs, docs_prefix(dag_id, run_id, "verification")),
        )
    if not report.success:
        push_result(report, "verification.judged")
        raise VerificationFailed(
            f"{service} {rollout.version} does not work in {rollout.environment}. {report.reason()}.",
            rule=f"thresholds of {', '.join(sorted(set(in_force.sources.values())))}",
            who="the service's team",
            next_step="the release is backed out; correct what failed and release a new version",
        )
    return report


@stage_task(task_display_name="Publish the deployment")
def publish_deployment(service: str, rollout: RolloutPlan, artifact: Artifact, report: VerificationReport) -> None:
    """Tell Airflow's assets what production runs now: version, digest and run. Skipped in a rehearsal."""
    _, _, described = resources.catalogue_of(service)
    _refuse_rehearsal(rollout)
    deployed(environment_asset(described, rollout.environment), artifact)


@stage_task(task_display_name="Publish the back-out", after_end="way_back")
def publish_back_out(service: str, report: BackOutReport) -> None:
    """Tell Airflow's assets that production runs its former release again. Skipped in a rehearsal."""
    rollout = permits.frozen_plan()
    if rollout is None:
        raise AirflowSkipException("No plan was frozen; there was nothing to back out.")
    _, _, described = resources.catalogue_of(service)
    _refuse_rehearsal(rollout)
    versions: Mapping[str, str | None] = rollout.back_out.versions
    if rollout.switch:
        versions = rolling.answered_versions(rollout.switch.live_hosts, described.health)
    version = next(iter(versions.values()), None)
    changed(environment_asset(described, rollout.environment), version=version, digest=None)


def _refuse_rehearsal(rollout: RolloutPlan) -> None:
    if rollout.rehearsal:
        raise AirflowSkipException("A rehearsal changes no production.")


@stage_task(
    task_display_name="Back the release out",
    trigger_rule=TriggerRule.ONE_FAILED,
    execution_timeout=timedelta(hours=6),
    retries=WHILE_HOSTS_ARE_SILENT,
    after_end="way_back",
)
def back_out(service: str) -> BackOutReport:
    """Take every host back to the release that the plan names, and verify that each answers with it.

    Skipped if the release never had a permit to deploy. Hosts that were not changed yet are left as they are.
    """
    ti: Any = get_current_context()["ti"]
    rollout = permits.frozen_plan()
    if rollout is None or not permits.came_to_its_target(rollout):
        raise AirflowSkipException("The release never came to its target; there is nothing to back out.")
    _, _, described = resources.catalogue_of(service)
    traffic.restore(rollout, described)  # first: whoever uses the service has the version before again
    results = rolling.back_out(rollout, described, rollout.hosts)
    versions = rolling.answered_versions(rollout.hosts, described.health)
    wrong = {
        host: versions.get(host)
        for host, version in rollout.back_out.versions.items()
        if version and versions.get(host) != version
    }
    report = BackOutReport(because=_first_reason(ti), results=results, verified=not wrong)
    push_result(report, "back_out.done")
    if wrong:
        raise rolling.deploy_error(
            results,
            "The back-out did not bring back every host: "
            + ", ".join(f"{host} answers {version or 'nothing'}" for host, version in wrong.items()),
            who="the service's team and the platform engineer",
            next_step="look at the hosts named; running this task again goes on from what they say",
        )
    return report


def _first_reason(ti: Any) -> str:
    reasons = (ti.xcom_pull(task_ids=task, key=REASON) for task in get_current_context()["task"].upstream_task_ids)
    return next((reason for reason in reasons if reason), "A task of the implementation failed.")


@task_group(
    group_id="verification",
    group_display_name="10 Verify implementation",
    tooltip="Verify implementation: smoke, load, judgement; on failure, back-out",
)
def verification_stage(
    service: Service,
    in_force: XComArg,
    rollout: XComArg,
    artifact: XComArg,
    baseline: XComArg,
    waves: list[XComArg],
) -> list[XComArg]:
    """Verify; publish the deployment, or back the release out. Return what the closing stage waits for."""
    outlets: list[Asset] = [environment_asset(service, "production")]
    smoke = smoke_hosts(service.name, rollout)
    after = measure_after(service.name, rollout)
    judged = judge_verification(service.name, in_force, rollout, smoke, baseline, after)
    published = publish_deployment.override(outlets=outlets)(service.name, rollout, artifact, judged)
    back = back_out(service.name)
    chain(waves[-1], smoke, after)
    chain([*waves, smoke, after, judged], back)
    return [published, publish_back_out.override(outlets=outlets)(service.name, back)]
