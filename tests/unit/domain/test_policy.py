from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.interlock.domain.catalogue import ChangeType, Thresholds
from include.interlock.domain.errors import PolicyViolation
from include.interlock.domain.policy import refusals_of_service, refusals_of_unit, resolve_policy
from include.interlock.domain.records import PolicyInForce
from tests.unit.domain.samples import policy, service

ENTERPRISE = Thresholds(min_tests=10, max_p95_ms=1000, allowed_licences=("MIT", "ISC", "Apache-2.0"))
LICENCES = ENTERPRISE.allowed_licences


def resolved(unit: dict[str, Any], own: dict[str, Any], kind: ChangeType = ChangeType.NORMAL) -> PolicyInForce:
    rules = policy(thresholds=ENTERPRISE.model_dump(), business_units={"retail": {"thresholds": unit}})
    return resolve_policy(rules, service(business_unit="retail", policy={"thresholds": own}), kind)


tightenings = st.fixed_dictionaries(
    {},
    optional={
        "min_tests": st.integers(10, 50),
        "max_failed_tests": st.just(0),
        "max_skipped_tests": st.integers(0, 10),
        "min_line_coverage_percent": st.floats(60, 100),
        "max_p95_ms": st.floats(1, 1000),
        "allowed_licences": st.lists(st.sampled_from(LICENCES), min_size=1),
        "max_p95_ratio": st.floats(1, 2),
        "max_p95_rise_ms": st.floats(0, 250),
    },
)


def not_looser(thresholds: Thresholds, than: Thresholds) -> bool:
    def holds(key: str) -> bool:
        value, above = getattr(thresholds, key), getattr(than, key)
        if key.startswith("min_"):
            return bool(value >= above)
        return bool(value <= above) if key.startswith("max_") else set(value) <= set(above)

    return all(holds(key) for key in Thresholds.model_fields)


@given(tightenings, tightenings)
def test_what_holds_is_never_looser_than_any_level(unit: dict[str, Any], own: dict[str, Any]) -> None:
    try:
        found = resolved(unit, own).thresholds
    except PolicyViolation:  # the service loosened what the unit had tightened
        assert not not_looser(resolved({}, own).thresholds, resolved(unit, {}).thresholds)
        return
    assert not_looser(found, ENTERPRISE)
    assert not_looser(found, resolved(unit, {}).thresholds)
    assert not_looser(found, resolved({}, own).thresholds)


@given(tightenings, tightenings)
def test_levels_may_come_in_any_order(one: dict[str, Any], other: dict[str, Any]) -> None:
    try:
        there, back = resolved(one, other), resolved(other, one)
    except PolicyViolation:
        return
    assert there.thresholds == back.thresholds
    assert there.digest == back.digest


@given(tightenings, st.randoms())
def test_keys_may_come_in_any_order_and_twice(level: dict[str, Any], random: Any) -> None:
    shuffled = list(level.items())
    random.shuffle(shuffled)
    once, twice = resolved(level, {}), resolved(level, dict(shuffled))
    assert twice.thresholds == once.thresholds
    assert twice.sources == once.sources  # a value that was repeated still counts where it was written first


def test_each_threshold_tells_whose_value_counts() -> None:
    found = resolved({"max_p95_ms": 500, "min_tests": 10}, {"max_p95_ms": 400, "allowed_licences": ["ISC", "MIT"]})
    assert found.thresholds.max_p95_ms == 400
    assert found.thresholds.allowed_licences == ("MIT", "ISC")
    changed = {key: place for key, place in found.sources.items() if place != "policy.yaml"}
    assert changed == {"max_p95_ms": "services/bike-shop.yaml", "allowed_licences": "services/bike-shop.yaml"}
    unit = resolved({"max_p95_ms": 500}, {})
    assert unit.sources["max_p95_ms"] == "policy.yaml business_units.retail"
    assert set(unit.sources) == set(Thresholds.model_fields)


@pytest.mark.parametrize(
    ("unit", "own", "said"),
    [
        (
            {},
            {"max_p95_ms": 1200},
            "services/bike-shop.yaml sets max_p95_ms to 1200; allowed is 1000 or less, as policy.yaml has it",
        ),
        (
            {"max_p95_ms": 500},
            {"max_p95_ms": 700.5},
            "sets max_p95_ms to 700.5; allowed is 500 or less, as policy.yaml business_units.retail has it",
        ),
        ({"min_tests": 9}, {}, "policy.yaml business_units.retail sets min_tests to 9; allowed is 10 or more"),
        (
            {},
            {"allowed_licences": ["MIT", "GPL-3.0"]},
            "sets allowed_licences to MIT, GPL-3.0; allowed is some of MIT, ISC, Apache-2.0",
        ),
        ({}, {"min_testes": 20}, "sets min_testes to 20; allowed is one of min_tests, "),
        ({}, {"min_tests": 10.5}, "sets min_tests to 10.5; allowed is a whole number"),
        ({}, {"min_tests": ["MIT"]}, "sets min_tests to MIT; allowed is a whole number"),
        ({}, {"allowed_licences": 3}, "sets allowed_licences to 3; allowed is a list"),
        ({}, {"allowed_licences": []}, "sets allowed_licences to an empty list; allowed is"),
        ({}, {"min_line_coverage_percent": 101}, "less than or equal to 100"),
    ],
)
def test_loosening_is_refused_with_both_places(unit: dict[str, Any], own: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyViolation) as refused:
        resolved(unit, own)
    assert said in str(refused.value)
    assert "the shop's team for the service, the office for policy.yaml" in str(refused.value)


def test_refusals_come_in_the_order_of_their_keys() -> None:
    with pytest.raises(PolicyViolation, match=r"max_p95_ms.*min_tests"):
        resolved({}, {"min_tests": 1, "max_p95_ms": 9000})


def test_a_refusal_is_told_to_the_level_that_can_mend_it() -> None:
    rules = policy(business_units={"retail": {"thresholds": {"max_p95_ms": 5000}}})
    own = service(business_unit="retail", policy={"thresholds": {"max_failed_tests": 1}})
    assert [refusal.key for refusal in refusals_of_unit(rules, "retail")] == ["max_p95_ms"]
    assert [refusal.key for refusal in refusals_of_service(rules, own)] == ["max_failed_tests"]


def test_a_business_unit_without_a_policy_is_refused() -> None:
    with pytest.raises(PolicyViolation, match="business unit wholesale, which has no policy"):
        resolve_policy(policy(), service(business_unit="wholesale"), ChangeType.NORMAL)


def test_the_change_type_picks_the_flow() -> None:
    assert resolved({}, {}, ChangeType.STANDARD).flow.board is None
    assert not resolved({}, {}, ChangeType.STANDARD).flow.acceptance
    assert resolved({}, {}, ChangeType.EMERGENCY).flow.board == "ecab"


def test_the_digest_names_what_holds() -> None:
    assert resolved({}, {}).digest == resolved({"min_tests": 10}, {}).digest
    different = {
        resolved({}, {}).digest,
        resolved({"min_tests": 11}, {}).digest,
        resolved({}, {}, ChangeType.EMERGENCY).digest,
    }
    assert len(different) == 3
