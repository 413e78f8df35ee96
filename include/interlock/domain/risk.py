"""How risky a release is: the policy's formula, with its terms printed."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from .catalogue import RiskFormula
from .errors import PolicyViolation
from .records import Risk, RiskTerm

HIGHEST = 100


def assess(formula: RiskFormula, *, answers: Mapping[str, bool], commits: int, tier: int, bump: str) -> Risk:
    """Assess a release: each term of the formula, those of zero points too, summed, rounded up and capped at 100.

    :param answers: for each of the formula's questions, yes or no.
    :param commits: how many commits the release adds to what runs now.
    :param bump: how far the version goes, as :func:`include.interlock.domain.version.bump` says it.
    :raises PolicyViolation: a question is not answered, or an answer belongs to no question.
    """
    _refuse_other_questions(formula, answers)
    terms = (
        *_of_answers(formula, answers),
        _of_commits(formula, commits),
        _of_tier(formula, tier),
        _of_bump(formula, bump),
    )
    return Risk(score=min(HIGHEST, ceil(sum(term.points for term in terms))), terms=terms)


def _refuse_other_questions(formula: RiskFormula, answers: Mapping[str, bool]) -> None:
    asked = {question.key for question in formula.questions}
    if asked == answers.keys():
        return
    lacking = [f"{key} is not answered" for key in sorted(asked - answers.keys())]
    unasked = [f"{key} is answered, and nobody asked" for key in sorted(answers.keys() - asked)]
    raise PolicyViolation(
        f"The risk cannot be assessed: {'; '.join([*lacking, *unasked])}.",
        rule="every risk question of policy.yaml has one answer",
        who="the release manager",
        next_step="trigger the release again and answer the questions that the form has now",
    )


def _of_answers(formula: RiskFormula, answers: Mapping[str, bool]) -> list[RiskTerm]:
    return [
        RiskTerm(
            name=question.key,
            points=question.points if answers[question.key] else 0,
            why=f"{question.question} {'Yes' if answers[question.key] else 'No'}.",
        )
        for question in formula.questions
    ]


def _of_commits(formula: RiskFormula, commits: int) -> RiskTerm:
    if commits < 0:
        raise ValueError(f"{commits} commits cannot be")
    number = "1 commit" if commits == 1 else f"{commits} commits"
    return RiskTerm(
        name="commits",
        points=min(formula.max_points_for_commits, commits * formula.points_per_commit),
        why=f"{number}, {formula.points_per_commit:g} each, {formula.max_points_for_commits} at most.",
    )


def _of_tier(formula: RiskFormula, tier: int) -> RiskTerm:
    points = {int(key): points for key, points in formula.points_by_tier.items()}[tier]
    return RiskTerm(name="tier", points=points, why=f"The service is of tier {tier}.")


def _of_bump(formula: RiskFormula, bump: str) -> RiskTerm:
    major = bump == "major"
    return RiskTerm(
        name="major",
        points=formula.points_for_major if major else 0,
        why="It is a major release." if major else "It is not a major release.",
    )
