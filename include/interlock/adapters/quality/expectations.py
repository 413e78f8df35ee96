"""Evaluation by Great Expectations: from tables to failed expectations, with the failing rows.

Expectations are in ``expectations/<suite>.json``, as Great Expectations' own suites; the thresholds
are in the policy and reach a suite as its parameters (``{"$PARAMETER": "max_p95_ms"}``). An expectation whose
``meta`` has ``demanded`` is judged only if the policy demands one of what it names there.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.domain.canonical import Model, sha256_of
from interlock.domain.catalogue import Demanded, Thresholds
from interlock.domain.change.policy import coverage_demanded
from interlock.domain.errors import ReleaseError
from interlock.domain.records import FailedExpectation, SuiteResult
from interlock.locations import EXPECTATIONS

from ._results import failed_expectations, suite_result
from ._suites import read_suite
from .tables import TABLES

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, RunIdentifier
    from great_expectations.data_context import EphemeralDataContext
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


def suite_digests(suites: Path = EXPECTATIONS) -> dict[str, str]:
    """Return the SHA-256 of the file of each suite, by the suite's name."""
    return {path.stem: sha256_of(path.read_bytes()) for path in sorted(suites.glob("*.json"))}


@dataclass(frozen=True, slots=True)
class _Rules:
    """The thresholds and the required expectations of the policy."""

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
            "max_skipped_cases": self.thresholds.max_skipped_cases,
            "share_not_skipped_cases": _share_left(rows, self.thresholds.max_skipped_cases),
            "min_covered_files": 1 if coverage_demanded(self.thresholds, self.demanded) else 0,
            "share_not_failed": _share_left(rows, self.thresholds.max_failed_tests),
            "share_not_skipped": _share_left(rows, self.thresholds.max_skipped_tests),
        }


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
        suites=tuple(suite_result(name, result) for name, result in judged.items()),
        failures=tuple(failure for name, result in judged.items() for failure in failed_expectations(name, result)),
        results_json=_as_json({name: result.to_json_dict() for name, result in judged.items()}),
        docs=folder / SITE,
    )


def _context(site: Path) -> EphemeralDataContext:
    """Return a data context in memory, except for the site: no telemetry, no progress bars."""
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
            next_step="find the error in the log of the task",
        )


def _run_id() -> RunIdentifier:
    from datetime import UTC, datetime

    from great_expectations.core import RunIdentifier

    return RunIdentifier(run_name="release", run_time=datetime.now(UTC))


def _share_left(rows: int, allowed: int) -> float:
    """Return the share of rows that must pass if ``allowed`` of them may fail."""
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
    suite = context.suites.add(read_suite(file, parameters, rules.names))
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


def _as_json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()
