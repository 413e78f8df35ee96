from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.quality import expectations
from interlock.adapters.quality.expectations import Judgement, judge
from interlock.adapters.quality.tables import TABLES
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Demanded, Thresholds
from interlock.domain.errors import CatalogueError, ReleaseError
from interlock.domain.quality.rows import ComponentRow, CoverageRow, KindRow, RecordRow, TestRow
from interlock.domain.quality.verification import compare_loads
from interlock.domain.records import DefectLine, LoadResult, SmokeResult, VerifiedClaim
from interlock.domain.testing.results import CaseRow
from interlock.locations import EXPECTATIONS

THRESHOLDS = Thresholds(
    min_tests=2, max_failed_tests=1, max_skipped_tests=1, max_p95_ms=500, max_p95_ratio=2, max_skipped_cases=1
)
ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"
# Great Expectations and what it stands on warn of parts of each other that they will drop.
pytestmark = pytest.mark.filterwarnings("ignore")


def case(name: str, status: str = "passed", message: str = "") -> TestRow:
    return TestRow(suite="unit", classname="shop.till", name=name, status=status, seconds=0.1, message=message)


def load(
    path: str, p95: float = 100, *, errors: int = 0, requests: int = 50, host: str = "bike-shop-test-1", **more: Any
) -> LoadResult:
    return LoadResult(host=host, path=path, requests=requests, errors=errors, p50_ms=1, p95_ms=p95, p99_ms=p95, **more)


def component(name: str, licence: str = "MIT", version: str = "1.0") -> ComponentRow:
    return ComponentRow(name=name, version=version, licence=licence, purl=f"pkg:pypi/{name}@{version}")


def ran(case: str, result: str = "passed", **changes: Any) -> CaseRow:
    about = {"case": case, "title": "It works", "role": "tester", "proves": (), "result": result, "by": "tess"}
    return CaseRow.model_validate({**about, "artifact": "a" * 64, "expected_artifact": "a" * 64, **changes})


def defect(name: str, stops: str = "", **changes: Any) -> DefectLine:
    about = {"title": "The basket adds up", "severity": "major", "environment": "test", "version": "1.0.0"}
    return DefectLine.model_validate({"id": name, "state": "open", "stops": stops, **about, **changes})


def smoke(path: str, found: str = "200") -> SmokeResult:
    return SmokeResult(host="bike-shop-1", path=path, expected="200", found=found, passed=found == "200")


def covered(file: str, lines: int, ran: int, **more: Any) -> CoverageRow:
    percent = 100 * ran / lines if lines else None
    return CoverageRow(file=file, lines=lines, covered=ran, percent=percent, **more)


GOOD: dict[str, Sequence[Model]] = {
    "tests": [case("adds"), case("pays"), case("waits", "skipped"), case("is_flaky", "failed")],
    "kinds": [KindRow(kind="unit", ran=2), KindRow(kind="integration", ran=3)],
    "coverage": [covered("shop/till.py", 10, 6), covered("shop/__init__.py", 0, 0)],
    "performance": [load("/"), load("/bikes", 500)],
    "components": [component("flask"), component("old", "GPL-3.0-only OR MIT")],
    "record": [RecordRow(field="version", value="1.1.0", expected="1.1.0")],
    "provenance": [VerifiedClaim(claim="commit", expected="5f2d", found="5f2d", holds=True)],
    "cases": [ran("basket"), ran("prices")],
    "defects": [defect("basket-1")],
    "smoke": [smoke("/health")],
    "load": compare_loads([load("/", 100), load("/bikes", 1)], [load("/", 200), load("/bikes", 240)]),
}


def judged(folder: Path, thresholds: Thresholds = THRESHOLDS, **tables: Sequence[Model]) -> Judgement:
    return judge(tables, thresholds, folder=folder)


def test_each_suite_that_people_can_edit_has_a_table_and_a_good_one_passes(tmp_path: Path) -> None:
    assert {path.stem for path in EXPECTATIONS.glob("*.json")} == set(TABLES) == set(GOOD)
    judgement = judged(tmp_path, **GOOD)
    assert judgement.success, judgement.failures
    assert [suite.suite for suite in judgement.suites] == list(GOOD)
    assert all(suite.evaluated and not suite.failed for suite in judgement.suites)


