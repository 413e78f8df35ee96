"""One stack for all end-to-end tests, and on it a service for each file of tests.

What a file leaves in the ledger is the record that its service's next release is judged by, so no two share a service.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from interlock.estate.settings import Settings

from .people import BIKE_SHOP
from .stack import Stack, running_stack


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a running stack; the production of the bike shop runs 1.0.0."""
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack.settings


@pytest.fixture(scope="module")
def stack(running: Settings, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack, as the tests of a file's service see it."""
    service = getattr(request.module, "SERVICE", BIKE_SHOP)
    with closing(Stack(running, service)) as stack:
        if service != BIKE_SHOP:
            stack.configure()
        yield stack
