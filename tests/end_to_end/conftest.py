"""A stack for each file of end-to-end tests: what one leaves in the ledger is the record that the next is judged by."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack whose production runs 1.0.0."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with running_stack(tmp_path_factory.mktemp("stack"), network=f"127.41.{worker}") as running:
        yield running
