from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.board.questions import ASK_WAIVERS
from interlock.domain.board.waivers import (
    REFUSE,
    can_be_waived,
    decide_waiver,
    digest_of,
    lacks_reason,
    may_waive,
    offered,
)
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, Person
from interlock.domain.change.policy import resolve_policy
from interlock.domain.records import Blob, FailedExpectation, PolicyInForce, QualityReport, Vote, Waiver
from tests.unit.domain.samples import policy, service

AT = datetime(2026, 3, 4, 12, tzinfo=UTC)
PEOPLE = tuple(
    Person(user=user, name=user.capitalize(), email=f"{user}@example.com", role=role)
    for user, role in (("ben", "operations"), ("cora", "security"), ("olga", "operations"), ("rita", "operations"))
)


def failure(suite: str = "performance", expected: str = "p95 at most 800") -> FailedExpectation:
    return FailedExpectation(
        suite=suite, expectation="max", column="p95_ms", expected=expected, rows=("GET /",), row_count=1
    )


def report(*failures: FailedExpectation) -> QualityReport:
    blob = Blob(uri="file:///store/quality.json", sha256="a" * 64, size=1)
    return QualityReport(success=not failures, suites=(), failures=failures, results=blob, docs="file:///docs")


@pytest.fixture(scope="module")
def in_force() -> PolicyInForce:
    rules = {"performance": {"roles": ["operations"], "longest": "P10D"}, "coverage": {"roles": []}}
    return resolve_policy(policy(waivers=rules), service(), ChangeType.NORMAL)


def vote(user: str, choice: str, comment: str = "It is known.", **changes: Any) -> Vote:
    return Vote(**{"user": user, "assigned": user, "choice": choice, "comment": comment, "at": AT, **changes})


def decided(in_force: PolicyInForce, *votes: Vote) -> Waiver | str:
    return decide_waiver(in_force, PEOPLE, failure(), votes, requester="rita")


def test_those_in_a_role_that_the_policy_names_are_asked_but_not_who_asked_for_the_release(
    in_force: PolicyInForce,
) -> None:
    assert [one.user for one in may_waive(in_force, PEOPLE, "performance", requester="rita")] == ["ben", "olga"]
    assert may_waive(in_force, PEOPLE, "coverage", requester="rita") == ()
    assert may_waive(in_force, PEOPLE, "tests", requester="rita") == ()


def test_nobody_is_asked_in_vain(in_force: PolicyInForce) -> None:
    def asked(*failures: FailedExpectation) -> bool:
        return can_be_waived(in_force, PEOPLE, report(*failures), requester="rita")

    assert asked(failure())
    assert not asked()
    assert not asked(failure(), failure("tests"))


def test_a_waiver_lasts_as_long_as_was_chosen_up_to_what_the_policy_allows(in_force: PolicyInForce) -> None:
    assert list(offered(timedelta(days=10))) == ["Waive for 1 day", "Waive for 7 days", "Waive for 10 days"]
    assert list(offered(timedelta(days=7))) == ["Waive for 1 day", "Waive for 7 days"]
    assert list(offered(timedelta(hours=12))) == ["Waive for 12 hours"]
    waiver = decided(in_force, vote("ben", "Waive for 7 days"))
    assert isinstance(waiver, Waiver)
    assert (waiver.by, waiver.at, waiver.until) == ("ben", AT, AT + timedelta(days=7))
    assert (waiver.suite, waiver.expectation, waiver.reason) == ("performance", "p95 at most 800", "It is known.")
    assert waiver.covers(failure(), AT)


@pytest.mark.parametrize(
    ("task_id", "choice", "comment", "lacks"),
    [
        (ASK_WAIVERS, "Waive for 1 day", "", True),
        (ASK_WAIVERS, "Waive for 1 day", " \n", True),
        (ASK_WAIVERS, "Waive for 1 day", "It is known.", False),
        (ASK_WAIVERS, REFUSE, "", False),
        ("rollout.cast_ballot", "Approve", "", False),
    ],
)
def test_a_waiver_needs_a_reason_and_other_answers_do_not(task_id: str, choice: str, comment: str, lacks: bool) -> None:
    assert lacks_reason(task_id, choice, comment) is lacks


def test_of_several_waivers_the_shortest_counts(in_force: PolicyInForce) -> None:
    waiver = decided(in_force, vote("olga", "Waive for 10 days"), vote("ben", "Waive for 1 day"))
    assert isinstance(waiver, Waiver)
    assert waiver.until == AT + timedelta(days=1)


