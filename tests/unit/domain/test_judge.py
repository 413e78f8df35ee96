from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from interlock.domain.canary.judge import judge, judge_metric
from interlock.domain.canary.rank_test import CONFIDENCE, shift
from interlock.domain.canary.records import EffectSize, Judged, Metric, Question
from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import PolicyViolation

USUAL = [10.2, 9.8, 11.1, 10.7, 9.9, 10.4, 10.0, 9.5, 10.9, 10.3, 9.7, 10.6, 10.1, 9.6, 10.8]
HIGHER = [value * 2 for value in USUAL]
SLIGHTLY = [value + 0.05 for value in USUAL]
measured = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=25)


def metric(name: str = "latency", **keys: Any) -> Metric:
    return Metric.model_validate({"name": name, "groups": ["all"], **keys})


def judged(baseline: list[float], canary: list[float], **keys: Any) -> Judged:
    return judge_metric(metric(**keys), baseline, canary)


def found(baseline: list[float], canary: list[float], **keys: Any) -> str:
    return judged(baseline, canary, **keys).classification


# --- the test


@given(measured, measured)
@example([1, 1, 1], [1, 1, 2])
@example([0, 1, 1], [0] * 9)
def test_the_interval_is_what_scipy_s_test_does_not_reject(canary: list[float], baseline: list[float]) -> None:
    """The bounds lie on one side of 0 if, and only if, the same test at 98 % says that there is a difference."""
    assume(len({*canary, *baseline}) > 1)
    one, other = np.asarray(canary), np.asarray(baseline)
    assume(np.min(one) - np.max(other) != np.max(one) - np.min(other))
    lower, estimate, upper = shift(one, other)
    assert lower <= estimate <= upper
    said = mannwhitneyu(one, other, method="asymptotic", use_continuity=True).pvalue
    assume(abs(said - (1 - CONFIDENCE)) > 1e-9)
    extreme = np.min(one) > np.max(other) or np.max(one) < np.min(other)  # all shifts that are possible are on one side
    if extreme:
        return
    if said < 1 - CONFIDENCE:  # with ties at 0, the bound may be 0 itself
        assert lower > -1e-7 or upper < 1e-7
    else:
        assert lower <= 1e-7
        assert upper >= -1e-7


@given(measured, measured, st.integers(-30, 30))
def test_who_moves_all_measurements_moves_interval_and_estimate(
    canary: list[float], baseline: list[float], by: int
) -> None:
    before = shift(np.asarray(canary), np.asarray(baseline))
    after = shift(np.asarray(canary) + by, np.asarray(baseline))
    assert after == pytest.approx([value + by for value in before], abs=1e-6)


@given(measured, measured)
def test_canary_and_baseline_swapped_is_the_other_way_round(canary: list[float], baseline: list[float]) -> None:
    lower, _, upper = shift(np.asarray(canary), np.asarray(baseline))
    swapped = shift(np.asarray(baseline), np.asarray(canary))
    assert swapped == pytest.approx((-upper, swapped[1], -lower), abs=1e-6)


def test_the_estimate_is_hodges_and_lehmann_s() -> None:
    """The median of all differences between a measurement of one and one of the other."""
    one, other = np.array([1.83, 0.5, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.3]), np.array([0.878, 0.647, 0.598, 2.05])
    _, estimate, _ = shift(one, other)
    differences = np.sort(np.subtract.outer(one, other).ravel())
    middle = len(differences) // 2
    assert differences[middle - 1] - 1e-6 <= estimate <= differences[middle] + 1e-6


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_unit_of_a_metric_does_not_matter(scale: float) -> None:
    usual, higher = ([value * scale for value in values] for values in (USUAL, HIGHER))
    assert found(usual, higher) == "high"
    assert found(higher, usual) == "low"


# --- one metric


def test_a_metric_is_high_low_or_passes() -> None:
    assert found(USUAL, HIGHER) == "high"
    assert found(HIGHER, USUAL) == "low"
    assert found(USUAL, SLIGHTLY) == "pass"
    assert judged(USUAL, list(reversed(USUAL))).reason == "Canary and baseline measured the same."


@pytest.mark.parametrize(
    ("direction", "up", "down"), [("increase", "high", "pass"), ("decrease", "pass", "low"), ("either", "high", "low")]
)
def test_only_the_direction_that_is_for_the_worse_counts(direction: str, up: str, down: str) -> None:
    assert found(USUAL, HIGHER, direction=direction) == up
    assert found(HIGHER, USUAL, direction=direction) == down


