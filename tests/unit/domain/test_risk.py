from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.catalogue import RiskFormula, RiskLevel, RiskQuestion
from interlock.domain.change.risk import assess
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PastRelease, RiskTerm

NOW = datetime(2026, 5, 4, tzinfo=UTC)

FORMULA = RiskFormula(
    questions=(
        RiskQuestion(key="data", question="Is data touched?", points=25),
        RiskQuestion(key="peak", question="Is it at peak hours?", points=10, title="Shopping hours"),
    ),
    points_per_commit=1.5,
    max_points_for_commits=20,
)


def test_each_term_is_printed_with_its_points() -> None:
    risk = assess(FORMULA, answers={"data": True, "peak": False}, commits=3, tier=2, bump="major")
    assert [(term.name, term.points) for term in risk.terms] == [
        ("Data", 25),
        ("Shopping hours", 0),
        ("Size of the change", 4.5),
        ("Tier of the service", 10),
        ("Major release", 30),
        ("Release history of the service", 0),
    ]
    assert risk.score == 70  # 69.5, rounded up
    assert [term.why for term in risk.terms] == [
        "Is data touched? Yes.",
        "Is it at peak hours? No.",
        "3 commits, 1.5 points each, at most 20.",
        "The service is of tier 2.",
        "It is a major release.",
        "The service has no earlier release.",
    ]


@given(
    st.fixed_dictionaries({"data": st.booleans(), "peak": st.booleans()}),
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.sampled_from(["major", "minor", "patch", "first", "same", "downgrade"]),
)
def test_risk_is_the_capped_sum_of_its_terms(answers: dict[str, bool], commits: int, tier: int, bump: str) -> None:
    risk = assess(FORMULA, answers=answers, commits=commits, tier=tier, bump=bump)
    assert risk.score == min(100, ceil(sum(term.points for term in risk.terms)))
    more = assess(FORMULA, answers=dict.fromkeys(answers, True), commits=commits + 1, tier=1, bump="major")
    assert more.score >= risk.score


def test_the_score_stops_at_a_hundred() -> None:
    formula = RiskFormula(questions=(RiskQuestion(key="a", question="Really?", points=100),), points_for_major=100)
    assert assess(formula, answers={"a": True}, commits=1, tier=1, bump="major").score == 100


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"data": True}, "peak is not answered"),
        ({"data": True, "peak": True, "weather": True}, "weather is answered, but the policy has no such question"),
    ],
)
def test_a_question_has_exactly_one_answer(answers: dict[str, bool], said: str) -> None:
    with pytest.raises(PolicyViolation, match=said):
        assess(FORMULA, answers=answers, commits=1, tier=1, bump="minor")


def test_commits_are_not_negative() -> None:
    with pytest.raises(ValueError, match="-1 commits"):
        assess(RiskFormula(), answers={}, commits=-1, tier=1, bump="minor")


def past(*outcomes: str) -> list[PastRelease]:
    """Return releases that ended like this; the newest first."""
    return [
        PastRelease.model_validate(
            {
                "service": "shop",
                "run": f"run {age}",
                "change_type": "normal",
                "outcome": outcome,
                "at": NOW - timedelta(days=age),
            }
        )
        for age, outcome in enumerate(outcomes)
    ]


def of_record(formula: RiskFormula, *outcomes: str, planned: bool = True) -> RiskTerm:
    history = [release.model_copy(update={"planned": planned}) for release in past(*outcomes)]
    answers = {question.key: False for question in formula.questions}
    there, back = (
        assess(formula, answers=answers, commits=1, tier=1, bump="minor", history=some)
        for some in (history, history[::-1])
    )
    assert there == back
    return there.terms[-1]


def test_what_became_of_the_last_releases_counts() -> None:
    term = of_record(FORMULA, "deployed", "failed", "backed_out", "rejected", "rehearsed")
    assert (term.name, term.points) == ("Release history of the service", 15)
    assert term.why == (
        "Of the last 4 releases, 1 failed (5 points each) and 1 were backed out (10 points each); at most 20."
    )
    assert of_record(FORMULA, *["backed_out"] * 5).points == 20


def test_a_request_that_was_refused_before_it_had_a_plan_says_nothing_of_the_service() -> None:
    term = of_record(FORMULA, "failed", "failed", planned=False)
    assert (term.points, term.why) == (0, "The service has no earlier release.")


def test_old_failures_are_forgotten_and_rehearsals_push_none_out() -> None:
    two = FORMULA.model_copy(update={"over_last": 2})
    assert of_record(two, "deployed", "deployed", "failed").points == 0
    assert of_record(two, "rehearsed", "rehearsed", "deployed", "failed").points == 5
    assert of_record(two.model_copy(update={"over_last": 0}), "failed").points == 0


@pytest.mark.parametrize(
    ("declared", "score", "added"), [(None, 35, None), ("low", 35, 0), ("medium", 50, 15), ("high", 80, 45)]
)
def test_the_higher_of_calculated_and_declared_counts(
    declared: RiskLevel | None, score: int, added: float | None
) -> None:
    risk = assess(FORMULA, answers={"data": True, "peak": True}, commits=0, tier=4, bump="minor", declared=declared)
    assert (risk.score, risk.calculated, risk.declared) == (score, 35, declared)
    assert ceil(sum(term.points for term in risk.terms)) == score
    if added is not None:
        assert (risk.terms[-1].name, risk.terms[-1].points) == ("Declared risk", added)
        assert f"Declared as {declared}" in risk.terms[-1].why


@given(st.lists(st.sampled_from(["deployed", "failed", "backed_out"]), max_size=15))
def test_a_worse_record_never_lowers_the_risk(outcomes: list[str]) -> None:
    points = of_record(FORMULA, *outcomes).points
    assert points <= of_record(FORMULA, *("failed" if how == "deployed" else how for how in outcomes)).points
