"""A stack for each file of end-to-end tests, and on it a service of the file's own.

What a file leaves in the ledger is the record that its service's next release is judged by, so no two share a service.
All files could share a stack; but then one worker runs them one after the other, which takes longer than two stacks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .people import BIKE_SHOP
from .stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A running stack, as the tests of a file's service see it; the production of the bike shop runs 1.0.0."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    service = getattr(request.module, "SERVICE", BIKE_SHOP)
    with running_stack(tmp_path_factory.mktemp("stack"), service=service, network=f"127.41.{worker}") as running:
        yield running