BAD = [
    pytest.param(
        "defects",
        [defect("basket-1", "the policy stops it"), defect("menu-1"), defect("till-1", "later", state="accepted")],
        "no open defect stops the release",
        ["basket-1 (major): The basket adds up (the policy stops it)"],
        id="an open defect that stops the release",
    ),
    pytest.param(
        "cases",
        [ran("basket"), ran("prices", "failed", comment="The sum is wrong\nby one")],
        "no test case failed",
        ["prices: It works (failed)"],
        id="a test case that failed",
    ),
    pytest.param(
        "cases",
        [ran("basket"), ran("prices", "not_run", by="", artifact="")],
        "each test case was run",
        ["prices: It works (not_run)"],
        id="a test case that nobody ran",
    ),
    pytest.param(
        "cases",
        [ran("basket", "blocked"), ran("prices", "not_applicable"), ran("repairs")],
        "at most 1 test cases are blocked or not applicable",
        ["basket: It works (blocked)", "prices: It works (not_applicable)"],
        id="too many test cases that were skipped",
    ),
    pytest.param(
        "cases",
        [ran("basket"), ran("prices", artifact="b" * 64)],
        "each test case was run on this artifact",
        [f"prices: It works ({'b' * 64})"],
        id="a test case on another artifact",
    ),
    pytest.param(
        "cases",
        [ran("basket"), ran("prices", barred="tess: wrote a commit of the release")],
        "each test case was run by a person who may run it",
        ["prices: It works (tess: wrote a commit of the release)"],
        id="a test case that an author of the change ran",
    ),
    pytest.param(
        "tests",
        [case("adds"), case("pays", "failed"), case("ships", "error", "boom\nat line 1")],
        "at most 1 tests fail",
        ["unit: shop.till.pays (failed)", "unit: shop.till.ships (error)"],
        id="tests that fail",
    ),
    pytest.param(
        "tests",
        [case("adds"), case("pays"), case("a", "skipped"), case("b", "skipped")],
        "at most 1 tests are skipped",
        ["unit: shop.till.a (skipped)", "unit: shop.till.b (skipped)"],
        id="tests that are skipped",
    ),
    pytest.param(
        "tests", [case("adds"), case("a", "skipped")], "at least 2 tests ran (found 1)", [], id="too few tests"
    ),
    pytest.param("tests", [], "at least 2 tests ran (found 0)", [], id="no tests"),
    pytest.param(
        "kinds",
        [KindRow(kind="unit", ran=0), KindRow(kind="integration", ran=9)],
        "of each kind, at least 2 tests ran",
        ["unit (0)"],
        id="unit tests that vanished",
    ),
    pytest.param(
        "coverage",
        [covered("a.py", 0, 0), covered("b.py", 0, 0)],
        "the coverage of at least 1 files was measured (found 0)",
        [],
        id="files without lines measure nothing",
    ),
    pytest.param(
        "coverage",
        [covered("b.js", 0, 0, unknown="it has methods, but no lines"), *GOOD["coverage"]],
        "the coverage of each file with code in it is known",
        ["b.js (it has methods, but no lines)"],
        id="coverage that is not known",
    ),
    pytest.param(
        "coverage",
        [covered("shop/stock.py", 10, 5), *GOOD["coverage"]],
        "line coverage of each file is at least 60 %",
        ["shop/stock.py (50)"],
        id="coverage",
    ),
    pytest.param("coverage", [], "the coverage of at least 1 files was measured (found 0)", [], id="no coverage"),
    pytest.param(
        "performance",
        [load("/"), load("/bikes", 812.44)],
        "p95_ms is at most 500",
        ["GET /bikes on bike-shop-test-1 (812.44)"],
        id="slow path",
    ),
    pytest.param(
        "performance",
        [load("/", errors=2, failures={"no answer in time": 1, "status 500": 1})],
        "error_percent is at most 0",
        ["GET / on bike-shop-test-1: 1 times no answer in time, 1 times status 500 (4)"],
        id="failed requests",
    ),
    pytest.param(
        "performance",
        [load("/", requests=0)],
        "each path was asked at least once",
        ["GET / on bike-shop-test-1 (0)"],
        id="path that was not asked",
    ),
    pytest.param("performance", [], "the load test measured something (found 0)", [], id="no load"),
    pytest.param(
        "components",
        [component("gnu", "GPL-3.0-only"), component("nameless", ""), component("fine")],
        "the licence of each component is one of Apache-2.0, MIT, BSD-3-Clause, BSD-2-Clause, ISC, PSF-2.0",
        ["gnu 1.0 (GPL-3.0-only)", "nameless 1.0 (no licence named)"],
        id="licences",
    ),
    pytest.param("components", [component("x", version="")], "each component has a version", ["x"], id="version"),
    pytest.param(
        "record",
        [RecordRow(field="version", value="1.2.0", expected="1.1.0"), *GOOD["record"]],
        "each field of the release record is what it must be",
        ["version (1.2.0 instead of 1.1.0)"],
        id="record",
    ),
    pytest.param(
        "provenance",
        [VerifiedClaim(claim="commit", expected="5f2d", found="nothing", holds=False), *GOOD["provenance"]],
        "each claim of the pipeline that the policy demands, and each that it makes, holds",
        ["commit (found nothing; expected 5f2d)"],
        id="provenance",
    ),
    pytest.param("record", [], "the record has fields (found 0)", [], id="empty record"),
    pytest.param(
        "smoke",
        [smoke("/health"), smoke("/bikes", "500")],
        "each smoke request gets the expected answer",
        ["GET /bikes on bike-shop-1 (500 instead of 200)"],
        id="smoke",
    ),
    pytest.param("smoke", [], "at least one smoke request was sent (found 0)", [], id="no smoke"),
    pytest.param(
        "load",
        compare_loads([load("/", 100), load("/bikes", 1)], [load("/", 900), load("/bikes", 240)]),
        "p95 is at most 2 times what it was, or rose by no more than 250 ms",
        ["GET / on bike-shop-test-1 (9)"],
        id="slower than before",
    ),
    pytest.param(
        "load",
        compare_loads([load("/")], [load("/", errors=5, failures={"status 503": 5})]),
        "the share of failed requests is at most 0 %",
        ["GET / on bike-shop-test-1: 5 times status 503 (10)"],
        id="faulty after the release",
    ),
    pytest.param(
        "load",
        compare_loads([load("/")], [load("/", requests=0)]),
        "each path of each host was measured after the release",
        ["GET / on bike-shop-test-1 (after)"],
        id="not measured after the release",
    ),
    pytest.param("load", [], "the load measured something (found 0)", [], id="nothing measured at all"),
]


