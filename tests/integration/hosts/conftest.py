"""The hosts that these tests deploy to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sshd import Fleet, SshdHost, sshd_fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with sshd_fleet(tmp_path) as started:
        yield started


@pytest.fixture
def machine(fleet: Fleet) -> SshdHost:
    return fleet.machines[0]
