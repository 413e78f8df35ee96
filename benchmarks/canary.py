"""Count how often the judgement of a canary's errors is wrong, by canaries of which the truth is known.

  python -m benchmarks.canary [--trials 1000] [--seed 1] [--write PAGE]

Requests are drawn for hosts, rounds and paths; each fails by itself with the share that the row says. Above, canary and
baseline are alike: every one that fails is a false alarm. Below, the canary is worse: every one that passes is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import machine, publish
from interlock.domain.canary.error_counts import Count, compare

ROUNDS, PATHS, USUAL = 20, 2, 0.001
"""What every canary has, and the share of requests that fail anyway."""

Shares = NDArray[np.float64]
"""Host, round, path: the share of requests that fail."""


class Size(NamedTuple):
    """How many hosts a canary has, and how many requests each of them gets."""

    hosts: int
    requests: int


SIZES = [Size(1, 200), Size(1, 400), Size(1, 2000), Size(3, 400), Size(10, 400)]


def alike(share: float) -> tuple[Shares, Shares]:
    """Return fleets that are as good as each other."""
    return np.array(share), np.array(share)


def worse(size: Size, share: float, *, host: bool = False, path: bool = False, rounds: slice | None = None) -> Shares:
    """Return a canary that fails so often: one of its hosts or all, one of its paths or all, in these rounds or all."""
    shares = np.full((size.hosts, ROUNDS, PATHS), USUAL)
    shares[: 1 if host else None, rounds or slice(None), : 1 if path else None] = share
    return shares


def kinds(size: Size) -> dict[str, tuple[Shares, Shares]]:
    """Return what is tried: what it is called, and how often requests fail of baseline and canary."""
    outage = np.full((size.hosts, ROUNDS, PATHS), USUAL)
    outage[:, 8:10] = 0.9
    usual = np.array(USUAL)
    return {
        **{f"alike: {share:.1%} of both fail": alike(share) for share in (0, 0.001, 0.01, 0.05, 0.3, 0.95)},
        "alike: 90% of both fail in two rounds": (outage, outage),
        **{f"{share:.0%} of all requests fail": (usual, worse(size, share)) for share in (0.01, 0.02, 0.03, 0.05, 0.1)},
        "10% of one path fail": (usual, worse(size, 0.1, path=True)),
        "10% of one host fail": (usual, worse(size, 0.1, host=True)),
        "one host fails half": (usual, worse(size, 0.5, host=True)),
        "one host is dead": (usual, worse(size, 1, host=True)),
        "one host is dead for a round": (usual, worse(size, 1, host=True, rounds=slice(7, 8))),
        "one host is dead in the last round": (usual, worse(size, 1, host=True, rounds=slice(19, 20))),
        "one host is dead in the last five": (usual, worse(size, 1, host=True, rounds=slice(15, 20))),
        "one host is dead every other round": (usual, worse(size, 1, host=True, rounds=slice(0, 20, 2))),
        "one host fails half for three rounds": (usual, worse(size, 0.5, host=True, rounds=slice(4, 7))),
        "both have 5% errors, one host dead for a round": (
            np.array(0.05),
            np.maximum(worse(size, 1, host=True, rounds=slice(7, 8)), 0.05),
        ),
    }


def fails(size: Size, baseline: Shares, canary: Shares, generator: np.random.Generator) -> bool:
    """Draw what a canary of this kind measures, and say whether it fails."""
    each = size.requests // ROUNDS // PATHS
    sides = []
    for name, shares in (("old", baseline), ("new", canary)):
        lost = generator.binomial(each, np.broadcast_to(shares, (size.hosts, ROUNDS, PATHS)))
        sides.append(
            [Count(f"{name}-{one[0]}", f"/{one[2]}", one[1], each, lost[one]) for one in np.ndindex(lost.shape)]
        )
    found = compare(*sides)
    return bool(found.unusable or found.whole or found.paths)


def measure(trials: int, seed: int, sizes: Sequence[Size] = SIZES) -> str:
    """Return the table: percent of wrong verdicts."""
    rows: dict[str, list[str]] = {}
    for size in sizes:
        generator = np.random.default_rng(seed)
        for kind, (baseline, canary) in kinds(size).items():
            failed = sum(fails(size, baseline, canary, generator) for _ in range(trials))
            wrong = failed if kind.startswith("alike") else trials - failed
            rows.setdefault(kind, []).append(f"{100 * wrong / trials:.1f}")
    heads = [
        f"{size.hosts} hosts, {size.requests:,} requests each"
        if size.hosts > 1
        else f"1 host, {size.requests:,} requests"
        for size in sizes
    ]
    lines = [["Wrong verdicts (%)", *heads], ["---"] * (len(heads) + 1)]
    lines += [[kind, *values] for kind, values in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canary", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000, help="of each kind and size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    text = (
        f"{options.trials:,} canaries of each kind and size, seed {options.seed}; {ROUNDS} rounds, {PATHS} paths; "
        f"{USUAL:.1%} of all other requests fail. {machine()}\n\n{measure(options.trials, options.seed)}"
    )
    publish(text, options.write, "canary")
    return 0


if __name__ == "__main__":
    sys.exit(main())