def test_a_difference_that_is_smaller_than_a_quarter_of_its_own_estimate_is_uncertain_and_passes() -> None:
    """The dead zone: the lower bound has to be above a quarter of the Hodges-Lehmann estimate."""
    canary = [value + 0.6 for value in USUAL]
    lower, estimate, _ = shift(np.asarray(canary), np.asarray(USUAL))
    assert 0 < lower < estimate / 4, "the test alone would say that it is higher"
    assert found(USUAL, canary) == "pass"


def test_an_effect_that_is_allowed_passes_however_certain_it_is() -> None:
    allowed = {"allowed_increase": 2.5, "allowed_decrease": 0.4}
    assert found(USUAL, HIGHER, effect=allowed) == "pass"
    assert found(HIGHER, USUAL, effect=allowed) == "pass"
    assert found(USUAL, [value * 3 for value in USUAL], effect=allowed) == "high"
    assert found(USUAL, [value / 3 for value in USUAL], effect=allowed) == "low"


def test_the_common_language_effect_size_is_the_share_of_pairs() -> None:
    of_pairs = {"measure": "cles", "allowed_increase": 0.9, "allowed_decrease": 0.1}
    result = judged([1, 2, 3, 4], [3, 4, 5, 6], effect=of_pairs)
    assert result.effect == pytest.approx((4 * 2 + 2.5 + 3.5) / 16)
    assert found(USUAL, HIGHER, effect=of_pairs) == "high"
    assert found(HIGHER, USUAL, effect=of_pairs) == "low"


def test_without_an_effect_size_the_test_decides() -> None:
    """A baseline without errors has no ratio; that must not hide the errors of the canary."""
    result = judged([0.0] * 20, [1.0, 2.0, 0.0, 3.0] * 5, effect={"allowed_increase": 10}, critical=True)
    assert (result.classification, result.ratio, result.effect, result.critical) == ("high", None, None, True)


def test_two_constants_differ_by_their_difference() -> None:
    result = judged([5.0] * 6, [7.0] * 6)
    assert (result.classification, result.difference) == ("high", (2.0, 2.0, 2.0))
    assert found([5.0], [5.0, 5.0]) == "pass"


@pytest.mark.parametrize(
    ("keys", "classification", "critical"),
    [
        ({}, "no_data", False),
        ({"critical": True}, "no_data", True),
        ({"must_have_data": True}, "no_data_failed", False),
        ({"must_have_data": True, "critical": True}, "no_data", True),
        ({"nan": "replace", "critical": True}, "pass", False),
    ],
)
@pytest.mark.parametrize("missing", ["baseline", "canary", "both"])
def test_without_data(keys: dict[str, Any], classification: str, critical: bool, missing: str) -> None:
    result = judged([] if missing != "canary" else USUAL, [] if missing != "baseline" else USUAL, **keys)
    assert (result.classification, result.critical) == (classification, critical)


def test_a_missing_measurement_is_left_out_or_is_zero() -> None:
    lacking = [nan, *USUAL, nan]
    assert judged(lacking, USUAL).baseline.count == len(USUAL)
    assert found([nan] * 9, USUAL) == "no_data"
    replaced = judged(lacking, USUAL, nan="replace")
    assert (replaced.baseline.count, replaced.baseline.minimum) == (len(USUAL) + 2, 0)
    assert found([nan] * 15, USUAL, nan="replace") == "high"


def test_an_infinite_measurement_is_none() -> None:
    with pytest.raises(PolicyViolation, match="latency has an infinite measurement"):
        judged(USUAL, [inf])


def test_outliers_are_beyond_three_times_the_box() -> None:
    """With quartiles of 50 and 100 ms, three interquartile ranges beyond them are -100 and 250 ms."""
    box = [50.0, 50.0, 75.0, 100.0, 100.0] * 40
    assert judged([*box, 251.0], box, outliers="remove").baseline.maximum == 100
    assert judged([*box, 250.0], box, outliers="remove").baseline.maximum == 250
    assert judged([*box, 251.0], box, outliers="remove", outlier_factor=4).baseline.maximum == 251
    assert judged([*box, 251.0], box).baseline.maximum == 251
    few = [1.0, 1.0, 1.0, 1.0, 9.0]
    assert judged(few, USUAL, outliers="remove").baseline.maximum == 1, "beyond the 99th percentile, too"


# --- all of them


def asked(*metrics: Metric, **keys: Any) -> Question:
    return Question.model_validate({"metrics": [one.model_dump() for one in metrics], **keys})


def scored(question: Question, bad: str = "", lacking: str = "") -> tuple[str, float]:
    names = [one.name for one in question.metrics]
    baseline = {name: USUAL for name in names if name not in lacking.split()}
    canary = {name: HIGHER if name in bad.split() else SLIGHTLY for name in names}
    report = judge(question, baseline, canary)
    return report.verdict, report.score


