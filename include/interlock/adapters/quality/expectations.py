"""Judgement by Great Expectations: tables in, failed expectations with the rows that broke them out.

What is expected stands in ``expectations/<suite>.json``, as Great Expectations' own suites; how much is enough
stands in the policy and reaches a suite as its parameters (``{"$PARAMETER": "max_p95_ms"}``). An expectation whose
``meta`` has ``demanded`` is judged only if the policy demands one of what it names there.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from interlock.domain.canonical import Model, sha256_of
from interlock.domain.catalogue import Demanded, Thresholds
from interlock.domain.change.policy import COVERAGE_OF, coverage_demanded
from interlock.domain.errors import CatalogueError, ReleaseError
from interlock.domain.quality.rows import licence_allowed
from interlock.domain.records import FailedExpectation, SuiteResult
from interlock.locations import EXPECTATIONS

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuite, ExpectationSuiteValidationResult, RunIdentifier
    from great_expectations.data_context import EphemeralDataContext
    from pandas import DataFrame

MOST_ROWS = 20
LONGEST_NAME = 300
"""Characters; rows travel in the quality report, which is small."""
SITE = "docs"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What Great Expectations said of all tables."""

    suites: tuple[SuiteResult, ...]
    failures: tuple[FailedExpectation, ...]
    results_json: bytes
    docs: Path

    @property
    def success(self) -> bool:
        """Whether no expectation failed."""
        return all(suite.success for suite in self.suites)


Row = Mapping[str, Any]
Derive = Callable[[Row, Thresholds], object]
DeriveOfAll = Callable[[Sequence[Row]], object]