@pytest.fixture
def no_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no data docs written: it takes longer than the evaluation, and other tests read them."""
    monkeypatch.setattr(expectations, "_build_docs", lambda *_, **__: None)


@pytest.mark.usefixtures("no_docs")
@pytest.mark.parametrize(("suite", "rows", "expected", "named"), BAD)
def test_a_bad_table_fails_and_names_the_rows_that_broke_it(
    suite: str, rows: Sequence[Model], expected: str, named: list[str], tmp_path: Path
) -> None:
    judgement = judged(tmp_path, **{suite: rows})
    assert not judgement.success
    (failure,) = judgement.failures
    assert (failure.suite, failure.expected, list(failure.rows)) == (suite, expected, named)
    assert failure.row_count == len(named)
    (result,) = judgement.suites
    assert (result.success, result.failed) == (False, 1)


@pytest.mark.usefixtures("no_docs")
def test_nothing_is_held_against_a_path_that_answered_nobody_before(tmp_path: Path) -> None:
    before, after = [load("/bikes", 1, errors=50)], [load("/bikes", 400), load("/new", 400)]
    assert judged(tmp_path, load=compare_loads(before, after)).success


@pytest.mark.usefixtures("no_docs")
def test_a_policy_that_asks_for_no_coverage_takes_a_service_that_measures_none(tmp_path: Path) -> None:
    assert judged(tmp_path, Thresholds(min_line_coverage_percent=0), coverage=[]).success


NO_LINES = covered("b.js", 0, 0, unknown="it has methods, but no lines")
FILES = [covered("a.py", 90, 90, changed=4, changed_covered=1), covered("b.py", 10, 0, changed=0)]


@pytest.mark.parametrize(
    ("of", "rows", "failures"),
    [
        pytest.param(["whole"], FILES, [], id="whole: the files together have it"),
        pytest.param(
            ["whole"],
            [covered("a.py", 90, 40), *FILES[1:]],
            ["line coverage of all files together is at least 60 % (found 40)"],
            id="whole: they have not",
        ),
        pytest.param(
            ["whole"],
            [NO_LINES, *FILES],
            ["the coverage of each file with code in it is known"],
            id="whole: of one it is not known",
        ),
        pytest.param(
            ["changed_lines"],
            FILES,
            ["line coverage of the lines that this release changes is at least 60 % (found 25)"],
            id="changed lines",
        ),
        pytest.param(["changed_lines"], FILES[1:], [], id="changed lines: there are none"),
        pytest.param(
            ["each_file", "changed_lines"],
            FILES,
            [
                "line coverage of each file is at least 60 %",
                "line coverage of the lines that this release changes is at least 60 % (found 25)",
            ],
            id="two of them",
        ),
        pytest.param([], [NO_LINES, covered("b.py", 10, 0)], [], id="nothing"),
        pytest.param([], [], [], id="nothing, and nothing is there"),
    ],
)
@pytest.mark.usefixtures("no_docs")
def test_coverage_is_judged_as_the_policy_demands_it(
    of: list[str], rows: list[CoverageRow], failures: list[str], tmp_path: Path
) -> None:
    demanded = Demanded.model_validate({"coverage": of})
    judgement = judge({"coverage": rows}, THRESHOLDS, demanded, folder=tmp_path)
    assert [failure.expected for failure in judgement.failures] == failures


@pytest.mark.parametrize("of", ["each_file", "whole", "changed_lines"])
@pytest.mark.usefixtures("no_docs")
def test_coverage_that_is_demanded_and_not_there_fails(of: str, tmp_path: Path) -> None:
    judgement = judge({"coverage": []}, THRESHOLDS, Demanded.model_validate({"coverage": [of]}), folder=tmp_path)
    assert "the coverage of at least 1 files was measured (found 0)" in [one.expected for one in judgement.failures]


UNREAD = ComponentRow(name="Java archives: app.jar", version="unknown", licence="", unknown="not read")


@pytest.mark.usefixtures("no_docs")
def test_components_that_are_not_known_fail_only_if_the_policy_refuses_them(tmp_path: Path) -> None:
    rows = {"components": [UNREAD, component("flask")]}
    assert judge(rows, THRESHOLDS, Demanded(), folder=tmp_path).success
    (failure,) = judge(rows, THRESHOLDS, Demanded(unknown_components="refuse"), folder=tmp_path).failures
    assert failure.expected == "the components of each part of the bundle are known"
    assert failure.rows == ("Java archives: app.jar unknown (not read)",)


@pytest.mark.usefixtures("no_docs")
def test_a_bill_of_materials_names_as_many_components_as_the_policy_demands(tmp_path: Path) -> None:
    thresholds = THRESHOLDS.model_copy(update={"min_components": 2})
    (failure,) = judge({"components": [UNREAD, component("flask")]}, thresholds, folder=tmp_path).failures
    assert failure.expected == "the bill of materials names at least 2 components (found 1)"


@given(rows=st.integers(0, 500), allowed=st.integers(0, 500), broken=st.integers(0, 500))
def test_a_share_allows_exactly_as_many_rows_as_the_policy(rows: int, allowed: int, broken: int) -> None:
    broken = min(broken, rows)
    share = expectations._share_left(rows, allowed)
    holds = rows == 0 or (rows - broken) / rows >= share  # how Great Expectations compares
    assert holds == (broken <= allowed)


def test_at_most_twenty_rows_are_named_and_all_are_counted(tmp_path: Path) -> None:
    judgement = judged(tmp_path, tests=[case(f"t{number}" + "x" * 400, "failed") for number in range(25)])
    (failure, *_) = [one for one in judgement.failures if "fail" in one.expected]
    assert (len(failure.rows), failure.row_count) == (20, 25)
    assert max(len(row) for row in failure.rows) == 300
    results = json.loads(judgement.results_json)
    assert len(results["tests"]["results"][1]["result"]["unexpected_index_list"]) == 25


def test_judging_again_says_the_same_and_replaces_the_pages(tmp_path: Path) -> None:
    tables = {"tests": [case("a", "failed"), case("b", "failed")], "smoke": [smoke("/", "500")]}
    first = judged(tmp_path, **tables)
    (first.docs / "left-over.html").write_text("from another try")
    again = judged(tmp_path, **tables)
    assert (again.failures, again.suites) == (first.failures, first.suites)
    assert not (again.docs / "left-over.html").exists()


class Loads(HTMLParser):
    """Collect what a page makes a browser load, run or show as a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object", "embed", "form", "base"):
            self.found.append((tag, attrs))
        self.found += [(tag, (name, value)) for name, value in attrs if name.startswith("on") or name == "src"]
        self.found += [(tag, value) for name, value in attrs if name == "href" and re.match(r"[a-z]+:", value or "")]


