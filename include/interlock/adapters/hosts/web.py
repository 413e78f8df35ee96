"""The HTTP answers of hosts: their health, their version, and their response times."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from interlock.domain.records import Host

_CONNECTIONS = 100
ASK_TIMEOUT_SECONDS = 5.0
_BODY_LIMIT = 1024 * 1024
NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, TimeoutError)
MAX_FAILURE_KINDS, MAX_FAILURE_LENGTH = 5, 100
"""Maximum number of failures reported for a path of a host, and the maximum length of each."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


@asynccontextmanager
async def web_client(connections: int = _CONNECTIONS) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client for hosts: no proxy of the surroundings, no redirects, a bounded number of connections."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(
        trust_env=False, verify=False, follow_redirects=False, limits=limits, timeout=ASK_TIMEOUT_SECONDS
    ) as client:
        yield client


def url(address: str, port: int, path: str) -> str:
    """Return the URL of a path on a host."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}{path}"


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


async def ask_numbers(hosts: Sequence[Host], port: int, path: str) -> dict[str, dict[str, float]]:
    """Read the metrics of hosts, as one JSON object each; none for a host without metrics."""
    async with web_client() as asking:
        said = await asyncio.gather(*(_numbers(url(host.address, port, path), asking) for host in hosts))
    return dict(zip((host.address for host in hosts), said, strict=True))


async def _numbers(address: str, client: httpx.AsyncClient) -> dict[str, float]:
    try:
        status, body = await get_response(client, address, ASK_TIMEOUT_SECONDS)
        told = httpx.Response(200, content=body).json() if status == 200 else {}
    except (*NO_ANSWER, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    numbers = {name: value for name, value in told.items() if isinstance(value, int | float)}
    return {
        name: float(value) for name, value in numbers.items() if not isinstance(value, bool) and math.isfinite(value)
    }


@asynccontextmanager
async def use_client(
    client: httpx.AsyncClient | None, connections: int = _CONNECTIONS
) -> AsyncIterator[httpx.AsyncClient]:
    """Use the given client, or a client for this call only."""
    if client is not None:
        yield client
        return
    async with web_client(connections) as own:
        yield own


async def get_response(client: httpx.AsyncClient, address: str, seconds: float) -> tuple[int, bytes]:
    """Return status and body; the body is cut to the part that is evaluated."""
    body = bytearray()
    # httpx limits each wait; a host that answers a byte at a time needs this one.
    async with asyncio.timeout(seconds), client.stream("GET", address, timeout=seconds) as response:
        async for part in response.aiter_bytes():
            body += part[: _BODY_LIMIT - len(body)]
    return response.status_code, bytes(body)


def describe_error(error: Exception) -> str:
    """Return, in words, why a request has no answer."""
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return "no answer in time"
    return str(error) or type(error).__name__
