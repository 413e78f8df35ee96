"""What holds for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

LONGEST = Path(__file__).parent / "end_to_end"

# How property tests run. How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("interlock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For .ci/run: the same examples each time; what nobody has found yet should not fail a change that is not about it.
settings.register_profile("ci", settings.get_profile("interlock"), derandomize=True)
# For make mutation: as well, and no search for a smaller one, for nobody reads it.
settings.register_profile("mutation", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("INTERLOCK_HYPOTHESIS", "interlock"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: LONGEST not in item.path.parents)
