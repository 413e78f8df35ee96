"""Is a canary as good as its baseline? Judged metric by metric, by the published method of Kayenta's NetflixACAJudge.

Each metric was measured on the canary and, at the same time, on a fresh baseline of the old version. A Mann-Whitney U
test at 98 % says whether canary and baseline differ at all; a dead zone of a quarter of the Hodges-Lehmann estimate,
the metric's direction and its effect size say whether the difference matters. A group's score is the share of its
metrics that pass; the groups' scores, weighted, are the canary's. A critical metric that fails makes it 0.

Three things differ from Kayenta. Failed requests are counted, not averaged: :mod:`error_counts` has the test. A metric
that passes over all hosts must also pass on each of them. And a metric does not pass if data that it needs is missing.

Where Kayenta adds random noise to two constant series, the difference of the two constants is used, so that the same
measurements always get the same judgement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from math import isfinite, isnan, nan

import numpy as np
from scipy.stats import rankdata

from interlock.domain.errors import PolicyViolation

from . import error_counts
from .error_counts import Count
from .rank_test import CONFIDENCE, Values, shift
from .records import CanaryReport, Classification, GroupScore, Judged, Metric, Question, Summary, Verdict

TOLERANCE = 0.25
"""The dead zone, as a share of the Hodges-Lehmann estimate."""
NO_DATA_PERCENT = 50
"""With so many metrics without data the canary fails, whatever the others say."""


Measured = Mapping[str, Sequence[float | Count]]
"""Metric: what was measured, NaN where a measurement is missing; of requests that failed, their counts."""
ByHost = Mapping[str, Mapping[str, Sequence[float]]]
"""Metric: host: what was measured."""


def judge(question: Question, baseline: Measured, canary: Measured, *, hosts: ByHost | None = None) -> CanaryReport:
    """Judge a canary.

    :param baseline: what was measured on the old version; ``canary``: on the new one.
    :param hosts: the same of the canary, host by host.
    """
    counted = [metric for metric in question.metrics if metric.counts]
    of_baseline, of_canary = _counts(counted, baseline, "baseline"), _counts(counted, canary, "canary")
    found = error_counts.compare(_all(of_baseline), _all(of_canary)) if counted else error_counts.Found()
    judged = tuple(
        _judge_counts(metric, of_baseline[metric.name], of_canary[metric.name], found)
        if metric.counts
        else _judge_times(metric, baseline, canary, (hosts or {}).get(metric.name, {}))
        for metric in question.metrics
    )
    whole = f"Errors: {found.unusable or found.whole}" if found.unusable or found.whole else ""
    return _report(question, judged, whole)


def _report(question: Question, judged: tuple[Judged, ...], whole: str) -> CanaryReport:
    counted = [one for one in judged if not one.muted]
    groups = _groups(counted, question.weights)
    reason = whole or _failed_as_a_whole(counted)
    score = 0.0 if reason else _rounded(sum((100 if one.no_data else one.score) * one.weight / 100 for one in groups))
    verdict: Verdict = (
        "pass" if score >= question.pass_from else "marginal" if score >= question.marginal_from else "fail"
    )
    return CanaryReport(
        verdict="fail" if reason else verdict,
        score=score,
        reason=reason,
        metrics=judged,
        groups=groups,
        pass_from=question.pass_from,
        marginal_from=question.marginal_from,
    )


def _failed_as_a_whole(judged: Sequence[Judged]) -> str:
    if failed := next((one for one in judged if one.critical and one.classification != "pass"), None):
        return f"The critical metric {failed.name} failed: {failed.reason}"
    if failed := next((one for one in judged if one.classification == "no_data_failed"), None):
        return failed.reason
    lacking = [one.name for one in judged if one.classification == "no_data"]
    if not judged or 100 * len(lacking) >= NO_DATA_PERCENT * len(judged):
        return f"{len(lacking)} of {len(judged)} metrics have no data: {', '.join(lacking) or 'no metric counts'}."
    return ""


def _counts(metrics: Sequence[Metric], measured: Measured, side: str) -> dict[str, list[Count]]:
    """Return the counts of each metric; a percentage without counts is treated as one request, the minimum."""
    return {
        metric.name: [
            one if isinstance(one, Count) else Count(side, metric.name, number, 1, one / 100)
            for number, one in enumerate(measured.get(metric.name, ()), start=1)
        ]
        for metric in metrics
    }


def _all(counts: Mapping[str, Sequence[Count]]) -> list[Count]:
    return [one for many in counts.values() for one in many]


def _judge_counts(
    metric: Metric, baseline: Sequence[Count], canary: Sequence[Count], found: error_counts.Found
) -> Judged:
    """Return the result of one path's requests; without usable counts, no path has a result."""
    of_baseline, of_canary = (_summary(np.asarray([one.percent for one in side])) for side in (baseline, canary))
    failed, made = sum(one.failed for one in canary), sum(one.total for one in canary)
    failed_before, made_before = sum(one.failed for one in baseline), sum(one.total for one in baseline)
    reason = found.unusable or next((found.of(one.path) for one in canary), f"There are no requests of {metric.name}.")
    classification: Classification = "no_data" if found.unusable or not canary else "high" if reason else "pass"
    return Judged(
        name=metric.name,
        groups=metric.groups,
        classification=classification,
        reason=reason,
        critical=metric.critical and classification != "pass",
        muted=metric.muted,
        ratio=(failed / made) / (failed_before / made_before) if failed and failed_before else None,
        canary=of_canary,
        baseline=of_baseline,
        failed=None if found.unusable else (failed, made, failed_before, made_before),
    )


