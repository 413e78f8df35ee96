"""Ports and addresses of the loopback interface for the servers that tests start."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
_NEVER_LENT = range(10_000, 32_000)
"""Below what Linux lends to outgoing connections: a server that starts later finds its port free still."""
_chance = random.SystemRandom()  # Hypothesis sets the seed of the usual one, in every process the same
_given: set[int] = set()


def free_port(address: str = LOOPBACK) -> int:
    """Return a port of an address that nobody listens on, and that was not given to anybody else in this process."""
    while True:
        port = _chance.choice(_NEVER_LENT)
        if port not in _given and _is_free(address, port):
            _given.add(port)
            return port


def free_network() -> str:
    """Return the first three numbers of loopback addresses that hardly anything else uses."""
    return f"127.{_chance.randint(64, 250)}.{_chance.randint(1, 250)}"


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
