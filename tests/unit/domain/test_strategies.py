"""Strategies in the catalogue, and what the rollout plan says of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.domain.canary.records import Question
from interlock.domain.catalogue import Environment, Service
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import AssetReport, RolloutPlan, Switch
from interlock.domain.rollout.rollout import canary_title, course_of, describe_strategy, wave_titles
from tests.unit.domain.samples import hosts, rollout, service_data

CANARY = {"bake": "PT10M", "traffic": "10%", "target_group": "shop-canary", "baseline_target_group": "shop-baseline"}
GREEN = {"hosts": {"Service": "x", "Colour": "green"}, "target_group": "shop-green"}


def environment(**changes: Any) -> Environment:
    plain = {
        "hosts": {"Service": "x", "Colour": "blue"},
        "count": 8,
        "waves": [2, "50%", "100%"],
        "deploy_root": "srv/x",
        "target_group": "shop",
    }
    return Environment.model_validate({**plain, **changes})


def assets(number: int = 8, **changes: Any) -> AssetReport:
    return AssetReport(
        hosts={"production": hosts(number), "test": hosts(1)}, target_groups={"production": "main"}, tools={}, **changes
    )


def planned(shop: Environment, given: AssetReport | None = None, **how: Any) -> RolloutPlan:
    course = course_of(shop, given or assets(canary_groups=("canary", "baseline")), "production", ["/", "/x"], **how)
    return rollout(**course.fields())


# --- the catalogue


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": "canary"}, "canary\n.*strategy: canary needs its settings here"),
        ({"strategy": "blue_green"}, "blue_green\n.*strategy: blue_green needs its settings here"),
        ({"canary": CANARY}, "canary\n.*goes with strategy: canary, and the strategy is rolling"),
        ({"strategy": "canary", "canary": CANARY, "blue_green": GREEN}, "blue_green\n.*the strategy is canary"),
        ({"strategy": "heroic"}, "strategy\n.*'rolling', 'canary' or 'blue_green'"),
        ({"strategy": "canary", "canary": {"traffic": "10%"}}, "go together"),
        ({"strategy": "canary", "canary": {**CANARY, "traffic": "46%"}}, "canary.traffic\n.*from 1% to 45%"),
        ({"strategy": "canary", "canary": {**CANARY, "bake": "PT5S"}}, "canary.bake\n.*at least 10 seconds"),
        ({"strategy": "canary", "canary": {**CANARY, "target_group": "shop-baseline"}}, "two groups are needed"),
        ({"strategy": "canary", "canary": {**CANARY, "target_group": "shop"}}, "not the target_group of the"),
        ({"strategy": "canary", "canary": CANARY, "target_group": None}, "has no target_group"),
        ({"strategy": "canary", "canary": {}, "waves": ["100%"]}, "the first wave .100 %. is the canary"),
        ({"strategy": "canary", "canary": {}, "waves": [5, "100%"]}, "as many again must stay as they are"),
        ({"strategy": "canary", "canary": {"marginal_from": 96}}, "must not be above pass_from"),
        ({"strategy": "canary", "canary": {"metrics": {"heap_mb": {}}}}, "metrics and metrics_path go together"),
        ({"strategy": "blue_green", "blue_green": {**GREEN, "target_group": "shop"}}, "another one for the second"),
        ({"strategy": "blue_green", "blue_green": {**GREEN, "hosts": {"Service": "x"}}}, "may select the same hosts"),
        ({"guidance": {}}, "guidance\n.*goes with on_failure: ask"),
    ],
)
def test_a_strategy_that_cannot_be_right_is_refused_at_its_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){said}"):
        environment(**changes)


def test_rolling_is_what_a_service_has_that_says_nothing() -> None:
    shop = environment()
    assert (shop.strategy, shop.canary, shop.blue_green, shop.on_failure, shop.guided) == (
        "rolling",
        None,
        None,
        "exclude",
        None,
    )


def test_the_second_fleet_is_in_no_other_environment() -> None:
    plain = service_data()
    green = {"hosts": {"Environment": "test"}, "target_group": "shop-green"}
    production = {**plain["environments"]["production"], "target_group": "shop", "strategy": "blue_green"}
    environments = {**plain["environments"], "production": {**production, "blue_green": green}}
    with pytest.raises(ValidationError, match="test and production may select the same hosts"):
        Service.model_validate({**plain, "environments": environments})


def test_the_test_environment_has_no_strategy_of_its_own() -> None:
    plain = service_data()
    environments = {**plain["environments"], "test": {**plain["environments"]["test"], "on_failure": "ask"}}
    with pytest.raises(ValidationError, match="test is changed all at once"):
        Service.model_validate({**plain, "environments": environments})


# --- what the graph calls it


def test_waves_are_named_for_what_they_do() -> None:
    assert wave_titles(environment())[0] == "Wave 1 of 3 · 2 hosts"
    tried = environment(strategy="canary", canary=CANARY)
    assert wave_titles(tried) == ["Wave 1 of 3 · 2 hosts · canary", "Wave 2 of 3 · 50 %", "Wave 3 of 3 · 100 %"]
    assert tried.canary is not None
    assert canary_title(tried.canary, tried.waves[0]) == "Canary · 10 % of the traffic for 10 minutes"
    plain = environment(strategy="canary", canary={})
    assert plain.canary is not None
    assert canary_title(plain.canary, plain.waves[0]) == "Canary · 2 hosts for 10 minutes"
    green = environment(strategy="blue_green", blue_green=GREEN, waves=["100%"])
    assert wave_titles(green) == ["Wave 1 of 1 · 100 % of the idle fleet"]


# --- what is voted on


def test_the_plan_names_canary_and_baseline_and_says_them_in_numbers() -> None:
    plan = planned(environment(strategy="canary", canary=CANARY))
    assert plan.canary is not None
    assert plan.canary.baseline == hosts(8)[-2:], "as many as the canary, of those that are changed last"
    assert (plan.canary.canary_group, plan.canary.baseline_group) == ("canary", "baseline")
    assert len(Question.model_validate(plan.canary.question).metrics) == 6
    said = " ".join(describe_strategy(plan))
    for words in ("10 % of the traffic for 10 minutes", "at least 200 requests", "From 95 of 100", "below 75", "asked"):
        assert words in said
    assert plan.digest != planned(environment(strategy="canary", canary={**CANARY, "pass_from": 90})).digest
    assert RolloutPlan.from_xcom(plan.to_xcom()) == plan


def test_a_canary_that_leaves_too_few_to_compare_with_is_refused_when_the_plan_is_frozen() -> None:
    shop = environment(strategy="canary", canary=CANARY)
    with pytest.raises(PolicyViolation, match="The canary has 2 hosts, and 1 others are left"):
        planned(shop, assets(3, canary_groups=("canary", "baseline")))


def test_a_rollback_and_a_rehearsal_have_no_canary() -> None:
    shop = environment(strategy="canary", canary=CANARY, on_failure="ask")
    assert planned(shop, directly=True).canary is None
    rehearsed = course_of(shop, assets(), "test", ["/"])
    assert (rehearsed.canary, rehearsed.switch, rehearsed.guidance) == (None, None, None)
    assert [len(wave) for wave in rehearsed.waves] == [1, 0, 0]


def test_the_plan_says_which_fleet_has_the_traffic_and_for_how_long_it_stays() -> None:
    switch = Switch(live="main", idle="green", live_hosts=hosts(4), keep=timedelta(hours=1))
    given = assets(switches={"production": switch})
    plan = planned(environment(strategy="blue_green", blue_green=GREEN, waves=["100%"]), given)
    assert plan.switch == switch
    said = describe_strategy(plan)[0]
    assert "8 hosts of the fleet without traffic" in said
    assert "4 hosts that have the traffic now stay unchanged for 1 hour" in said


def test_a_host_that_fails_is_borne_or_not_or_asked_about() -> None:
    assert planned(environment(max_failed=2)).strategy.max_failed == 2  # type: ignore[union-attr]
    assert planned(environment(max_failed=2, on_failure="back_out")).strategy.max_failed == 0  # type: ignore[union-attr]
    asked = planned(environment(on_failure="ask", guidance={"answer_within": "PT5M", "unanswered": "exclude"}))
    assert "decides about hosts that fail. Without an answer within 5 minutes: left out" in describe_strategy(asked)[-1]


def test_a_plan_of_before_keeps_its_digest() -> None:
    assert not {"canary", "switch", "guidance"} & set(rollout().to_xcom())
