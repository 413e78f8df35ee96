"""The rows that quality review judges: one table for each kind of result."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import Field

from .canonical import Model, canonical_bytes
from .records import Artifact, ReleasePlan, SuiteRuns, release_name

SUITE_TITLES = {
    "tests": "Tests",
    "coverage": "Coverage of the tests",
    "performance": "Response times and errors",
    "components": "Components and licences",
    "record": "The release's own records",
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


class RecordRow(Model):
    """One field of the release record: what it is, and what it has to be."""

    field: str
    value: str
    expected: str


def rows_as_json(rows: Iterable[Model]) -> bytes:
    """Return a table as bytes for the artifact store; the same rows are always the same bytes."""
    return canonical_bytes({"rows": [row.model_dump(mode="json") for row in rows]})


def rows_from_json(kind: type[AnyRow], data: bytes) -> tuple[AnyRow, ...]:
    """Read a table back; pydantic's ValidationError if its rows are of another kind."""
    return tuple(kind.model_validate(row) for row in json.loads(data)["rows"])


def record_rows(plan: ReleasePlan, artifact: Artifact) -> tuple[RecordRow, ...]:
    """Return what the release record says of the artifact beside what was planned."""
    return (
        RecordRow(field="service", value=artifact.service, expected=plan.service),
        RecordRow(field="version", value=artifact.version, expected=plan.version),
        RecordRow(field="commit", value=artifact.commit, expected=plan.commit.sha),
        RecordRow(field="release", value=artifact.release, expected=release_name(plan.version, artifact.bundle.sha256)),
    )


def not_isolated(artifact: Artifact, suites: SuiteRuns) -> tuple[str, ...] | None:
    """Return what ran beside the platform, and why; none: nothing did, as far as it is on record."""
    ran = {"the build": artifact.surroundings}
    ran |= {f"the suite {name}": surroundings for name, surroundings in (suites.surroundings or {}).items()}
    return tuple(f"{what}: {at.how}" for what, at in ran.items() if at is not None and not at.isolated) or None


def licence_allowed(licence: str, allowed: Collection[str]) -> bool:
    """Tell whether a component may be used: of ``A OR B`` one must be allowed, of ``A AND B`` both.

    :param licence: an SPDX identifier or expression; anything else is not allowed unless it is listed as it stands.
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
    return str(expression) in allowed  # one licence; with an exception it is another, and has to be listed itself


@cache
def _licensing() -> Any:
    """Return the parser of SPDX expressions; it reads all of SPDX's licences, which takes a while."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
