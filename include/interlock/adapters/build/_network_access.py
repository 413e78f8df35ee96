"""Network access of a build without a network: named hosts, each through a gateway of its own.

A door is a socket that listens inside the build's network namespace and is served from outside: whoever connects there
is connected to that one host and port, and to nothing else. To the build it looks like the place itself (its name
stands in the build's ``/etc/hosts``), so no tool has to be told of a proxy, and TLS is between the tool and the place.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]
from weakref import WeakSet

from interlock.domain.errors import AssetMissing

_TIMEOUT_SECONDS = 30.0
_MAX_READ_BYTES = 65536
_Given = TypeVar("_Given")
_FIRST_OF_NAMES = IPv4Address("127.64.0.1")


@dataclass(frozen=True)
class Gateway:
    """A place that a build may reach.

    :param host: its name or address, as the build calls it.
    :param inside: the address at which it is found inside.
    """

    host: str
    port: int
    inside: str

    @property
    def is_named(self) -> bool:
        """Whether the build calls it by a name."""
        return self.host != self.inside


def gateways_to(urls: Sequence[str]) -> tuple[Gateway, ...]:
    """Return a door for each host and port that URLs name."""
    places = dict.fromkeys(place_of(url) for url in urls)
    names = dict.fromkeys(host for host, _ in places if not _is_address(host) and host != "localhost")
    inside = {name: str(_FIRST_OF_NAMES + number) for number, name in enumerate(names)} | {"localhost": "127.0.0.1"}
    return tuple(Gateway(host, port, inside.get(host, host)) for host, port in places)


def place_of(url: str) -> tuple[str, int]:
    """Return the host and the port of a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    if not parts.hostname or not port or ":" in parts.hostname:
        raise AssetMissing(
            f"{_without_login(url)!r} is not a valid registry address for a build.",
            rule="a registry is an http or https URL with a name or an IPv4 address",
            who="the platform engineer",
            next_step="correct the host of the registry's connection",
        )
    return parts.hostname, port


def _without_login(url: str) -> str:
    return url.rpartition("@")[2]


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


@contextmanager
def opened(process: int, gateways: Sequence[Gateway], environ: Mapping[str, str]) -> Iterator[None]:
    """Open doors in the network namespace of a process for as long as this lasts.

    :param environ: the worker's; if it names a proxy, places are reached through that.
    """
    if not gateways:
        yield
        return
    listening = _listeners(process, gateways)
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="doors of a build", daemon=True)
    thread.start()
    relay = _Relay()
    try:
        for one, gateway in zip(listening, gateways, strict=True):
            _in(loop, relay.serve(one, gateway, _proxy(gateway.host, environ)))
        yield
    finally:
        _in(loop, relay.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        for one in listening:
            one.close()


def _in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _Given]) -> _Given:
    return asyncio.run_coroutine_threadsafe(work, loop).result(_TIMEOUT_SECONDS)


def _listeners(process: int, gateways: Sequence[Gateway]) -> list[socket.socket]:
    """Return sockets that listen inside; a program of its own makes them."""
    ours, theirs = socket.socketpair()
    program = Path(__file__).with_name("_namespace_listeners.py")
    addresses = [f"{gateway.inside}:{gateway.port}" for gateway in gateways]
    command = [sys.executable, "-I", "-S", str(program), str(theirs.fileno()), str(process), *addresses]
    with ours, theirs:
        done = subprocess.run(
            command, pass_fds=[theirs.fileno()], capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
        if done.returncode:
            raise AssetMissing(
                "The network access of the build could not be opened: "
                + done.stderr.decode(errors="replace").strip()[-500:],
                who="the operators of the worker",
                next_step="give the worker permission to enter the network namespaces of its own processes",
            )
        _, found, _, _ = socket.recv_fds(ours, 64, len(gateways))
    return [socket.socket(fileno=one) for one in found]


class _Relay:
    """Serves the gateways of one build, in a loop of its own."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()

    async def serve(self, listening: socket.socket, gateway: Gateway, proxy: SplitResult | None) -> None:
        """Connect each client of this socket to the gateway's place, from now on."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._transports.add(writer.transport)  # a task that is cancelled before it begins closes nothing itself
            task = asyncio.create_task(self._connect(reader, writer, gateway, proxy))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._servers.append(await asyncio.start_server(accept, sock=listening))

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gateway: Gateway, proxy: SplitResult | None
    ) -> None:
        with closing(writer), suppress(OSError, EOFError, ValueError, asyncio.TimeoutError):
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                answers, questions = await _connection(gateway, proxy)
            self._transports.add(questions.transport)
            with closing(questions):
                await asyncio.gather(_pump(reader, questions), _pump(answers, writer))

    async def close(self) -> None:
        """Close every connection, also one that is being accepted or that waits for the other side to read."""
        for listening in (one for server in self._servers for one in server.sockets):
            asyncio.get_running_loop().remove_reader(listening.fileno())
        # asyncio accepts a connection in one turn of its loop and makes the transport in the next; a server that is
        # closed in between loses the connection without closing it (Server._attach of Python 3.11 and 3.12).
        await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)  # sockets are closed in the next turn of the loop


async def _connection(gateway: Gateway, proxy: SplitResult | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a place: straight, or through the machine's own proxy."""
    if proxy is None:
        return await asyncio.open_connection(gateway.host, gateway.port)
    reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port or 80)
    login = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    shown = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n" if proxy.username else ""
    place = f"{gateway.host}:{gateway.port}"
    writer.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{shown}\r\n".encode())
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except BaseException:
        writer.close()
        raise
    if answer.split(b" ", 2)[1:2] != [b"200"]:
        writer.close()
        raise ConnectionRefusedError(f"the proxy refused {place}")
    return reader, writer


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes in one direction until the end."""
    try:
        while data := await reader.read(_MAX_READ_BYTES):
            writer.write(data)
            await writer.drain()
    finally:
        with suppress(OSError, RuntimeError):
            writer.write_eof()


def _proxy(host: str, environ: Mapping[str, str]) -> SplitResult | None:
    """Return the proxy that the worker's environment names for a host, if it names one."""
    named = {name.lower(): value for name, value in environ.items() if name.lower() in ("https_proxy", "no_proxy")}
    url = named.get("https_proxy")
    if not url or proxy_bypass_environment(host, {"no": named.get("no_proxy", "")}):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return parts if parts.hostname else None
