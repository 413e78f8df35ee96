from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.quality import reports
from interlock.domain.errors import QualityRejected
from interlock.domain.quality.rows import CoverageRow, TestRow, coverage_notes

BOMB = """<?xml version="1.0"?>
<!DOCTYPE testsuites [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<testsuites><testsuite name="&b;"/></testsuites>"""
READS_A_FILE = """<?xml version="1.0"?>
<!DOCTYPE testsuites [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<testsuites><testsuite name="till"><testcase name="&a;"/></testsuite></testsuites>"""


def report(tmp_path: Path, text: str, name: str = "TEST-till.xml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_every_test_case_becomes_a_row(tmp_path: Path) -> None:
    path = report(
        tmp_path,
        """<?xml version="1.0"?>
<testsuites>
  <testsuite name="till">
    <properties><property name="x" value="y"/></properties>
    <testcase classname="till.Total" name="adds" time="0.25"/>
    <testcase classname="till.Total" name="rounds" time="1,000.5"><failure message="1 ≠ 2">trace</failure></testcase>
    <testcase classname="till.Total" name="breaks"><error>ZeroDivisionError</error><failure message="also"/></testcase>
    <testcase classname="till.Total" name="later"><skipped message="no printer"/></testcase>
    <testsuite name="till.inner"><testcase name="deep" time="-1"/></testsuite>
    <system-out>noise</system-out>
  </testsuite>
</testsuites>""",
    )

    def row(name: str, status: str, seconds: float = 0, message: str = "", **more: str) -> TestRow:
        values = {"suite": "till", "classname": "till.Total"} | more
        return TestRow.model_validate(values | {"name": name, "status": status, "seconds": seconds, "message": message})

    assert reports.junit_rows([path]) == (
        row("adds", "passed", 0.25),
        row("rounds", "failed", 1000.5, "1 ≠ 2"),
        row("breaks", "error", 0, "ZeroDivisionError"),
        row("later", "skipped", 0, "no printer"),
        row("deep", "passed", 0, suite="till.inner", classname=""),
    )


def test_a_report_may_be_one_suite_and_reports_keep_their_order(tmp_path: Path) -> None:
    one = report(tmp_path, '<testsuite><testcase name="a"/></testsuite>', "one.xml")
    two = report(tmp_path, '<testsuite name="second"><testcase name="b"/></testsuite>', "two.xml")
    assert [(row.suite, row.name) for row in reports.junit_rows([two, one])] == [("second", "b"), ("one", "a")]
    assert reports.junit_rows([]) == ()


def test_suites_may_be_nested_as_deeply_as_they_like(tmp_path: Path) -> None:
    deep = "<testsuite>" * 5000 + '<testcase name="a"/>' + "</testsuite>" * 5000
    assert len(reports.junit_rows([report(tmp_path, deep)])) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(BOMB, "it declares entities", id="entity bomb"),
        pytest.param(READS_A_FILE, "it declares entities", id="external entity"),
        pytest.param("", "no element found", id="empty"),
        pytest.param("<testsuites><testsuite>", "no element found", id="cut off"),
        pytest.param("not xml", "syntax error", id="no XML"),
        pytest.param("<test-run/>", "root element is <test-run>", id="NUnit"),
        pytest.param('<testsuite><testcase name="a" time="soon"/></testsuite>', "time of test 'a'", id="time"),
        pytest.param('<testsuite><testcase name="a" time="nan"/></testsuite>', "time of test 'a'", id="nan"),
    ],
)
def test_a_report_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(QualityRejected, match=r"TEST-till\.xml cannot be read") as refusal:
        reports.junit_rows([report(tmp_path, text)])
    assert says in str(refusal.value)


def test_a_report_that_is_not_there_or_too_big_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QualityRejected, match="No such file"):
        reports.junit_rows([tmp_path / "none.xml"])
    monkeypatch.setattr("interlock.adapters.quality.reports._untrusted.SIZE_CAP", 10)
    with pytest.raises(QualityRejected, match="at most 10 are read"):
        reports.junit_rows([report(tmp_path, "<testsuite></testsuite>")])


SAMPLES = Path(__file__).parent / "reports"


def ended(name: str) -> list[tuple[str, str]]:
    """Return how each test of a sample ended, by its name."""
    return [(row.name.strip(), row.status) for row in reports.junit_rows([SAMPLES / "junit" / f"{name}.xml"])]


JS_HOOK = "Test execution failure: could be caused by test hooks like 'afterAll'."
TILL = [("breaks", "error"), ("passes", "passed"), ("assumes", "skipped"), ("fails", "failed"), ("ignored", "skipped")]
PYTEST = [
    ("test_passes", "passed"),
    ("test_fails", "failed"),
    ("test_skipped", "skipped"),
    ("test_expected_to_fail", "skipped"),
    ("test_passes_against_expectation", "failed"),
    ("test_setup_breaks", "error"),
    ("test_teardown_breaks", "error"),
    ("test_fails_and_teardown_breaks", "failed"),
    ("test_fails_and_teardown_breaks", "error"),
]
JEST = [
    ("passes", "passed"),
    ("fails", "failed"),
    ("skipped", "skipped"),
    ("later", "passed"),  # a todo, which jest-junit writes like a test that passed
    ("set-up breaks never runs", "failed"),
    ("tear-down breaks passes", "passed"),
    (JS_HOOK, "failed"),
]


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        pytest.param("pytest", PYTEST, id="pytest"),
        pytest.param("pytest-broken", [("test_broken", "error"), *PYTEST], id="pytest, a module that is broken"),
        pytest.param(
            "pytest-subtests",
            [
                ("test_subs", "failed"),
                ("test_good", "passed"),
                ("test_skips", "skipped"),
                ("test_u", "failed"),
                ("test_flaky", "failed"),
            ],
            id="pytest, subtests",
        ),
        pytest.param(
            "node",
            [
                ("/build/broken.test.js", "failed"),
                ("top passes", "passed"),
                ("top fails", "failed"),
                ("skipped", "skipped"),
                ("todo passes", "skipped"),
                ("todo fails", "failed"),
                ("in suite", "passed"),
                ("fails in suite", "failed"),
                ("deep fails", "failed"),
                ("deep passes", "passed"),
                ("never runs", "failed"),
                ("sub", "passed"),
                ("sub fails", "failed"),
                ("fine", "passed"),
                ("passes", "passed"),
            ],
            id="node --test",
        ),
        pytest.param("jest", JEST, id="jest-junit"),
        pytest.param(
            "jest-suite-errors",
            [
                *JEST,
                ("t/empty.test.js", "error"),
                ("t/empty.test.js", "failed"),
                ("t/broken.test.js", "error"),
                ("t/broken.test.js", "failed"),
            ],
            id="jest-junit, suites that are broken",
        ),
        pytest.param(
            "mocha-junit-reporter",
            [
                ("top passes", "passed"),
                ("till passes", "passed"),
                ("till fails", "failed"),
                ('set-up breaks "before all" hook for "never runs"', "failed"),
                ("tear-down breaks passes", "passed"),
                ('tear-down breaks "after all" hook for "passes"', "failed"),
                ("(counted, not listed)", "skipped"),
                ("(counted, not listed)", "skipped"),
            ],
            id="mocha-junit-reporter",
        ),
        pytest.param(
            "mocha-xunit",
            [
                ("top passes", "passed"),
                ("passes", "passed"),
                ("fails", "failed"),
                ("skipped", "skipped"),
                ("pending", "skipped"),
                ('"before all" hook for "never runs"', "failed"),
                ("passes", "passed"),
                ('"after all" hook for "passes"', "failed"),
            ],
            id="Mocha's xunit",
        ),
        pytest.param(
            "vitest",
            [
                ("broken.test.js", "failed"),
                ("passes", "passed"),
                ("fails", "failed"),
                ("skipped", "skipped"),
                ("later", "skipped"),
                ("expected to fail", "passed"),
                ("set-up breaks > never runs", "skipped"),
                ("tear-down breaks > passes", "passed"),
                ("set-up breaks", "failed"),
                ("tear-down breaks", "failed"),
            ],
            id="Vitest",
        ),
        pytest.param(
            "eslint",
            [
                ("org.eslint.no-unused-vars", "failed"),
                ("org.eslint.prefer-const", "failed"),
                ("org.eslint.eqeqeq", "failed"),
                ("/build/src/till.js", "passed"),
            ],
            id="ESLint, which counts its failures as errors",
        ),
        pytest.param("surefire-till", TILL, id="Surefire"),
        pytest.param("surefire-setup", [("SetUpTest", "error")], id="Surefire, set-up breaks"),
        pytest.param("surefire-flaky", [("flaky", "passed")], id="Surefire, flaky"),
        pytest.param("gradle-till", [("breaks", "failed"), *TILL[1:]], id="Gradle"),
        pytest.param("gradle-setup", [("classMethod", "failed")], id="Gradle, set-up breaks"),
        pytest.param("ant-till", TILL, id="Ant"),
        pytest.param("ant-setup", [("SetUpTest", "error")], id="Ant, set-up breaks"),
        pytest.param("ant-all", [("SetUpTest", "error"), *TILL], id="Ant, all in one"),
        pytest.param(
            "phpunit",
            [
                ("Warning", "skipped"),
                ("testNever", "error"),
                ("testPasses", "passed"),
                ("testFails", "failed"),
                ("testBreaks", "error"),
                ("testSkipped", "skipped"),
                ("testIncomplete", "skipped"),
                ("testRisky", "error"),
                ('testAdds with data set "good"', "passed"),
                ('testAdds with data set "bad"', "failed"),
                ("testWarns", "skipped"),
                ("testDepends", "skipped"),
            ],
            id="PHPUnit",
        ),
        pytest.param(
            "rspec",
            [
                ("till passes", "passed"),
                ("till fails", "failed"),
                ("till breaks", "failed"),
                ("till waits", "skipped"),
                ("till pends", "skipped"),
                ("till is disabled", "skipped"),
                ("set-up never runs", "failed"),
                ("tear-down passes here", "passed"),
            ],
            id="RSpec",
        ),
        pytest.param(
            "ctest",
            [
                ("passes", "passed"),
                ("fails", "failed"),
                ("crashes", "failed"),
                ("skipped", "skipped"),
                ("disabled", "skipped"),
                ("absent", "error"),  # the report calls these two skipped, and CTest itself failed
                ("setup", "failed"),
                ("needs_setup", "error"),
                ("slow", "failed"),
            ],
            id="CTest",
        ),
        pytest.param(
            "googletest",
            [
                ("Passes", "passed"),
                ("Fails", "failed"),
                ("Skipped", "skipped"),
                ("DISABLED_Later", "skipped"),
                ("Throws", "failed"),
                ("Runs", "skipped"),
                ("", "failed"),
            ],
            id="GoogleTest",
        ),
        pytest.param(
            "gotestsum",
            [
                ("TestFails", "failed"),
                ("TestTable/bad", "failed"),
                ("TestTable", "failed"),
                ("TestSkipped", "skipped"),
                ("TestPasses", "passed"),
                ("TestTable/good", "passed"),
                ("TestPanics", "failed"),
                ("TestMain", "failed"),
            ],
            id="gotestsum",
        ),
        pytest.param(
            "nextest",
            [
                ("tests::passes", "passed"),
                ("tests::fails", "failed"),
                ("tests::flaky", "passed"),
                ("tests::fails_when_flaky", "failed"),
                ("tests::does_not_start", "error"),
            ],
            id="nextest",
        ),
        pytest.param(
            "dotnet",
            [("Passes", "passed"), ("Fails", "failed"), ("Skipped", "skipped"), ("Adds(a: 1, b: 2)", "passed")],
            id=".NET",
        ),
    ],
)
def test_what_each_tool_writes_is_read_as_it_means_it(name: str, tests: list[tuple[str, str]]) -> None:
    assert ended(name) == tests


