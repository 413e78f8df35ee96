"""Run a program of a release on one host, once: the release is brought there, and what the host runs stays as it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from interlock.adapters.permits.issuer import Admission
from interlock.domain.records import Host

from ._session import StepRun, Stopwatch, host_session
from ._visit import refuse_unverified
from .fleet import Deployment, HostLogin, delivery_of, transport_to
from .transport import Transport

_MARGIN = 120
"""Seconds that a host waits for a command beyond what the program may take."""

__all__ = ["Program", "StepRun", "run_step"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program of a release.

    :param id: names this run among all others: a host that knows it does not run it again.
    :param account: that it runs as; none: the login.
    """

    id: str
    script: str
    seconds: int
    account: str | None = None


async def run_step(
    host: Host, program: Program, deployment: Deployment, *, login: HostLogin, admission: Admission
) -> StepRun:
    """Run a program of a release on a host, or return what the host knows of its run.

    :raises HostUnreachable: the connection failed or was lost; another try gets what the host knows then.
    """
    return await run_over(host, program, deployment, transport_to(login, admission, [host]))


async def run_over(host: Host, program: Program, deployment: Deployment, transport: Transport) -> StepRun:
    """Do as :func:`run_step` does, over a transport."""
    delivery = await asyncio.to_thread(delivery_of, deployment)
    contents, watch = delivery.parcel.contents, Stopwatch()
    async with host_session(
        transport, host.address, deployment, contents, patience=program.seconds + _MARGIN, watch=watch
    ) as session:
        refuse_unverified(transport, host.address, session)
        there = session.state.releases.get(contents.release)
        if there is None or not there.is_whole:
            await session.receive(delivery.parcel)
            await transport.admit(host.address)  # an emergency stop may have come during the transfer
        return await session.run_step(program.id, program.script, seconds=program.seconds, account=program.account)
