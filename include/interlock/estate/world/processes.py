"""Processes of the estate's hosts: each carries the state folder and its host's name in its environment."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from interlock.estate.stack.leftovers import alive, end

STOP_TIMEOUT_SECONDS = 2.0
ROUNDS = 5


def of_hosts(state: Path, host: str | None = None) -> Iterator[psutil.Process]:
    """Yield the processes that run on one host of the estate, or on any."""
    for process in psutil.process_iter():
        try:
            environ = process.environ()
        except (psutil.Error, OSError):  # ended meanwhile, or another user's
            continue
        name = environ.get("INTERLOCK_HOST")
        if name and alive(process) and environ.get("INTERLOCK_STATE") == str(state) and host in (None, name):
            yield process


def end_all(state: Path, host: str | None = None, *, gently: bool = False) -> None:
    """End everything that runs on one host, or on any; repeat, because ended processes may have started others.

    :param gently: ask first, and kill only what does not end in time.
    """
    for _ in range(ROUNDS):
        # Twice: the first search misses a process whose parent started it and ended during the search.
        found = list(of_hosts(state, host)) or list(of_hosts(state, host))
        if not found:
            return
        end(found, signal.SIGTERM if gently else signal.SIGKILL, STOP_TIMEOUT_SECONDS)
