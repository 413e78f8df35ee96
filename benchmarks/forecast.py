"""How often forecasts hold, on generated histories: each release is forecast at each milestone, by what was known then.

``python -m benchmarks.forecast --releases 300 --seeds 3`` prints a table for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from interlock.domain.forecast.forecast import Calibration, calibration
from tests.factories.histories import history

KINDS: dict[str, dict[str, Any]] = {
    "people answer at any time": {},
    "people answer in office hours only": {"office_hours": True},
    "people who answer in minutes or in days": {"spread": 1.5},
    "12 services, few releases of each": {"services": 12},
}


def share(value: float | None) -> str:
    """Return a share in per cent."""
    return "—" if value is None else f"{100 * value:.1f} %"


def row(title: str, found: list[Calibration], seconds: float) -> str:
    """Return a line of the table: the lowest and highest share over all seeds, and that of all of them."""
    number = sum(one.forecasts for one in found)
    halves, nines = (
        [value for one in found if (value := getattr(one, name)) is not None] for name in ("half", "nine_of_ten")
    )
    cells = [
        f"{number:,}",
        f"{share(min(halves))} to {share(max(halves))}",
        f"{share(min(nines))} to {share(max(nines))}",
        f"{1000 * seconds / number:.1f} ms",
    ]
    return f"| {title} | {' | '.join(cells)} |"


def main(releases: int, seeds: int) -> None:
    """Print the table."""
    print("| history | forecasts | half of the cases | nine of ten | each |\n| --- | --- | --- | --- | --- |")
    for title, about in KINDS.items():
        began = time.process_time()
        found = [calibration(history(releases, seed=seed, **about))[0] for seed in range(seeds)]
        print(row(title, found, time.process_time() - began), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    main(asked.releases, asked.seeds)
