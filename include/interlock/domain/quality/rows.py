"""The rows that quality review judges: one table for each kind of result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import Field

from interlock.domain.canonical import Model, canonical_bytes
from interlock.domain.records import Artifact, ReleasePlan, SuiteRuns, release_name

SUITE_TITLES = {
    "tests": "Tests",
    "kinds": "Tests of each kind",
    "coverage": "Test coverage",
    "performance": "Response times and errors",
    "components": "Components and licences",
    "record": "Release record",
    "provenance": "What the pipeline says of its artifact",
    "cases": "Test cases that people run",
    "defects": "Open defects",
}
"""The suites of quality review as people call them."""

UNIT = "unit"
"""The kind of the build's own tests; every other kind is a suite of the service."""

AnyRow = TypeVar("AnyRow", bound=Model)


class TestRow(Model):
    """One test case, of the build's unit tests or of a suite."""

    __test__ = False  # pytest: not a test class

    suite: str
    classname: str
    name: str
    status: Literal["passed", "failed", "error", "skipped"]
    seconds: float = Field(ge=0)
    message: str = Field("", description="Why it did not pass")
    kind: str = Field("", description="Of the tests: unit, or the name of the service's suite")


class KindRow(Model):
    """How many tests of one kind ran."""

    kind: str
    ran: int = Field(ge=0)


class CoverageRow(Model):
    """Line coverage of one source file."""

    file: str
    lines: int = Field(ge=0, description="Lines that can be executed")
    covered: int = Field(ge=0, description="Lines that the unit tests executed")
    percent: float | None = Field(ge=0, le=100, description="Of the lines; none: it has no lines, so it is unknown")
    unknown: str = Field("", description="Why its coverage is unknown although there is code in it")
    changed: int = Field(0, ge=0, description="Of the lines, how many this release changes")
    changed_covered: int = Field(0, ge=0, description="Of those, how many the unit tests executed")


class ComponentRow(Model):
    """One component of the bill of materials: something that the release brings with it."""

    name: str
    version: str
    licence: str = Field(description="An SPDX identifier or expression, else the name that was given; empty: unknown")
    purl: str = Field("", description="Package URL")
    sha256: str = Field("", description="Of the package's archive, where it is known")
    unknown: str = Field("", description="Why the components, and so the licences, of this part are not known")


class RecordRow(Model):
    """One field of the release record: what it is, and what it has to be."""

    field: str
    value: str
    expected: str


def kind_rows(tests: Iterable[TestRow], kinds: Iterable[str]) -> tuple[KindRow, ...]:
    """Count the executed tests of each required kind, because a kind may be missing entirely.

    A test in two reports, as with Ant's junitreport, counts once.
    """
    once = {(row.kind, row.suite, row.classname, row.name) for row in tests if row.status != "skipped"}
    ran = Counter(kind for kind, *_ in once)
    return tuple(KindRow(kind=kind, ran=ran[kind]) for kind in kinds)


def coverage_notes(rows: Sequence[CoverageRow]) -> Iterator[str]:
    """Describe what is missing in a coverage report."""
    if rows and not any(row.lines for row in rows):
        yield "The coverage report lists no lines, so the coverage is unknown."
    if empty := [row.file for row in rows if not row.lines and not row.unknown and not row.changed]:
        yield f"Coverage is unknown of files without lines: {_some(empty)}."
    if left_out := [row.file for row in rows if row.changed and not row.lines]:
        yield f"Files that this release changes are missing in the coverage report: {_some(left_out)}."
    if copies := sorted(_folders_of_copies(rows)):
        yield f"The coverage report has each file of {_some(copies)} twice: tests ran on copies, too, and count twice."


def _folders_of_copies(rows: Sequence[CoverageRow]) -> set[str]:
    """Return the folders of which every file is also outside, at the same path, with as many lines."""
    lines = {row.file: row.lines for row in rows if row.lines}
    copied: set[str] = set()
    own: set[str] = set()
    for file, number in lines.items():
        parts = file.split("/")
        for depth in range(1, len(parts)):
            is_copy = lines.get("/".join(parts[depth:])) == number
            (copied if is_copy else own).add("/".join(parts[:depth]))
    return copied - own


def unknown_notes(rows: Sequence[ComponentRow]) -> Iterator[str]:
    """Say of which parts of the bundle no licence was checked."""
    if rows:
        yield f"Components and their licences are unknown: {_some([f'{row.name} ({row.unknown})' for row in rows])}."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


_MAX_NAMED = 10


def rows_as_json(rows: Iterable[Model]) -> bytes:
    """Return a table as bytes for the artifact store; the same rows are always the same bytes."""
    return canonical_bytes({"rows": [row.model_dump(mode="json") for row in rows]})


def rows_from_json(kind: type[AnyRow], data: bytes) -> tuple[AnyRow, ...]:
    """Read a table back; pydantic's ValidationError if its rows are of another kind."""
    return tuple(kind.model_validate(row) for row in json.loads(data)["rows"])


def record_rows(plan: ReleasePlan, artifact: Artifact) -> tuple[RecordRow, ...]:
    """Return the fields of the release record, each with its planned value."""
    taken = artifact.origin.sha256 if artifact.origin else "built here"
    elsewhere = plan.artifact is not None or artifact.origin is not None
    return (
        *([RecordRow(field="artifact", value=taken, expected=plan.artifact or "built here")] if elsewhere else ()),
        RecordRow(field="service", value=artifact.service, expected=plan.service),
        RecordRow(field="version", value=artifact.version, expected=plan.version),
        RecordRow(field="commit", value=artifact.commit, expected=plan.commit.sha),
        RecordRow(field="release", value=artifact.release, expected=release_name(plan.version, artifact.bundle.sha256)),
    )


def not_isolated(artifact: Artifact, suites: SuiteRuns) -> tuple[str, ...] | None:
    """Return what ran without isolation from the platform, and why; none: nothing on record."""
    ran = {"the build": artifact.surroundings}
    ran |= {f"the suite {name}": surroundings for name, surroundings in (suites.surroundings or {}).items()}
    return tuple(f"{what}: {at.how}" for what, at in ran.items() if at is not None and not at.isolated) or None


def licence_allowed(licence: str, allowed: Collection[str]) -> bool:
    """Tell whether a component may be used: of ``A OR B`` one must be allowed, of ``A AND B`` both.

    :param licence: an SPDX identifier or expression; any other text is allowed only if exactly this text is listed.
    """
    if licence in allowed:
        return True
    from license_expression import ExpressionError  # type: ignore[import-untyped]

    try:
        parsed = _licensing().parse(licence)
    except ExpressionError:
        return False
    return parsed is not None and _allowed(parsed, allowed)


def _allowed(expression: Any, allowed: Collection[str]) -> bool:
    licensing = _licensing()
    if isinstance(expression, licensing.OR):
        return any(_allowed(part, allowed) for part in expression.args)
    if isinstance(expression, licensing.AND):
        return all(_allowed(part, allowed) for part in expression.args)
    return str(expression) in allowed  # A licence with an exception is another licence and has to be listed itself.


@cache
def _licensing() -> Any:
    """Return the parser of SPDX expressions, cached because loading all of SPDX's licences is slow."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
