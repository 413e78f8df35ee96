"""How often forecasts hold: each release of a history is forecast at each milestone, by what was known then.

The histories are generated; the last is the sample's own.

``python -m benchmarks.forecast --releases 300 --seeds 3`` prints a table for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from interlock.adapters.catalogue.backtest import read_releases
from interlock.domain.forecast.forecast import Calibration, calibration
from interlock.domain.measures.facts import MeasuredRelease
from interlock.locations import PROJECT
from tests.factories.histories import history

KINDS: dict[str, dict[str, Any]] = {
    "people answer at any time": {},
    "people answer in office hours only": {"office_hours": True},
    "people who answer in minutes or in days": {"spread": 1.5},
    "12 services, few releases of each": {"services": 12},
}


def of_the_sample() -> list[MeasuredRelease]:
    """Return the sample's past releases: of each, only the time is known at which it ended."""
    return [
        MeasuredRelease(
            run=f"{one.service}/{one.run}",
            service=one.service,
            version=one.version,
            change_type=one.change_type,
            outcome=one.outcome,
            rollback=False,
            ended_at=one.at,
            last_wave_at=one.at if one.outcome == "deployed" else None,
        )
        for one in read_releases(PROJECT / "include" / "samples" / "past_releases.jsonl")
    ]


def share(value: float | None) -> str:
    """Return a share in per cent."""
    return "—" if value is None else f"{100 * value:.1f} %"


def row(title: str, found: list[Calibration], seconds: float) -> str:
    """Return a line of the table: the lowest and highest share over all seeds, and that of all of them."""
    number = sum(one.forecasts for one in found)
    if not number:
        return f"| {title} | 0 | — | — | — |"
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
    sample = of_the_sample()
    through = sum(one.is_deployment for one in sample)
    print(row(f"the sample's: {len(sample)} releases, {through} deployed", [calibration(sample)[0]], 0.0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    main(asked.releases, asked.seeds)
