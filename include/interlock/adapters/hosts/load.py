"""A short load on hosts, and what it measures."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

import httpx

from interlock.domain.catalogue import Load
from interlock.domain.records import Host, LoadReport, LoadResult

from .web import MAX_FAILURE_KINDS, MAX_FAILURE_LENGTH, NO_ANSWER, describe_error, get_response, url, use_client


@dataclass(slots=True)
class _Measured:
    address: str
    path: str
    times: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


async def run_load(
    hosts: Sequence[Host],
    load: Load,
    port: int,
    *,
    moment: Literal["test", "before", "after"] = "test",
    client: httpx.AsyncClient | None = None,
) -> LoadReport:
    """Put a short load on hosts and measure each path of each.

    ``load.requests`` go to each host, in turn over its paths; ``load.concurrency`` of them are under way at a time,
    over all hosts. One request to each path warms it up and does not count. An error is an answer other than 2xx and
    3xx, no answer within ``load.timeout``, or a broken connection; its time counts like any other.
    """
    measured = [[_Measured(host.address, path) for path in load.paths] for host in hosts]
    every = [one for per_host in measured for one in per_host]
    seconds = load.timeout.total_seconds()
    async with use_client(client, load.concurrency) as asking:
        await _spread((one for one in every), load.concurrency, port, seconds, asking)
        for one in every:
            one.times, one.failures = [], Counter()
        started = monotonic()
        await _spread(_in_turn(measured, load.requests), load.concurrency, port, seconds, asking)
        return LoadReport(moment=moment, results=tuple(map(_result, every)), seconds=round(monotonic() - started, 3))


def _in_turn(measured: list[list[_Measured]], requests: int) -> Iterator[_Measured]:
    """Give what to ask next: hosts in turn, and of each its paths in turn."""
    for number in range(requests):
        for per_host in measured:
            yield per_host[number % len(per_host)]


async def _spread(
    todo: Iterator[_Measured], concurrency: int, port: int, seconds: float, client: httpx.AsyncClient
) -> None:
    async def work() -> None:
        for one in todo:
            await _measure(one, port, seconds, client)

    await asyncio.gather(*(work() for _ in range(concurrency)))


async def _measure(one: _Measured, port: int, seconds: float, client: httpx.AsyncClient) -> None:
    started, failure = monotonic(), ""
    try:
        status, _ = await get_response(client, url(one.address, port, one.path), seconds)
        failure = "" if 200 <= status < 400 else f"status {status}"
    except NO_ANSWER as error:
        failure = describe_error(error)[:MAX_FAILURE_LENGTH]
    one.times.append(1000 * (monotonic() - started))
    if failure:
        one.failures[failure if failure in one.failures or len(one.failures) < MAX_FAILURE_KINDS else "others"] += 1


def _result(one: _Measured) -> LoadResult:
    times = sorted(one.times)
    return LoadResult(
        host=one.address,
        path=one.path,
        requests=len(times),
        errors=one.failures.total(),
        p50_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
        p99_ms=percentile(times, 99),
        failures=dict(sorted(one.failures.items())),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of values in ascending order: one of the values; 0 of none."""
    if not ordered:
        return 0.0
    return round(ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1], 3)
