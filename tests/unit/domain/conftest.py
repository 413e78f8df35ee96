"""How property tests run: a busy machine is no failure."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile("interlock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For make mutation: the same examples every time, and no search for a smaller one, for nobody reads it.
settings.register_profile(
    "mutation", settings.get_profile("interlock"), derandomize=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(os.environ.get("INTERLOCK_HYPOTHESIS", "interlock"))


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test on a machine whose own time is nine hours ahead."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
