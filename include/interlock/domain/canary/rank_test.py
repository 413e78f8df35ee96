"""The Mann-Whitney U test, by which a canary is compared with its baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

CONFIDENCE = 0.98

Values = NDArray[np.float64]


def shift(canary: Values, baseline: Values, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return by how much a canary is above its baseline: lower bound, Hodges-Lehmann estimate, upper bound.

    The bounds are the shifts that a two-sided Mann-Whitney U test, by the normal approximation with correction for ties
    and continuity, just does not reject; the estimate is the shift for which it sees no difference at all.
    """
    least, most = float(np.min(canary) - np.max(baseline)), float(np.max(canary) - np.min(baseline))
    if least == most:  # two constants
        return least, least, least
    beyond = float(norm.ppf((1 - confidence) / 2))
    bounds = [_root(canary, baseline, quantile, least, most) for quantile in (-beyond, 0.0, beyond)]
    return bounds[0], bounds[1], bounds[2]


def _root(canary: Values, baseline: Values, quantile: float, least: float, most: float) -> float:
    """Return the shift at which the test's z falls to a quantile; the end of what is possible if it never does."""

    def above(by: float) -> float:
        return _z(canary - by, baseline) - quantile

    if above(least) <= 0:
        return least
    if above(most) >= 0:
        return most
    return float(brentq(above, least, most, xtol=max(abs(most - least) * 1e-9, 1e-300)))


def _z(one: Values, other: Values) -> float:
    """Return by how many standard deviations the rank sum of one sample is above what two equal ones have."""
    many, others = len(one), len(other)
    total = many + others
    ranks = rankdata(np.concatenate((one, other)))
    above = float(ranks[:many].sum()) - many * (many + 1) / 2 - many * others / 2
    _, ties = np.unique(ranks, return_counts=True)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1))
    deviation = float(np.sqrt(many * others / 12 * (total + 1 - tied)))
    return (above - 0.5 * float(np.sign(above))) / deviation if deviation else 0.0