def test_the_pages_need_no_network_and_no_script_and_show_values_as_text(tmp_path: Path) -> None:
    judgement = judged(
        tmp_path, tests=[case(ATTACK, "failed", ATTACK), case(ATTACK, "error", ATTACK)], coverage=GOOD["coverage"]
    )
    pages = sorted(judgement.docs.rglob("*"))
    assert {page.suffix for page in pages if page.is_file()} == {".html"}
    for page in (page for page in pages if page.is_file()):
        text = page.read_text()
        loads = Loads()
        loads.feed(text)
        assert loads.found == [], page
        assert "url(" not in text
        assert "@import" not in text
    (result,) = judgement.docs.glob("validations/tests/*/*/*.html")
    assert "&lt;img src=x onerror=alert(1)&gt;" in result.read_text()
    assert "at most 1 tests fail" in result.read_text()
    for target in re.findall(r'href="([^"#]+)"', (judgement.docs / "index.html").read_text()):
        assert (judgement.docs / target).is_file(), target


def test_judging_sends_nothing_prints_nothing_and_writes_only_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home, elsewhere, folder = tmp_path / "home", tmp_path / "elsewhere", tmp_path / "folder"
    for made in (home, elsewhere, folder):
        made.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)

    def refuse(*_: Any) -> None:
        raise AssertionError("Great Expectations opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    judged(folder, **GOOD)
    assert not list(home.iterdir())
    assert not list(elsewhere.iterdir())
    assert [path.name for path in folder.iterdir()] == ["docs"]
    assert capfd.readouterr() == ("", "")


def suites_with(tmp_path: Path, change: Any) -> Path:
    shutil.copytree(EXPECTATIONS, tmp_path / "suites")
    file = tmp_path / "suites" / "smoke.json"
    plain = json.loads(file.read_text())
    change(plain)
    file.write_text(json.dumps(plain))
    return tmp_path / "suites"


def set_kwargs(plain: Any, **kwargs: Any) -> None:
    plain["expectations"][0]["kwargs"] = kwargs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda plain: plain["expectations"].clear(), "has no expectations", id="no expectation"),
        pytest.param(lambda plain: plain["expectations"][0].pop("description"), "description", id="no description"),
        pytest.param(
            lambda plain: set_kwargs(plain, min_value={"$PARAMETER": "min_smoke"}),
            "min_smoke; allowed are",
            id="parameter",
        ),
        pytest.param(
            lambda plain: plain["expectations"][0].update(description="at least $min_smoke"), "min_smoke", id="word"
        ),
        pytest.param(lambda plain: plain["expectations"][0].update(type="expect_luck"), "expect_luck", id="type"),
        pytest.param(lambda plain: set_kwargs(plain, lucky=True), "lucky", id="argument"),
        pytest.param(
            lambda plain: plain["expectations"][0].update(meta={"demanded": ["luck"]}),
            "names luck; allowed",
            id="demand",
        ),
    ],
)
def test_a_suite_that_cannot_be_used_is_named_with_what_is_wrong(change: Any, said: str, tmp_path: Path) -> None:
    suites = suites_with(tmp_path, change)
    with pytest.raises(CatalogueError, match=r"smoke\.json") as caught:
        judge({"smoke": GOOD["smoke"]}, THRESHOLDS, folder=tmp_path, suites=suites)
    assert said in str(caught.value)


