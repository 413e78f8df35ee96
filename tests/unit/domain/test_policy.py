from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.domain.catalogue import ChangeType, Demanded, Person, Thresholds
from interlock.domain.change.pipelines import refuse_foreign_pipeline
from interlock.domain.change.policy import (
    build_rules_of,
    flows_of,
    refusals_of_service,
    refusals_of_unit,
    refuse_unmeasured,
    refuse_untested,
    refuse_waiver,
    resolve_policy,
    source_of_overtakes,
    time_limits_of,
    waiver_allowed,
)
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import FailedExpectation, PolicyInForce, Waiver
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


# --- flows, time limits and waivers


FULL = {
    "change_types": {
        "standard": {"acceptance": False},
        "normal": {"board": "cab", "plan_approval_from_risk": 70},
        "emergency": {"board": "ecab", "acceptance": False, "plan_approval_for_major": False, "review_within": "P5D"}
        | {"overtakes": ["normal", "standard"]},
    },
    "time_limits": {"acceptance": "P2D"},
    "waivers": {
        "coverage": {"roles": ["operations", "security"], "longest": "P30D"},
        "performance": {"roles": ["operations"]},
    },
}


def levels(unit: dict[str, Any], own: dict[str, Any], kind: str = "normal") -> PolicyInForce:
    rules = policy(**FULL, business_units={"retail": unit})
    return resolve_policy(rules, service(business_unit="retail", policy=own), ChangeType(kind))


def flows(kind: str, **asked: Any) -> dict[str, Any]:
    return {"change_types": {kind: asked}}


def test_a_lower_level_asks_more_people_and_sooner() -> None:
    unit = flows("normal", plan_approval_from_risk=60, further_boards=["shop"]) | {"time_limits": {"acceptance": "P1D"}}
    own = flows(
        "normal", plan_approval_from_risk=40, further_boards=["data"], exclude_authors=True, review_within="P7D"
    )
    found = levels(unit, own | {"waivers": {"coverage": {"roles": ["security"], "longest": "P3D"}}})
    assert found.flow.plan_approval_from_risk == 40
    assert (found.flow.board, found.flow.further_boards) == ("cab", ("data", "shop"))
    assert found.flow.exclude_authors
    assert found.flow.review_within == timedelta(days=7)
    assert found.time_limits.acceptance == timedelta(days=1)
    assert found.time_limits.plan_approval == timedelta(days=3)
    assert found.waivers["coverage"].roles == ("security",)
    assert found.waivers["performance"].roles == ("operations",)
    changed = {key: place for key, place in found.further_sources.items() if place != "policy.yaml"}
    unit_place, own_place = "policy.yaml business_units.retail", "services/bike-shop.yaml"
    assert changed == {
        "change_types.normal.plan_approval_from_risk": own_place,
        "change_types.normal.further_boards": own_place,
        "change_types.normal.exclude_authors": own_place,
        "change_types.normal.review_within": own_place,
        "time_limits.acceptance": unit_place,
        "waivers.coverage.roles": own_place,
        "waivers.coverage.longest": own_place,
    }


def test_a_lower_level_gives_a_board_to_what_was_pre_authorised() -> None:
    assert levels({}, flows("standard", board="cab", acceptance=True), "standard").flow.board == "cab"


@pytest.mark.parametrize(
    "again",
    [
        flows("normal", board="cab", plan_approval_from_risk=70, exclude_authors=False),
        flows("standard", acceptance=False),
        flows("emergency", review_within="P5D"),
        flows("emergency", overtakes=["standard", "normal"]),
        {"time_limits": {"acceptance": "P2D"}},
        {"waivers": {"coverage": {"roles": ["security", "operations"], "longest": "P30D"}}},
    ],
)
def test_repeating_what_holds_loosens_nothing(again: dict[str, Any]) -> None:
    for kind in ChangeType:
        assert levels(again, again, kind).digest == levels({}, {}, kind).digest


