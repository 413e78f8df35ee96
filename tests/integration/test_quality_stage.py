"""The judgement of quality review, from the tables in an artifact store to its report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from interlock.adapters.quality.reports import coverage_rows, junit_rows
from interlock.domain.canonical import Model
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.amended import began_with
from interlock.domain.change.policy import resolve_policy
from interlock.domain.ledger.kinds import PATH_JUDGED, PATH_LOADED, PATH_SUITES_RUN, QUALITY_JUDGED_AGAIN
from interlock.domain.quality.rows import CoverageRow, TestRow, rows_as_json
from interlock.domain.records import CaseRuns, LoadReport, LoadResult, QualityReport, Record, SuiteRuns
from interlock.domain.testing.results import CaseRow
from interlock.locations import CATALOGUE
from interlock.stages.environments.again import judge_again, reports_again
from interlock.stages.release import quality
from interlock.stages.runtime import resources
from tests.factories import releases
from tests.running_task import RunningTask, running_task

# Great Expectations and what it stands on warn of parts of each other that they will drop.
pytestmark = pytest.mark.filterwarnings("ignore")

COMPONENT = {"type": "library", "name": "flask", "version": "3.0", "licenses": [{"license": {"id": "BSD-3-Clause"}}]}
LOAD = LoadResult(host="bike-shop-test-1", path="/", requests=50, errors=0, p50_ms=1, p95_ms=2, p99_ms=3)


def rows_of(kind: str, number: int) -> list[TestRow]:
    one = {"suite": "s", "classname": "c", "status": "passed", "seconds": 0, "kind": kind}
    return [TestRow.model_validate({**one, "name": f"t{index}"}) for index in range(number)]


def covered(file: str, lines: int, ran: int) -> CoverageRow:
    return CoverageRow(file=file, lines=lines, covered=ran, percent=100 * ran / lines if lines else None)


def judged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    unit: int | Sequence[TestRow] = 9,
    suite: Sequence[TestRow] | None = None,
    coverage: Sequence[Model] = (covered("a.py", 10, 9),),
    components: Sequence[dict[str, Any]] = (COMPONENT,),
    cases: Sequence[CaseRow] | None = None,
    then: Callable[[RunningTask], None] | None = None,
) -> QualityReport:
    """Judge a release of the bike shop whose integration suite ran nine tests.

    :param unit: its unit tests, or how many passed; ``suite``: the tests of the integration suite.
    """
    key = tmp_path / "key.pem"
    key.touch(mode=0o600)
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    connections: dict[str, dict[str, Any]] = {
        resources.ARTIFACTS: {"conn_type": "fs", "extra": {"path": str(tmp_path / "store")}},
        resources.SIGNING_KEY: {"conn_type": "generic", "host": f"file:{key}"},
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    store = resources.store()
    policy, _, service = resources.catalogue_of("bike-shop")
    plan = releases.plan()
    artifact = releases.artifact().model_copy(
        update={
            "tests": store.put_bytes(
                rows_as_json(rows_of("unit", unit) if isinstance(unit, int) else unit), "unit-tests.json"
            ),
            "coverage": store.put_bytes(rows_as_json(coverage), "coverage.json"),
            "bom": store.put_bytes(json.dumps({"components": components}).encode(), "bom.cdx.json"),
        }
    )
    of_suite = rows_of("integration", 9) if suite is None else suite
    ran = store.put_bytes(rows_as_json(of_suite), "suite-tests.json")
    given: dict[str, Record] = {
        "policy.resolved": resolve_policy(policy, service, ChangeType.NORMAL),
        "plan.made": plan,
        "artifact.built": artifact,
        "suites.run": SuiteRuns(tests=ran, logs={}),
        "test.loaded": LoadReport(moment="test", results=(LOAD,), seconds=1),
    }
    if cases is not None:
        table = store.put_bytes(rows_as_json(cases), "case-results.json")
        counts = dict(Counter(row.result for row in cases))
        given["cases.run"] = CaseRuns(environment="test", artifact=ARTIFACT, rows=table, counts=counts)
    with running_task("quality.judge_quality", monkeypatch) as running:
        for kind, record in given.items():
            running.knows(kind, record)
        found = quality.judge_quality.function("bike-shop", *(record.to_xcom() for record in given.values()))
        if then is not None:
            then(running)
    return QualityReport.from_xcom(found)


ARTIFACT = releases.artifact().bundle.sha256
CHAIN = "release/release_bike_shop/one"


def ran(case: str, result: str = "passed", artifact: str = ARTIFACT) -> CaseRow:
    about = {"case": case, "title": "It works", "role": "shop-tester", "proves": (), "result": result, "by": "sam"}
    return CaseRow.model_validate({**about, "artifact": artifact, "expected_artifact": artifact})


def failed(report: QualityReport) -> list[tuple[str, str]]:
    return [(failure.suite, failure.expected) for failure in report.failures if failure.suite != "record"]


def test_a_good_release_passes_and_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = judged(tmp_path, monkeypatch)
    assert (failed(report), report.notes) == ([], ())
    assert [suite.suite for suite in report.suites] == [
        "tests",
        "kinds",
        "coverage",
        "performance",
        "components",
        "record",
    ]


REPORTS = Path(__file__).parents[1] / "unit" / "adapters" / "reports"


def broken_by(report: QualityReport, suite: str) -> str:
    return "; ".join(f"{one.expected}: {', '.join(one.rows)}" for one in report.failures if one.suite == suite)


def test_a_java_project_is_judged_by_what_surefire_and_jacoco_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = junit_rows([REPORTS / "junit" / "surefire-till.xml", REPORTS / "junit" / "surefire-flaky.xml"], "unit")
    covered_by = coverage_rows(REPORTS / "coverage" / "jacoco.xml")
    report = judged(tmp_path, monkeypatch, unit=tests, coverage=covered_by)
    said = broken_by(report, "tests")
    assert "TillTest.breaks (error)" in said
    assert "TillTest.fails (failed)" in said
    assert "TillTest.ignored" in said, "no test may be skipped"
    assert "flaky" not in said, "it passed when it was run again"
    assert "Till.java" in broken_by(report, "coverage")


def test_an_npm_project_is_judged_by_what_vitest_c8_and_eslint_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = junit_rows([REPORTS / "junit" / "vitest.xml"], "unit")
    findings = junit_rows([REPORTS / "junit" / "eslint.xml"], "integration")
    covered_by = coverage_rows(REPORTS / "coverage" / "lcov-c8.info")
    report = judged(tmp_path, monkeypatch, unit=tests, suite=findings, coverage=covered_by)
    said = broken_by(report, "tests")
    assert "set-up breaks (failed)" in said
    assert "org.eslint.eqeqeq (failed)" in said
    assert "till.js" in broken_by(report, "coverage")


STAGING = """  staging:
    after: [test]
    hosts: { Service: bike-shop, Environment: staging }
    count: 1
    ssh: interlock_test_hosts
    deploy_root: srv/bike-shop
    thresholds: { max_p95_ms: 700 }