def test_each_sample_is_read_by_a_test() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in text for path in SAMPLES.glob("junit/*.xml"))
    assert all(f'"{path.name}"' in text for path in SAMPLES.glob("coverage/*"))


def test_a_package_that_did_not_compile_stands_in_gotestsums_counts_only() -> None:
    with pytest.raises(QualityRejected, match=r"failures=5, errors=1\) than it lists \(5\) \(line 43, testsuites\)"):
        ended("gotestsum-no-build")


def test_a_test_that_passed_at_last_says_how_it_failed_before() -> None:
    (row,) = reports.junit_rows([SAMPLES / "junit" / "surefire-flaky.xml"])
    assert row.message == "it passed when it was run again; before: first time"
    assert ended("surefire-flaky") == [("flaky", "passed")]


def read(tmp_path: Path, text: str) -> list[tuple[str, str, str]]:
    return [(row.suite, row.name, row.status) for row in reports.junit_rows([report(tmp_path, text, "a.xml")])]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param(
            '<testsuites><testcase name="a"><failure/></testcase></testsuites>', [("a", "a", "failed")], id="no suite"
        ),
        pytest.param(
            '<testsuites><testsuites><testsuite name="s"><testcase name="a"/></testsuite></testsuites></testsuites>',
            [("s", "a", "passed")],
            id="nested roots",
        ),
        pytest.param(
            '<testsuite name="s"><testcase name="a"/><error message="x"/></testsuite>',
            [("s", "a", "passed"), ("s", "(the suite itself)", "error")],
            id="an error of the suite",
        ),
        pytest.param(
            '<testsuites name="all"><failure>x</failure></testsuites>',
            [("all", "(the suite itself)", "failed")],
            id="a failure of the root",
        ),
        pytest.param(
            '<testsuite name="s"><skipped/></testsuite>', [("s", "(the suite itself)", "skipped")], id="a suite skipped"
        ),
        pytest.param(
            '<testsuite name="s" status="failed"><testcase name="a"/></testsuite>',
            [("s", "a", "passed"), ("s", "(the suite itself)", "failed")],
            id="a suite's status",
        ),
        pytest.param(
            '<testsuite name="s" result="failed"><testcase name="a"><failure/></testcase></testsuite>',
            [("s", "a", "failed")],
            id="a suite's status that a row explains",
        ),
        pytest.param(
            '<testsuite xmlns="https://example.com/junit" name="s"><testcase name="a"><fail/></testcase></testsuite>',
            [("s", "a", "failed")],
            id="a namespace",
        ),
        *(
            pytest.param(f'<testsuite name="s"><testcase name="a" {said}/></testsuite>', [("s", "a", status)], id=said)
            for said, status in (
                ('status="failed"', "failed"),
                ('status="FAIL"', "failed"),
                ('status="errored"', "error"),
                ('status="run" result="suppressed"', "skipped"),
                ('status="notrun"', "skipped"),
                ('status="disabled"', "skipped"),
                ('status="run" result="completed"', "passed"),
                ('result="undefined"', "failed"),
                ('outcome="timeout"', "error"),
                ('failure="1 == 2"', "failed"),
                ('failures="1"', "failed"),
                ('errors="1"', "error"),
                ('errors="0" failures="0"', "passed"),
                ('skipped="true"', "skipped"),
                ('executed="false"', "skipped"),
                ('success="false"', "failed"),
                ('success="true"', "passed"),
            )
        ),
        pytest.param(
            '<testsuite name="s"><testcase name="a" status="passed"><skipped/><failure/></testcase></testsuite>',
            [("s", "a", "failed")],
            id="the worst counts",
        ),
        pytest.param(
            '<testsuite name="s"><testcase name="a"><rerunFailure message="x"/></testcase></testsuite>',
            [("s", "a", "failed")],
            id="an attempt after which the last one failed",
        ),
    ],
)
def test_whatever_a_report_says_of_a_failure_becomes_a_row(
    tmp_path: Path, text: str, rows: list[tuple[str, str, str]]
) -> None:
    assert read(tmp_path, text) == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('<testsuite failures="1"><testcase name="a"/></testsuite>', "more failures", id="failures"),
        pytest.param('<testsuite errors="1" tests="0"/>', "more failures (errors=1) than it lists (0)", id="errors"),
        pytest.param('<testsuite tests="2"><testcase name="a"/></testsuite>', "1 are missing", id="tests"),
        pytest.param('<testsuite tests="3"/>', "3 are missing (line 1, testsuite)", id="tests of an empty suite"),
        pytest.param('<testsuite tests="1"><testcase name="a"/><testcase name="b"/></testsuite>', "lists 2", id="few"),
        pytest.param('<testsuite skipped="1"><testcase name="a"/></testsuite>', "1 skipped tests", id="skipped"),
        pytest.param('<testsuite disabled="1"><testcase name="a"/></testsuite>', "1 skipped tests", id="disabled"),
        pytest.param(
            '<testsuites tests="3"><testsuite name="s"><testcase name="a"/></testsuite></testsuites>',
            "2 are missing (line 1, testsuites)",
            id="tests of all suites",
        ),
        pytest.param(
            '<testsuites skipped="1" tests="4"><testsuite name="s" tests="4"><testcase name="a"/></testsuite>'
            "</testsuites>",
            "3 are missing",
            id="more missing than skipped",
        ),
        pytest.param('<testsuite tests="many"/>', "tests='many' is not a count", id="no count"),
        pytest.param(
            '<testsuites>\n<testsuite name="s"><testcase name="a"/><crash/></testsuite></testsuites>',
            "<crash> is unknown in a suite (line 2, testsuites / testsuite 's' / crash)",
            id="unknown element of a suite",
        ),
        pytest.param('<testsuite><testcase name="a"><oops/></testcase></testsuite>', "<oops>", id="of a test case"),
        pytest.param(
            '<testsuite><testcase name="a"><testcase name="b"/></testcase></testsuite>', "<testcase>", id="case in case"
        ),
        pytest.param(
            "<testsuite><system-out><failure/></system-out></testsuite>", "where only text is expected", id="hidden"
        ),
        pytest.param(
            '<testsuite><testcase name="a" status="wobbly"/></testsuite>',
            "status='wobbly' is unknown",
            id="unknown status",
        ),
        pytest.param(
            "<testsuites><testcase name='a'/><!-- tests 2 --><!-- fail 1 --></testsuites>",
            "its totals say that 1 tests failed",
            id="Node's totals",
        ),
        pytest.param('<assemblies total="1"/>', "root element is <assemblies>", id="xUnit.net"),
    ],
)
def test_a_report_that_says_more_than_its_rows_is_refused_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(QualityRejected, match=r"a\.xml cannot be read") as refusal:
        read(tmp_path, text)
    assert says in str(refusal.value)


