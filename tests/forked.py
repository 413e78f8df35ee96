"""Processes of tests that deploy, forked from one that has imported everything: they start at once."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext


def context() -> ForkServerContext:
    """Return a context whose processes have all this imported before they start."""
    started = multiprocessing.get_context("forkserver")
    started.set_forkserver_preload(["tests.faults.worker", "tests.zombie"])
    return started