@pytest.mark.parametrize(
    ("unit", "own", "said"),
    [
        (
            {},
            flows("normal", plan_approval_from_risk=90),
            "services/bike-shop.yaml sets change_types.normal.plan_approval_from_risk to 90; "
            "allowed is 70 or less, as policy.yaml has it",
        ),
        (
            flows("normal", plan_approval_from_risk=50),
            flows("normal", plan_approval_from_risk=60),
            "allowed is 50 or less, as policy.yaml business_units.retail has it",
        ),
        (
            {},
            flows("normal", acceptance=False),
            "change_types.normal.acceptance to false; allowed is true, as policy.yaml",
        ),
        (flows("normal", plan_approval_for_major=False), {}, "plan_approval_for_major to false; allowed is true"),
        (
            flows("normal", board="ecab"),
            {},
            "policy.yaml business_units.retail sets change_types.normal.board to ecab; "
            "allowed is cab (a further board goes under further_boards), as policy.yaml has it",
        ),
        (flows("emergency", exclude_authors=True), flows("emergency", exclude_authors=False), "allowed is true"),
        (flows("emergency", review_within="P6D"), {}, "review_within to P6D; allowed is P5D or less"),
        (
            flows("emergency", overtakes=["normal"]),
            flows("emergency", overtakes=["standard"]),
            "change_types.emergency.overtakes to standard; allowed is some of normal, as policy.yaml business_units",
        ),
        ({}, flows("normal", overtakes=["standard"]), "overtakes to standard; allowed is some of an empty list"),
        ({}, {"time_limits": {"acceptance": "P3D"}}, "time_limits.acceptance to P3D; allowed is P2D or less"),
        (
            {"waivers": {"coverage": {"roles": ["security"]}}},
            {"waivers": {"coverage": {"roles": ["operations"]}}},
            "waivers.coverage.roles to operations; allowed is some of security, as policy.yaml business_units.retail",
        ),
        ({"waivers": {"coverage": {"longest": "P31D"}}}, {}, "waivers.coverage.longest to P31D; allowed is P30D or le"),
        ({}, {"waivers": {"tests": {"roles": ["security"]}}}, "allowed is one of coverage, performance"),
    ],
)
def test_no_level_asks_less_than_the_one_above(unit: dict[str, Any], own: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyViolation) as refused:
        levels(unit, own)
    assert said in str(refused.value)


tight_flows = st.fixed_dictionaries(
    {},
    optional={
        "plan_approval_from_risk": st.integers(0, 101),
        "acceptance": st.booleans(),
        "exclude_authors": st.booleans(),
        "further_boards": st.lists(st.sampled_from(["shop", "data", "cab"]), unique=True),
        "review_within": st.sampled_from(["P1D", "P3D", "P9D"]),
    },
)


@given(tight_flows, tight_flows, st.sampled_from(["normal", "emergency", "standard"]))
def test_no_flow_is_ever_looser_than_any_level(unit: dict[str, Any], own: dict[str, Any], kind: str) -> None:
    try:
        found = levels(flows(kind, **unit), flows(kind, **own), kind).flow
    except PolicyViolation:
        return
    for above in (levels({}, {}, kind).flow, levels(flows(kind, **unit), {}, kind).flow):
        assert found.plan_approval_from_risk <= above.plan_approval_from_risk
        assert found.acceptance >= above.acceptance
        assert found.exclude_authors >= above.exclude_authors
        assert found.board == above.board
        assert set(found.further_boards) >= set(above.further_boards)
        if above.review_within is not None:
            assert found.review_within is not None
            assert found.review_within <= above.review_within


@given(tight_flows, tight_flows)
def test_levels_of_flows_may_come_in_any_order(one: dict[str, Any], other: dict[str, Any]) -> None:
    try:
        there = levels(flows("normal", **one), flows("normal", **other))
        back = levels(flows("normal", **other), flows("normal", **one))
    except PolicyViolation:
        return
    assert there.flow == back.flow
    assert there.digest == back.digest


def test_a_lower_level_has_fewer_releases_overtaken_or_none() -> None:
    fewer, none = flows("emergency", overtakes=["normal"]), flows("emergency", overtakes=[])
    assert levels({}, {}, "emergency").flow.overtakes == ("normal", "standard")
    assert levels(fewer, {}, "emergency").flow.overtakes == ("normal",)
    rules = policy(**FULL, business_units={"retail": fewer})
    own = service(business_unit="retail", policy=none)
    assert flows_of(rules, own)[ChangeType.EMERGENCY].overtakes == ()
    assert source_of_overtakes(rules, own, ChangeType.EMERGENCY) == "services/bike-shop.yaml"


