from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.catalogue import Environment, Wave
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import CanaryPlan, Host, Strategy, WaveReport
from interlock.domain.rollout.pace import AT_A_TIME, Pace, failed_elsewhere, failed_hosts, strategy_of, tolerated
from interlock.domain.rollout.rollout import describe_strategy, split_waves, wave_title
from tests.unit.domain.samples import host_result, hosts, rollout

waves = st.lists(
    st.builds(Wave, hosts=st.integers(1, 40)) | st.builds(Wave, percent=st.integers(1, 100)), max_size=5
).map(lambda found: [*found, Wave(percent=100)])


def sizes(number: int, *waves: int | str) -> list[int]:
    return [len(wave) for wave in split_waves(hosts(number), [Wave.model_validate(wave) for wave in waves])]


@pytest.mark.parametrize(
    ("number", "waves", "expected"),
    [
        (3, (1, "100%"), [1, 2]),
        (100, (1, "25%", "100%"), [1, 24, 75]),
        pytest.param(9, ("25%", "100%"), [3, 6], id="a quarter is rounded up"),
        pytest.param(2, (1, "25%", "100%"), [1, 0, 1], id="a wave may be empty"),
        pytest.param(2, (5, "100%"), [2, 0], id="a wave may be larger than the fleet"),
        pytest.param(0, ("100%",), [0], id="no hosts"),
    ],
)
def test_waves_are_counted_from_the_start(number: int, waves: tuple[int | str, ...], expected: list[int]) -> None:
    assert sizes(number, *waves) == expected


@given(st.integers(0, 60), waves)
def test_every_host_is_in_one_wave_and_in_order(number: int, waves: list[Wave]) -> None:
    fleet = hosts(number)
    parts = split_waves(fleet, waves)
    assert len(parts) == len(waves)
    assert tuple(host for part in parts for host in part) == fleet


@given(st.integers(0, 60), waves)
def test_after_each_wave_as_much_is_done_as_it_says(number: int, waves: list[Wave]) -> None:
    done = 0
    for wave, part in zip(waves, split_waves(hosts(number), waves), strict=True):
        done += len(part)
        reach = min(number, wave.hosts) if wave.hosts else ceil(number * (wave.percent or 0) / 100)
        assert done >= reach
        assert done == reach or not part


def test_waves_that_leave_hosts_behind_are_refused() -> None:
    with pytest.raises(PolicyViolation, match="waves 1 host, 50 % leave 1 of 3 hosts behind"):
        sizes(3, 1, "50%")


def test_a_wave_has_a_title_for_people() -> None:
    assert wave_title(1, 2, Wave(hosts=1)) == "Wave 1 of 2 · 1 host"
    assert wave_title(2, 2, Wave(percent=100)) == "Wave 2 of 2 · 100 %"


# --- how many at a time


def environment(**changes: Any) -> Environment:
    plain = {"hosts": {"Service": "x"}, "count": 100, "deploy_root": "srv/x", **changes}
    return Environment.model_validate(plain)


@pytest.mark.parametrize(
    ("keys", "number", "expected"),
    [
        ({}, 100, (AT_A_TIME, 0, 0, False)),
        ({"window": 3, "max_failed": 2, "min_healthy": 5, "by_zone": True}, 100, (3, 2, 5, True)),
        pytest.param({"max_failed": "10%", "min_healthy": "50%"}, 15, (AT_A_TIME, 1, 8, False), id="in-doubt-fewer"),
        pytest.param({"max_failed": "10 %"}, 9, (AT_A_TIME, 0, 0, False), id="a-tenth-of-nine-is-none"),
    ],
)
def test_a_strategy_is_in_numbers_of_hosts(keys: dict[str, Any], number: int, expected: tuple[Any, ...]) -> None:
    found = strategy_of(environment(**keys), hosts(number))
    assert (found.window, found.max_failed, found.min_healthy, found.by_zone) == expected


def test_a_floor_that_lets_no_host_be_changed_is_refused_but_not_in_a_rehearsal() -> None:
    shop = environment(min_healthy=3)
    with pytest.raises(PolicyViolation, match="3 of 3 hosts must stay healthy, so no host can be changed"):
        strategy_of(shop, hosts(3))
    assert strategy_of(shop, hosts(1), rehearsal=True).min_healthy == 0