TAGS = st.sampled_from(["testsuites", "testsuite", "testsuite", "testcase", "testcase", "skipped", "system-out"])
BAD_TAGS = st.sampled_from(["failure", "error", "rerunFailure"])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["name", "tests", "failures", "skipped", "time"]), st.sampled_from(["", "0", "1", "2"]), max_size=2
)


@st.composite
def elements(draw: st.DrawFn, depth: int = 0, bad: bool = False) -> str:
    """Draw an element with others inside it; one of them says that something failed if ``bad``."""
    inside = [draw(elements(depth + 1)) for _ in range(draw(st.integers(0, 2)) if depth < 4 else 0)]
    if bad and (depth == 4 or (depth and draw(st.booleans()))):
        return f"<{draw(BAD_TAGS)}/>"
    if bad:
        inside.insert(draw(st.integers(0, len(inside))), draw(elements(depth + 1, bad=True)))
    tag = draw(TAGS) if depth else draw(st.sampled_from(["testsuites", "testsuite"]))
    said = "".join(f' {name}="{value}"' for name, value in draw(ATTRIBUTES).items())
    return f"<{tag}{said}>{''.join(inside)}</{tag}>"


@given(text=elements(bad=True))
def test_wherever_a_failure_stands_it_is_seen_or_the_report_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = report(tmp_path_factory.mktemp("drawn"), text)
    try:
        rows = reports.junit_rows([path])
    except QualityRejected:
        return
    assert any(row.status in ("failed", "error") for row in rows), text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", 0),
        ("0.16", 0.16),
        (".5", 0.5),
        ("2e-05", 0.00002),
        ("0,160", 0.16),
        ("12,5", 12.5),
        ("1234,567", 1234.567),
        ("1,5E-4", 0.00015),
        ("1,234.5", 1234.5),
        ("1,234,567", 1234567),
        ("1.234,5", 1234.5),
        ("1 234,5", 1234.5),
        ("1'234.5", 1234.5),
        ("1\u202f234,5", 1234.5),
        ("-0.5", 0),
    ],
)
def test_times_are_read_in_every_language(tmp_path: Path, text: str, found: float) -> None:
    (row,) = reports.junit_rows([report(tmp_path, f'<testsuite><testcase name="a" time="{text}"/></testsuite>')])
    assert row.seconds == found


