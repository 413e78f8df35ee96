"""A stack for each file of end-to-end tests, and on it a service of the file's own.

What a file leaves in the ledger is the record that its service's next release is judged by, so no two share a service.
All files could share a stack; but then one worker runs them one after the other, which takes longer than two stacks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from interlock.estate.settings import Settings

from .people import BIKE_SHOP
from .stack import Stack, running_stack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a running stack; the production of the bike shop runs 1.0.0."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with running_stack(tmp_path_factory.mktemp("stack"), network=f"127.41.{worker}") as stack:
        yield stack.settings


@pytest.fixture(scope="module")
def stack(running: Settings, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack, as the tests of a file's service see it."""
    service = getattr(request.module, "SERVICE", BIKE_SHOP)
    with closing(Stack(running, service)) as stack:
        if service != BIKE_SHOP:
            stack.configure()
        yield stack