def test_the_score_of_a_group_is_the_share_of_its_metrics_that_pass() -> None:
    three = asked(*(metric(name) for name in "abc"))
    assert scored(three) == ("pass", 100)
    assert scored(three, bad="a") == ("fail", 66.67)
    assert scored(three, bad="a b") == ("fail", 33.33)
    assert scored(three, bad="a b c") == ("fail", 0)


@pytest.mark.parametrize(
    ("weights", "bad", "expected"),
    [
        ({}, "a", ("fail", 66.67)),
        ({"x": 20}, "a", ("marginal", 80)),
        ({"x": 20}, "b", ("fail", 60)),
        ({"x": 4, "y": 90, "z": 6}, "a", ("pass", 96)),
        ({"x": 25, "y": 75, "z": 0}, "a", ("marginal", 75)),
    ],
)
def test_groups_have_weights_and_those_without_share_the_rest(
    weights: dict[str, float], bad: str, expected: tuple[str, float]
) -> None:
    three = [metric(name, groups=[group]) for name, group in (("a", "x"), ("b", "y"), ("c", "z"))]
    assert scored(asked(*three, weights=weights), bad=bad) == expected


def test_a_metric_may_be_of_several_groups() -> None:
    two = [metric("a", groups=["x", "y"]), metric("b", groups=["y"])]
    assert scored(asked(*two, weights={"x": 50, "y": 50}), bad="b") == ("marginal", 75)


def test_a_critical_metric_that_fails_makes_the_score_nothing() -> None:
    many = [metric("a", critical=True, groups=["x"]), *(metric(f"b{number}") for number in range(30))]
    weighted = asked(*many, weights={"x": 1, "all": 99})
    assert scored(weighted) == ("pass", 100)
    assert scored(weighted, bad="a") == ("fail", 0)
    assert scored(weighted, lacking="a") == ("fail", 0)
    report = judge(weighted, {"a": USUAL}, {"a": HIGHER})
    assert report.reason.startswith("The critical metric a failed: a is high, 2 times the baseline's mean")


def test_a_critical_metric_fails_all_only_from_its_critical_effect_on() -> None:
    effect = EffectSize(allowed_increase=1.2, critical_increase=3)
    question = asked(metric("a", critical=True, effect=effect), *(metric(name) for name in "bcd"))
    assert scored(question, bad="a") == ("marginal", 75)
    worse = {name: [value * 4 for value in USUAL] if name == "a" else SLIGHTLY for name in "abcd"}
    assert judge(question, dict.fromkeys("abcd", USUAL), worse).score == 0


def test_half_of_the_metrics_without_data_fails_all() -> None:
    four = asked(*(metric(name) for name in "abcd"))
    assert scored(four, lacking="a") == ("pass", 100)
    assert scored(four, lacking="a b") == ("fail", 0)


def test_a_group_without_data_counts_in_full() -> None:
    three = [metric("a", groups=["x"]), metric("b", groups=["y"]), metric("c", groups=["y"])]
    assert scored(asked(*three), lacking="a") == ("pass", 100)
    assert scored(asked(*three), lacking="a", bad="b") == ("marginal", 75)


def test_a_muted_metric_is_shown_and_does_not_count() -> None:
    question = asked(metric("a", muted=True, critical=True), metric("b"))
    report = judge(question, dict.fromkeys("ab", USUAL), {"a": HIGHER, "b": SLIGHTLY})
    assert (report.verdict, report.score) == ("pass", 100)
    assert [one.classification for one in report.metrics] == ["high", "pass"]
    only = judge(asked(metric("a", muted=True)), {"a": USUAL}, {"a": USUAL})
    assert (only.verdict, only.score) == ("fail", 0), "nothing speaks for it"


def test_a_report_is_a_record_like_any_other() -> None:
    report = judge(asked(metric("a"), metric("b")), {"a": [0.0] * 9}, {"a": [*USUAL, nan]})
    assert type(report).from_xcom(report.to_xcom()) == report
    assert canonical_bytes(report)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"weights": {"x": 10}}, "no metric is of x"),
        ({"weights": {"all": 99}}, "they are 99 in sum"),
        ({"marginal_from": 96}, "must not be above pass_from"),
        ({"metrics": [{"name": "a", "groups": ["all"]}] * 2}, "a metric is named twice"),
        ({"metrics": []}, "at least 1"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Question.model_validate({"metrics": [{"name": "a", "groups": ["all"]}], **keys})


@given(measured, measured, st.sampled_from(["increase", "decrease", "either"]))
def test_the_same_measurements_always_have_the_same_judgement(
    baseline: list[float], canary: list[float], direction: str
) -> None:
    first, second = (judged(baseline, canary, direction=direction) for _ in range(2))
    assert first == second
    assert found(sorted(baseline), sorted(canary), direction=direction) == first.classification
