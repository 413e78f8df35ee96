from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.domain.quality.rows import (
    ComponentRow,
    CoverageRow,
    TestRow,
    coverage_notes,
    kind_rows,
    licence_allowed,
    not_isolated,
    rows_as_json,
    rows_from_json,
)
from interlock.domain.records import Blob, BuildEnvironment, QualityReport, SuiteRuns
from tests.factories import releases

ALLOWED = ("MIT", "Apache-2.0", "Our own terms")
NAMES = st.sampled_from(["MIT", "Apache-2.0", "GPL-3.0-only", "Zlib"])


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("LicenseRef-theirs OR MIT", True),
        ("Our own terms", True),
        ("Their own terms", False),
        ("MIT OR", False),
        ("((", False),
        ("", False),
    ],
)
def test_a_licence_is_allowed_as_its_expression_says(licence: str, allowed: bool) -> None:
    assert licence_allowed(licence, ALLOWED) is allowed


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_of_alternatives_one_is_enough_and_of_obligations_all_are_needed(names: list[str]) -> None:
    assert licence_allowed(" OR ".join(names), ALLOWED) is any(name in ALLOWED for name in names)
    assert licence_allowed(" AND ".join(names), ALLOWED) is all(name in ALLOWED for name in names)


@given(st.text(max_size=60))
def test_any_text_is_a_licence_or_not(text: str) -> None:
    assert licence_allowed(text, ALLOWED) in (True, False)


@given(
    st.lists(
        st.builds(
            TestRow,
            suite=st.text(),
            classname=st.text(),
            name=st.text(),
            status=st.sampled_from(["passed", "failed", "error", "skipped"]),
            seconds=st.floats(0, 1e6),
            message=st.text(),
        )
    )
)
def test_rows_survive_the_artifact_store(rows: list[TestRow]) -> None:
    data = rows_as_json(rows)
    assert rows_from_json(TestRow, data) == tuple(rows)
    assert rows_as_json(rows_from_json(TestRow, data)) == data


def test_rows_of_another_kind_are_refused() -> None:
    data = rows_as_json([CoverageRow(file="till.py", lines=2, covered=1, percent=50)])
    with pytest.raises(ValidationError, match="file"):
        rows_from_json(ComponentRow, data)


def test_each_kind_of_tests_is_counted_for_itself_also_one_that_vanished() -> None:
    rows = [
        TestRow(suite="s", classname="", name=name, status=status, seconds=0, kind=kind)
        for kind, name, status in (
            ("integration", "a", "passed"),
            ("integration", "b", "failed"),
            ("integration", "b", "failed"),  # listed twice
            ("unit", "a", "skipped"),
        )
    ]
    assert [(row.kind, row.ran) for row in kind_rows(rows, ["unit", "integration", "browser"])] == [
        ("unit", 0),
        ("integration", 2),
        ("browser", 0),
    ]


def test_what_a_coverage_report_does_not_tell_is_said() -> None:
    empty = [CoverageRow(file=f"{n}.py", lines=0, covered=0, percent=None) for n in range(12)]
    known = CoverageRow(file="a.py", lines=1, covered=1, percent=100)
    assert list(coverage_notes([])) == list(coverage_notes([known])) == []
    assert list(coverage_notes([known, *empty])) == [
        "Coverage is unknown of files without lines: "
        "0.py, 1.py, 2.py, 3.py, 4.py, 5.py, 6.py, 7.py, 8.py, 9.py and 2 more."
    ]
    assert next(iter(coverage_notes(empty))) == ("The coverage report lists no lines, so the coverage is unknown.")


def test_a_coverage_report_says_that_tests_ran_on_copies_in_the_output_too() -> None:
    def rows(lines: dict[str, int]) -> list[CoverageRow]:
        return [CoverageRow(file=file, lines=number, covered=1, percent=20) for file, number in lines.items()]

    once = {"src/ports.js": 5, "src/tills.js": 7}
    twice = {f"build/release/{file}": number for file, number in once.items()}
    (note,) = coverage_notes(rows(once | twice))
    assert note == (
        "The coverage report has each file of build/release twice: tests ran on copies, too, and count twice."
    )
    assert list(coverage_notes(rows(once | twice | {"build/release/src/own.js": 3}))) == []
    assert list(coverage_notes(rows(once | {"lib/src/ports.js": 6}))) == []


def test_a_quality_report_without_notes_keeps_the_digest_that_it_had_before_there_were_any() -> None:
    blob = Blob(uri="file:///x", sha256="0" * 64, size=1)
    report = QualityReport(success=True, suites=(), failures=(), results=blob, docs="x")
    assert "notes" not in report.to_xcom()
    noted = report.model_copy(update={"notes": ("Nothing is known.",)})
    assert noted.to_xcom()["notes"] == ["Nothing is known."]
    assert QualityReport.from_xcom(noted.to_xcom()) == noted


APART = BuildEnvironment(isolated=True, how="bubblewrap 0.8.0, as user 60900")
BESIDE = BuildEnvironment(
    isolated=False, how="not isolated: bubblewrap (bwrap) is not installed", reaches=("everything",)
)


def test_what_was_not_isolated_is_named_with_the_reason() -> None:
    built = releases.artifact()
    runs = SuiteRuns(tests=releases.blob(), logs={}, surroundings={"integration": APART, "smoke": BESIDE})
    assert not_isolated(built.model_copy(update={"surroundings": BESIDE}), runs) == (
        "the build: not isolated: bubblewrap (bwrap) is not installed",
        "the suite smoke: not isolated: bubblewrap (bwrap) is not installed",
    )
    alone = runs.model_copy(update={"surroundings": {"integration": APART}})
    assert not_isolated(built.model_copy(update={"surroundings": APART}), alone) is None


def test_records_of_older_releases_keep_their_digests() -> None:
    """They say nothing of where they were built: not that it was apart, and not that it was not."""
    runs = SuiteRuns(tests=releases.blob(), logs={})
    assert not_isolated(releases.artifact(), runs) is None
    assert "surroundings" not in releases.artifact().model_dump(mode="json")
    assert "surroundings" not in runs.model_dump(mode="json")
    assert "not_isolated" not in releases.quality().model_dump(mode="json")
