"""Health checks of hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import httpx

from interlock.domain.catalogue import Health
from interlock.domain.errors import DeployError

from .web import (
    ASK_TIMEOUT_SECONDS,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    NO_ANSWER,
    describe_error,
    get_response,
    url,
    use_client,
    value_at,
    web_client,
)


@asynccontextmanager
async def health_probe(health: Health) -> AsyncIterator[HealthProbe]:
    """Open a client that checks the health of hosts."""
    async with web_client() as client:
        yield HealthProbe(health, client)


class HealthProbe:
    """Checks the health of the hosts of one service."""

    def __init__(self, health: Health, client: httpx.AsyncClient) -> None:
        self._health, self._client = health, client

    async def version(self, address: str) -> str | None:
        """Return the version that a host says it runs; None if it is not well or does not say."""
        return await ask_version(address, self._health, client=self._client)

    async def await_version(self, address: str, version: str | None) -> None:
        """Wait until a host is healthy and runs a version (None: any); DeployError has its last answer."""
        await await_health(address, self._health, version, client=self._client)


async def ask_version(address: str, health: Health, *, client: httpx.AsyncClient | None = None) -> str | None:
    """Return the version that a host says it runs; None if it is not well or does not say."""
    async with use_client(client) as asking:
        return (await _ask(address, health, asking, ASK_TIMEOUT_SECONDS)).version


async def await_health(
    address: str, health: Health, expected_version: str | None, *, client: httpx.AsyncClient | None = None
) -> None:
    """Wait until a host is healthy and runs a version; after the timeout, DeployError has its last answer.

    :param expected_version: None: any.
    """
    give_up = monotonic() + health.timeout.total_seconds()
    pause = FIRST_PAUSE
    async with use_client(client) as asking:
        while True:
            answer = await _ask(address, health, asking, min(ASK_TIMEOUT_SECONDS, max(give_up - monotonic(), 0.1)))
            if answer.well and expected_version in (None, answer.version):
                return
            if monotonic() + pause > give_up:
                raise _not_well(address, health, expected_version, answer)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class _HealthAnswer:
    said: str
    well: bool = False
    version: str | None = None


async def _ask(address: str, health: Health, client: httpx.AsyncClient, seconds: float) -> _HealthAnswer:
    try:
        status, body = await get_response(client, url(address, health.port, health.path), seconds)
    except NO_ANSWER as error:
        return _HealthAnswer(describe_error(error))
    if status != 200:
        return _HealthAnswer(f"status {status}")
    return _judged(body, health.version_key)


def _judged(body: bytes, key: str) -> _HealthAnswer:
    try:
        about = httpx.Response(200, content=body).json()
    except ValueError:
        return _HealthAnswer("status 200 without JSON", well=True)
    version = value_at(about, key)
    if not isinstance(version, str):
        return _HealthAnswer(f"status 200 without {key}", well=True)
    return _HealthAnswer(f"{key} {version}", well=True, version=version)


def _not_well(address: str, health: Health, expected: str | None, answer: _HealthAnswer) -> DeployError:
    wanted = f"healthy with {health.version_key} {expected}" if expected else "healthy"
    return DeployError(
        f"{address} was not {wanted} within {health.timeout.total_seconds():g} s: "
        f"{url(address, health.port, health.path)} last answered: {answer.said}.",
        rule="health: in the service's YAML",
        who="the service's team",
        next_step="read the log of the release on the host",
    )
