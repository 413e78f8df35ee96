"""The review of a release in one environment before production: deploy, run suites and load, and evaluate them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from interlock.adapters.artifacts import bom
from interlock.adapters.build import builders, tools
from interlock.adapters.hosts import load as hosts_load
from interlock.adapters.quality import expectations, reports
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Service, ServiceCatalogue, Thresholds
from interlock.domain.change.environments import goes_through
from interlock.domain.errors import DeployError
from interlock.domain.ledger.kinds import DEPLOYMENT_FAILED
from interlock.domain.paths import docs_prefix, docs_stage
from interlock.domain.quality.rows import (
    UNIT,
    CoverageRow,
    TestRow,
    coverage_notes,
    kind_rows,
    not_isolated,
    record_rows,
    rows_as_json,
    rows_from_json,
    unknown_notes,
)
from interlock.domain.records import (
    Artifact,
    AssetReport,
    Blob,
    CaseRuns,
    DefectLine,
    LoadReport,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    SuiteRuns,
    TestDeployment,
)
from interlock.domain.testing.results import CaseRow
from interlock.stages.approvals.amended import thresholds_in_force
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.assets import deployed, environment_asset
from interlock.stages.runtime.evidence import record
from interlock.stages.runtime.taskflow import this_run
from interlock.stages.strategies.rolling import deploy, refuse_failed_hosts
from interlock.stages.testing import defects


def deploy_bundle(described: Service, environment: str, artifact: Artifact, assets: AssetReport) -> TestDeployment:
    """Deploy the bundle to all hosts of an environment, in the same way as later to production."""
    hosts = assets.hosts[environment]
    with permits.admission_to_sandbox(described, environment) as admission:
        results = deploy(
            hosts,
            described,
            environment,
            artifact,
            target_group=assets.target_groups.get(environment),
            admission=admission,
        )
    count = described.environments[environment].count
    urls = tuple(f"http://{host.address}:{described.health.port}" for host in hosts[:count])
    deployment = TestDeployment(environment=environment, results=results, base_urls=urls)
    try:
        refuse_failed_hosts(results, environment)
    except DeployError:
        record(DEPLOYMENT_FAILED, deployment)  # some hosts may have the release
        raise
    deployed(environment_asset(described, environment), artifact)
    return deployment


def suites_of(described: Service, environment: str) -> tuple[str, ...]:
    """Return the names of the suites that run against an environment."""
    named = described.stations[environment].suites
    return tuple(described.suites) if named is None else named


def run_suites_in(service: str, plan: ReleasePlan, deployment: TestDeployment) -> SuiteRuns:
    """Prepare the data of an environment, and run its suites, from the released commit.

    They run against its first host; where an environment has none, without ``BASE_URL``.
    """
    policy, _, described = resources.catalogue_of(service)
    store = resources.store()
    rows: list[TestRow] = []
    logs = {}
    surroundings = {}
    prepared: dict[str, Blob] = {}
    url = next(iter(deployment.base_urls), None)
    with resources.build_workspace() as folder, resources.repository(described) as repository:
        if (data := described.stations[deployment.environment].data) and url:
            confines = resources.confines(policy, described, data.registries)
            repository.checkout(plan.commit.sha, folder / ".data")
            log = builders.prepare_data(folder / ".data", data, base_url=url, environ=os.environ, confines=confines)
            prepared["data"] = store.put_bytes(log, "data.log")
        for name in suites_of(described, deployment.environment):
            suite = described.suites[name]
            confines = resources.confines(policy, described, suite.registries)
            repository.checkout(plan.commit.sha, folder / name)  # clean: suites can write to theirs
            ran = builders.run_suite(folder / name, suite, base_url=url, environ=os.environ, confines=confines)
            rows.extend(reports.junit_rows(ran.junit, name))
            logs[name] = store.put_bytes(ran.log, f"{name}.log")
            surroundings[name] = ran.surroundings
    tests = store.put_bytes(rows_as_json(tuple(rows)), "suite-tests.json")
    return SuiteRuns(tests=tests, logs=logs, surroundings=surroundings, **prepared)


def measure_load_in(described: Service, environment: str, assets: AssetReport) -> LoadReport:
    """Run the synthetic load of an environment: its own, or that of the service."""
    load = described.environments[environment].load or described.load
    return asyncio.run(hosts_load.run_load(assets.hosts[environment], load, described.health.port))


def judge_test(
    catalogue: ServiceCatalogue,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    suites: SuiteRuns,
    load: LoadReport,
    cases: CaseRuns | None = None,
) -> QualityReport:
    """Evaluate tests, coverage, performance, components and the release record with Great Expectations."""
    store, described = resources.store(), catalogue.service
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
    of_people, found = _of_people(catalogue, in_force, plan, artifact, cases)
    report = _judged(
        {**tables, **of_people},
        in_force,
        thresholds_in_force(catalogue, in_force),
        stage="quality",
        not_isolated=not_isolated(artifact, suites),
        notes=(*coverage_notes(coverage), *unknown_notes(unknown)),
    )
    return report.model_copy(update={"cases": cases, "defects": found or None})


def _of_people(
    catalogue: ServiceCatalogue, in_force: PolicyInForce, plan: ReleasePlan, artifact: Artifact, cases: CaseRuns | None
) -> tuple[dict[str, Sequence[Model]], tuple[DefectLine, ...]]:
    """Return the tables of what people found in an environment, and the defects that the release is judged by there."""
    if cases is None:
        return {}, ()
    rows, goes = case_rows(cases, artifact), goes_through(catalogue, plan)
    found = defects.lines(catalogue.service, in_force, plan, cases.environment, goes, rows)
    described = catalogue.service.name
    from_before = [one for one in found if one.state in ("open", "accepted")]
    known = defects.with_known(described, cases.environment, rows)
    tables: dict[str, Sequence[Model]] = {"cases": known, "defects": from_before}
    return {name: table for name, table in tables.items() if table}, found


def case_rows(cases: CaseRuns, artifact: Artifact) -> tuple[CaseRow, ...]:
    """Return the test cases that people had to run, with the released bundle as the one that they must have run on."""
    rows = rows_from_json(CaseRow, resources.store().get_bytes(cases.rows))
    return tuple(row.model_copy(update={"expected_artifact": artifact.bundle.sha256}) for row in rows)


def judge_environment(
    catalogue: ServiceCatalogue,
    environment: str,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    artifact: Artifact,
    suites: SuiteRuns | None = None,
    load: LoadReport | None = None,
    cases: CaseRuns | None = None,
) -> QualityReport:
    """Evaluate what ran in an environment between test and production, by its thresholds or those of the policy.

    What does not depend on the environment was judged on test: unit tests, coverage, components.

    :param suites: none: no suite runs there. :param load: none: the environment has no hosts.
    """
    tables: dict[str, Sequence[Model]] = {"record": record_rows(plan, artifact)}
    if load is not None:
        tables = {"performance": load.results, **tables}
    if suites is not None:
        tests = rows_from_json(TestRow, resources.store().get_bytes(suites.tests))
        tables = {"tests": tests, "kinds": kind_rows(tests, suites_of(catalogue.service, environment)), **tables}
    ran = (suites and suites.surroundings) or {}
    beside = tuple(f"the suite {name}: {at.how}" for name, at in ran.items() if not at.isolated)
    of_people, found = _of_people(catalogue, in_force, plan, artifact, cases)
    report = _judged(
        {**tables, **of_people},
        in_force,
        thresholds_in_force(catalogue, in_force, environment),
        stage=docs_stage(environment),
        not_isolated=beside or None,
    )
    return report.model_copy(update={"environment": environment, "cases": cases, "defects": found or None})


def _judged(
    tables: Mapping[str, Sequence[Model]],
    in_force: PolicyInForce,
    thresholds: Thresholds,
    *,
    stage: str,
    not_isolated: tuple[str, ...] | None,
    notes: tuple[str, ...] = (),
) -> QualityReport:
    store = resources.store()
    dag_id, run_id = this_run()
    with resources.workspace() as folder:
        judged = expectations.judge(tables, thresholds, in_force.demanded, folder=folder)
        return QualityReport(
            success=not judged.failures,
            suites=judged.suites,
            failures=judged.failures,
            results=store.put_bytes(judged.results_json, "quality.json"),
            docs=store.put_tree(judged.docs, docs_prefix(dag_id, run_id, stage)),
            not_isolated=not_isolated,
            notes=notes,
        )
