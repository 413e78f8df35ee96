from __future__ import annotations

from pathlib import Path

import pytest

from include.interlock.adapters import reports
from include.interlock.domain.errors import QualityRejected
from include.interlock.domain.quality import CoverageRow, TestRow

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
    monkeypatch.setattr(reports, "_SIZE_CAP", 10)
    with pytest.raises(QualityRejected, match="at most 10 are read"):
        reports.junit_rows([report(tmp_path, "<testsuite></testsuite>")])


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
        CoverageRow(file="shop/__init__.py", lines=0, covered=0, percent=100),
        CoverageRow(file="shop/till.py", lines=3, covered=2, percent=66.67),
    )


def test_what_is_no_cobertura_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QualityRejected, match="not Cobertura's <coverage>"):
        reports.coverage_rows(report(tmp_path, "<report/>"))
    with pytest.raises(QualityRejected, match="it declares entities"):
        reports.coverage_rows(report(tmp_path, BOMB))
