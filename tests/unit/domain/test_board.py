from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.interlock.domain.board import (
    ABSTAIN,
    APPROVE,
    CHOICES,
    REJECT,
    count_votes,
    decide_single,
    eligible_approvers,
    eligible_members,
)
from include.interlock.domain.errors import PolicyViolation
from include.interlock.domain.records import Decision, Vote
from tests.unit.domain.samples import DIGEST, board, vote

PEOPLE = ("ann", "ben", "cora", "dan", "eve")
people = st.sampled_from([*PEOPLE, "rita", "mallory"])
choices = st.sampled_from([*CHOICES, "approve", "Yes", ""])
any_votes = st.lists(
    st.builds(Vote, user=st.none() | people, assigned=people, choice=choices, comment=st.sampled_from(["", "why"])),
    max_size=8,
)
own_votes = st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(CHOICES)), unique_by=lambda cast: cast[0])
boards = st.builds(
    lambda approvals, veto: board(" ".join(PEOPLE), approvals, " ".join(veto)),
    st.integers(1, 5),
    st.sets(st.sampled_from(PEOPLE), max_size=2).map(sorted),
)


def counted(votes: Sequence[Vote], *, on: Any = None, expired: bool = False, **people: Any) -> Decision | None:
    who = {"requester": "rita", **people}
    return count_votes(on or board(), votes, digest=DIGEST, expired=expired, **who)


def verdict(votes: Sequence[Vote], **options: Any) -> bool | None:
    decision = counted(votes, **options)
    return None if decision is None else decision.approved


# --- who may vote


def test_the_requester_and_the_excluded_are_not_eligible() -> None:
    five = board("ann ben cora dan eve", approvals=2)
    assert eligible_members(five, requester="ben", excluded=("eve",)) == ("ann", "cora", "dan")


def test_a_quorum_out_of_reach_is_refused() -> None:
    with pytest.raises(PolicyViolation) as refused:
        eligible_members(board(), requester="ben", excluded=("cora",))
    assert "CAB cannot decide on this release: it needs 2 approvals, and dan may vote" in str(refused.value)


def test_nobody_approves_a_plan_of_their_own() -> None:
    assert eligible_approvers(["maya", "rita"], requester="rita", subject="plan") == ("maya",)
    with pytest.raises(PolicyViolation, match="Nobody may decide on the plan: maya could"):
        eligible_approvers(["maya"], requester="maya", subject="plan")


# --- what they decide


def test_two_of_three_approvals_pass() -> None:
    votes = [vote("ben", APPROVE), vote("dan", APPROVE)]
    assert counted(votes[:1]) is None
    decision = counted(votes)
    assert decision is not None
    assert decision.approved
    assert decision.required
    assert not decision.expired
    assert decision.digest == DIGEST
    assert decision.reason == "CAB: approved by ben and dan; 2 approvals needed."
    assert decision.votes == tuple(votes)


def test_a_veto_decides_at_once_with_its_comment() -> None:
    votes = [vote("cora", REJECT, "the keys\nare in the bundle"), vote("ben", APPROVE), vote("dan", APPROVE)]
    decision = counted(votes)
    assert decision is not None
    assert not decision.approved
    assert decision.reason == (
        "CAB: rejected by cora, whose rejection alone decides. "
        "cora rejected with the words “the keys are in the bundle”."
    )
    assert verdict(votes[:1]) is False


def test_a_rejection_without_a_veto_waits_for_the_others() -> None:
    assert counted([vote("ben", REJECT)]) is None
    assert verdict([vote("ben", REJECT), vote("dan", APPROVE), vote("cora", APPROVE)]) is True


def test_it_is_rejected_as_soon_as_nothing_else_can_be() -> None:
    decision = counted([vote("ben", REJECT), vote("dan", ABSTAIN)])
    assert decision is not None
    assert decision.reason == (
        "CAB: rejected, for 2 approvals can not be reached. ben rejected without saying why. dan abstained."
    )
    assert not decision.expired


def test_silence_is_a_rejection_that_says_who_was_silent() -> None:
    decision = counted([vote("ben", APPROVE), vote(None, REJECT, assigned="dan")], expired=True)
    assert decision is not None
    assert not decision.approved
    assert decision.expired
    assert decision.reason == (
        "CAB: not approved in time, for 1 of 2 approvals had come in by the deadline. cora and dan did not answer."
    )
    enough = counted([vote("ben", APPROVE), vote("dan", APPROVE)], expired=True)
    assert enough is not None
    assert enough.approved


def test_a_board_without_enough_members_left_rejects() -> None:
    decision = counted([], requester="ben", excluded=("dan",))
    assert decision is not None
    assert "2 approvals can not be reached. Only cora may vote on it." in decision.reason


@pytest.mark.parametrize(
    "stray",
    [
        pytest.param(vote("rita", APPROVE), id="the requester"),
        pytest.param(vote("mallory", APPROVE), id="a stranger"),
        pytest.param(vote("mallory", APPROVE, assigned="dan"), id="a stranger on a member's ballot"),
        pytest.param(vote("ben", APPROVE, assigned="dan"), id="a member on another's ballot"),
        pytest.param(vote(None, APPROVE, assigned="dan"), id="nobody: a ballot that was marked as done"),
        pytest.param(vote("ben", APPROVE), id="a member a second time"),
        pytest.param(vote("dan", "approve"), id="a word that is not on the ballot"),
        pytest.param(vote("board_clerk", ABSTAIN, assigned="dan"), id="the clerk who closes ballots"),
    ],
)
def test_what_may_not_count_does_not(stray: Vote) -> None:
    assert counted([vote("ben", APPROVE), stray]) is None