@pytest.mark.parametrize("overtaken", [["normal"], ["emergency"]])
def test_no_two_change_types_overtake_each_other(overtaken: list[str]) -> None:
    kinds = FULL["change_types"] | {"normal": {"board": "cab", "overtakes": ["emergency"]}}
    kinds["emergency"] = {"board": "ecab", "overtakes": overtaken}
    with pytest.raises(ValidationError, match="overtake each other"):
        policy(**FULL | {"change_types": kinds})


def test_every_flow_and_time_limit_of_a_service_is_known_before_a_release() -> None:
    rules = policy(**FULL, business_units={"retail": flows("emergency", acceptance=True)})
    own = service(business_unit="retail", policy={"time_limits": {"acknowledgement": "PT4H"}})
    assert flows_of(rules, own)[ChangeType.EMERGENCY].acceptance
    assert not flows_of(rules, service())[ChangeType.EMERGENCY].acceptance
    assert time_limits_of(rules, own).acknowledgement == timedelta(hours=4)


def test_the_digest_names_flows_limits_and_waivers_too() -> None:
    usual = levels({}, {})
    assert usual.digest == levels(flows("normal", acceptance=True), {}).digest
    assert usual.digest != levels(flows("normal", exclude_authors=True), {}).digest
    assert usual.digest != levels({"time_limits": {"acceptance": "P1D"}}, {}).digest
    assert usual.digest != levels({"waivers": {"coverage": {"roles": []}}}, {}).digest
    assert PolicyInForce.from_xcom(usual.to_xcom()) == usual


AT = datetime(2026, 5, 4, tzinfo=UTC)
BEN = Person(user="ben", name="Ben Adler", email="ben@example.com", role="operations")
WAIVER = Waiver(
    expectation="p95_ms is at most 800",
    suite="performance",
    reason="The test host is slow",
    by="ben",
    at=AT,
    until=AT + timedelta(days=30),
)


def test_a_waiver_is_given_in_a_role_that_may() -> None:
    in_force = levels({}, {})
    assert waiver_allowed(in_force, BEN, "performance")
    assert not waiver_allowed(in_force, BEN.model_copy(update={"role": "business"}), "performance")
    assert not waiver_allowed(in_force, BEN, "tests")
    refuse_waiver(in_force, BEN, WAIVER, requester="rita")


@pytest.mark.parametrize(
    ("changes", "role", "requester", "said"),
    [
        (
            {},
            "business",
            "rita",
            "in the role business, may not waive failures of performance; allowed roles: operations",
        ),
        ({"suite": "tests"}, "operations", "rita", "may not waive failures of tests; allowed roles: none"),
        ({"by": "cora"}, "operations", "rita", "cannot give a waiver in the name of cora"),
        ({}, "operations", "ben", "requested this release and cannot waive its failures"),
        (
            {"until": AT + timedelta(days=31)},
            "operations",
            "rita",
            "is valid for 30 days at most; this one ends at 2026-06-04",
        ),
    ],
)
def test_a_waiver_that_the_policy_does_not_allow_is_refused(
    changes: dict[str, Any], role: str, requester: str, said: str
) -> None:
    person, waiver = BEN.model_copy(update={"role": role}), WAIVER.model_copy(update=changes)
    with pytest.raises(PolicyViolation) as refused:
        refuse_waiver(levels({}, {}), person, waiver, requester=requester)
    assert said in str(refused.value)
    assert f"Rule: waivers.{waiver.suite}, in policy.yaml." in str(refused.value)


def test_a_waiver_covers_its_own_failure_in_its_time() -> None:
    failure = FailedExpectation(
        suite="performance", expectation="between", column="p95_ms", expected=WAIVER.expectation, rows=(), row_count=1
    )
    assert WAIVER.covers(failure, AT)
    assert not WAIVER.covers(failure, WAIVER.until)
    assert not WAIVER.covers(failure, AT - timedelta(seconds=1))
    assert not WAIVER.covers(failure.model_copy(update={"expected": "p95_ms is at most 700"}), AT)
    assert not WAIVER.covers(failure.model_copy(update={"suite": "load"}), AT)


# --- builds


