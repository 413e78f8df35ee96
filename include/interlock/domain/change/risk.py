"""How risky a release is: the policy's formula, with its terms printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from interlock.domain.catalogue import RiskFormula, RiskLevel
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PastRelease, Risk, RiskTerm

HIGHEST = 100


def assess(
    formula: RiskFormula,
    *,
    answers: Mapping[str, bool],
    commits: int,
    tier: int,
    bump: str,
    history: Sequence[PastRelease] = (),
    declared: RiskLevel | None = None,
) -> Risk:
    """Assess a release: each term of the formula, those of zero points too, summed, rounded up and capped at 100.

    The higher of what is calculated and what was declared counts; the terms still sum up to it.

    :param answers: for each of the formula's questions, yes or no.
    :param commits: how many commits the release adds to what runs now.
    :param bump: how far the version goes, as :func:`interlock.domain.change.semver.bump` says it.
    :param history: releases of this service that have ended, in any order.
    :param declared: the risk that the requester declared.
    :raises PolicyViolation: a question is not answered, or an answer belongs to no question.
    """
    _refuse_other_questions(formula, answers)
    terms = (
        *_of_answers(formula, answers),
        _of_commits(formula, commits),
        _of_tier(formula, tier),
        _of_bump(formula, bump),
        _of_record(formula, history),
    )
    calculated = min(HIGHEST, ceil(sum(term.points for term in terms)))
    if declared is None:
        return Risk(score=calculated, terms=terms, calculated=calculated)
    level = formula.declared[declared]
    added = RiskTerm(
        name="Declared risk",
        points=max(0, level - calculated),
        why=f"Declared as {declared} ({level}); calculated: {calculated}. The higher value counts.",
    )
    return Risk(score=max(level, calculated), terms=(*terms, added), calculated=calculated, declared=declared)


def _refuse_other_questions(formula: RiskFormula, answers: Mapping[str, bool]) -> None:
    questions = {question.key for question in formula.questions}
    if questions == answers.keys():
        return
    lacking = [f"{key} is not answered" for key in sorted(questions - answers.keys())]
    unknown = [f"{key} is answered, but the policy has no such question" for key in sorted(answers.keys() - questions)]
    raise PolicyViolation(
        f"The risk cannot be assessed: {'; '.join([*lacking, *unknown])}.",
        rule="a release answers each risk question of policy.yaml once",
        who="the release manager",
        next_step="trigger the release again and answer the current questions of the form",
    )


def _of_answers(formula: RiskFormula, answers: Mapping[str, bool]) -> list[RiskTerm]:
    return [
        RiskTerm(
            name=question.name,
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
        name="Size of the change",
        points=min(formula.max_points_for_commits, commits * formula.points_per_commit),
        why=f"{number}, {formula.points_per_commit:g} points each, at most {formula.max_points_for_commits}.",
    )


def _of_tier(formula: RiskFormula, tier: int) -> RiskTerm:
    points = {int(key): points for key, points in formula.points_by_tier.items()}[tier]
    return RiskTerm(name="Tier of the service", points=points, why=f"The service is of tier {tier}.")


def _of_bump(formula: RiskFormula, bump: str) -> RiskTerm:
    major = bump == "major"
    return RiskTerm(
        name="Major release",
        points=formula.points_for_major if major else 0,
        why="It is a major release." if major else "It is not a major release.",
    )


def _of_record(formula: RiskFormula, history: Sequence[PastRelease]) -> RiskTerm:
    """Count what became of the service's last releases.

    A rehearsal is none, nor is a request that was refused before it got a plan; a rejection is no failure.
    """
    ended = [release for release in history if release.planned and release.outcome != "rehearsed"]
    last = sorted(ended, key=lambda release: (release.at, release.run), reverse=True)[: formula.over_last]
    failed, backed_out = (sum(release.outcome == how for release in last) for how in ("failed", "backed_out"))
    points = failed * formula.points_per_failed_release + backed_out * formula.points_per_backed_out_release
    of = "Of the last release" if len(last) == 1 else f"Of the last {len(last)} releases"
    return RiskTerm(
        name="Release history of the service",
        points=min(formula.max_points_for_record, points),
        why=f"{of}, {failed} failed ({formula.points_per_failed_release:g} points each) and {backed_out} were backed "
        f"out ({formula.points_per_backed_out_release:g} points each); at most {formula.max_points_for_record}."
        if last
        else "The service has no earlier release.",
    )