def _groups(judged: Sequence[Judged], weights: Mapping[str, float]) -> tuple[GroupScore, ...]:
    names = list(dict.fromkeys(group for one in judged for group in one.groups))
    unnamed = [name for name in names if name not in weights]
    share = (100 - sum(weights.values())) / len(unnamed) if unnamed else 0.0
    return tuple(_group(name, judged, weights.get(name, share)) for name in names)


def _group(name: str, judged: Sequence[Judged], weight: float) -> GroupScore:
    found = [one.classification for one in judged if name in one.groups and one.classification != "no_data"]
    score = 100 * found.count("pass") / len(found) if found else 0.0
    return GroupScore(name=name, score=score, weight=weight, no_data=not found)


def _rounded(score: float) -> float:
    return float(Decimal(repr(score)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def _judge_times(metric: Metric, baseline: Measured, canary: Measured, hosts: Mapping[str, Sequence[float]]) -> Judged:
    """Judge one metric over all hosts and, if it passes, per host: an average would hide one slow host."""
    before, after = (
        [one for one in side.get(metric.name, ()) if not isinstance(one, Count)] for side in (baseline, canary)
    )
    judged = judge_metric(metric, before, after)
    if judged.classification != "pass" or len(hosts) < 2:
        return judged
    confidence = 1 - (1 - CONFIDENCE) / len(hosts)
    for host, values in hosts.items():
        alone = judge_metric(metric, before, values, confidence=confidence)
        if alone.classification != "pass":
            return alone.model_copy(update={"reason": f"{host}: {alone.reason}"})
    return judged


def judge_metric(
    metric: Metric, baseline: Sequence[float], canary: Sequence[float], *, confidence: float = CONFIDENCE
) -> Judged:
    """Judge one metric.

    :raises PolicyViolation: a measurement is infinite: that is no measurement.
    """
    of_baseline, of_canary = _prepared(metric, baseline), _prepared(metric, canary)
    told = {
        "name": metric.name,
        "groups": metric.groups,
        "muted": metric.muted,
        "canary": _summary(of_canary),
        "baseline": _summary(of_baseline),
    }
    if not len(of_canary) or not len(of_baseline):
        return _without_data(metric, told)
    if np.array_equal(np.sort(of_canary), np.sort(of_baseline)):
        same = "Canary and baseline measured the same."
        return Judged(**told, classification="pass", reason=same, critical=False, ratio=1.0)
    return _compared(metric, of_baseline, of_canary, told, confidence)


def _prepared(metric: Metric, values: Sequence[float]) -> Values:
    found = np.asarray(values, dtype=np.float64)
    if np.isinf(found).any():
        raise PolicyViolation(
            f"The metric {metric.name} has an infinite measurement.",
            rule="a canary is evaluated with finite measurements",
            who="the service's team",
            next_step="check the source of this metric",
        )
    found = found[~np.isnan(found)] if metric.nan == "remove" else np.nan_to_num(found, nan=0.0)
    return _without_outliers(found, metric.outlier_factor) if metric.outliers == "remove" and len(found) else found


def _without_outliers(values: Values, factor: float) -> Values:
    """Leave out what is beyond Tukey's fences, and beyond the first and the last percentile."""
    p1, p25, p75, p99 = np.percentile(values, (1, 25, 75, 99))
    low, high = min(p1, p25 - factor * (p75 - p25)), max(p99, p75 + factor * (p75 - p25))
    kept: Values = values[(values >= low) & (values <= high)]
    return kept


def _without_data(metric: Metric, told: Mapping[str, object]) -> Judged:
    """Judge a metric that lacks measurements of one or both sides."""
    found: Classification = "no_data"
    critical = metric.critical
    if metric.nan == "replace":
        found, critical = "pass", False
    elif metric.must_have_data and not metric.critical:
        found = "no_data_failed"
    reason = f"There is no data of {metric.name}."
    return Judged.model_validate(
        {**told, "classification": found, "reason": reason, "critical": critical, "ratio": None}
    )


def _compared(
    metric: Metric, baseline: Values, canary: Values, told: Mapping[str, object], confidence: float
) -> Judged:
    lower, estimate, upper = shift(canary, baseline, confidence)
    effect = _cles(canary, baseline) if metric.effect.measure == "cles" else _mean_ratio(canary, baseline)
    dead_zone = TOLERANCE * abs(estimate)
    low, high = metric.effect.bounds()
    found: Classification = "pass"
    if metric.direction != "decrease" and lower > dead_zone and _at_least(effect, high):
        found = "high"
    elif metric.direction != "increase" and upper < -dead_zone and _at_most(effect, low):
        found = "low"
    low, high = metric.effect.bounds(critical=True)
    beyond = _at_least(effect, high) if found == "high" else _at_most(effect, low)
    critical = metric.critical and found != "pass" and beyond
    ratio = _mean_ratio(canary, baseline)
    change = "" if isnan(ratio) else f", {ratio:.3g} times the baseline's mean"
    return Judged.model_validate(
        {
            **told,
            "classification": found,
            "reason": f"{metric.name} is {found}{change}." if found != "pass" else "",
            "critical": critical,
            "ratio": _number(ratio),
            "effect": _number(effect),
            "difference": (lower, estimate, upper),
        }
    )


def _at_least(effect: float, bound: float) -> bool:
    """Compare an effect; an effect that cannot be computed does not change the result of the test."""
    return isnan(effect) or effect >= bound


def _at_most(effect: float, bound: float) -> bool:
    return isnan(effect) or effect <= bound


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _mean_ratio(canary: Values, baseline: Values) -> float:
    before, after = float(np.mean(baseline)), float(np.mean(canary))
    return nan if before == 0 or after == 0 else after / before


def _cles(canary: Values, baseline: Values) -> float:
    """Return the share of pairs in which the canary is higher; a tie counts half (Vargha and Delaney, 2000)."""
    many, others = len(canary), len(baseline)
    ranks = rankdata(np.concatenate((canary, baseline)))[:many].sum()
    return float((2 * ranks - many * (many + 1)) / (2 * many * others))


def _summary(values: Values) -> Summary:
    if not len(values):
        return Summary(count=0, mean=None, minimum=None, median=None, maximum=None)
    return Summary(
        count=len(values),
        mean=float(np.mean(values)),
        minimum=float(np.min(values)),
        median=float(np.median(values)),
        maximum=float(np.max(values)),
    )
