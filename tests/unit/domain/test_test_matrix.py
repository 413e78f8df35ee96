"""The matrix of tickets, test cases, results and environments shows what nobody tested."""

from __future__ import annotations

from typing import Any

from interlock.domain.testing.matrix import matrix, untested
from interlock.domain.testing.planning import PlannedCase
from interlock.domain.testing.results import CaseResult
from tests.factories import releases
from tests.unit.domain.test_case_planning import case


def planned(name: str, *, demanded: bool = True, **changes: Any) -> PlannedCase:
    because = ("it concerns every release",) if demanded else ()
    return PlannedCase(case=case(name, **changes), file="qa/cases.yaml", because=because, testers=("tess",))


def result(name: str, found: str = "passed", environment: str = "test", **said: str) -> CaseResult:
    return CaseResult.model_validate(
        {
            "case": name,
            "title": "It works",
            "environment": environment,
            "result": found,
            "severity": "major",
            "by": "tess",
            "at": releases.AT,
            "artifact": "a" * 64,
            "binds": "b" * 64,
            **said,
        }
    )


def rows(*tickets: str) -> list[tuple[str, str, str, str]]:
    cases = {
        "test": [planned("basket"), planned("prices", proves=["SHOP-7", "REQ-1"]), planned("menu", proves=[])],
        "staging": [planned("load", demanded=False, proves=["SHOP-7"])],
    }
    found = matrix(
        tickets, cases, [result("basket"), result("prices", "failed"), result("prices", "passed", "staging")]
    )
    return [(row.ticket, row.case, row.environment, row.state) for row in found]


def test_each_ticket_has_its_cases_and_their_results_in_each_environment() -> None:
    assert rows("SHOP-41", "shop-7") == [
        ("SHOP-41", "basket", "test", "passed"),
        ("shop-7", "prices", "test", "failed"),
        ("shop-7", "load", "staging", "not_demanded"),
        ("", "menu", "test", "not_run"),
    ]


def test_a_ticket_without_a_case_has_a_row_and_so_has_each_case_without_a_ticket() -> None:
    assert rows("SHOP-99") == [
        ("SHOP-99", "", "", "no_case"),
        ("", "basket", "test", "passed"),
        ("", "prices", "test", "failed"),
        ("", "menu", "test", "not_run"),
        ("", "load", "staging", "not_demanded"),
    ]


def test_what_nobody_tested_is_said_in_words() -> None:
    cases = {"test": [planned("basket"), planned("menu", proves=[], title="The menu is there")]}
    found = matrix(["SHOP-41", "SHOP-99"], cases, [])
    assert list(untested(found)) == [
        "menu in test: The menu is there",
        "SHOP-41: basket in test was not run",
        "SHOP-99: no test case proves it",
    ]
    tested = matrix(["SHOP-41"], cases, [result("basket", "failed"), result("menu")])
    assert list(untested(tested)) == [], "what failed was tested"
