"""Smoke requests to hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from interlock.domain.catalogue import SmokeCheck
from interlock.domain.records import Host, SmokeResult

from .web import NO_ANSWER, describe_error, get_response, url, use_client

_SMOKE_TIMEOUT_SECONDS = 10.0


async def smoke(
    hosts: Sequence[Host], checks: Sequence[SmokeCheck], port: int, *, client: httpx.AsyncClient | None = None
) -> tuple[SmokeResult, ...]:
    """Make each request of ``checks`` once to each host."""
    async with use_client(client) as asking:
        return tuple(
            await asyncio.gather(*(_smoke_one(host.address, check, port, asking) for host in hosts for check in checks))
        )


def expectation(check: SmokeCheck) -> str:
    """Return in words what a smoke request is to be answered with."""
    return f"status {check.status}" + (f", containing {check.contains!r}" if check.contains else "")


async def _smoke_one(address: str, check: SmokeCheck, port: int, client: httpx.AsyncClient) -> SmokeResult:
    wanted = expectation(check)
    try:
        status, body = await get_response(client, url(address, port, check.path), _SMOKE_TIMEOUT_SECONDS)
    except NO_ANSWER as error:
        return SmokeResult(host=address, path=check.path, expected=wanted, found=describe_error(error), passed=False)
    contained = not check.contains or check.contains in body.decode(errors="replace")
    found = f"status {status}" + ("" if not check.contains or contained else f", not containing {check.contains!r}")
    passed = status == check.status and contained
    return SmokeResult(host=address, path=check.path, expected=wanted, found=wanted if passed else found, passed=passed)
