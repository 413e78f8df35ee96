"""The rounds of a canary as series, and the verdict, which follows from the rounds alone.

The report of a release can be computed again from its rounds, which its chain names by digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isnan, nan

from interlock.domain.records import Host, LoadResult
from interlock.domain.rollout.rollout import ERRORS, MEDIAN, SLOWEST, metric_name

from . import error_counts
from .error_counts import Count
from .judge import judge
from .records import MIN_ROUNDS, CanaryReport, CanaryRound, Metric, Question

Series = dict[str, list[list[float]]]
"""Metric: for each round, what was measured on each host; NaN: a measurement that is missing."""


def judge_rounds(
    question: Question,
    rounds: Sequence[CanaryRound],
    *,
    baseline: Sequence[Host],
    canary: Sequence[Host],
    requests: int = 1,
) -> CanaryReport:
    """Judge a canary by its rounds; it fails if rounds are too few, missing or recorded twice.

    :param baseline: the hosts of the old version; ``canary``: of the new one.
    :param requests: that each of them must have got.
    """
    asked = question.model_copy(update={"metrics": tuple(map(_counted, question.metrics))})
    own = [one.name for one in asked.metrics if not (one.muted or _is_measured(one.name))]
    before, after = (_measured(rounds, hosts) for hosts in (baseline, canary))
    alone = {host.address: flat(series(rounds, [host])) for host in canary}
    by_host = {metric.name: {host: one.get(metric.name, []) for host, one in alone.items()} for metric in asked.metrics}
    report = judge(asked, before, after, hosts=by_host)
    reason = _incomplete(rounds, requests) or report.reason or _silent(own, rounds, baseline, canary)
    return report.model_copy(update={"reason": reason, "score": 0.0, "verdict": "fail"}) if reason else report


def _counted(metric: Metric) -> Metric:
    """Return a metric of errors as one that is judged by counts, also of a plan from before there were any."""
    return metric.model_copy(update={"counts": metric.counts or metric.name.endswith(f": {ERRORS}")})


def _is_measured(name: str) -> bool:
    """Tell whether Interlock measures this, not the service."""
    return name.endswith(tuple(f": {kind}" for kind in (ERRORS, MEDIAN, SLOWEST)))


def _incomplete(rounds: Sequence[CanaryRound], requests: int) -> str:
    numbers, total = [one.number for one in rounds], Counter[str]()
    for load in (load for one in rounds for load in one.loads):
        total[load.host] += load.requests
    if len(rounds) < MIN_ROUNDS:
        return f"The canary has {len(rounds)} rounds, but needs at least {MIN_ROUNDS}."
    if sorted(numbers) != [*range(1, len(rounds) + 1)]:
        return f"The rounds are {', '.join(map(str, numbers))}: a round is missing or recorded twice."
    fewest = min(total, key=total.__getitem__, default="")
    if total[fewest] < requests:
        return f"{fewest or 'No host'} got {total[fewest]} requests, but the canary needs {requests}."
    return ""


def _silent(
    names: Sequence[str], rounds: Sequence[CanaryRound], baseline: Sequence[Host], canary: Sequence[Host]
) -> str:
    """Tell whether hosts of the canary report their metrics less often than those of the baseline."""
    told = [
        [
            Count(host.address, name, one.number, 1, isnan(_number(one, host.address, name)))
            for one in rounds
            for host in hosts
            for name in names
        ]
        for hosts in (baseline, canary)
    ]
    if not names:
        return ""
    found = error_counts.compare(*told, risk=error_counts.RISK / 10, what="questions for its numbers")
    return found.unusable or found.whole or next((reason for _, reason in found.paths), "")


def _measured(rounds: Sequence[CanaryRound], hosts: Sequence[Host]) -> Mapping[str, Sequence[float | Count]]:
    return {**flat(series(rounds, hosts)), **counts(rounds, hosts)}


def counts(rounds: Sequence[CanaryRound], hosts: Sequence[Host]) -> dict[str, list[Count]]:
    """Return of each path how many requests each host got in each round, and how many of them failed.

    A host of which a round has nothing got none.
    """
    addresses = {host.address for host in hosts}
    found: dict[str, list[Count]] = {}
    for one in rounds:
        there = [load for load in one.loads if load.host in addresses]
        for load in there:
            count = Count(load.host, load.path, one.number, load.requests, load.errors)
            found.setdefault(metric_name(ERRORS, load.path), []).append(count)
        for address in sorted(addresses - {load.host for load in there}):
            for path in sorted({load.path for load in one.loads}):
                found.setdefault(metric_name(ERRORS, path), []).append(Count(address, path, one.number, 0, 0))
    return found


def series(rounds: Sequence[CanaryRound], hosts: Sequence[Host]) -> Series:
    """Return what was measured of some hosts, metric by metric and round by round."""
    addresses = [host.address for host in hosts]
    found: Series = {}
    for number, one in enumerate(rounds):
        for name, value in _values(one, addresses):
            row = found.setdefault(name, [])
            row.extend([] for _ in range(number + 1 - len(row)))
            row[number].append(value)
    return found


def _values(one: CanaryRound, addresses: Sequence[str]) -> Iterator[tuple[str, float]]:
    for load in (load for load in one.loads if load.host in addresses):
        yield from _of_load(load)
    names = {name for told in one.told.values() for name in told}
    for address, name in ((address, name) for address in addresses for name in sorted(names)):
        yield name, _number(one, address, name)


def _number(one: CanaryRound, address: str, name: str) -> float:
    value = one.told.get(address, {}).get(name)
    return nan if value is None else value


def _of_load(load: LoadResult) -> Iterator[tuple[str, float]]:
    measured = load.requests > 0
    yield metric_name(ERRORS, load.path), load.error_percent if measured else nan
    yield metric_name(MEDIAN, load.path), load.p50_ms if measured else nan
    yield metric_name(SLOWEST, load.path), load.p95_ms if measured else nan


def flat(measured: Series) -> dict[str, list[float]]:
    """Return all measurements of each metric."""
    return {name: [value for row in rows for value in row] for name, rows in measured.items()}
