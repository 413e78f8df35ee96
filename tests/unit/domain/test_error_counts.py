from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from interlock.domain.canary.error_counts import RISK, Count, Found, _chance, compare

ROUNDS, EACH = 20, 20
Failures = Callable[[int, int, int], float]
"""How many requests of a host, in a round, on a path fail."""


def none(*_: int) -> int:
    return 0


def fleet(
    side: str, failures: Failures = none, *, hosts: int = 2, paths: int = 1, rounds: int = ROUNDS, each: int = EACH
) -> list[Count]:
    return [
        Count(f"{side}-{host}", f"/{path}", number, each, failures(host, number, path))
        for number in range(1, rounds + 1)
        for host in range(hosts)
        for path in range(paths)
    ]


def found(failures: Failures, before: Failures = none, **size: int) -> Found:
    return compare(fleet("old", before, **size), fleet("new", failures, **size))


def reasons(one: Found) -> str:
    return " ".join((one.unusable, one.whole, *(reason for _, reason in one.paths))).strip()


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
@example(10, 10, 0, 10)
def test_the_chance_is_that_of_fishers_exact_test(failed: int, well: int, failed_before: int, well_before: int) -> None:
    numbers = (failed, failed + well, failed_before, failed_before + well_before)
    (chance,) = _chance(*(np.array([float(one)]) for one in numbers))
    expected = fisher_exact([[failed, well], [failed_before, well_before]], "greater").pvalue
    if numbers[0] * numbers[3] > numbers[2] * numbers[1]:
        assert chance == pytest.approx(expected, rel=1e-9)
    else:
        assert chance == 1, "no more failures than before are never held against it"


def noisy(host: int, number: int, path: int) -> int:
    return int((host + number + path) % 5 == 0)


@pytest.mark.parametrize("before", [none, noisy], ids=["a baseline without errors", "a baseline with 2 % errors"])
@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "dies",
    [
        pytest.param(lambda host, number: host == 0, id="one host is dead"),
        pytest.param(lambda host, number: host == 0 and number == 7, id="one host is dead for a round"),
        pytest.param(lambda host, number: host == 0 and number == ROUNDS, id="one host is dead in the last round"),
        pytest.param(lambda host, number: host == 0 and number == 1, id="one host is dead in the first round"),
        pytest.param(lambda host, number: host == 0 and number > 15, id="one host dies late"),
        pytest.param(lambda host, number: host == 0 and number % 2, id="one host flaps"),
        pytest.param(lambda host, number: number == 5, id="all are dead for a round"),
        pytest.param(lambda host, number: number in {3, 9, 16}, id="bursts"),
        pytest.param(lambda host, number: number % hosts_turn(host) == 0, id="the hosts die in turn"),
    ],
)
def test_a_canary_that_answers_nothing_fails_wherever_and_whenever(
    dies: Callable[[int, int], bool], hosts: int, before: Failures
) -> None:
    def failures(host: int, number: int, path: int) -> float:
        return EACH if dies(host, number) else before(host, number, path)

    one = found(failures, before, hosts=hosts)
    assert one.whole, "it has more errors"
    assert "new-" in one.whole or "The canary" in one.whole


def hosts_turn(host: int) -> int:
    return 3 + host % 3


def test_a_path_that_fails_is_named_and_so_are_the_host_and_the_rounds() -> None:
    one = found(lambda host, number, path: 5 * (host == 1 and path == 1 and number > 12), paths=2, each=5)
    assert one.of("/1") == (
        "new-1 of the canary failed 40 of 40 requests of /1 in rounds 13 to 20, the baseline 0 of 80: a difference "
        "that chance does not explain."
    )
    assert one.of("/0") == ""


@pytest.mark.parametrize("failures", [none, noisy], ids=["none", "some"])
def test_fleets_that_fail_alike_are_as_good_as_each_other(failures: Failures) -> None:
    assert found(failures, failures, hosts=3, paths=2) == Found()


def test_what_hits_both_at_the_same_moment_is_held_against_neither() -> None:
    def outage(host: int, number: int, path: int) -> int:
        return EACH if number in {6, 7} else 0

    assert found(outage, outage) == Found()


def test_fewer_errors_are_never_held_against_a_canary() -> None:
    assert found(none, lambda host, number, path: 3) == Found()


# --- nothing to compare


