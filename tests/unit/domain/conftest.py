"""How property tests run: a busy machine is no failure."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("interlock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For make mutation: the same examples every time, and no search for a smaller one, for nobody reads it.
settings.register_profile(
    "mutation", settings.get_profile("interlock"), derandomize=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(os.environ.get("INTERLOCK_HYPOTHESIS", "interlock"))