def test_a_floor_of_each_zone_is_in_numbers_of_its_hosts() -> None:
    found = strategy_of(environment(min_healthy_per_zone="50%"), zoned(5, 2))
    assert found.zones_healthy == {"z0": 2, "z1": 1}
    assert "of each availability zone stay in service: 2 in z0, 1 in z1" in " ".join(
        describe_strategy(rollout(strategy=found))
    )
    with pytest.raises(PolicyViolation, match="1 of 1 hosts of z1 must stay healthy, so no host can be changed"):
        strategy_of(environment(min_healthy_per_zone=1), zoned(3, 2))
    assert strategy_of(environment(min_healthy_per_zone=1), zoned(3, 2), rehearsal=True).zones_healthy == {
        "z0": 1,
        "z1": 0,
    }


def test_a_plan_without_floors_of_zones_has_the_digest_that_it_had_before_there_were_any() -> None:
    plain = {"window": 2, "max_failed": 0, "min_healthy": 1, "by_zone": False}
    assert Strategy.model_validate(plain).model_dump() == plain
    assert strategy_of(environment(min_healthy=1), hosts(3)).model_dump().keys() == plain.keys()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_healthy", 100),
        ("min_healthy", "100%"),
        ("min_healthy", 1.5),
        ("max_failed", -1),
        ("max_failed", "101%"),
        ("max_failed", True),
        ("window", 0),
    ],
)
def test_a_strategy_that_makes_no_sense_is_refused_in_the_catalogue(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        environment(**{key: value})


def zoned(number: int, zones: int) -> tuple[Host, ...]:
    return tuple(host.model_copy(update={"zone": f"z{index % zones}"}) for index, host in enumerate(hosts(number)))


@given(st.integers(1, 40), st.integers(1, 4), waves)
def test_by_zone_a_zone_is_done_before_the_next_begins(number: int, zones: int, waves: list[Wave]) -> None:
    parts = split_waves(zoned(number, zones), waves, by_zone=True)
    order = [host.zone for part in parts for host in part]
    assert order == sorted(order)
    assert len(order) == number


strategies = st.builds(
    Strategy,
    window=st.integers(1, 6),
    max_failed=st.integers(0, 5),
    min_healthy=st.integers(0, 5),
    by_zone=st.booleans(),
    zones_healthy=st.none() | st.dictionaries(st.sampled_from(["z0", "z1", "z2"]), st.integers(0, 4)),
)


@given(st.data(), st.integers(1, 20), st.integers(1, 3), st.integers(0, 10), strategies, st.integers(0, 3))
def test_whatever_fails_and_in_whatever_order_hosts_end_nothing_goes_beyond_the_strategy(
    data: st.DataObject, number: int, zones: int, others: int, strategy: Strategy, failed: int
) -> None:
    whole = zoned(number + others, zones)
    fleet = tuple(sorted(whole[:number], key=lambda host: host.zone)) if strategy.by_zone else whole[:number]
    lost = list(whole[number:][:failed])
    failed = len(lost)
    pace = Pace(fleet, strategy, fleet=whole, failed={host.instance_id for host in lost})
    floors = strategy.zones_healthy or {}

    def well(zone: str | None = None) -> int:
        return sum(one not in under_way and one not in lost and zone in (None, one.zone) for one in whole)

    under_way: list[Host] = []
    begun: list[Host] = []
    while True:
        spent = failed > strategy.max_failed
        while (host := pace.begin()) is not None:
            assert not spent
            under_way.append(host)
            begun.append(host)
            assert len(under_way) <= strategy.window
            assert well() >= strategy.min_healthy
            assert well(host.zone) >= floors.get(host.zone, 0)
            assert not strategy.by_zone or len({one.zone for one in under_way}) == 1
        if not under_way:
            break
        host = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
        breaks = data.draw(st.booleans())
        failed += breaks
        lost += [host] * breaks
        pace.end(host, failed=breaks)
    assert sorted((*begun, *pace.untouched), key=fleet.index) == list(fleet), "each host once, begun or untouched"
    assert floors or (*begun, *pace.untouched) == fleet, "in order, but for zones that had to wait"
    if not pace.is_spent and well() > strategy.min_healthy:
        waiting = pace.untouched[:1] if strategy.by_zone else pace.untouched
        assert all(well(one.zone) <= floors.get(one.zone, 0) for one in waiting), "nobody is left out without a reason"


def test_a_zone_at_its_floor_does_not_make_the_others_wait() -> None:
    fleet = zoned(4, 2)
    strategy = Strategy(window=4, max_failed=0, min_healthy=0, by_zone=False, zones_healthy={"z0": 1})
    pace = Pace(fleet, strategy, fleet=fleet)
    assert [pace.begin() for _ in range(4)] == [fleet[0], fleet[1], fleet[3], None]
    pace.end(fleet[0], failed=False)
    assert pace.begin() == fleet[2]


def test_a_failed_host_counts_against_the_floor_of_its_zone_only() -> None:
    fleet = zoned(6, 2)
    strategy = Strategy(window=1, max_failed=3, min_healthy=0, by_zone=False, zones_healthy={"z0": 2, "z1": 2})
    pace = Pace(fleet[2:], strategy, fleet=fleet, failed={fleet[0].instance_id})
    begun = []
    while (host := pace.begin()) is not None:
        begun.append(host)
        pace.end(host, failed=False)
    assert begun == [fleet[3], fleet[5]]
    assert pace.untouched == (fleet[2], fleet[4])


def test_the_window_slides() -> None:
    pace = Pace(hosts(3), Strategy(window=2, max_failed=0, min_healthy=0, by_zone=False), fleet=hosts(3))
    first, second = pace.begin(), pace.begin()
    assert first is not None
    assert second is not None
    assert pace.begin() is None
    pace.end(second, failed=False)
    assert pace.begin() == hosts(3)[2]


def wave(number: int, *results: tuple[int, str]) -> WaveReport:
    plan = rollout()
    made = tuple(host_result(plan.hosts[index], outcome, None) for index, outcome in results)
    return WaveReport(number=number, of=2, release=plan.release, results=made)


def test_the_budget_bears_so_many_failed_hosts_and_no_more() -> None:
    few = rollout(strategy=Strategy(window=9, max_failed=1, min_healthy=0, by_zone=False))
    one, again = wave(1, (0, "failed")), wave(1, (0, "deployed"))
    assert tolerated(few, [one]) == {few.hosts[0].instance_id}
    assert tolerated(few, [one, again]) == frozenset(), "what was recorded last counts"
    assert tolerated(few, [one, wave(2, (1, "failed"))]) == frozenset()
    assert tolerated(rollout(), [one]) == frozenset(), "without a budget, none"
    assert failed_elsewhere([one], 2) == {few.hosts[0].instance_id}
    assert failed_elsewhere([one], 1) == failed_elsewhere([one, again], 2) == frozenset()


def test_it_is_said_whether_the_error_budget_bears_what_failed() -> None:
    few = rollout(strategy=Strategy(window=9, max_failed=1, min_healthy=0, by_zone=False))
    one, other = (wave(number, (number - 1, "failed")) for number in (1, 2))
    names = [each.name for each in few.hosts]
    assert failed_hosts(few, []) == failed_hosts(few, [one, wave(1, (0, "deployed"))]) == ""
    assert failed_hosts(few, [one]) == f"1 host failed ({names[0]}), within the error budget of 1."
    spent = failed_hosts(few, [one, other])
    assert spent.startswith(f"2 hosts failed ({names[0]}, {names[1]}): the error budget of 1 is used up")
    held = one.model_copy(update={"results": (one.results[0].model_copy(update={"held_back": True}),)})
    assert "which no error budget bears" in failed_hosts(few, [held])


def test_no_budget_bears_that_a_rollout_was_held_back() -> None:
    plan = rollout(strategy=Strategy(window=9, max_failed=9, min_healthy=0, by_zone=False))
    held = wave(2, (1, "failed"))
    assert tolerated(plan, [held]) == {plan.hosts[1].instance_id}
    held = held.model_copy(update={"results": (held.results[0].model_copy(update={"held_back": True}),)})
    assert tolerated(plan, [held]) == frozenset()
    assert tolerated(plan, [wave(1, (0, "failed")), held]) == frozenset()
    assert tolerated(plan, [held, wave(2, (1, "deployed"))]) == frozenset(), "nothing failed"


def test_no_budget_bears_a_canary_that_failed() -> None:
    canary = CanaryPlan(
        baseline=(), bake_seconds=1, requests=1, question={}, marginal="ask", answer_within=timedelta(hours=1)
    )
    plan = rollout(strategy=Strategy(window=9, max_failed=9, min_healthy=0, by_zone=False), canary=canary)
    assert tolerated(plan, [wave(1, (0, "failed"))]) == frozenset()
    assert tolerated(plan, [wave(2, (1, "failed"))]) == {plan.hosts[1].instance_id}