"""


def catalogue_with(folder: Path, service: float, staging: float) -> None:
    """Change thresholds of the bike shop, which has an environment between test and production."""
    path = folder / "services" / "bike-shop.yaml"
    text = path.read_text().replace("  production:\n", f"{STAGING}  production:\n", 1)
    for was, now in ((800, service), (700, staging)):
        assert f"max_p95_ms: {was}" in text
        text = text.replace(f"max_p95_ms: {was}", f"max_p95_ms: {now}")
    path.write_text(text)


@pytest.mark.parametrize(
    ("service", "staging", "fails"),
    [
        pytest.param(0.001, 0.001, {None, "staging"}, id="of the service"),
        pytest.param(800, 0.001, {"staging"}, id="of the environment"),
        pytest.param(900, 900, set(), id="loosened"),
    ],
)
def test_thresholds_that_are_tightened_judge_the_same_results_again_once_for_each_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: float, staging: float, fails: set[str | None]
) -> None:
    again: list[QualityReport] = []

    def tighten(running: RunningTask) -> None:
        copytree(CATALOGUE, tmp_path / "catalogue")
        monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path / "catalogue"))
        catalogue_with(tmp_path / "catalogue", service, staging)
        ran = SuiteRuns.from_xcom(next(payload for kind, payload in running.recorded if kind == "suites.run"))
        running.knows(PATH_SUITES_RUN, ran.model_copy(update={"environment": "staging"}))
        running.knows(PATH_LOADED, LoadReport(moment="test", results=(LOAD,), seconds=1, environment="staging"))
        running.knows(PATH_JUDGED, releases.quality().model_copy(update={"environment": "staging"}))
        catalogue = resources.catalogue_of("bike-shop")
        began = began_with(running.entries(CHAIN))
        assert began is not None
        assert reports_again(catalogue, began, running.entries(CHAIN)) is None
        for _ in range(2):
            judge_again(catalogue)
        entries = (payload for kind, payload in running.recorded if kind == QUALITY_JUDGED_AGAIN)
        again.extend(QualityReport.model_validate(payload, extra="ignore") for payload in entries)
        assert reports_again(catalogue, began, running.entries(CHAIN)) == tuple(again)

    first = judged(tmp_path, monkeypatch, then=tighten)
    assert failed(first) == [], "what was judged stays as it is"
    assert [report.environment for report in again] == [None, "staging"]
    assert {one.environment for one in again if "performance" in {suite for suite, _ in failed(one)}} == fails


def test_a_suite_does_not_stand_in_for_unit_tests_that_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failed(judged(tmp_path, monkeypatch, unit=0)) == [("kinds", "of each kind, at least 4 tests ran")]


def test_what_is_not_known_is_noted_and_is_no_coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = covered("__init__.py", 0, 0)
    report = judged(tmp_path, monkeypatch, coverage=[empty], components=[])
    assert failed(report) == [("coverage", "the coverage of at least 1 files was measured (found 0)")]
    assert report.notes == (
        "The coverage report lists no lines, so the coverage is unknown.",
        "Coverage is unknown of files without lines: __init__.py.",
        "Components and their licences are unknown: the bill of materials (names no component).",
    )


def test_what_people_found_is_judged_with_what_suites_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = judged(tmp_path, monkeypatch, cases=[ran("basket"), ran("prices", "failed")])
    assert failed(report) == [("cases", "no test case failed")]
    assert report.suites[-1].suite == "cases"
    assert report.cases is not None
    assert report.cases.counts == {"passed": 1, "failed": 1}


def test_a_result_on_other_bytes_than_the_released_ones_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = judged(tmp_path, monkeypatch, cases=[ran("basket", artifact="0" * 64)])
    assert failed(report) == [("cases", "each test case was run on this artifact")]


def test_without_a_case_that_must_be_run_there_is_nothing_to_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = judged(tmp_path, monkeypatch, cases=[])
    assert failed(report) == []
    assert "cases" not in [suite.suite for suite in report.suites]