@pytest.mark.parametrize("text", ["1,234", "soon", "1.2.3", "0x10", "inf", "1_000", "1e999", "PT1S", "1,23,4"])
def test_a_time_that_could_be_two_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(QualityRejected, match="is ambiguous"):
        reports.junit_rows([report(tmp_path, f'<testsuite><testcase name="a" time="{text}"/></testsuite>')])


def test_a_big_report_is_read_in_little_memory(tmp_path: Path) -> None:
    """10 MB of text in a few places, and 5,000 test cases: what people read is kept, and no tree."""
    path = tmp_path / "big.xml"
    with path.open("w") as file:
        file.write('<testsuite name="s">')
        for number in range(20):
            file.write(f'<testcase name="t{number}"><failure>{"x" * 500_000}</failure></testcase>')
        file.write('<testcase name="a" classname="b"><system-out>output</system-out></testcase>' * 5_000)
        file.write("</testsuite>")
    tracemalloc.start()
    try:
        rows = reports.junit_rows([path])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rows) == 5_020
    assert peak < path.stat().st_size
    assert {len(row.message) for row in rows} == {0, 2000}


def test_more_test_cases_than_can_be_held_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.adapters.quality.reports._junit.MAX_CASES", 2)
    text = '<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'
    assert len(reports.junit_rows([report(tmp_path, text)])) == 2
    with pytest.raises(QualityRejected, match="more than 2 test cases"):
        reports.junit_rows([report(tmp_path, text), report(tmp_path, text, "b.xml")])


