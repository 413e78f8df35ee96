"""What test runners leave: JUnit and Cobertura XML, read into rows.

The files come from a build, so they are read with care: no document may declare entities, and big ones are refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

import defusedxml  # type: ignore[import-untyped]
from defusedxml.ElementTree import parse  # type: ignore[import-untyped]

from include.interlock.domain.errors import QualityRejected
from include.interlock.domain.quality import CoverageRow, TestRow

_SIZE_CAP = 64 * 1024 * 1024
_MESSAGE_CAP = 2000
_JUNIT_ROOTS = ("testsuites", "testsuite")


def is_junit(path: Path) -> bool:
    """Tell JUnit reports from other XML by their root; what cannot be read counts, for :func:`junit_rows` to refuse."""
    try:
        return _root(path).tag in _JUNIT_ROOTS
    except QualityRejected:
        return True


def junit_rows(paths: Iterable[Path]) -> tuple[TestRow, ...]:
    """Read JUnit reports into one row for each test case, in the order of the files and of what is in them."""
    from junitparser import JUnitXml, JUnitXmlError

    rows: list[TestRow] = []
    for path in paths:
        root = _root(path)
        try:
            suites = JUnitXml.fromroot(root)  # type: ignore[arg-type]  # it takes any ElementTree element
        except JUnitXmlError as error:
            raise _unreadable(path, f"its root element is <{root.tag}>, not <testsuites> or <testsuite>") from error
        for suite in suites:
            rows.extend(_suite_rows(path, suite))
    return tuple(rows)


def coverage_rows(path: Path) -> tuple[CoverageRow, ...]:
    """Read a Cobertura report into one row for each source file, in the order of their names."""
    root = _root(path)
    if root.tag != "coverage":
        raise _unreadable(path, f"its root element is <{root.tag}>, not Cobertura's <coverage>")
    hits: dict[str, dict[str, bool]] = defaultdict(dict)
    for part in root.iter("class"):
        name = part.get("filename") or part.get("name") or ""
        lines = hits[name]
        for line in part.iterfind("lines/line"):
            number = line.get("number", "")
            # One file may hold several classes, and a line may belong to more than one.
            lines[number] = lines.get(number, False) or line.get("hits", "0") != "0"
    return tuple(_coverage_row(name, lines) for name, lines in sorted(hits.items()))


def _coverage_row(name: str, lines: dict[str, bool]) -> CoverageRow:
    covered = sum(lines.values())
    percent = 100 * covered / len(lines) if lines else 100.0
    return CoverageRow(file=name, lines=len(lines), covered=covered, percent=round(percent, 2))


def _suite_rows(path: Path, suite: Any) -> Iterator[TestRow]:
    """Give the rows of a junitparser suite, then those of the suites inside it."""
    from junitparser import TestCase

    waiting = [suite]
    while waiting:
        suite = waiting.pop()
        for case in suite.iterchildren(TestCase):
            yield _test_row(path, suite.name or path.stem, case)
        waiting.extend(reversed(list(suite.testsuites())))


def _test_row(path: Path, suite: str, case: Any) -> TestRow:
    try:
        seconds = case.time or 0.0
    except ValueError as error:
        raise _unreadable(path, f"the time of test {case.name!r} is not a number") from error
    if not math.isfinite(seconds):
        raise _unreadable(path, f"the time of test {case.name!r} is not a number")
    status, message = _verdict(case)
    return TestRow(
        suite=suite,
        classname=case.classname or "",
        name=case.name or "",
        status=status,
        seconds=max(0.0, seconds),  # clocks that were set back give negative ones
        message=message[:_MESSAGE_CAP],
    )


def _verdict(case: Any) -> tuple[Literal["passed", "failed", "error", "skipped"], str]:
    """Return the worst of a test case's results, and why."""
    from junitparser import Error, Failure, Skipped

    kinds: tuple[tuple[type[Any], Literal["error", "failed", "skipped"]], ...] = (
        (Error, "error"),
        (Failure, "failed"),
        (Skipped, "skipped"),
    )
    for kind, status in kinds:
        for result in case.result:
            if isinstance(result, kind):
                return status, (result.message or result.text or "").strip()
    return "passed", ""


def _root(path: Path) -> Element:
    """Parse a file that is not trusted."""
    try:
        size = path.stat().st_size
        if size > _SIZE_CAP:
            raise _unreadable(path, f"it has {size} bytes; at most {_SIZE_CAP} are read")
        # A DOCTYPE as such is let through: many tools name Cobertura's DTD in one, and it is never fetched.
        root: Element | None = parse(path, forbid_entities=True, forbid_external=True).getroot()
    except (ParseError, ValueError, OSError) as error:
        reason = "it declares entities" if isinstance(error, defusedxml.DefusedXmlException) else str(error)
        raise _unreadable(path, reason) from error
    if root is None:
        raise _unreadable(path, "it is empty")
    return root


def _unreadable(path: Path, reason: str) -> QualityRejected:
    return QualityRejected(
        f"The report {path.name} cannot be read: {reason}.",
        rule="a report that cannot be read proves nothing",
        who="the service's team",
        next_step="let the tool write its report again, or correct junit: and coverage: in the service's YAML",
    )
