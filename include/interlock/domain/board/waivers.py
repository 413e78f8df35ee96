"""Waivers: who may waive a failed expectation, and what follows from their answers.

An expectation that failed stays failed. A waiver is a record next to it, by a person whom the policy names, with a
reason and an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from interlock.domain.board.questions import asks_for_waiver
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Person
from interlock.domain.catalogue.values import in_words
from interlock.domain.change.policy import refuse_waiver, waiver_allowed
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import FailedExpectation, PolicyInForce, QualityReport, Vote, Waiver

REFUSE = "Do not waive"
_OFFERED = tuple(timedelta(days=days) for days in (1, 7, 14, 30, 90))


def offered(longest: timedelta) -> dict[str, timedelta]:
    """Return the answers that grant a waiver, each with its validity, up to the maximum that the policy allows."""
    lengths = [length for length in _OFFERED if length < longest] + [longest]
    return {f"Waive for {in_words(length)}": length for length in lengths}


def lacks_reason(task_id: str, choice: str, comment: str) -> bool:
    """Tell whether an answer to a question grants a waiver without a reason, which does not count."""
    return asks_for_waiver(task_id) and choice != REFUSE and not comment.strip()


def digest_of(report: QualityReport, failure: FailedExpectation) -> str:
    """Return the digest of what a waiver would be about: this failure in this report."""
    return sha256_of({"report": sha256_of(report), "failure": failure.model_dump(mode="json")})


def may_waive(in_force: PolicyInForce, people: Sequence[Person], suite: str, *, requester: str) -> tuple[Person, ...]:
    """Return who may waive failures of a suite: people in a role that the policy names, but not the requester."""
    return tuple(person for person in people if person.user != requester and waiver_allowed(in_force, person, suite))


def can_be_waived(in_force: PolicyInForce, people: Sequence[Person], report: QualityReport, *, requester: str) -> bool:
    """Tell whether each failure of a report can be waived by some person; if not, no question is worth asking."""
    return bool(report.failures) and all(
        may_waive(in_force, people, failure.suite, requester=requester) for failure in report.failures
    )


def decide_waiver(
    in_force: PolicyInForce,
    people: Sequence[Person],
    failure: FailedExpectation,
    votes: Sequence[Vote],
    *,
    requester: str,
) -> Waiver | str:
    """Return the waiver that the answers grant, or why there is none.

    One refusal outweighs any number of grants, in whatever order they came; a grant needs a reason, and of several the
    shortest counts.
    """
    eligible = {person.user: person for person in may_waive(in_force, people, failure.suite, requester=requester)}
    counted = [vote for vote in votes if vote.user in eligible and vote.user == vote.assigned and vote.at]
    for vote in sorted(counted, key=lambda vote: (str(vote.user), vote.comment)):
        if vote.choice == REFUSE:
            said = f": “{vote.comment}”" if vote.comment.strip() else ""
            return f"{eligible[str(vote.user)].name} did not waive it{said}"
    lengths = offered(in_force.waivers[failure.suite].longest) if eligible else {}
    granted = [vote for vote in counted if vote.choice in lengths]
    reasoned = [
        (lengths[vote.choice], vote.user, reason, vote.at)
        for vote in granted
        if vote.user and vote.at and (reason := vote.comment.strip())
    ]
    if not reasoned:
        return "the waiver has no reason and does not count" if granted else "it was not waived in time"
    length, by, reason, at = min(reasoned)
    waiver = Waiver(expectation=failure.expected, suite=failure.suite, reason=reason, by=by, at=at, until=at + length)
    try:
        refuse_waiver(in_force, eligible[waiver.by], waiver, requester=requester)
    except PolicyViolation as refused:
        return refused.what
    return waiver