@pytest.mark.parametrize(("one", "other", "stands"), [(APPROVE, ABSTAIN, None), (APPROVE, REJECT, False)])
def test_of_two_answers_of_one_person_the_careful_one_stands(one: str, other: str, stands: bool | None) -> None:
    both = [vote("cora", one), vote("cora", other), vote("ben", APPROVE)]
    assert verdict(both) is verdict(both[::-1]) is stands


@given(boards, any_votes, st.booleans(), st.randoms())
def test_the_order_of_votes_does_not_matter(on: Any, votes: list[Vote], expired: bool, random: Any) -> None:
    shuffled = votes.copy()
    random.shuffle(shuffled)
    assert counted(votes, on=on, expired=expired) == counted(shuffled, on=on, expired=expired)


@given(boards, any_votes, any_votes, st.booleans())
def test_ineligible_votes_decide_nothing(on: Any, votes: list[Vote], stray: list[Vote], expired: bool) -> None:
    ineligible = [v for v in stray if v.user not in PEOPLE or v.user != v.assigned or v.choice not in CHOICES]
    assert verdict(votes + ineligible, on=on, expired=expired) == verdict(votes, on=on, expired=expired)


@given(boards, any_votes, any_votes)
def test_votes_of_the_excluded_decide_nothing(on: Any, votes: list[Vote], stray: list[Vote]) -> None:
    theirs = [v for v in stray if v.user in ("ann", "ben")]
    options = {"on": on, "requester": "ann", "excluded": ("ben",)}
    assert verdict(votes + theirs, **options) == verdict(votes, **options)


@given(boards, any_votes, st.booleans())
def test_duplicates_do_not_count(on: Any, votes: list[Vote], expired: bool) -> None:
    assert verdict(votes + votes, on=on, expired=expired) == verdict(votes, on=on, expired=expired)


@given(boards, own_votes, st.sampled_from(PEOPLE))
def test_an_approval_never_hurts_and_a_rejection_never_helps(on: Any, cast: list[Any], late: str) -> None:
    votes = [vote(user, choice) for user, choice in cast if user != late]
    order = {False: 0, None: 1, True: 2}
    before, approved, rejected = (
        order[verdict(votes + added, on=on)] for added in ([], [vote(late, APPROVE)], [vote(late, REJECT)])
    )
    assert rejected <= before <= approved


@given(boards, own_votes)
def test_a_decision_is_what_the_quorum_says(on: Any, cast: list[Any]) -> None:
    votes = [vote(user, choice) for user, choice in cast]
    chosen = dict(cast)
    approvals = sum(choice == APPROVE for choice in chosen.values())
    vetoed = any(chosen.get(user) == REJECT for user in on.quorum.veto)
    if vetoed or approvals + len(PEOPLE) - len(chosen) < on.quorum.approvals:
        assert verdict(votes, on=on) is False
    else:
        assert verdict(votes, on=on) is (True if approvals >= on.quorum.approvals else None)
    assert verdict(votes, on=on, expired=True) is (approvals >= on.quorum.approvals and not vetoed)


@given(boards, any_votes)
def test_the_deadline_only_ends_what_was_open(on: Any, votes: list[Vote]) -> None:
    before = counted(votes, on=on)
    after = counted(votes, on=on, expired=True)
    assert after is not None
    assert after == before or (before is None and after.expired and not after.approved)


# --- any one of the named people


def single(votes: Sequence[Vote], *, expired: bool = False, requester: str = "rita") -> Decision | None:
    return decide_single(
        ["fay", "sam"], votes, subject="acceptance", digest=DIGEST, requester=requester, expired=expired
    )


def test_any_one_of_them_decides() -> None:
    approved = single([vote("sam", APPROVE, assigned="fay")])
    assert approved is not None
    assert approved.approved
    assert approved.subject == "acceptance"
    assert approved.reason == "sam approved the release."
    rejected = single([vote("fay", REJECT, "the basket is empty")])
    assert rejected is not None
    assert not rejected.approved
    assert rejected.reason == "fay rejected the release with the words “the basket is empty”."


def test_one_rejection_weighs_more_than_an_approval() -> None:
    decision = single([vote("sam", APPROVE), vote("fay", REJECT)])
    assert decision is not None
    assert decision.reason == "fay rejected the release without saying why."


def test_nobody_else_decides() -> None:
    assert single([vote("rita", APPROVE), vote("mallory", APPROVE), vote(None, APPROVE, assigned="fay")]) is None
    assert single([vote("fay", APPROVE)], requester="fay") is None


def test_no_answer_in_time_is_a_rejection() -> None:
    decision = single([vote(None, REJECT, assigned="fay"), vote("sam", ABSTAIN)], expired=True)
    assert decision is not None
    assert not decision.approved
    assert decision.expired
    assert decision.reason == "Nobody approved the release in time. fay did not answer. sam abstained."


def test_a_question_that_nobody_may_answer_is_rejected() -> None:
    decision = decide_single(["maya"], [], subject="plan", digest=DIGEST, requester="maya", expired=False)
    assert decision is not None
    assert not decision.approved
    assert not decision.expired
    assert decision.reason == "Nobody may decide on the plan of the release: who asks for it does not approve it."


@given(any_votes, st.booleans(), st.randoms())
def test_the_order_of_single_answers_does_not_matter(votes: list[Vote], expired: bool, random: Any) -> None:
    shuffled = votes.copy()
    random.shuffle(shuffled)

    def decide(cast: list[Vote]) -> Decision | None:
        return decide_single(PEOPLE, cast, subject="plan", digest=DIGEST, requester="ann", expired=expired)

    assert decide(votes) == decide(shuffled)
    if decide(votes) is not None and decide(votes).approved:  # type: ignore[union-attr]
        assert any(v.user in PEOPLE[1:] and v.choice == APPROVE for v in votes)
