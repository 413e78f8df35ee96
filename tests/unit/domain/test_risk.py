from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.interlock.domain.catalogue import RiskFormula, RiskQuestion
from include.interlock.domain.errors import PolicyViolation
from include.interlock.domain.risk import assess

FORMULA = RiskFormula(
    questions=(
        RiskQuestion(key="data", question="Is data touched?", points=25),
        RiskQuestion(key="peak", question="Is it at peak hours?", points=10),
    ),
    points_per_commit=1.5,
    max_points_for_commits=20,
)


def test_each_term_is_printed_with_its_points() -> None:
    risk = assess(FORMULA, answers={"data": True, "peak": False}, commits=3, tier=2, bump="major")
    assert [(term.name, term.points) for term in risk.terms] == [
        ("data", 25),
        ("peak", 0),
        ("commits", 4.5),
        ("tier", 10),
        ("major", 30),
    ]
    assert risk.score == 70  # 69.5, rounded up
    assert [term.why for term in risk.terms] == [
        "Is data touched? Yes.",
        "Is it at peak hours? No.",
        "3 commits, 1.5 each, 20 at most.",
        "The service is of tier 2.",
        "It is a major release.",
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
        ({"data": True, "peak": True, "weather": True}, "weather is answered, and nobody asked"),
    ],
)
def test_a_question_has_exactly_one_answer(answers: dict[str, bool], said: str) -> None:
    with pytest.raises(PolicyViolation, match=said):
        assess(FORMULA, answers=answers, commits=1, tier=1, bump="minor")


def test_commits_are_not_negative() -> None:
    with pytest.raises(ValueError, match="-1 commits"):
        assess(RiskFormula(), answers={}, commits=-1, tier=1, bump="minor")
