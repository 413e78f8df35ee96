"""Stage 5, quality review: deploy to test, run the suites, and evaluate them with Great Expectations.

Then the release goes through the environments between test and production, if its service has any
(``stages/environments``).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset, XComArg, chain

from interlock.domain.catalogue import Policy, Service
from interlock.domain.ledger.kinds import QUALITY_JUDGED, SUITES_RUN, TEST_DEPLOYED, TEST_LOADED
from interlock.domain.records import (
    Artifact,
    AssetReport,
    CaseRuns,
    LoadReport,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    SuiteRuns,
    TestDeployment,
)
from interlock.stages.approvals.waivers import quality_gate
from interlock.stages.environments.path import path_groups
from interlock.stages.environments.review import deploy_bundle, judge_test, measure_load_in, run_suites_in
from interlock.stages.runbook.rehearsal import rehearse_migrations
from interlock.stages.runtime import resources
from interlock.stages.runtime.assets import environment_asset
from interlock.stages.runtime.taskflow import on_build_workers, stage_group, stage_task
from interlock.stages.testing.cases import run_cases

ENVIRONMENT = "test"


@stage_task(task_display_name="Deploy to test", evidence=TEST_DEPLOYED)
def deploy_to_test(service: str, artifact: Artifact, assets: AssetReport) -> TestDeployment:
    """Deploy the bundle to all hosts of the test environment, in the same way as later to production."""
    return deploy_bundle(resources.catalogue_of(service).service, ENVIRONMENT, artifact, assets)


@stage_task(
    task_display_name="Run the test suites",
    evidence=SUITES_RUN,
    execution_timeout=timedelta(hours=2),
    **on_build_workers(),
)
def run_suites(service: str, plan: ReleasePlan, deployment: TestDeployment) -> SuiteRuns:
    """Run the test suites of the service, from the released commit, against the test environment."""
    return run_suites_in(service, plan, deployment)


@stage_task(task_display_name="Run the load test", evidence=TEST_LOADED)
def measure_load(service: str, assets: AssetReport) -> LoadReport:
    """Run the short synthetic load of the service against the test environment."""
    return measure_load_in(resources.catalogue_of(service).service, ENVIRONMENT, assets)


@stage_task(task_display_name="Evaluate the quality", evidence=QUALITY_JUDGED)
def judge_quality(
    service: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    suites: SuiteRuns,
    load: LoadReport,
    cases: CaseRuns | None = None,
) -> QualityReport:
    """Evaluate tests, coverage, performance, components and the release record with Great Expectations.

    If people ran test cases, their results are evaluated together with these.

    A failed expectation names the rows that broke it. The quality gate then ends the release with this list, unless
    people whom the policy names waive each failure.
    """
    return judge_test(resources.catalogue_of(service), in_force, plan, artifact, suites, load, cases)


@stage_group("quality", "test suites and load, evaluated by Great Expectations")
def quality_stage(
    service: Service,
    policy: Policy,
    in_force: XComArg,
    plan: XComArg,
    assets: XComArg,
    artifact: XComArg,
) -> tuple[XComArg, XComArg, XComArg, list[XComArg]]:
    """Deploy to test, run suites and load, evaluate, and pass the gate; then go through the other environments.

    Returns deployment, report and waivers of test, and how the release passed each other environment.
    """
    outlet: Asset = environment_asset(service, ENVIRONMENT)
    deployment = deploy_to_test.override(outlets=[outlet])(service.name, artifact, assets)
    if any(step.migrates for step in service.runbook):
        chain(rehearse_migrations(service.name, plan, artifact, assets), deployment)
    suites = run_suites(service.name, plan, deployment)
    load = measure_load(service.name, assets)
    chain(suites, load)
    cases = run_cases(service, ENVIRONMENT, in_force, plan, artifact, deployment=deployment)
    report = judge_quality(service.name, in_force, plan, artifact, suites, load, **cases)
    waivers = quality_gate(service, policy, in_force, plan, report)
    passed = path_groups(service, policy, in_force, plan, assets, artifact, gate=waivers)
    return deployment, report, waivers, passed
