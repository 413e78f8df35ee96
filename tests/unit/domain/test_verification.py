from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.quality.verification import LoadComparison, compare_hosts, compare_loads
from interlock.domain.records import LoadResult


def load(path: str = "/", p95: float = 10, requests: int = 100, errors: int = 0, host: str = "one") -> LoadResult:
    return LoadResult(
        host=host, path=path, requests=requests, errors=errors, p50_ms=p95 / 2, p95_ms=p95, p99_ms=p95 * 2
    )


def test_a_row_tells_how_a_path_changed() -> None:
    (row,) = compare_loads([load(p95=20)], [load(p95=30, errors=1)])
    assert row == LoadComparison(
        host="one",
        path="/",
        missing="",
        before_requests=100,
        after_requests=100,
        before_p95_ms=20,
        after_p95_ms=30,
        before_error_percent=0,
        after_error_percent=1,
        p95_ratio=1.5,
        p95_rise_ms=10,
    )
    assert row.name == "/ on one"


def test_a_path_that_is_missing_is_a_row_that_says_so() -> None:
    before = [load("/gone"), load("/idle"), load("/none", requests=0)]
    after = [load("/new"), load("/idle", requests=0)]
    rows = compare_loads(before, after)
    assert [(row.path, row.missing) for row in rows] == [
        ("/gone", "after"),
        ("/idle", "after"),
        ("/new", "before"),
        ("/none", "before and after"),
    ]
    assert rows[0].name == "/gone on one, not measured after the release"
    assert rows[0].p95_ratio is rows[0].p95_rise_ms is rows[0].after_p95_ms is rows[0].after_error_percent is None
    assert rows[2].after_p95_ms == 10


def test_a_path_measured_twice_counts_with_the_slower() -> None:
    (row,) = compare_loads([load(p95=10), load(p95=40, errors=10)], [load(p95=40)])
    assert (row.before_requests, row.before_p95_ms, row.before_error_percent, row.p95_ratio) == (200, 40, 5, 1)


def test_of_two_fleets_each_host_is_compared_with_the_other_fleet_and_none_is_an_average() -> None:
    """One host of the new fleet answers nothing but errors; over the fleet that would be a third."""
    before = [load(host=host) for host in ("blue-1", "blue-2", "blue-3")]
    after = [load(host="green-1"), load(host="green-2", errors=100), load(host="green-3")]
    rows = compare_hosts(["green-1", "green-2", "green-3"], before, after, other_fleet=True)
    assert [(row.host, row.after_error_percent, row.before_requests) for row in rows] == [
        ("green-1", 0, 300),
        ("green-2", 100, 300),
        ("green-3", 0, 300),
    ]


def test_a_host_that_no_load_names_is_a_row_that_says_so() -> None:
    rows = compare_hosts(["one", "two"], [load(), load(host="gone")], [load()])
    assert [(row.host, row.missing) for row in rows] == [("one", ""), ("two", "before and after")]
    assert [row.missing for row in compare_hosts(["green"], [load()], [], other_fleet=True)] == ["after"]
    assert compare_hosts(["one"], [], []) == ()


results = st.lists(
    st.builds(
        load,
        path=st.sampled_from(["/", "/a", "/b"]),
        p95=st.floats(0, 60_000),
        requests=st.integers(0, 1000),
        host=st.sampled_from(["one", "two"]),
    )
)


@given(results, results, st.randoms())
def test_every_path_is_one_row_whatever_the_order(
    before: list[LoadResult], after: list[LoadResult], random: Any
) -> None:
    rows = compare_loads(before, after)
    assert [(row.host, row.path) for row in rows] == sorted({(one.host, one.path) for one in before + after})
    random.shuffle(before)
    random.shuffle(after)
    assert compare_loads(before, after) == rows
    for row in rows:
        assert row.p95_ratio is None or math.isfinite(row.p95_ratio)
        assert (row.p95_ratio is None) == bool(row.missing)
        assert LoadComparison.model_validate(json.loads(row.model_dump_json())) == row