@pytest.mark.parametrize(
    ("baseline", "canary", "said"),
    [
        pytest.param([], [], "There are no requests of the canary", id="nothing at all"),
        pytest.param(fleet("old"), [], "There are no requests of the canary", id="no canary"),
        pytest.param([], fleet("new"), "There are no requests of the baseline", id="no baseline"),
        pytest.param(fleet("old", each=0), fleet("new", each=0), "There are no requests", id="no request made"),
        pytest.param(
            fleet("old"), fleet("new")[:-1], "did not get the same load: /0 in round 20, 0 requests of", id="one short"
        ),
        pytest.param(
            fleet("old"), fleet("new", hosts=3)[:-1], "did not get the same load", id="a host left out of a round"
        ),
        pytest.param(fleet("old"), fleet("new", each=100), "did not get the same load", id="asked more"),
        pytest.param(fleet("old", rounds=3), fleet("new"), "did not get the same load", id="fewer rounds"),
        pytest.param(fleet("old", paths=2), fleet("new"), "did not get the same load", id="fewer paths"),
        pytest.param(fleet("old"), [*fleet("new"), fleet("new")[0]], "are recorded twice", id="one twice"),
        pytest.param(fleet("same"), fleet("same"), "are recorded twice", id="the canary is its own baseline"),
        pytest.param(fleet("old"), fleet("new", lambda *_: nan), "is not a valid count", id="NaN"),
        pytest.param(fleet("old", lambda *_: inf), fleet("new"), "is not a valid count", id="infinite"),
        pytest.param(
            fleet("old"), fleet("new", lambda *_: 21), "21 of 20 requests failed is not a valid count", id="too many"
        ),
        pytest.param(fleet("old"), fleet("new", lambda *_: -1), "is not a valid count", id="negative"),
        pytest.param(
            fleet("old", lambda host, *_: EACH * (host == 0)),
            fleet("new"),
            "The baseline has no usable data: old-0 failed all of 400 requests",
            id="a dead baseline",
        ),
        pytest.param(
            fleet("old", lambda host, number, _: EACH * (host == 0 and number < 12), hosts=3),
            fleet("new", lambda host, number, _: EACH * (host == 0 and number < 12), hosts=3),
            "The baseline has no usable data: old-0 failed 220 of 400 requests, and the others 0 of 800",
            id="one of the baseline is half-dead",
        ),
        pytest.param(
            fleet("old", lambda _, number, __: EACH * (number == ROUNDS)),
            fleet("new", lambda _, number, __: EACH * (number == ROUNDS)),
            "old-0 failed all of 20 requests of the last round",
            id="all are dead at the end",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_and_is_not_good(baseline: list[Count], canary: list[Count], said: str) -> None:
    one = compare(baseline, canary)
    assert said in one.unusable


def test_a_path_that_the_old_version_never_answered_may_not_fail_on_the_new_one() -> None:
    def missing(host: int, number: int, path: int) -> int:
        return EACH * (path == 1)

    assert found(none, missing, paths=2) == Found()
    assert found(lambda host, number, path: 5 * (path == 1), missing, paths=2).of("/1")


# --- truth that is known


def simulated(generator: np.random.Generator, share: float, hosts: int, paths: int, rounds: int) -> list[Failures]:
    tables = generator.binomial(EACH, share, size=(2, hosts, rounds + 1, paths))
    return [lambda host, number, path, table=table: int(table[host, number, path]) for table in tables]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("hosts", "paths"), [(1, 1), (3, 2)])
def test_fleets_that_are_alike_rarely_fail(share: float, hosts: int, paths: int) -> None:
    """Of 100 canaries, 1 is to fail at most on average: 6 or more would be a chance of 1 in 1,800."""
    generator = np.random.default_rng(20261128)
    failed = [
        bool(reasons(found(*simulated(generator, share, hosts, paths, ROUNDS), hosts=hosts, paths=paths)))
        for _ in range(100)
    ]
    assert sum(failed) <= 5
    assert RISK == 0.01


@given(
    st.data(),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(6, 30),
)
def test_more_errors_in_any_pattern_are_found(data: st.DataObject, hosts: int, paths: int, rounds: int) -> None:
    """Whole rounds of hosts that answer nothing, anywhere: from two in a hundred requests on none is missed."""
    cells = [(host, number) for host in range(hosts) for number in range(1, rounds + 1)]
    least = max(2, -(-len(cells) // 50))
    dead = data.draw(st.sets(st.sampled_from(cells), min_size=min(least, len(cells)), max_size=len(cells)))
    one = found(lambda host, number, path: EACH * ((host, number) in dead), hosts=hosts, paths=paths, rounds=rounds)
    assert one.whole


@given(st.lists(st.integers(0, EACH), min_size=40, max_size=40), st.randoms(use_true_random=False))
def test_neither_order_nor_names_matter(numbers: list[int], mixed: object) -> None:
    canary = fleet("new", lambda host, number, path: numbers[2 * (number - 1) + host])
    shuffled = list(canary)
    mixed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compare(fleet("old"), shuffled) == compare(fleet("old"), canary)


def test_thousands_of_rounds_are_tested_in_blocks() -> None:
    late = found(lambda host, number, path: EACH * (host == 0 and number > 2950), hosts=2, rounds=3000)
    assert "in rounds 2951 to 3000" in late.whole or "of the last round" in late.whole
