"""A share of the trials in each run of the tests; ``make faults`` makes as many as one likes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from .suite import Suite

TRIALS = int(os.environ.get("TRIALS", "100"))
SEED = int(os.environ.get("SEED", random.randrange(10**6)))
PARTS = 5


@pytest.mark.parametrize("part", range(PARTS))
def test_hosts_run_the_old_release_or_the_new_whatever_breaks(tmp_path: Path, part: int) -> None:
    numbers = list(range(TRIALS))[part::PARTS]
    tally = Suite(tmp_path / "lanes", numbers, SEED, loud=False).run()
    assert tally.failures == [], f"repeat with: make faults SEED={SEED} TRIALS={TRIALS}"
    assert tally.trials == len(numbers)