def test_a_suite_file_that_is_missing_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"smoke\.json cannot be used"):
        judge({"smoke": GOOD["smoke"]}, THRESHOLDS, folder=tmp_path, suites=tmp_path)
    (tmp_path / "smoke.json").write_text("{")
    with pytest.raises(CatalogueError, match=r"smoke\.json cannot be used"):
        judge({"smoke": GOOD["smoke"]}, THRESHOLDS, folder=tmp_path, suites=tmp_path)


def test_an_expectation_that_cannot_be_judged_fails_and_says_why(tmp_path: Path) -> None:
    def change(plain: Any) -> None:
        plain["expectations"][1]["kwargs"]["column"] = "luck"

    judgement = judge({"smoke": GOOD["smoke"]}, THRESHOLDS, folder=tmp_path, suites=suites_with(tmp_path, change))
    (failure,) = judgement.failures
    assert not judgement.success
    assert "could not be evaluated" in failure.rows[0]
    assert "luck" in failure.rows[0]


def test_pages_that_could_not_be_written_are_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.adapters.quality._data_docs.TEMPLATES", tmp_path)
    (tmp_path / "index_page.j2").write_text("{{ 1 / 0 }}")
    with pytest.raises(ReleaseError, match="wrote 2 of 3 pages"):
        judged(tmp_path, smoke=GOOD["smoke"])


def test_no_threshold_of_the_policy_is_written_down_a_second_time() -> None:
    for file in EXPECTATIONS.glob("*.json"):
        for expectation in json.loads(file.read_text())["expectations"]:
            numbers = [value for value in expectation["kwargs"].values() if isinstance(value, int | float)]
            assert set(numbers) <= {1}, f"{file.name}: {expectation['description']}"
