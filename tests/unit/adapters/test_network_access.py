"""A build that ends while its connections are open: each is closed, whatever state it is in."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread

import pytest

from interlock.adapters.build import _network_access as network_access
from interlock.adapters.build._network_access import Gateway, opened

MORE_THAN_THE_SYSTEM_KEEPS = 16 * 1024 * 1024
"""Bytes; the sender's and the receiver's buffers hold less."""


@pytest.fixture
def place() -> Iterator[Gateway]:
    """A server on the loopback that sends more than its client reads, and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as held:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                held.enter_context(connection)
                Thread(target=_send_all, args=(connection,), daemon=True).start()

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield Gateway("127.0.0.1", listening.getsockname()[1], "127.0.0.1")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _send_all(connection: socket.socket) -> None:
    try:
        connection.sendall(b"x" * MORE_THAN_THE_SYSTEM_KEEPS)
    except OSError:
        return


@pytest.mark.parametrize("received", [0, 1])
def test_connections_of_a_build_are_closed_when_it_ends(
    place: Gateway, received: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``received`` of 0 bytes, the build ends while its connections are still being accepted."""
    for _ in range(30):
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        with monkeypatch.context() as patch, ExitStack() as clients:
            patch.setattr(network_access, "_listeners", lambda process, gateways, one=listening: [one])
            with opened(0, [place], {}):
                connected = [clients.enter_context(socket.create_connection(address)) for _ in range(8)]
                for client in connected:
                    client.recv(received)
            for client in connected:
                _read_to_the_end(client)  # and it does end
    gc.collect()  # pytest fails a test that leaves a socket open
    assert not caplog.records  # of asyncio, which logs what it could not close or end


def _read_to_the_end(client: socket.socket) -> None:
    client.settimeout(60)
    try:
        while client.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass
