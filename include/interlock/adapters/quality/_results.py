"""Reading results: the expectations that failed, with the rows that broke them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from interlock.domain.records import FailedExpectation, SuiteResult

from .tables import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

MAX_ROWS = 20


def value_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def suite_result(name: str, result: ExpectationSuiteValidationResult) -> SuiteResult:
    failed = sum(not one.success for one in result.results)
    return SuiteResult(
        suite=name, success=failed == 0 and bool(result.success), evaluated=len(result.results), failed=failed
    )


def failed_expectations(name: str, result: ExpectationSuiteValidationResult) -> list[FailedExpectation]:
    return [_failure(name, one.to_json_dict()) for one in result.results if not one.success]


def _failure(name: str, result: Mapping[str, Any]) -> FailedExpectation:
    config, observed = result["expectation_config"], result["result"].get("observed_value")
    rows = _rows(result)
    return FailedExpectation(
        suite=name,
        expectation=config["type"],
        column=config["kwargs"].get("column"),
        expected=config["description"]
        if observed is None
        else f"{config['description']} (found {value_text(observed)})",
        rows=rows[:MAX_ROWS],
        row_count=len(rows),
    )


def _rows(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Name each row that broke an expectation, with its value; none if it was the table as a whole."""
    if raised := _exception_message(result["exception_info"]):
        return (f"it could not be evaluated: {raised}",)
    details, column = result["result"], result["expectation_config"]["kwargs"].get("column")
    return tuple(_row(row["row"], row.get(column)) for row in details.get("unexpected_index_list", ()))


def _row(name: str, value: object) -> str:
    called = name if value is None or value == "" else f"{name} ({value_text(value)})"
    return called if len(called) <= MAX_NAME_LENGTH else called[: MAX_NAME_LENGTH - 1] + "…"


def _exception_message(info: Mapping[str, Any]) -> str:
    """Return the message of an exception; Great Expectations has two forms of it, flat and by metric."""
    if "raised_exception" in info:
        return str(info["exception_message"]) if info["raised_exception"] else ""
    return next((str(one["exception_message"]) for one in info.values() if one["raised_exception"]), "")