def test_only_the_root_is_read_to_tell_a_report_from_other_xml(tmp_path: Path) -> None:
    assert reports.is_junit(report(tmp_path, "<testsuites><not xml"))
    assert not reports.is_junit(report(tmp_path, "<coverage><not xml"))
    assert reports.is_junit(report(tmp_path, "not xml"))


# --- Coverage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cobertura-coverage-py.xml", {"shop/__init__.py": None, "shop/till.py": 75}),
        ("lcov-coverage-py.info", {"shop/__init__.py": None, "shop/till.py": 75}),
        ("cobertura-c8.xml", {"till.js": 44.44}),
        ("clover-c8.xml", {"/build/till.js": 44.44}),
        ("lcov-c8.info", {"till.js": 44.44}),
        ("cobertura-phpunit.xml", {"Till.php": 50}),
        ("clover-phpunit.xml", {"/build/src/Till.php": 33.33}),
        ("cobertura-gcovr.xml", {"till.c": 50}),
        ("lcov-geninfo.info", {"/build/till.c": 50}),
        ("jacoco.xml", {"Till.java": 50}),
    ],
)
def test_coverage_is_read_from_what_each_tool_writes(name: str, files: dict[str, float | None]) -> None:
    rows = reports.coverage_rows(SAMPLES / "coverage" / name)
    assert {row.file: row.percent for row in rows} == files
    assert not any(row.unknown for row in rows)


def cobertura(*classes: str) -> str:
    inside = f'<package name="p"><classes>{"".join(classes)}</classes></package>'
    return f"<coverage><packages>{inside}</packages></coverage>"


