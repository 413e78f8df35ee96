"""The synthetic load measured before a release, compared with the load measured after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from interlock.domain.canonical import Model
from interlock.domain.records import LoadResult

MIN_MILLISECONDS = 0.001
"""Replacement for a response time of zero, so that every ratio is a number."""


class LoadComparison(Model):
    """One path of one host, before and after; what was not measured is None."""

    host: str
    path: str
    missing: Literal["", "before", "after", "before and after"]
    before_requests: int
    after_requests: int
    before_p95_ms: float | None
    after_p95_ms: float | None
    before_error_percent: float | None
    after_error_percent: float | None
    p95_ratio: float | None
    """p95 after, as a multiple of before."""
    p95_rise_ms: float | None
    """How much longer p95 is than before, in milliseconds; negative if it is shorter."""
    failures: dict[str, int] = {}
    """What failed requests met after the release: how many."""

    @property
    def name(self) -> str:
        """How people call this row."""
        said = f", not measured {self.missing} the release" if self.missing else ""
        return f"{self.path} on {self.host}{said}"


def compare_hosts(
    hosts: Sequence[str], before: Sequence[LoadResult], after: Sequence[LoadResult], *, other_fleet: bool = False
) -> tuple[LoadComparison, ...]:
    """Compare two loads host by host: each has a row for each path, also if neither load names it.

    :param hosts: addresses of those that have to run the release.
    :param other_fleet: what was measured before is another fleet: each host is compared with all of it.
    """
    earlier = [one.model_copy(update={"host": host}) for host in hosts for one in before] if other_fleet else before
    nothing = {"requests": 0, "errors": 0, "p50_ms": 0, "p95_ms": 0, "p99_ms": 0}
    paths = sorted({one.path for one in (*before, *after)})
    every = [LoadResult.model_validate({"host": host, "path": path, **nothing}) for host in hosts for path in paths]
    return compare_loads([*(one for one in earlier if one.host in hosts), *every], after)


def compare_loads(before: Sequence[LoadResult], after: Sequence[LoadResult]) -> tuple[LoadComparison, ...]:
    """Compare two loads: a row for each path of each host that either of them names, in the order of their names.

    Where a load names one twice, their requests are added up and the slower p95 counts. A path that got no request was
    not measured.
    """
    earlier, later = _by_place(before), _by_place(after)
    return tuple(_compared(place, earlier, later) for place in sorted(earlier.keys() | later.keys()))


Place = tuple[str, str]
"""A host and a path."""


def _by_place(results: Iterable[LoadResult]) -> dict[Place, LoadResult]:
    found: dict[Place, LoadResult] = {}
    for result in results:
        place = result.host, result.path
        found[place] = _added(found[place], result) if place in found else result
    return found


def _added(one: LoadResult, other: LoadResult) -> LoadResult:
    return LoadResult(
        host=one.host,
        path=one.path,
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        p50_ms=max(one.p50_ms, other.p50_ms),
        p95_ms=max(one.p95_ms, other.p95_ms),
        p99_ms=max(one.p99_ms, other.p99_ms),
        failures=dict(sorted((Counter(one.failures) + Counter(other.failures)).items())),
    )


def _compared(place: Place, earlier: dict[Place, LoadResult], later: dict[Place, LoadResult]) -> LoadComparison:
    before, after = _measured(earlier.get(place)), _measured(later.get(place))
    both = (before.p95_ms, after.p95_ms) if before and after else None
    return LoadComparison(
        host=place[0],
        path=place[1],
        missing=_missing(before, after),
        before_requests=before.requests if before else 0,
        after_requests=after.requests if after else 0,
        before_p95_ms=before.p95_ms if before else None,
        after_p95_ms=after.p95_ms if after else None,
        before_error_percent=before.error_percent if before else None,
        after_error_percent=after.error_percent if after else None,
        p95_ratio=max(both[1], MIN_MILLISECONDS) / max(both[0], MIN_MILLISECONDS) if both else None,
        p95_rise_ms=both[1] - both[0] if both else None,
        failures=after.failures if after else {},
    )


def _measured(result: LoadResult | None) -> LoadResult | None:
    return result if result and result.requests else None


def _missing(before: LoadResult | None, after: LoadResult | None) -> Literal["", "before", "after", "before and after"]:
    if before and after:
        return ""
    if before or after:
        return "after" if before else "before"
    return "before and after"
