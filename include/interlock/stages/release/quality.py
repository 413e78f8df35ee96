"""Stage 5, quality review: deploy to test, run the suites, and evaluate them with Great Expectations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta

from airflow.sdk import Asset, XComArg, chain

from interlock.adapters.artifacts import bom
from interlock.adapters.build import builders, tools
from interlock.adapters.hosts import load as hosts_load
from interlock.adapters.quality import expectations, reports
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Policy, Service
from interlock.domain.ledger.kinds import QUALITY_JUDGED, SUITES_RUN, TEST_DEPLOYED, TEST_LOADED
from interlock.domain.paths import docs_prefix
from interlock.domain.quality.rows import (
    UNIT,
    CoverageRow,
    TestRow,
    coverage_notes,
    kind_rows,
    not_isolated,
    record_rows,
    rows_from_json,
    unknown_notes,
)
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
from interlock.domain.testing.results import CaseRow
from interlock.stages.approvals.waivers import quality_gate
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.assets import deployed, environment_asset
from interlock.stages.runtime.taskflow import on_build_workers, stage_group, stage_task, this_run
from interlock.stages.strategies.rolling import deploy, refuse_failed_hosts
from interlock.stages.testing import defects
from interlock.stages.testing.cases import run_cases

from .build import put_rows

ENVIRONMENT = "test"


@stage_task(task_display_name="Deploy to test", evidence=TEST_DEPLOYED)
def deploy_to_test(service: str, artifact: Artifact, assets: AssetReport) -> TestDeployment:
    """Deploy the bundle to all hosts of the test environment, in the same way as later to production."""
    _, _, described = resources.catalogue_of(service)
    environment = described.environments[ENVIRONMENT]
    with permits.admission_to_sandbox(described, ENVIRONMENT) as admission:
        results = deploy(
            assets.hosts[ENVIRONMENT],
            described,
            ENVIRONMENT,
            artifact,
            target_group=assets.target_groups.get(ENVIRONMENT),
            admission=admission,
        )
    refuse_failed_hosts(results, ENVIRONMENT)
    deployed(environment_asset(described, ENVIRONMENT), artifact)
    urls = tuple(
        f"http://{host.address}:{described.health.port}" for host in assets.hosts[ENVIRONMENT][: environment.count]
    )
    return TestDeployment(environment=ENVIRONMENT, results=results, base_urls=urls)


@stage_task(
    task_display_name="Run the test suites",
    evidence=SUITES_RUN,
    execution_timeout=timedelta(hours=2),
    **on_build_workers(),
)
def run_suites(service: str, plan: ReleasePlan, deployment: TestDeployment) -> SuiteRuns:
    """Run the test suites of the service, from the released commit, against the test environment."""
    policy, _, described = resources.catalogue_of(service)
    store = resources.store()
    rows: list[TestRow] = []
    logs = {}
    surroundings = {}
    url = deployment.base_urls[0]
    with resources.build_workspace() as folder, resources.repository(described) as repository:
        for name, suite in described.suites.items():
            confines = resources.confines(policy, described, suite.registries)
            repository.checkout(plan.commit.sha, folder / name)  # clean: suites can write to theirs
            ran = builders.run_suite(folder / name, suite, base_url=url, environ=os.environ, confines=confines)
            rows.extend(reports.junit_rows(ran.junit, name))
            logs[name] = store.put_bytes(ran.log, f"{name}.log")
            surroundings[name] = ran.surroundings
    return SuiteRuns(tests=put_rows(store, tuple(rows), "suite-tests.json"), logs=logs, surroundings=surroundings)


@stage_task(task_display_name="Run the load test", evidence=TEST_LOADED)
def measure_load(service: str, assets: AssetReport) -> LoadReport:
    """Run the short synthetic load of the service against the test environment."""
    _, _, described = resources.catalogue_of(service)
    return asyncio.run(hosts_load.run_load(assets.hosts[ENVIRONMENT], described.load, described.health.port))


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
    store = resources.store()
    _, _, described = resources.catalogue_of(service)
    tests = tuple(
        row for table in (artifact.tests, suites.tests) for row in rows_from_json(TestRow, store.get_bytes(table))
    )
    kinds = [UNIT] if tools.runs_unit_tests(described.build) else []
    coverage = rows_from_json(CoverageRow, store.get_bytes(artifact.coverage)) if artifact.coverage else ()
    bill = store.get_bytes(artifact.bom)
    unknown = bom.unknown_rows(bill)
    tables: Mapping[str, Sequence[Model]] = {
        "tests": tests,
        "kinds": kind_rows(tests, [*kinds, *described.suites]),
        "coverage": coverage,
        "performance": load.results,
        "components": (*bom.component_rows(bill), *unknown),
        "record": record_rows(plan, artifact),
        **({"provenance": artifact.origin.claims} if artifact.origin else {}),
    }
    of_people = case_rows(cases, artifact) if cases else ()
    found = defects.lines(service, in_force, plan, cases.environment, of_people) if cases else ()
    from_before = [one for one in found if one.state in ("open", "accepted")]
    tables = {
        **tables,
        **({"cases": of_people} if of_people else {}),
        **({"defects": from_before} if from_before else {}),
    }
    dag_id, run_id = this_run()
    with resources.workspace() as folder:
        judged = expectations.judge(tables, in_force.thresholds, in_force.demanded, folder=folder)
        report = QualityReport(
            success=not judged.failures,
            suites=judged.suites,
            failures=judged.failures,
            results=store.put_bytes(judged.results_json, "quality.json"),
            docs=store.put_tree(judged.docs, docs_prefix(dag_id, run_id, "quality")),
            not_isolated=not_isolated(artifact, suites),
            notes=(*coverage_notes(coverage), *unknown_notes(unknown)),
            cases=cases,
            defects=found or None,
        )
    return report


def case_rows(cases: CaseRuns, artifact: Artifact) -> tuple[CaseRow, ...]:
    """Return the test cases that people had to run, with the released bundle as the one that they must have run on."""
    rows = rows_from_json(CaseRow, resources.store().get_bytes(cases.rows))
    return tuple(row.model_copy(update={"expected_artifact": artifact.bundle.sha256}) for row in rows)


@stage_group("quality", "test suites and load, evaluated by Great Expectations")
def quality_stage(
    service: Service, policy: Policy, in_force: XComArg, plan: XComArg, assets: XComArg, artifact: XComArg
) -> tuple[XComArg, XComArg, XComArg]:
    """Deploy to test, run suites and load, evaluate, and pass the gate; return deployment, report and waivers."""
    outlet: Asset = environment_asset(service, ENVIRONMENT)
    deployment = deploy_to_test.override(outlets=[outlet])(service.name, artifact, assets)
    suites = run_suites(service.name, plan, deployment)
    load = measure_load(service.name, assets)
    chain(suites, load)
    cases = run_cases(service, ENVIRONMENT, in_force, plan, artifact, deployment)
    of_people = {} if cases is None else {"cases": cases}
    report = judge_quality(service.name, in_force, plan, artifact, suites, load, **of_people)
    return deployment, report, quality_gate(service, policy, in_force, plan, report)
