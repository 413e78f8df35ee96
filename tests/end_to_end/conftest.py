"""One stack for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack whose production runs 1.0.0."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
