"""Which test cases a release must run: what its policy, its changed components and its tickets demand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.domain.catalogue.cases_file import CASE_DEMANDS, Case, CaseDemand, CaseFile, CaseRules, faults_of_cases
from interlock.domain.errors import PolicyViolation
from interlock.domain.testing.planning import Change, PlannedCase, Testers, select, unproven

COMPONENTS = {"basket": ("shop/basket*", "shop/templates/basket.html"), "prices": ("shop/prices.py",)}
TESTERS = Testers(roles={"shop-tester": ("tess", "tom")}, barred={}, place="services/bike-shop.yaml")


def case(name: str = "basket-total", **changes: Any) -> Case:
    data = {
        "id": name,
        "title": "The basket adds up",
        "proves": ["SHOP-41"],
        "component": "basket",
        "role": "shop-tester",
        "steps": ["Add two bikes to the basket"],
        "expected": "The total is the sum of both prices",
        **changes,
    }
    return Case.model_validate_json(json.dumps(data), strict=True)


def selected(
    *cases: Case, demand: CaseDemand = "affected", change: Change | None = None, testers: Testers = TESTERS
) -> dict[str, tuple[str, ...]]:
    found = select(
        [("qa/cases.yaml", one) for one in cases],
        "test",
        demand,
        change or Change(files=frozenset({"README.md"})),
        COMPONENTS,
        testers,
    )
    return {one.case.id: one.because for one in found}


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (Change(files=frozenset({"README.md"})), ()),
        (Change(files=frozenset({"shop/basket_view.py"})), ("the release changes basket",)),
        (Change(files=frozenset({"shop/prices.py"})), ()),
        (Change(files=None), ("what the release changes is not known",)),
        (Change(files=frozenset(), tickets=("shop-41",)), ("it proves SHOP-41",)),
        (Change(files=frozenset(), tickets=("SHOP-4",)), ()),
        (
            Change(files=frozenset(), defects={"basket-total": ["basket-total-1"]}),
            ("the defect basket-total-1 is open",),
        ),
        (
            Change(files=frozenset({"shop/basket.py"}), tickets=("SHOP-41",)),
            ("it proves SHOP-41", "the release changes basket"),
        ),
    ],
)
def test_a_release_must_run_the_cases_that_it_may_affect(change: Change, because: tuple[str, ...]) -> None:
    assert selected(case(), change=change) == {"basket-total": because}


def test_a_case_without_a_component_concerns_every_release() -> None:
    assert selected(case(component=None, proves=[])) == {"basket-total": ("it concerns every release",)}


def test_the_policy_may_demand_all_cases_or_none() -> None:
    change = Change(files=None, tickets=("SHOP-41",), defects={"basket-total": ["basket-total-1"]})
    assert selected(case(), demand="none", change=change) == {"basket-total": ()}
    assert selected(case(), demand="all") == {"basket-total": ("the policy demands all cases",)}


def test_cases_of_other_environments_are_not_in_the_plan() -> None:
    assert selected(case(), case("other", environment="staging")).keys() == {"basket-total"}


@given(
    files=st.none() | st.frozensets(st.sampled_from(["shop/basket.py", "shop/prices.py", "README.md"])),
    tickets=st.lists(st.sampled_from(["SHOP-41", "SHOP-7"]), unique=True),
    component=st.sampled_from(["basket", "prices", None]),
)
def test_a_stricter_demand_never_leaves_a_case_out(
    files: frozenset[str] | None, tickets: list[str], component: str | None
) -> None:
    change = Change(files=files, tickets=tuple(tickets))
    demanded = [
        bool(selected(case(component=component), demand=one, change=change)["basket-total"]) for one in CASE_DEMANDS
    ]
    assert demanded == sorted(demanded)
    assert demanded[0] is False
    assert demanded[-1] is True


def test_a_tester_who_may_not_is_left_out_and_the_last_one_refuses_the_plan() -> None:
    change = Change(files=None)
    barred = {"tess": "wrote a commit of the release"}
    found = select(
        [("f", case())], "test", "affected", change, COMPONENTS, Testers(TESTERS.roles, barred, "services/s.yaml")
    )
    assert found[0].testers == ("tom",)
    barred["tom"] = "requested the release"
    with pytest.raises(PolicyViolation) as refused:
        select(
            [("f", case())], "test", "affected", change, COMPONENTS, Testers(TESTERS.roles, barred, "services/s.yaml")
        )
    assert "Nobody may run the test case basket-total" in str(refused.value)
    assert "tess: wrote a commit of the release; tom: requested the release" in str(refused.value)
    assert "cases.testers in services/s.yaml" in str(refused.value)


def test_a_case_that_need_not_be_run_needs_no_tester() -> None:
    assert selected(case(), testers=Testers({}, {}, "f")) == {"basket-total": ()}


def test_tickets_that_no_demanded_case_proves_are_named() -> None:
    run = PlannedCase(case=case(), file="f", because=("it proves SHOP-41",))
    left = PlannedCase(case=case("other", proves=["SHOP-9"]), file="f")
    assert unproven([run, left], ["shop-41", "SHOP-9", "SHOP-10"]) == ("SHOP-9", "SHOP-10")


def test_a_result_is_bound_to_the_case_as_written_and_to_the_bytes() -> None:
    one = PlannedCase(case=case(), file="f", because=("x",))
    reworded = PlannedCase(case=case(expected="It does not crash"), file="f", because=("x",))
    digests = {one.digest("a" * 64), one.digest("b" * 64), reworded.digest("a" * 64)}
    assert len(digests) == 3
    assert one.digest("a" * 64) == PlannedCase(case=case(), file="g", because=()).digest("a" * 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": []},
        {"steps": ["a" * 501]},
        {"steps": ["rm\u2028-rf"]},
        {"title": "two\nlines"},
        {"expected": "x" * 1001},
        {"proves": ["SHOP-41", "SHOP-41"]},
        {"proves": ["[SHOP-41](https://evil.example)"]},
        {"severity": "urgent"},
        {"priority": 1},
        {"id": "Basket Total"},
    ],
    ids=str,
)
def test_what_a_case_must_not_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        case(**wrong)


def test_a_file_has_each_id_once() -> None:
    with pytest.raises(ValidationError, match="the id basket-total is used twice"):
        CaseFile(cases=(case(), case()))


def test_names_that_the_service_does_not_have_are_problems() -> None:
    rules = CaseRules(
        repository=("qa/cases.yaml",), components={"basket": ("shop/*",)}, testers={"shop-tester": ("tess",)}
    )
    wrong = case(component="till", environment="staging", role="bank-tester")
    found = [str(problem) for problem in faults_of_cases(CaseFile(cases=(wrong,)), rules, {"test": 1})]
    assert found == [
        'found "till"; allowed: one of basket, as the service\'s file has them',
        'found "staging"; allowed: one of test, as the service\'s file has them',
        'found "bank-tester"; allowed: one of shop-tester, as the service\'s file has them',
    ]


def test_rules_of_cases_name_a_file() -> None:
    with pytest.raises(ValidationError, match="cases needs a file"):
        CaseRules(testers={"shop-tester": ("tess",)})
