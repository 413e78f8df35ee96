"""JUnit reports: each test case a row, and whatever else fails a row of its own.

There is no standard, so what each reporter in wide use means by its elements, attributes and counts stands here;
samples of them are in ``tests/unit/adapters/reports``. A report claims what it counts: more failures, skipped tests or
tests than it lists make it unusable (:mod:`.tally`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from interlock.domain.errors import QualityRejected
from interlock.domain.quality.rows import TestRow

from ._numbers import seconds
from ._tally import Tally
from ._untrusted import Reader, root_of, unreadable

MAX_CASES = 100_000
"""Maximum number of test cases of one build, or of one suite."""
ITSELF = "(the suite itself)"
ONLY_COUNTED = "(counted, not listed)"
_MESSAGE_CAP = 2000
_NAME_CAP = 1000
_ROOTS = ("testsuites", "testsuite")

Status = Literal["passed", "failed", "error", "skipped"]
_WORST: tuple[Status, ...] = ("error", "failed", "skipped")

_VERDICTS: Mapping[str, Status] = {
    "failure": "failed",
    "fail": "failed",
    "error": "error",
    "skipped": "skipped",
    "skip": "skipped",
    "ignored": "skipped",
    "disabled": "skipped",
    "pending": "skipped",
    "warning": "skipped",  # PHPUnit: a test that is none, or not as it has to be; the run is not held to have failed
}
_ATTEMPTS = {"flakyFailure": False, "flakyError": False, "rerunFailure": True, "rerunError": True}
"""Surefire, nextest: an attempt that failed, and whether the last one must have failed, too."""
_SILENT = frozenset({"properties", "property", "system-out", "system-err", "stackTrace", "attachments"})
"""Elements without a test result."""

_WORDS: Mapping[str, Status] = {
    **dict.fromkeys(("passed", "pass", "success", "successful", "succeeded", "ok", "flaky"), "passed"),
    **dict.fromkeys(("run", "completed", "complete", "executed", "xfail", ""), "passed"),
    **dict.fromkeys(("failed", "fail", "failure", "undefined", "ambiguous", "xpass", "ko"), "failed"),
    **dict.fromkeys(("error", "errored", "broken", "crashed", "timeout", "timedout", "aborted", "canceled"), "error"),
    **dict.fromkeys(("skipped", "skip", "notrun", "not_run", "not run", "suppressed", "disabled"), "skipped"),
    **dict.fromkeys(("ignored", "pending", "todo", "untested", "inconclusive", "filtered"), "skipped"),
}
"""What reporters write into ``status`` and ``result``."""
_FLAGS: Mapping[str, Status] = {
    "failure": "failed",
    "failures": "failed",
    "error": "error",
    "errors": "error",
    "skipped": "skipped",
    "disabled": "skipped",
    "ignored": "skipped",
}
"""Attributes of a test case that say how it ended, unless they say no."""
_NO = frozenset({"", "0", "false", "no", "none", "null"})
_DONE: Mapping[str, Status] = {"executed": "skipped", "success": "failed", "passed": "failed"}
"""Attributes that say how it ended only if they say no."""
_NOT_STARTED = frozenset(
    {
        "Unable to find executable",
        "Fixture dependency failed",
        "Missing Configuration",
        "Required Files Missing",
        "BAD_COMMAND",
        "Insufficient resources",
        "Failed to start",
    }
)
"""CTest's reasons of a test that could not be run; it fails for them, and its report calls the test skipped."""
_PYTEST = ("pytest tests", "pytest")
"""How pytest calls the whole of its report, and its suite if the project gives it no other name."""
_TOTALS = re.compile(r"\s*(fail|cancelled) (\d{1,9})\s*", re.ASCII)
"""Node's totals, which it writes as comments."""


def is_junit(path: Path) -> bool:
    """Tell JUnit reports from other XML by their root; unreadable files count, for :func:`junit_rows` to refuse."""
    try:
        return root_of(path) in _ROOTS
    except QualityRejected:
        return True


def junit_rows(paths: Iterable[Path], kind: str = "") -> tuple[TestRow, ...]:
    """Read JUnit reports into one row for each test case, in the order of the files and of what is in them.

    :param kind: of the tests: unit, or the suite's name.
    :raises QualityRejected: something in a report cannot be read for certain, or contradicts the rest of it.
    """
    rows: list[TestRow] = []
    for path in paths:
        _JUnit(path, rows, kind).read()
    return tuple(rows)


