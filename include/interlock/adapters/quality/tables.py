"""The tables that suites judge: their columns, and the values that are computed from rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interlock.domain.canonical import Model
from interlock.domain.catalogue import Thresholds
from interlock.domain.quality.rows import licence_allowed

if TYPE_CHECKING:
    from pandas import DataFrame
MAX_NAME_LENGTH = 300
"""Characters; rows travel in the quality report, which is small."""


Row = Mapping[str, Any]
Derive = Callable[[Row, Thresholds], object]
DeriveOfAll = Callable[[Sequence[Row]], object]


@dataclass(frozen=True, slots=True)
class Table:
    """Converts rows of one kind to a table for a suite.

    :param columns: column: pandas type.
    :param name: how a row is called, from its fields.
    :param shown: further columns that the data docs show beside a row that broke an expectation.
    :param derived: columns that are computed from a row.
    :param told: what is said of a row besides, after its name.
    :param of_all: columns that are computed from all rows, and the same in each.
    """

    columns: Mapping[str, str]
    name: str
    shown: tuple[str, ...] = ()
    derived: Mapping[str, Derive] = field(default_factory=dict)
    of_all: Mapping[str, DeriveOfAll] = field(default_factory=dict)
    told: Callable[[Row], str] = lambda _: ""

    def frame(self, rows: Sequence[Model], thresholds: Thresholds) -> DataFrame:
        """Return the rows as a data frame whose column ``row`` names each."""
        import pandas

        plain = [row.model_dump(mode="json") for row in rows]
        data: dict[str, list[object]] = {"row": [self.name.format_map(row).strip() + self.told(row) for row in plain]}
        computed = {*self.derived, *self.of_all}
        data |= {column: [row[column] for row in plain] for column in self.columns if column not in computed}
        data |= {column: [derive(row, thresholds) for row in plain] for column, derive in self.derived.items()}
        data |= {column: [derive(plain)] * len(plain) for column, derive in self.of_all.items()}
        types = {"row": TEXT, **self.columns}
        return pandas.DataFrame({column: pandas.Series(data[column], dtype=types[column]) for column in types})


def _record_difference(row: Row, _: Thresholds) -> str:
    return "" if row["value"] == row["expected"] else f"{row['value']} instead of {row['expected']}"


def _claim_difference(row: Row, _: Thresholds) -> str:
    return "" if row["holds"] else f"found {row['found']}; expected {row['expected']}"


def _smoke_difference(row: Row, _: Thresholds) -> str:
    return "" if row["passed"] else f"{row['found']} instead of {row['expected']}"


def _first_line(row: Row, _: Thresholds) -> str:
    return next(iter(row["message"].splitlines()), "")[:MAX_NAME_LENGTH]


def _other_artifact(row: Row, _: Thresholds) -> str:
    """Return on what a test case was run instead of the released bundle; a case that was not run is judged as that."""
    return row["artifact"] if row["artifact"] not in ("", row["expected_artifact"]) else ""


def _stops(row: Row, _: Thresholds) -> str:
    return str(row.get("stops", "")) if row["state"] == "open" else ""


def _first_words(row: Row, _: Thresholds) -> str:
    return next(iter(row["comment"].splitlines()), "")[:MAX_NAME_LENGTH]


def _error_percent(row: Row, _: Thresholds) -> float:
    return 100 * row["errors"] / row["requests"] if row["requests"] else 0.0


def _failed_requests(row: Row) -> str:
    """Describe the errors of failed requests: their number alone does not distinguish overload from a defect."""
    found: Mapping[str, int] = row.get("failures") or {}
    return f": {', '.join(f'{count} times {what}' for what, count in found.items())}" if found else ""


def _other_failure(row: Row) -> str:
    return f": {row['other']}" if row.get("other") else ""


def _refused_licence(row: Row, thresholds: Thresholds) -> str:
    if row["unknown"]:
        return ""  # judged as what it is
    return "" if licence_allowed(row["licence"], thresholds.allowed_licences) else row["licence"] or "no licence named"


def _whole_percent(rows: Sequence[Row]) -> float | None:
    """Return the coverage of all files together; none where no line is known."""
    lines = sum(row["lines"] for row in rows)
    return 100 * sum(row["covered"] for row in rows) / lines if lines else None


def _changed_percent(rows: Sequence[Row]) -> float | None:
    """Return the coverage of the changed lines; of a release that changes none that can be run, all is covered."""
    known = [row for row in rows if row["lines"]]
    lines = sum(row["changed"] for row in known)
    if not known:
        return None
    return 100 * sum(row["changed_covered"] for row in known) / lines if lines else 100.0


def _p95_ratio(row: Row, thresholds: Thresholds) -> float | None:
    """Return how many times as long p95 is; none where the policy holds nothing against the release.

    That is a rise of few milliseconds, and a path without an earlier answer.
    """
    rise = row["p95_rise_ms"]
    if rise is None or rise <= thresholds.max_p95_rise_ms or row["before_error_percent"] == 100:
        return None
    return float(row["p95_ratio"])


TEXT, NUMBER, COUNT = "object", "float64", "int64"
TABLES = {
    "tests": Table(
        {"suite": TEXT, "classname": TEXT, "name": TEXT, "status": TEXT, "message": TEXT},
        name="{suite}: {classname}.{name}",
        shown=("message",),
        derived={"message": _first_line},
    ),
    "kinds": Table({"ran": COUNT}, name="{kind}"),
    "coverage": Table(
        {
            "file": TEXT,
            "lines": COUNT,
            "covered": COUNT,
            "percent": NUMBER,
            "unknown": TEXT,
            "whole_percent": NUMBER,
            "changed_percent": NUMBER,
        },
        name="{file}",
        of_all={"whole_percent": _whole_percent, "changed_percent": _changed_percent},
    ),
    "performance": Table(
        {"requests": COUNT, "errors": COUNT, "p95_ms": NUMBER, "error_percent": NUMBER},
        name="GET {path} on {host}",
        derived={"error_percent": _error_percent},
        told=_failed_requests,
    ),
    "components": Table(
        {"name": TEXT, "version": TEXT, "licence": TEXT, "purl": TEXT, "refused_licence": TEXT, "unknown": TEXT},
        name="{name} {version}",
        shown=("purl",),
        derived={"refused_licence": _refused_licence},
    ),
    "record": Table({"difference": TEXT}, name="{field}", derived={"difference": _record_difference}),
    "provenance": Table({"difference": TEXT}, name="{claim}", derived={"difference": _claim_difference}),
    "cases": Table(
        {"result": TEXT, "other_artifact": TEXT, "barred": TEXT, "comment": TEXT},
        name="{case}: {title}",
        told=_other_failure,
        shown=("comment",),
        derived={"other_artifact": _other_artifact, "comment": _first_words},
    ),
    "defects": Table({"severity": TEXT, "stops": TEXT}, name="{id} ({severity}): {title}", derived={"stops": _stops}),
    "smoke": Table({"difference": TEXT}, name="GET {path} on {host}", derived={"difference": _smoke_difference}),
    "load": Table(
        {
            "missing": TEXT,
            "after_error_percent": NUMBER,
            "before_p95_ms": NUMBER,
            "after_p95_ms": NUMBER,
            "p95_ratio": NUMBER,
        },
        name="GET {path} on {host}",
        shown=("before_p95_ms", "after_p95_ms"),
        derived={"p95_ratio": _p95_ratio},
        told=_failed_requests,
    ),
}
