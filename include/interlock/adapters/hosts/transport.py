"""The interface of a transport to hosts: start one program on a host, and use its input and output.

There are two: SSH (``ssh.py``) and AWS Systems Manager (``ssm.py``). Both ask the admission before they touch a host.
What goes wrong on the way is an OSError.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import PolicyViolation
from interlock.domain.permits.on_hosts import ShownPermit


class Program(Protocol):
    """One run of a program on a host."""

    async def write(self, data: memoryview) -> None:
        """Send bytes to its input."""

    async def read(self) -> bytes:
        """Return more of its output, as soon as it is available; empty at its end."""

    async def said(self, limit: int) -> bytes:
        """Return the end of what it said beside its output until now."""

    async def close(self) -> None:
        """Close its input, and wait until it has ended."""


class Connection(Protocol):
    """A host that can be talked to."""

    async def start(self, command: str) -> Program:
        """Start a command of the shell."""


class Transport(Protocol):
    """The transport to the hosts of one environment."""

    @property
    def token(self) -> int:
        """The fencing token for hosts, which refuse a lower token than they have seen."""

    @property
    def permit(self) -> ShownPermit | None:
        """The permit as hosts verify it; none: there is none, which hosts of production refuse."""

    async def hold(self, what: str) -> None:
        """Raise a LostRight if what was begun on a host may not go on."""

    async def admit(self, address: str) -> None:
        """Raise a PolicyViolation if a host may not be changed, or no longer."""

    def opened(self, address: str) -> AbstractAsyncContextManager[Connection]:
        """Connect to a host for as long as the context lasts.

        :raises PolicyViolation: the admission refuses the connection.
        :raises HostUnreachable: the connection failed, with the reason.
        """


class AdmittedTransport:
    """The admission, which both transports ask.

    :raises PolicyViolation: there is no admission.
    """

    def __init__(self, admission: Admission) -> None:
        if not isinstance(admission, Admission):
            raise PolicyViolation(
                "The connection to the host was refused: it has no admission.", rule="a connection needs a permit"
            )
        self._admission = admission

    @property
    def token(self) -> int:
        """The fencing token for hosts, which refuse a lower token than they have seen."""
        return self._admission.token

    @property
    def permit(self) -> ShownPermit | None:
        """The permit as hosts verify it; none: there is none, which hosts of production refuse."""
        return self._admission.shown

    async def admit(self, address: str) -> None:
        """Raise a PolicyViolation if a host may not be changed, or no longer."""
        await self._admission.admit(address)

    async def hold(self, what: str) -> None:
        """Raise a LostRight if what was begun on a host may not go on."""
        await self._admission.hold(what)