def builds_of(enterprise: dict[str, Any], unit: dict[str, Any], own: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    rules = policy(builds=enterprise, business_units={"retail": {"builds": unit}})
    found = build_rules_of(rules, service(business_unit="retail", policy={"builds": own}))
    return found.isolation, found.registries


def test_builds_are_isolated_and_have_no_network_if_nobody_says_otherwise() -> None:
    assert builds_of({}, {}, {}) == ("required", ())


def test_a_lower_level_isolates_builds_and_opens_less() -> None:
    recorded = {"isolation": "recorded", "registries": ["pypi", "company_npm"]}
    assert builds_of(recorded, {}, {}) == ("recorded", ("pypi", "company_npm"))
    assert builds_of(recorded, {"isolation": "required"}, {"registries": ["pypi"]}) == ("required", ("pypi",))
    assert builds_of(recorded, {"registries": []}, {}) == ("recorded", ())


def test_no_level_opens_more_to_builds_than_the_one_above() -> None:
    with pytest.raises(
        PolicyViolation, match=r"services/bike-shop\.yaml sets builds\.registries to pypi; allowed is some"
    ):
        builds_of({"registries": ["company_npm"]}, {}, {"registries": ["pypi"]})
    with pytest.raises(ValidationError, match="isolation"):
        builds_of({}, {"isolation": "recorded"}, {})


@pytest.mark.parametrize("name", ["interlock_ledger", "INTERLOCK_hosts", "aws_default", "airflow_db"])
def test_a_connection_of_the_platform_is_no_registry(name: str) -> None:
    with pytest.raises(ValidationError, match="not available to builds"):
        policy(builds={"registries": [name]})


# --- what is demanded beside the thresholds --------------------------------------------------------------------------


def demanded(unit: dict[str, Any], own: dict[str, Any], tier: int = 2, **enterprise: Any) -> Demanded:
    rules = policy(business_units={"retail": unit}, **enterprise)
    return resolve_policy(rules, service(business_unit="retail", tier=tier, policy=own), ChangeType.NORMAL).demanded


@pytest.mark.parametrize(
    ("coverage", "tier", "unit", "own", "found"),
    [
        pytest.param({}, 4, {}, {}, ("each_file",), id="a policy that says nothing demands it of each file"),
        pytest.param({"4": []}, 4, {}, {}, (), id="none of this tier"),
        pytest.param({"4": []}, 3, {}, {}, ("each_file",), id="another tier"),
        pytest.param({"2": ["whole"]}, 2, {"coverage": ["changed_lines"]}, {}, ("changed_lines", "whole"), id="unit"),
        pytest.param({"2": []}, 2, {}, {"coverage": ["each_file"]}, ("each_file",), id="service"),
        pytest.param({"2": ["whole"]}, 2, {}, {"coverage": ["whole"]}, ("whole",), id="the same again"),
    ],
)
def test_a_lower_level_only_adds_to_the_coverage_that_its_tier_demands(
    coverage: dict[str, Any], tier: int, unit: dict[str, Any], own: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert demanded(unit, own, tier, coverage=coverage).coverage == found


def test_components_that_are_not_known_may_be_refused_at_any_level_and_by_none_allowed() -> None:
    refuse = {"unknown_components": "refuse"}
    assert demanded({}, {}).unknown_components == "tell"
    assert demanded(refuse, {}).unknown_components == demanded({}, refuse).unknown_components == "refuse"
    assert demanded({}, {}, unknown_components="refuse").unknown_components == "refuse"
    with pytest.raises(ValidationError, match="refuse"):
        demanded({}, {"unknown_components": "tell"}, unknown_components="refuse")


def test_whose_demand_counts_is_told() -> None:
    rules = policy(coverage={"2": ["whole"]})
    found = resolve_policy(rules, service(tier=2, policy={"coverage": ["each_file"]}), ChangeType.NORMAL)
    assert found.further_sources["coverage"] == "services/bike-shop.yaml"
    assert found.further_sources["unknown_components"] == "policy.yaml"


def test_a_service_without_tests_is_refused_if_some_are_demanded() -> None:
    untested = service(suites={})
    with pytest.raises(PolicyViolation, match="bike-shop has neither unit tests nor suites; its file has to name how"):
        refuse_untested(policy(), untested, has_unit_tests=False)
    refuse_untested(policy(), untested, has_unit_tests=True)
    refuse_untested(policy(thresholds={"min_tests": 0}), untested, has_unit_tests=False)


UNMEASURED = {"tool": "maven", "output": "target"}


def test_a_service_whose_coverage_is_demanded_and_not_measured_is_refused_by_name() -> None:
    rules = policy(coverage={"1": ["each_file", "changed_lines"], "4": []})
    with pytest.raises(PolicyViolation) as refused:
        refuse_unmeasured(rules, service(tier=1, build=UNMEASURED))
    said = str(refused.value)
    assert "build.coverage of bike-shop is not set; it has to name the coverage report that the build leaves" in said
    assert "policy.yaml demands coverage of the lines that a release changes and each source file (tier 1)" in said
    assert "name its report in build.coverage of services/bike-shop.yaml" in said


@pytest.mark.parametrize(
    ("enterprise", "changes"),
    [
        ({"coverage": {"1": []}}, {"tier": 1, "build": UNMEASURED}),
        ({"thresholds": {"min_line_coverage_percent": 0}}, {"tier": 1, "build": UNMEASURED}),
        ({}, {"tier": 1, "build": UNMEASURED | {"coverage": "target/site/jacoco/jacoco.xml"}}),
    ],
    ids=["none demanded", "a minimum of 0", "measured"],
)
def test_a_service_of_which_no_coverage_is_demanded_needs_no_report(
    enterprise: dict[str, Any], changes: dict[str, Any]
) -> None:
    refuse_unmeasured(policy(**enterprise), service(**changes))


CLAIMS = ("builder", "commit", "provenance", "source")
PLACES = {"stores": ["shop_artifacts"]}


def test_claims_are_demanded_by_tier_where_artifacts_may_come_from_elsewhere() -> None:
    assert resolve_policy(policy(), service(), ChangeType.NORMAL).demanded.claims == ()
    usual = resolve_policy(policy(prebuilt=PLACES), service(), ChangeType.NORMAL)
    assert usual.demanded.claims == CLAIMS
    rules = policy(prebuilt=PLACES, claims={"1": ["workflow"], "2": []})
    assert resolve_policy(rules, service(tier=1), ChangeType.NORMAL).demanded.claims == ("workflow",)
    assert resolve_policy(rules, service(tier=2), ChangeType.NORMAL).demanded.claims == ()
    assert resolve_policy(rules, service(tier=3), ChangeType.NORMAL).demanded.claims == CLAIMS


def test_lower_levels_only_add_claims() -> None:
    rules = policy(prebuilt=PLACES, business_units={"retail": {"claims": ["workflow"]}})
    own = service(business_unit="retail", policy={"claims": ["tests", "commit"]})
    in_force = resolve_policy(rules, own, ChangeType.NORMAL)
    assert in_force.demanded.claims == tuple(sorted((*CLAIMS, "tests", "workflow")))
    assert in_force.further_sources["claims"] == "services/bike-shop.yaml"


def test_a_policy_without_places_of_artifacts_has_the_digest_it_had_before() -> None:
    assert "claims" not in resolve_policy(policy(), service(), ChangeType.NORMAL).model_dump(mode="json")["demanded"]


def test_a_pipeline_is_refused_by_the_first_task_too() -> None:
    rules = policy(pipelines={"jenkins-shop": ["bike-shop"], "jenkins-till": ["till"]})
    refuse_foreign_pipeline(rules, "jenkins-shop", "bike-shop")
    refuse_foreign_pipeline(rules, "rita", "bike-shop")
    with pytest.raises(PolicyViolation, match=r"may request releases of till, but it requested one of bike-shop\."):
        refuse_foreign_pipeline(rules, "jenkins-till", "bike-shop")


def test_a_lower_level_adds_environments_that_defects_stop_and_only_lowers_the_severity() -> None:
    unit = flows("normal", stopped_by={"production": "critical", "staging": "blocker"})
    own = flows("normal", stopped_by={"production": "major", "staging": "blocker"})
    looser = flows("normal", stopped_by={"production": "blocker"})
    assert levels(unit, own).flow.stopped_by == {"production": "major", "staging": "blocker"}
    assert levels(unit, looser).flow.stopped_by == {"production": "critical", "staging": "blocker"}


def test_a_lower_level_may_only_ask_for_more_test_cases() -> None:
    assert levels(flows("normal", cases="all"), {}).flow.cases == "all"
    with pytest.raises(PolicyViolation, match=r"change_types\.normal\.cases to none; allowed is affected or more"):
        levels(flows("normal", cases="none"), {})
