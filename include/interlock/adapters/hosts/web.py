"""What hosts answer over HTTP: whether they are well, which version they run, and how fast they are."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

import httpx

from interlock.domain.catalogue import Health, Load, SmokeCheck
from interlock.domain.errors import DeployError
from interlock.domain.records import Host, LoadReport, LoadResult, SmokeResult

_CONNECTIONS = 100
_ASK_SECONDS = 5.0
_SMOKE_SECONDS = 10.0
_BODY_LIMIT = 1024 * 1024
_NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, TimeoutError)
_MOST_FAILURES, _LONGEST_FAILURE = 5, 100
"""Kinds of failures that are told of a path of a host, and characters of each."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


@asynccontextmanager
async def web_client(connections: int = _CONNECTIONS) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client for hosts: no proxy of the surroundings, no redirects, a bounded number of connections."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(
        trust_env=False, verify=False, follow_redirects=False, limits=limits, timeout=_ASK_SECONDS
    ) as client:
        yield client


def url(address: str, port: int, path: str) -> str:
    """Return the URL of a path on a host."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}{path}"


@asynccontextmanager
async def health_probe(health: Health) -> AsyncIterator[HealthProbe]:
    """Open a client that asks hosts whether they are well."""
    async with web_client() as client:
        yield HealthProbe(health, client)


class HealthProbe:
    """Asks the hosts of one service whether they are well."""

    def __init__(self, health: Health, client: httpx.AsyncClient) -> None:
        self._health, self._client = health, client

    async def version(self, address: str) -> str | None:
        """Return the version that a host says it runs; None if it is not well or does not say."""
        return await ask_version(address, self._health, client=self._client)

    async def await_version(self, address: str, version: str | None) -> None:
        """Wait until a host is well and runs a version (None: any); DeployError says what it answered at last."""
        await await_health(address, self._health, version, client=self._client)


# --- health ----------------------------------------------------------------------------------------------------------


async def ask_version(address: str, health: Health, *, client: httpx.AsyncClient | None = None) -> str | None:
    """Return the version that a host says it runs; None if it is not well or does not say."""
    async with _given(client) as asking:
        return (await _ask(address, health, asking, _ASK_SECONDS)).version


async def await_health(
    address: str, health: Health, expected_version: str | None, *, client: httpx.AsyncClient | None = None
) -> None:
    """Wait until a host is well and runs a version; DeployError says what it answered when its time was up.

    :param expected_version: None: any.
    """
    give_up = monotonic() + health.timeout.total_seconds()
    pause = _FIRST_PAUSE
    async with _given(client) as asking:
        while True:
            answer = await _ask(address, health, asking, min(_ASK_SECONDS, max(give_up - monotonic(), 0.1)))
            if answer.well and expected_version in (None, answer.version):
                return
            if monotonic() + pause > give_up:
                raise _not_well(address, health, expected_version, answer)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class _HealthAnswer:
    said: str
    well: bool = False
    version: str | None = None


async def _ask(address: str, health: Health, client: httpx.AsyncClient, seconds: float) -> _HealthAnswer:
    try:
        status, body = await _get(client, url(address, health.port, health.path), seconds)
    except _NO_ANSWER as error:
        return _HealthAnswer(_reason(error))
    if status != 200:
        return _HealthAnswer(f"status {status}")
    return _judged(body, health.version_key)


def _judged(body: bytes, key: str) -> _HealthAnswer:
    try:
        about = httpx.Response(200, content=body).json()
    except ValueError:
        return _HealthAnswer("status 200, and no JSON", well=True)
    version = value_at(about, key)
    if not isinstance(version, str):
        return _HealthAnswer(f"status 200, and no {key}", well=True)
    return _HealthAnswer(f"{key} {version}", well=True, version=version)


def value_at(answer: object, key: str) -> object:
    """Return the value that a key of a JSON answer has, or a dotted path of keys, such as ``build.version``; or None.

    A key that is there as it is written counts before a path.
    """
    if not isinstance(answer, dict):
        return None
    if key in answer:
        return answer[key]
    parts = key.split(".")
    heads = (len(parts) - cut for cut in range(1, len(parts)))
    found = (value_at(answer.get(".".join(parts[:head])), ".".join(parts[head:])) for head in heads)
    return next((one for one in found if one is not None), None)


def _not_well(address: str, health: Health, expected: str | None, answer: _HealthAnswer) -> DeployError:
    wanted = f"well with {health.version_key} {expected}" if expected else "well"
    return DeployError(
        f"{address} was not {wanted} within {health.timeout.total_seconds():g} s: "
        f"{url(address, health.port, health.path)} answered at last: {answer.said}.",
        rule="health: in the service's YAML",
        who="the service's team",
        next_step="read what the release printed on the host",
    )


# --- smoke -----------------------------------------------------------------------------------------------------------


async def smoke(
    hosts: Sequence[Host], checks: Sequence[SmokeCheck], port: int, *, client: httpx.AsyncClient | None = None
) -> tuple[SmokeResult, ...]:
    """Make each request of ``checks`` once to each host."""
    async with _given(client) as asking:
        return tuple(
            await asyncio.gather(*(_smoke_one(host.address, check, port, asking) for host in hosts for check in checks))
        )


def expectation(check: SmokeCheck) -> str:
    """Return in words what a smoke request is to be answered with."""
    return f"status {check.status}" + (f", containing {check.contains!r}" if check.contains else "")


async def _smoke_one(address: str, check: SmokeCheck, port: int, client: httpx.AsyncClient) -> SmokeResult:
    wanted = expectation(check)
    try:
        status, body = await _get(client, url(address, port, check.path), _SMOKE_SECONDS)
    except _NO_ANSWER as error:
        return SmokeResult(host=address, path=check.path, expected=wanted, found=_reason(error), passed=False)
    contained = not check.contains or check.contains in body.decode(errors="replace")
    found = f"status {status}" + ("" if not check.contains or contained else f", not containing {check.contains!r}")
    passed = status == check.status and contained
    return SmokeResult(host=address, path=check.path, expected=wanted, found=wanted if passed else found, passed=passed)


# --- load ------------------------------------------------------------------------------------------------------------


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
    async with _given(client, load.concurrency) as asking:
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
        status, _ = await _get(client, url(one.address, port, one.path), seconds)
        failure = "" if 200 <= status < 400 else f"status {status}"
    except _NO_ANSWER as error:
        failure = _reason(error)[:_LONGEST_FAILURE]
    one.times.append(1000 * (monotonic() - started))
    if failure:
        one.failures[failure if failure in one.failures or len(one.failures) < _MOST_FAILURES else "others"] += 1


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


# --- numbers ---------------------------------------------------------------------------------------------------------


async def ask_numbers(hosts: Sequence[Host], port: int, path: str) -> dict[str, dict[str, float]]:
    """Ask hosts for the numbers that they tell of themselves, as one JSON object; those of a host without: none."""
    async with web_client() as asking:
        said = await asyncio.gather(*(_numbers(url(host.address, port, path), asking) for host in hosts))
    return dict(zip((host.address for host in hosts), said, strict=True))


async def _numbers(address: str, client: httpx.AsyncClient) -> dict[str, float]:
    try:
        status, body = await _get(client, address, _ASK_SECONDS)
        told = httpx.Response(200, content=body).json() if status == 200 else {}
    except (*_NO_ANSWER, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    numbers = {name: value for name, value in told.items() if isinstance(value, int | float)}
    return {
        name: float(value) for name, value in numbers.items() if not isinstance(value, bool) and math.isfinite(value)
    }


# --- requests --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _given(client: httpx.AsyncClient | None, connections: int = _CONNECTIONS) -> AsyncIterator[httpx.AsyncClient]:
    """Use the client that was given, or one for this call alone."""
    if client is not None:
        yield client
        return
    async with web_client(connections) as own:
        yield own


async def _get(client: httpx.AsyncClient, address: str, seconds: float) -> tuple[int, bytes]:
    """Return status and body, of which no more is kept than anybody looks at."""
    body = bytearray()
    # httpx limits each wait; a host that answers a byte at a time needs this one.
    async with asyncio.timeout(seconds), client.stream("GET", address, timeout=seconds) as response:
        async for part in response.aiter_bytes():
            body += part[: _BODY_LIMIT - len(body)]
    return response.status_code, bytes(body)


def _reason(error: Exception) -> str:
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return "no answer in time"
    return str(error) or type(error).__name__
