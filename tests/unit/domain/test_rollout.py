from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.interlock.domain.catalogue import Wave
from include.interlock.domain.errors import PolicyViolation
from include.interlock.domain.rollout import split_waves, wave_title
from tests.unit.domain.samples import hosts

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
