"""The SSH server of a host of the estate.

It has one login with one key, and runs commands with ``/bin/sh``. When a connection is cut, the process group of the
command gets SIGHUP; a daemon in a session of its own stays, as on any host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import asyncssh

SHELL = "/bin/sh"
BUFFER = 256 * 1024

Stream = TypeVar("Stream", asyncio.StreamReader, asyncio.StreamWriter)


@dataclass(frozen=True)
class Endpoint:
    """Where a host listens, who may log in, and what its programs find around them.

    :param environ: the whole environment of what is run; it has HOME, which is also where commands start.
    :param enter: what a command begins with, to be run with the host's own root; nothing: with this machine's.
    """

    address: str
    port: int
    login: str
    client_key: asyncssh.SSHKey
    host_key: asyncssh.SSHKey
    environ: Mapping[str, str]
    enter: tuple[str, ...] = ()


class EmbeddedServer:
    """An SSH server on one address."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare to listen on an endpoint."""
        self._endpoint = endpoint
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def start(self) -> None:
        """Listen; OSError if the address is taken."""
        endpoint = self._endpoint
        self._acceptor = await asyncssh.listen(
            endpoint.address,
            endpoint.port,
            server_factory=lambda: _Login(endpoint, self._connections),
            server_host_keys=[endpoint.host_key],
            process_factory=self._serve,
            encoding=None,
            allow_pty=False,
            agent_forwarding=False,
            compression_algs=None,
            login_timeout=20,
            keepalive_interval=30,
            reuse_address=True,
        )

    async def stop(self) -> None:
        """Close the port and all connections."""
        if not self._acceptor:
            return
        self._acceptor.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.abort()
        await self._acceptor.wait_closed()
        self._acceptor = None

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run a command until it or the connection ends."""
        environ = dict(self._endpoint.environ)
        command = [SHELL] if process.command is None else [SHELL, "-c", process.command]
        try:
            child = await asyncio.create_subprocess_exec(
                *self._endpoint.enter,
                *command,
                cwd=environ["HOME"],
                env=environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                limit=BUFFER,
            )
        except OSError as error:
            process.stderr.write(f"{environ['HOME']}: {error.strerror}\n".encode())
            process.exit(255)
            return
        await _attend(process, child)


async def _attend(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """Report a command's end to the client; if the client is gone before, send SIGHUP to the process group."""
    gone = asyncio.ensure_future(process.channel.wait_closed())
    heard = asyncio.ensure_future(_feed(process, child))
    ended = asyncio.ensure_future(_end(process, child))
    await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGHUP)
    code = await ended
    heard.cancel()
    gone.cancel()
    if code < 0:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


async def _feed(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """Pass on the client's input until it ends or the command closes it."""
    stdin = _present(child.stdin)
    with contextlib.closing(stdin), contextlib.suppress(ConnectionError):
        while True:
            try:
                if not (data := await process.stdin.read(BUFFER)):
                    return
                stdin.write(data)
                await stdin.drain()
            except (asyncssh.SignalReceived, asyncssh.BreakReceived):
                continue  # as sshd, which passes no signals on to a forced command


async def _end(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> int:
    """Return a command's exit code once its output is closed, as sshd does: a daemon must close it."""
    await asyncio.gather(
        _copy(_present(child.stdout), process.stdout),
        _copy(_present(child.stderr), process.stderr),
    )
    return await child.wait()


async def _copy(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    """Pass on the output of a command; discard it if the client is gone, so that the command does not block."""
    while data := await source.read(BUFFER):
        with contextlib.suppress(ConnectionError):
            target.write(data)
            await target.drain()


def _present(stream: Stream | None) -> Stream:
    """Return a stream of a child that was started with pipes."""
    if stream is None:
        raise TypeError("the command was started without a pipe")
    return stream


class _Login(asyncssh.SSHServer):
    """Lets one login in, with one key."""

    def __init__(self, endpoint: Endpoint, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._endpoint, self._connections = endpoint, connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection:
            self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._endpoint.login and key == self._endpoint.client_key
