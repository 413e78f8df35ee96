"""Reading suites: Great Expectations' own files, with the policy's values in their descriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from interlock.domain.change.policy import COVERAGE_OF
from interlock.domain.errors import CatalogueError

from ._results import value_text

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuite


NAMES_OF_DEMANDS = frozenset(("unknown_components", *(f"coverage.{one}" for one in COVERAGE_OF)))


def read_suite(file: Path, parameters: Mapping[str, Any], demanded: frozenset[str]) -> ExpectationSuite:
    """Read what a suite expects of what is demanded, with the parameters' values in its descriptions.

    Each expectation is tried by itself first: a suite leaves out what it cannot read and only logs that, and nobody
    would know that a gate is open.
    """
    from great_expectations.core import ExpectationSuite
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    values = {name: value_text(value) for name, value in parameters.items()}
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        if not plain["expectations"]:
            raise ValueError("it has no expectations")
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