JACOCO = '<report name="r">{}</report>'
CLASS = '<class name="{}" filename="a.py"><lines><line number="1" hits="{}"/></lines></class>'


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param(
            cobertura(
                '<class name="a" filename="a.js"><methods><method name="f"><lines><line number="1" hits="0"/></lines>'
                '</method></methods><lines><line number="5" hits="1"/></lines></class>'
            ),
            [("a.js", 2, 1, "")],
            id="lines of methods",
        ),
        pytest.param(cobertura(CLASS.format("A", 1), CLASS.format("B", 0)), [("a.py", 1, 1, "")], id="two classes"),
        pytest.param(
            cobertura(CLASS.format("A", 1), CLASS.format("A", 0)),
            [("a.py (package p)", 1, 1, ""), ("a.py (package p, number 2)", 1, 0, "")],
            id="one class twice: two files of one name",
        ),
        pytest.param(
            cobertura('<class name="A" filename="a.py" line-rate="0.4"><lines/></class>'),
            [("a.py", 0, 0, "its line-rate is 0.4, and it has no lines")],
            id="a rate and no lines",
        ),
        pytest.param(
            cobertura('<class name="A" filename="a.py"><methods><method name="f"/></methods></class>'),
            [("a.py", 0, 0, "it has methods, but no lines")],
            id="methods, but no lines",
        ),
        pytest.param("<coverage><packages/></coverage>", [], id="nothing"),
        pytest.param(
            '<coverage clover="3"><project><package name="p"><file name="A.php" path="/b/A.php">'
            '<line num="1" type="method" count="0"/><line num="2" type="cond" truecount="0" falsecount="2"/></file>'
            '</package></project><testproject><file name="T.php"><line num="1" count="1"/></file></testproject>'
            "</coverage>",
            [("/b/A.php", 2, 1, "")],
            id="Clover, conditions; tests are no source",
        ),
        pytest.param(
            '<coverage><project><file name="A.php"><metrics statements="7"/></file></project></coverage>',
            [("A.php", 0, 0, "it has 7 statements, but no lines")],
            id="Clover, a summary",
        ),
        pytest.param(
            JACOCO.format(
                '<group name="g"><package name="a/b"><class name="a/b/A" sourcefilename="A.java"/>'
                '<sourcefile name="A.java"><line nr="1" mi="1" ci="0"/><line nr="2" mi="1" ci="1"/></sourcefile>'
                '</package></group><group name="h"><package name="a/b"><class name="a/b/A" sourcefilename="A.java"/>'
                "</package></group>"
            ),
            [
                ("a/b/A.java (group g)", 2, 1, ""),
                ("a/b/A.java (group h)", 0, 0, "it was compiled without line numbers"),
            ],
            id="JaCoCo, groups",
        ),
        pytest.param(
            "TN:one\nSF:a.c\nDA:1,0\nDA:2,0,checksum\nend_of_record\nTN:two\nSF:a.c\nDA:2,3\nend_of_record\n",
            [("a.c", 2, 1, "")],
            id="LCOV, two tests",
        ),
        pytest.param(
            "SF:a.c\nLF:3\nLH:3\nend_of_record\n",
            [("a.c", 0, 0, "it has 3 lines, and none is listed")],
            id="LCOV, a sum",
        ),
        pytest.param(
            "SF:a.c\nFNDA:0,f\nend_of_record\n", [("a.c", 0, 0, "it has functions, but no lines")], id="LCOV, functions"
        ),
    ],
)
def test_what_has_no_lines_is_unknown_and_never_covered(
    tmp_path: Path, text: str, rows: list[tuple[str, int, int, str]]
) -> None:
    found = reports.coverage_rows(report(tmp_path, text))
    assert [(row.file, row.lines, row.covered, row.unknown) for row in found] == rows
    assert all((row.percent is None) == (row.lines == 0) for row in found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            "<CoverageSession/>", "<CoverageSession>; it is not Cobertura, JaCoCo, Clover or LCOV", id="other"
        ),
        pytest.param('<coverage version="1"><file path="a"/></coverage>', "<file> is below <coverage>", id="Sonar"),
        pytest.param("<coverage/>", "neither <packages> nor <project>", id="empty"),
        pytest.param(BOMB, "it declares entities", id="entity bomb"),
        pytest.param(JACOCO.format("<module/>"), "<module> is unknown", id="report of another kind"),
        pytest.param(cobertura('<class name="A"><lines><line hits="1"/></lines></class>'), "number of a", id="number"),
        pytest.param(
            cobertura('<class name="A"><lines><line number="1"/></lines></class>'), "hits of a line", id="hits"
        ),
        pytest.param(
            cobertura('<class name="A"><lines><line number="1" hits="-1"/></lines></class>'), "'-1'", id="negative"
        ),
        pytest.param(cobertura("<class/>"), "neither filename nor name", id="no name"),
        pytest.param(
            '<coverage><project><line num="1" count="1"/></project></coverage>', "outside of a file", id="line alone"
        ),
        pytest.param(
            '<coverage><project><file name="a"><line num="1"/></file></project></coverage>', "has no count", id="Clover"
        ),
        pytest.param("SF:a.c\nDA:1,1\n", "the record of a.c is incomplete", id="LCOV, cut off"),
        pytest.param("SF:a.c\nSF:b.c\n", "a record does not end, or names no file (line 2)", id="LCOV, no end"),
        pytest.param("DA:1,1\n", "DA is outside of a record (line 1)", id="LCOV, no file"),
        pytest.param("SF:a.c\nDA:1,?\nend_of_record\n", "is not a line with a count (line 2)", id="LCOV, no count"),
        pytest.param(
            "SF:a.c\nDA:1,1\nDA:2,0\nLF:4\nLH:1\nend_of_record\n",
            "a.c: it says that 1 of 4 lines were run, but lists 1 of 2 (line 6)",
            id="LCOV, other counts",
        ),
        pytest.param('{"coverage": 100}', "is not valid in LCOV (line 1)", id="JSON"),
    ],
)
def test_coverage_that_cannot_be_read_for_certain_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(QualityRejected, match="cannot be read") as refusal:
        reports.coverage_rows(report(tmp_path, text))
    assert says in str(refusal.value)