def test_one_refusal_outweighs_every_waiver(in_force: PolicyInForce) -> None:
    said = decided(in_force, vote("ben", "Waive for 1 day"), vote("olga", REFUSE, "Shoppers leave."))
    assert said == "Olga did not waive it: “Shoppers leave.”"


@pytest.mark.parametrize(
    ("cast", "said"),
    [
        ((), "it was not waived in time"),
        ((vote("ben", "Waive for 1 day", " "),), "the waiver has no reason and does not count"),
        ((vote("cora", "Waive for 1 day"),), "it was not waived in time"),
        ((vote("rita", "Waive for 1 day"),), "it was not waived in time"),
        ((vote("mallory", "Waive for 1 day"),), "it was not waived in time"),
        ((vote("ben", "Waive for 1 day", assigned="olga"),), "it was not waived in time"),
        ((vote("ben", "Waive for 1 day", at=None),), "it was not waived in time"),
        ((vote("ben", "Waive for 90 days"),), "it was not waived in time"),
        ((vote("ben", "Approve"),), "it was not waived in time"),
    ],
)
def test_what_does_not_count_waives_nothing(in_force: PolicyInForce, cast: tuple[Vote, ...], said: str) -> None:
    assert decided(in_force, *cast) == said


CHOICES = [REFUSE, *offered(timedelta(days=10)), "Approve"]
VOTES = st.builds(
    vote,
    st.sampled_from(["ben", "olga", "cora", "rita"]),
    st.sampled_from(CHOICES),
    st.sampled_from(["", "It is known."]),
    at=st.sampled_from([AT, AT + timedelta(hours=1)]),
)


@given(st.lists(VOTES, max_size=6).flatmap(lambda votes: st.tuples(st.just(votes), st.permutations(votes))))
def test_the_order_of_the_answers_does_not_matter(in_force: PolicyInForce, both: tuple[list[Vote], list[Vote]]) -> None:
    assert decided(in_force, *both[0]) == decided(in_force, *both[1])


@given(st.lists(VOTES, max_size=6))
def test_a_refusal_more_never_makes_a_waiver(in_force: PolicyInForce, votes: list[Vote]) -> None:
    assert isinstance(decided(in_force, *votes, vote("ben", REFUSE)), str)


def test_of_equal_waivers_the_first_by_name_then_by_time_counts(in_force: PolicyInForce) -> None:
    later = vote("ben", "Waive for 1 day", at=AT + timedelta(hours=1))
    for cast in itertools.permutations(
        [vote("olga", "Waive for 1 day", "A reason."), later, vote("ben", "Waive for 1 day")]
    ):
        waiver = decided(in_force, *cast)
        assert isinstance(waiver, Waiver)
        assert (waiver.by, waiver.at) == ("ben", AT)


def test_of_several_refusals_the_first_by_name_is_repeated(in_force: PolicyInForce) -> None:
    refusals = vote("olga", REFUSE, "A reason."), vote("ben", REFUSE, "No."), vote("ben", REFUSE, "Never.")
    for cast in itertools.permutations(refusals):
        assert decided(in_force, *cast) == "Ben did not waive it: “Never.”"


def test_of_a_suite_that_nobody_may_waive_nothing_is_waived(in_force: PolicyInForce) -> None:
    answers = [vote("ben", "Waive for 1 day")]
    for suite in ("coverage", "tests"):
        assert decide_waiver(in_force, PEOPLE, failure(suite), answers, requester="rita") == "it was not waived in time"


def test_nobody_is_asked_about_a_release_of_their_own(in_force: PolicyInForce) -> None:
    rita = PEOPLE[3:]
    assert not can_be_waived(in_force, rita, report(failure()), requester="rita")
    assert can_be_waived(in_force, rita, report(failure()), requester="ben")


def test_the_longest_waiver_is_offered_once() -> None:
    for days in (1, 7, 14, 30, 90):
        longest = timedelta(days=days)
        assert list(offered(longest).values())[-1] == longest
        assert len(offered(longest)) == len(set(offered(longest).values()))
    assert list(offered(timedelta(days=91)).values()) == [timedelta(days=days) for days in (1, 7, 14, 30, 90, 91)]


def test_what_is_waived_is_named_by_report_and_failure() -> None:
    one = failure()
    named = {"report": sha256_of(report(one)), "failure": one.model_dump(mode="json")}
    assert digest_of(report(one), one) == sha256_of(named)


def test_a_waiver_is_about_one_failure_of_one_report() -> None:
    one, two = failure(), failure(expected="p99 at most 900")
    assert len({digest_of(report(one), one), digest_of(report(one, two), one), digest_of(report(one, two), two)}) == 3