@dataclass(frozen=True, slots=True)
class Table:
    """How rows of one kind become a table that a suite can judge.

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


def _smoke_difference(row: Row, _: Thresholds) -> str:
    return "" if row["passed"] else f"{row['found']} instead of {row['expected']}"


def _first_line(row: Row, _: Thresholds) -> str:
    return next(iter(row["message"].splitlines()), "")[:LONGEST_NAME]


def _error_percent(row: Row, _: Thresholds) -> float:
    return 100 * row["errors"] / row["requests"] if row["requests"] else 0.0


def _failed_requests(row: Row) -> str:
    """Say what failed requests met: the number of them alone does not tell overload from a defect."""
    found: Mapping[str, int] = row.get("failures") or {}
    return f": {', '.join(f'{count} times {what}' for what, count in found.items())}" if found else ""


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

    That is a rise of few milliseconds, and a path that answered nobody before.
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


def suite_digests(suites: Path = EXPECTATIONS) -> dict[str, str]:
    """Return the SHA-256 of the file of each suite, by the suite's name."""
    return {path.stem: sha256_of(path.read_bytes()) for path in sorted(suites.glob("*.json"))}


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the policy says of how much is enough, and of what is demanded."""

    thresholds: Thresholds
    demanded: Demanded

    @property
    def names(self) -> frozenset[str]:
        """What is demanded, as suites name it."""
        coverage = [f"coverage.{one}" for one in coverage_demanded(self.thresholds, self.demanded)]
        return frozenset([*coverage, *(["unknown_components"] if self.demanded.unknown_components == "refuse" else [])])

    def parameters(self, rows: int) -> dict[str, Any]:
        """Return what a suite may name: each threshold, and what only the number of rows turns into a share."""
        return {
            **self.thresholds.model_dump(mode="json"),
            "min_covered_files": 1 if coverage_demanded(self.thresholds, self.demanded) else 0,
            "share_not_failed": _share_left(rows, self.thresholds.max_failed_tests),
            "share_not_skipped": _share_left(rows, self.thresholds.max_skipped_tests),
        }


NAMES_OF_DEMANDS = frozenset(("unknown_components", *(f"coverage.{one}" for one in COVERAGE_OF)))


def judge(
    tables: Mapping[str, Sequence[Model]],
    thresholds: Thresholds,
    demanded: Demanded = Demanded(),  # noqa: B008  # frozen
    *,
    folder: Path,
    suites: Path = EXPECTATIONS,
) -> Judgement:
    """Judge each table by the suite of its name; write the data docs into ``folder`` and nothing anywhere else.

    :param demanded: what the policy demands beside the thresholds.
    :param folder: an existing folder; what an earlier try left in it is replaced.
    :raises CatalogueError: a suite file cannot be used.
    """
    shutil.rmtree(folder / SITE, ignore_errors=True)
    context = _context(folder / SITE)
    run_id, rules = _run_id(), _Rules(thresholds, demanded)
    judged = {
        name: _judge_table(context, name, rows, rules, suites / f"{name}.json", run_id) for name, rows in tables.items()
    }
    _build_docs(context, folder / SITE, pages=1 + 2 * len(tables))
    return Judgement(
        suites=tuple(_suite_result(name, result) for name, result in judged.items()),
        failures=tuple(failure for name, result in judged.items() for failure in _failures(name, result)),
        results_json=_as_json({name: result.to_json_dict() for name, result in judged.items()}),
        docs=folder / SITE,
    )


def _context(site: Path) -> EphemeralDataContext:
    """Return a data context that keeps everything in memory but the site: no telemetry, no progress bars."""
    import great_expectations
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = great_expectations.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    view = {"module_name": "interlock.adapters.quality._data_docs", "class_name": "OfflinePageView"}
    index = {"module_name": view["module_name"], "class_name": "OfflineIndexPageView"}
    context.add_data_docs_site(
        "release",
        {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "view": index},
            "site_section_builders": {
                "expectations": {"view": view},
                "validations": {"view": view},
                "profiling": "none",
            },
        },
    )
    return context


def _build_docs(context: EphemeralDataContext, site: Path, *, pages: int) -> None:
    """Write the data docs; Great Expectations itself only logs what it could not write.

    :param pages: how many there must be: the index, and for each suite its expectations and its result.
    """
    context.build_data_docs()
    shutil.rmtree(site / "static", ignore_errors=True)  # 4 MB of fonts and pictures that our pages do not use
    written = [page for page in site.rglob("*.html") if page.stat().st_size]
    if len(written) != pages:
        raise ReleaseError(
            f"Great Expectations wrote {len(written)} of {pages} pages of data docs.",
            who="the platform engineer",
            next_step="look for its error in the task's log",
        )


def _run_id() -> RunIdentifier:
    from datetime import UTC, datetime

    from great_expectations.core import RunIdentifier

    return RunIdentifier(run_name="release", run_time=datetime.now(UTC))


def _share_left(rows: int, allowed: int) -> float:
    """Return the share of rows that must hold when ``allowed`` of them need not."""
    return (rows - allowed) / rows if rows > allowed else 0.0


def _judge_table(
    context: EphemeralDataContext,
    name: str,
    rows: Sequence[Model],
    rules: _Rules,
    file: Path,
    run_id: RunIdentifier,
) -> ExpectationSuiteValidationResult:
    import great_expectations

    table, parameters = TABLES[name], rules.parameters(len(rows))
    suite = context.suites.add(_read_suite(file, parameters, rules.names))
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    definition = context.validation_definitions.add(
        great_expectations.ValidationDefinition(
            name=name, data=asset.add_batch_definition_whole_dataframe("all"), suite=suite
        )
    )
    result = definition.run(
        batch_parameters={"dataframe": table.frame(rows, rules.thresholds)},
        expectation_parameters=parameters,
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["row", *table.shown],
            "return_unexpected_index_query": False,
        },
        run_id=run_id,
    )
    # Great Expectations returns results in the order in which it got them; people expect the suite's.
    order = {expectation.id: number for number, expectation in enumerate(suite.expectations)}
    result.results.sort(key=lambda one: order[one.expectation_config.id])
    return result


def _read_suite(file: Path, parameters: Mapping[str, Any], demanded: frozenset[str]) -> ExpectationSuite:
    """Read what a suite expects of what is demanded, with the parameters' values in its descriptions.

    Each expectation is tried by itself first: a suite leaves out what it cannot read and only logs that, and nobody
    would know that a gate is open.
    """
    from great_expectations.core import ExpectationSuite
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    values = {name: _said(value) for name, value in parameters.items()}
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        if not plain["expectations"]:
            raise ValueError("it expects nothing")
        for expectation in plain["expectations"]:
            _refuse_unknown_parameters(expectation, parameters)
            _refuse_unknown_demands(expectation)
            expectation["description"] = Template(expectation["description"]).substitute(values)
            ExpectationConfiguration(**expectation).to_domain_obj()
        plain["expectations"] = [one for one in plain["expectations"] if _is_demanded(one, demanded)]
        return ExpectationSuite(**plain)
    except (OSError, ValueError, KeyError, TypeError, GreatExpectationsError) as error:
        raise CatalogueError(
            f"The expectation suite {file.name} cannot be used: {error}".rstrip(".") + ".",
            rule=f"{file} holds a suite of Great Expectations; each expectation has a description",
            who="the owner of the policy",
            next_step="correct the file",
        ) from error


def _refuse_unknown_parameters(expectation: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    for key, value in expectation["kwargs"].items():
        wanted = value.get("$PARAMETER") if isinstance(value, dict) else None
        if wanted is not None and wanted not in parameters:
            allowed = ", ".join(sorted(parameters))
            raise ValueError(f"{expectation['type']}: {key} names the parameter {wanted}; allowed are {allowed}")


def _refuse_unknown_demands(expectation: Mapping[str, Any]) -> None:
    if unknown := set(expectation.get("meta", {}).get("demanded", ())) - NAMES_OF_DEMANDS:
        allowed = ", ".join(sorted(NAMES_OF_DEMANDS))
        raise ValueError(f"{expectation['type']}: demanded names {', '.join(sorted(unknown))}; allowed are {allowed}")


def _is_demanded(expectation: Mapping[str, Any], demanded: frozenset[str]) -> bool:
    named = expectation.get("meta", {}).get("demanded")
    return named is None or not demanded.isdisjoint(named)


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _suite_result(name: str, result: ExpectationSuiteValidationResult) -> SuiteResult:
    failed = sum(not one.success for one in result.results)
    return SuiteResult(
        suite=name, success=failed == 0 and bool(result.success), evaluated=len(result.results), failed=failed
    )


def _failures(name: str, result: ExpectationSuiteValidationResult) -> list[FailedExpectation]:
    return [_failure(name, one.to_json_dict()) for one in result.results if not one.success]


def _failure(name: str, result: Mapping[str, Any]) -> FailedExpectation:
    config, observed = result["expectation_config"], result["result"].get("observed_value")
    rows = _rows(result)
    return FailedExpectation(
        suite=name,
        expectation=config["type"],
        column=config["kwargs"].get("column"),
        expected=config["description"] if observed is None else f"{config['description']} (found {_said(observed)})",
        rows=rows[:MOST_ROWS],
        row_count=len(rows),
    )


def _rows(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Name each row that broke an expectation, with its value; none if it was the table as a whole."""
    if raised := _raised(result["exception_info"]):
        return (f"it could not be judged: {raised}",)
    details, column = result["result"], result["expectation_config"]["kwargs"].get("column")
    return tuple(_row(row["row"], row.get(column)) for row in details.get("unexpected_index_list", ()))


def _row(name: str, value: object) -> str:
    called = name if value is None or value == "" else f"{name} ({_said(value)})"
    return called if len(called) <= LONGEST_NAME else called[: LONGEST_NAME - 1] + "…"


def _raised(info: Mapping[str, Any]) -> str:
    """Return the message of an exception; Great Expectations has two forms of it, flat and by metric."""
    if "raised_exception" in info:
        return str(info["exception_message"]) if info["raised_exception"] else ""
    return next((str(one["exception_message"]) for one in info.values() if one["raised_exception"]), "")


def _as_json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()
