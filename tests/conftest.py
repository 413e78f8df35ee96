"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

LONGEST = Path(__file__).parent / "end_to_end"

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("interlock", deadline=None)
settings.load_profile("interlock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: LONGEST not in item.path.parents)