def test_a_coverage_report_that_is_not_there_or_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(QualityRejected, match="No such file"):
        reports.coverage_rows(tmp_path / "none.xml")
    monkeypatch.setattr("interlock.adapters.quality.reports._coverage.MAX_LINES", 1)
    with pytest.raises(QualityRejected, match="more than 1 lines"):
        reports.coverage_rows(SAMPLES / "coverage" / "jacoco.xml")
    monkeypatch.setattr("interlock.adapters.quality.reports._lcov.MAX_LINES", 1)
    with pytest.raises(QualityRejected, match="more than 1 lines"):
        reports.coverage_rows(SAMPLES / "coverage" / "lcov-c8.info")


@pytest.mark.parametrize(
    "path", ["till.js", "web/till.js", "src/web/till.js"], ids=["the same", "longer", "longer by two"]
)
def test_the_lines_that_a_release_changes_are_counted_apart(path: str) -> None:
    (row,) = reports.coverage_rows(SAMPLES / "coverage" / "lcov-c8.info", {path: frozenset({3, 4, 5, 99})})
    assert (row.changed, row.changed_covered) == (3, 1)


def test_changed_files_that_the_report_leaves_out_have_a_row_if_files_like_them_are_measured() -> None:
    changed = {"other/kill.js": frozenset({3, 4}), "README.md": frozenset({1})}
    left_out, row = reports.coverage_rows(SAMPLES / "coverage" / "lcov-c8.info", changed)
    assert (left_out.file, left_out.percent, left_out.changed) == ("other/kill.js", None, 2)
    assert (row.file, row.changed, row.changed_covered) == ("till.js", 0, 0)
    assert list(coverage_notes([left_out, row])) == [
        "Files that this release changes are missing in the coverage report: other/kill.js."
    ]


def test_coverage_counts_each_line_of_each_file_once(tmp_path: Path) -> None:
    path = report(
        tmp_path,
        """<?xml version="1.0"?>
<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">
<coverage line-rate="0.5"><packages><package name="shop"><classes>
  <class name="Till" filename="shop/till.py">
    <methods><method><lines><line number="1" hits="1"/></lines></method></methods>
    <lines><line number="1" hits="1"/><line number="2" hits="0"/><line number="3" hits="0"/></lines></class>
  <class name="Drawer" filename="shop/till.py"><lines><line number="3" hits="7"/></lines></class>
  <class name="init" filename="shop/__init__.py"><lines/></class>
</classes></package></packages></coverage>""",
    )
    assert reports.coverage_rows(path) == (
        CoverageRow(file="shop/__init__.py", lines=0, covered=0, percent=None),
        CoverageRow(file="shop/till.py", lines=3, covered=2, percent=66.67),
    )