@dataclass(slots=True)
class _Result:
    """A verdict that is being read."""

    status: Status
    message: str
    text: list[str] = field(default_factory=list)
    size: int = 0

    def why(self) -> str:
        return (self.message or "".join(self.text)).strip()[:_MESSAGE_CAP]


@dataclass(slots=True)
class _Case:
    """A test case that is being read."""

    name: str
    classname: str
    seconds: float
    said: list[tuple[Status, str]]
    status: str
    verdicts: list[tuple[Status, str]] = field(default_factory=list)
    results: int = 0
    attempts: list[str] = field(default_factory=list)
    must_have_failed: bool = False


class _JUnit(Reader):
    """Reads one report."""

    def __init__(self, path: Path, rows: list[TestRow], kind: str) -> None:
        super().__init__(path)
        self._rows, self._kind = rows, kind
        self._tallies: list[Tally] = []
        self._case: _Case | None = None
        self._result: _Result | None = None
        self._attempt: _Result | None = None
        self._silent = 0
        self._totals: dict[str, int] = {}
        self._seen: set[tuple[int, str, str]] = set()

    def opened(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take the start of an element by its position."""
        if not self._tallies:
            if tag not in _ROOTS:
                raise self.refused(f"its root element is <{tag}>, not <testsuites> or <testsuite>")
            self._open_suite(tag, attributes)
        elif self._silent or self._result or self._attempt:
            self._open_inside(tag)
        elif tag in _VERDICTS:
            self._result = _Result(_VERDICTS[tag], attributes.get("message", ""))
        elif tag in _SILENT:
            self._silent += 1
        elif self._case:
            self._open_in_case(tag, attributes)
        elif tag == "testcase":
            self._open_case(attributes)
        elif tag in _ROOTS:
            self._open_suite(tag, attributes)
        else:
            raise self.refused(f"<{tag}> is unknown in a suite")

    def _open_inside(self, tag: str) -> None:
        """Skip the content of output and messages, if it has no test result."""
        if tag in _VERDICTS or tag in _ATTEMPTS or tag in _ROOTS or tag == "testcase":
            raise self.refused(f"<{tag}> is used where only text is expected")
        self._silent += 1

    def _open_in_case(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._case is None or tag not in _ATTEMPTS:
            raise self.refused(f"<{tag}> is unknown in a test case")
        self._case.must_have_failed |= _ATTEMPTS[tag]
        self._attempt = _Result("failed", attributes.get("message", ""))

    def closed(self, tag: str) -> None:
        """Take the end of an element."""
        if self._silent:
            self._silent -= 1
        elif self._attempt and self._case:
            self._case.attempts.append(self._attempt.why())
            self._attempt = None
        elif self._result:
            self._end_result(self._result)
            self._result = None
        elif self._case:
            self._end_case(self._case)
            self._case = None
        else:
            self._end_suite()

    def data(self, text: str) -> None:
        """Keep the text of a verdict, up to the displayed length."""
        result = self._result or self._attempt
        if result and not self._silent and result.size < _MESSAGE_CAP:
            result.text.append(text[:_MESSAGE_CAP])
            result.size += len(text)

    def comment(self, text: str) -> None:
        """Take Node's totals."""
        if self.depth == 1 and (found := _TOTALS.fullmatch(text)):
            self._totals[found[1]] = int(found[2])

    def _end_result(self, result: _Result) -> None:
        if self._case:
            self._case.verdicts.append((result.status, result.why()))
            self._case.results += result.status in ("failed", "error")
        else:
            self._add_itself(result.status, result.why())

    def _open_case(self, attributes: Mapping[str, str]) -> None:
        time = seconds(attributes.get("time", ""))
        name = attributes.get("name", "")
        if time is None:
            raise self.refused(f"the time of test {name!r} is ambiguous: {attributes['time'][:40]!r}")
        self._case = _Case(
            name=_cut(name),
            classname=_cut(attributes.get("classname", "")),
            seconds=max(0.0, time),  # clocks that were set back give negative ones
            said=list(self._said(attributes)),
            status=attributes.get("status", "").strip().lower(),
        )

    def _said(self, attributes: Mapping[str, str]) -> Iterable[tuple[Status, str]]:
        """Yield what attributes say of how a test or a suite ended."""
        for key in ("status", "result", "outcome"):
            word = attributes.get(key, "").strip()
            if word.lower() not in _WORDS:
                raise self.refused(f"{key}={word[:40]!r} is unknown")
            yield _WORDS[word.lower()], f"its {key} is {word}"
        for key, status in _FLAGS.items():
            if (value := attributes.get(key, "").strip()).lower() not in _NO:
                yield status, value[:_MESSAGE_CAP]
        for key, status in _DONE.items():
            if attributes.get(key, "true").strip().lower() in _NO:
                yield status, f"{key}: {attributes[key]}"

    def _end_case(self, case: _Case) -> None:
        tally = self._tallies[-1]
        status, why = _worst(case)
        counted = status
        if case.status == "notrun" and status == "skipped" and why in _NOT_STARTED:
            status = "error"
        twice = (id(tally), case.classname, case.name)
        tally.add_case(
            counted,
            failures=max(case.results, counted in ("failed", "error")) + len(case.attempts),
            attempts=len(case.attempts),
            again=twice in self._seen,
        )
        self._seen.add(twice)
        self._add(tally.name, case.classname, case.name, status, why, case.seconds)

    def _add_itself(self, status: Status, why: str) -> None:
        """Add a row for a suite's own failure: a failed set-up, a package that did not compile."""
        tally = self._tallies[-1]
        tally.add_itself(status)
        self._add(tally.name, "", ITSELF, status, why)

    def _add(self, suite: str, classname: str, name: str, status: Status, why: str, time: float = 0.0) -> None:
        if len(self._rows) >= MAX_CASES:
            raise unreadable(self.path, f"with it, there are more than {MAX_CASES} test cases, which is the maximum")
        row = TestRow(
            suite=suite, classname=classname, name=name, status=status, seconds=time, message=why, kind=self._kind
        )
        self._rows.append(row)

    def _open_suite(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = _cut(attributes.get("name", "")) or (self._tallies[-1].name if self._tallies else self.path.stem)
        said = [(status, why) for status, why in self._said_of_suite(attributes) if status != "passed"]
        lists_all = name not in _PYTEST and (not self._tallies or self._tallies[-1].lists_all)
        tally = Tally(name, root=tag == "testsuites", said=said, lists_all=lists_all)
        for key in Tally.COUNTS:
            if (text := attributes.get(key, "").strip()) and not tally.claims(key, text):
                raise self.refused(f"{key}={text[:40]!r} is not a count")
        self._tallies.append(tally)

    def _said_of_suite(self, attributes: Mapping[str, str]) -> Iterable[tuple[Status, str]]:
        return self._said({key: attributes[key] for key in ("status", "result", "outcome") if key in attributes})

    def _end_suite(self) -> None:
        tally = self._tallies[-1]
        for status, why in tally.said:
            if not tally.shows(status):
                self._add_itself(status, why)
        if problem := tally.contradiction():
            raise self.refused(problem)
        tally.note_unlisted(self.place())
        self._tallies.pop()
        if self._tallies:
            self._tallies[-1].take(tally)
        else:
            self._end_report(tally)

    def _end_report(self, tally: Tally) -> None:
        """Check the conditions that need the whole report."""
        problem, place = tally.unexplained()
        if problem:
            raise self.refused(problem, place=place)
        for _ in range(tally.unlisted):  # Mocha's reporters count pending tests and need not list them
            self._add(tally.name, "", ONLY_COUNTED, "skipped", "the report counts it as skipped, but does not list it")
        failed = sum(self._totals.values())
        if failed > tally.bad + tally.bad_suites:
            raise self.refused(f"its totals say that {failed} tests failed or were cancelled, but it names {tally.bad}")


def _worst(case: _Case) -> tuple[Status, str]:
    """Return the worst result of a case, and its reason."""
    for status in _WORST:
        if reasons := [why for found, why in (*case.verdicts, *case.said) if found == status]:
            return status, _first(reasons)
    if case.must_have_failed:
        return "failed", _first(case.attempts)
    again = f"it passed when it was run again; before: {_first(case.attempts)}"[:_MESSAGE_CAP]
    return "passed", again if case.attempts else ""


def _first(reasons: list[str]) -> str:
    return next(filter(None, reasons), "")


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_CAP else name[: _NAME_CAP - 1] + "…"
