"""How many examples property tests try: half of what they name; all for ``make mutation``, five times as many for
``make thorough``.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

SHARE = {"thorough": 5.0, "mutation": 1.0}.get(os.environ.get("INTERLOCK_HYPOTHESIS", ""), 0.5)
USUAL = 100
"""What a property test names that does not say how many."""


def examples(number: int = USUAL, **more: Any) -> settings:
    """Return the settings of a property test that tries this many examples."""
    return settings(max_examples=round(number * SHARE), **more)
