from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.board.decision import (
    ABSTAIN,
    APPROVE,
    CHOICES,
    REJECT,
    authors_of,
    barred_authors,
    count_votes,
    decide_single,
    eligible_members,
)
from interlock.domain.board.voting import VotingRule, merge
from interlock.domain.catalogue import Flow
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import Decision, Vote
from tests.factories import releases
from tests.unit.domain.samples import DIGEST, board, book, vote

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
    eligible = eligible_members(five, requester="ben", excluded=("eve",))
    assert [seat.user for seat in eligible] == ["ann", "cora", "dan"]


def test_a_quorum_out_of_reach_is_refused() -> None:
    with pytest.raises(PolicyViolation) as refused:
        eligible_members(board(), requester="ben", excluded=("cora",))
    assert "CAB cannot decide on this release: it needs 2 approvals of 3, and only Dan (dan) may vote" in str(
        refused.value
    )


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
    assert decision.reason == "CAB: approved by Ben (ben) and Dan (dan); needed: 2 approvals."
    assert decision.votes == tuple(votes)


def test_a_veto_decides_at_once_with_its_comment() -> None:
    votes = [vote("cora", REJECT, "the keys\nare in the bundle"), vote("ben", APPROVE), vote("dan", APPROVE)]
    decision = counted(votes)
    assert decision is not None
    assert not decision.approved
    assert decision.reason == (
        "CAB: rejected by Cora (cora), who has a veto. "
        "Cora (cora) rejected with the comment “the keys are in the bundle”."
    )
    assert decision.vetoed_by == ("cora",)
    assert verdict(votes[:1]) is False


def test_a_rejection_without_a_veto_waits_for_the_others() -> None:
    assert counted([vote("ben", REJECT)]) is None
    assert verdict([vote("ben", REJECT), vote("dan", APPROVE), vote("cora", APPROVE)]) is True


def test_it_is_rejected_as_soon_as_nothing_else_can_be() -> None:
    decision = counted([vote("ben", REJECT), vote("dan", ABSTAIN)])
    assert decision is not None
    assert decision.reason == (
        "CAB: rejected, because 2 approvals can no longer be reached. Ben (ben) rejected without a comment. Dan "
        "(dan) abstained."
    )
    assert not decision.expired
    assert "vetoed_by" not in decision.to_xcom()


def test_silence_is_a_rejection_that_says_who_was_silent() -> None:
    decision = counted([vote("ben", APPROVE), vote(None, REJECT, assigned="dan")], expired=True)
    assert decision is not None
    assert not decision.approved
    assert decision.expired
    assert decision.reason == (
        "CAB: not approved in time: only 1 of 2 approvals by the deadline. "
        "Cora (cora) and Dan (dan) did not answer in time."
    )
    enough = counted([vote("ben", APPROVE), vote("dan", APPROVE)], expired=True)
    assert enough is not None
    assert enough.approved


def test_a_board_without_enough_members_left_rejects() -> None:
    decision = counted([], requester="ben", excluded=("dan",))
    assert decision is not None
    assert "2 approvals can no longer be reached. Only Cora (cora) may vote on it." in decision.reason


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
def test_votes_of_the_excluded_decide_nothing_but_the_rejection_of_who_has_a_veto(
    on: Any, votes: list[Vote], stray: list[Vote]
) -> None:
    options = {"on": on, "requester": "ann", "excluded": ("ben", "ann")}
    theirs = [v for v in stray if v.user == "ann" or (v.user == "ben" and (v.choice != REJECT or "ben" not in on.veto))]
    assert verdict(votes + theirs, **options) == verdict(votes, **options)


def test_an_address_in_a_commit_takes_nobodys_veto() -> None:
    """Whoever writes a commit names its authors: cora is named, and her rejection alone decides as the ballot says."""
    approvals, cora = [vote("ben", APPROVE), vote("dan", APPROVE)], vote("cora", REJECT)
    decision = counted([*approvals, cora], excluded=("cora",))
    assert decision is not None
    assert not decision.approved
    assert decision.reason.startswith("CAB: rejected by Cora (cora), who has a veto.")
    assert verdict([*approvals, vote("cora", APPROVE)], excluded=("cora",)) is True
    assert verdict([approvals[0], vote("cora", APPROVE)], excluded=("cora",)) is None, "her approval does not count"
    assert verdict([approvals[0], vote("cora", ABSTAIN)], excluded=("cora",)) is None, "nor is she waited for"


def test_who_asked_for_the_release_has_no_veto_on_it() -> None:
    approvals = [vote("ben", APPROVE), vote("dan", APPROVE)]
    assert verdict([*approvals, vote("cora", REJECT)], requester="cora") is True
    assert verdict([*approvals, vote("cora", REJECT)], asked_by=("cora",), excluded=("cora",)) is True


def test_a_member_without_a_veto_who_made_it_does_not_reject_it_either() -> None:
    assert verdict([vote("dan", REJECT)], excluded=("dan",)) is None


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
    vetoed = any(chosen.get(user) == REJECT for user in on.veto)
    if vetoed or approvals + len(PEOPLE) - len(chosen) < on.approvals:
        assert verdict(votes, on=on) is False
    else:
        assert verdict(votes, on=on) is (True if approvals >= on.approvals else None)
    assert verdict(votes, on=on, expired=True) is (approvals >= on.approvals and not vetoed)


@given(boards, any_votes)
def test_the_deadline_only_ends_what_was_open(on: Any, votes: list[Vote]) -> None:
    before = counted(votes, on=on)
    after = counted(votes, on=on, expired=True)
    assert after is not None
    assert after == before or (before is None and after.expired and not after.approved)


# --- any one of the named people


NAMES = {"fay": "Fay", "sam": "Sam Novak"}


def single(votes: Sequence[Vote], *, expired: bool = False, requester: str = "rita") -> Decision | None:
    return decide_single(
        ["fay", "sam"], votes, subject="acceptance", digest=DIGEST, requester=requester, expired=expired, names=NAMES
    )


def test_any_one_of_them_decides() -> None:
    approved = single([vote("sam", APPROVE, assigned="fay")])
    assert approved is not None
    assert approved.approved
    assert approved.subject == "acceptance"
    assert approved.reason == "Sam Novak (sam) approved the release."
    rejected = single([vote("fay", REJECT, "the basket is empty")])
    assert rejected is not None
    assert not rejected.approved
    assert rejected.reason == "Fay (fay) rejected the release with the comment “the basket is empty”."


def test_one_rejection_weighs_more_than_an_approval() -> None:
    decision = single([vote("sam", APPROVE), vote("fay", REJECT)])
    assert decision is not None
    assert decision.reason == "Fay (fay) rejected the release without a comment."


def test_nobody_else_decides() -> None:
    assert single([vote("rita", APPROVE), vote("mallory", APPROVE), vote(None, APPROVE, assigned="fay")]) is None
    assert single([vote("fay", APPROVE)], requester="fay") is None


def test_no_answer_in_time_is_a_rejection() -> None:
    decision = single([vote(None, REJECT, assigned="fay"), vote("sam", ABSTAIN)], expired=True)
    assert decision is not None
    assert not decision.approved
    assert decision.expired
    assert (
        decision.reason == "No approver approved the release in time. Fay (fay) did not answer. Sam Novak (sam) "
        "abstained."
    )


def test_who_wrote_a_change_does_not_approve_it_alone() -> None:
    def decide(*cast: Vote) -> Decision | None:
        return decide_single(
            PEOPLE, cast, subject="acceptance", digest=DIGEST, requester="rita", excluded=["ben"], expired=True
        )

    alone = decide(vote("ben", APPROVE))
    assert alone is not None
    assert not alone.approved
    both = decide(vote("ben", REJECT), vote("ann", APPROVE))
    assert both is not None
    assert both.approved
    assert "ben" not in both.reason


def test_a_question_that_nobody_may_answer_is_rejected() -> None:
    decision = decide_single(["maya"], [], subject="plan", digest=DIGEST, requester="maya", expired=False)
    assert decision is not None
    assert not decision.approved
    assert not decision.expired
    assert decision.reason == (
        "No approver is left for the plan of the release: the requester and the authors cannot approve it."
    )


@given(any_votes, st.booleans(), st.randoms())
def test_the_order_of_single_answers_does_not_matter(votes: list[Vote], expired: bool, random: Any) -> None:
    shuffled = votes.copy()
    random.shuffle(shuffled)

    def decide(cast: list[Vote]) -> Decision | None:
        return decide_single(PEOPLE, cast, subject="plan", digest=DIGEST, requester="ann", expired=expired)

    assert decide(votes) == decide(shuffled)
    if decide(votes) is not None and decide(votes).approved:  # type: ignore[union-attr]
        assert any(v.user in PEOPLE[1:] and v.choice == APPROVE for v in votes)


# --- roles, delegates, conditions, several rules

AT = datetime(2026, 12, 5, tzinfo=UTC)
AWAY = [{"for": "cora", "to": "eve", "from": "2026-12-01", "until": "2026-12-14"}]
FIVE = " ".join(PEOPLE)


def test_approvals_of_others_do_not_make_up_for_a_role() -> None:
    on = board(FIVE, 2, "", require={"security": 1})
    assert counted([vote("ann", APPROVE), vote("ben", APPROVE), vote("dan", APPROVE)], on=on) is None
    decision = counted([vote("ann", APPROVE), vote("cora", APPROVE)], on=on)
    assert decision is not None
    assert decision.reason == "CAB: approved by Ann (ann) and Cora (cora); needed: 2 approvals, 1 by security."
    lost = counted([vote("cora", ABSTAIN)], on=on)
    assert lost is not None
    assert lost.reason == (
        "CAB: rejected, because 1 approval by security can no longer be reached. Cora (cora) abstained."
    )
    late = counted([vote("ann", APPROVE), vote("dan", APPROVE)], on=on, expired=True)
    assert late is not None
    assert "only 0 of 1 approval by security by the deadline." in late.reason


def test_a_role_has_a_veto() -> None:
    on = board(FIVE, 1, "", veto_roles=["operations"])
    assert verdict([vote("eve", REJECT), vote("ann", APPROVE)], on=on) is False
    assert verdict([vote("dan", REJECT), vote("ann", APPROVE)], on=on) is True


def test_a_role_that_nobody_eligible_has_stops_a_release_before_it_is_voted_on() -> None:
    with pytest.raises(PolicyViolation, match=r"it needs 1 approval of 5, 1 by security, and only Ann \(ann\), Ben"):
        eligible_members(board(FIVE, 1, "", require={"security": 1}), requester="cora")


def test_a_delegate_votes_in_the_members_seat_with_the_members_veto() -> None:
    on = board(delegates=AWAY)
    decision = counted([vote("eve", REJECT, "no", assigned="cora", at=AT)], on=on)
    assert decision is not None
    assert decision.reason.startswith("CAB: rejected by Eve (eve) in place of Cora (cora), who has a veto.")
    assert decision.vetoed_by == ("eve",)
    assert verdict([vote("eve", APPROVE, at=AT), vote("ben", APPROVE)], on=on) is True  # on a ballot that names both


@pytest.mark.parametrize(
    "stray",
    [
        pytest.param(vote("eve", APPROVE, assigned="cora", at=AT.replace(day=15)), id="after the last day"),
        pytest.param(vote("eve", APPROVE, assigned="cora"), id="at no time"),
        pytest.param(vote("eve", APPROVE, assigned="dan", at=AT), id="in another's seat"),
        pytest.param(vote("ben", APPROVE, assigned="cora", at=AT), id="a member in another's seat"),
    ],
)
def test_a_delegate_votes_for_one_and_in_their_time(stray: Vote) -> None:
    assert counted([vote("ben", APPROVE), stray], on=board(delegates=AWAY)) is None


def test_member_and_delegate_are_one_vote() -> None:
    on = board(delegates=AWAY)
    both = [vote("eve", APPROVE, assigned="cora", at=AT), vote("cora", APPROVE)]
    assert counted(both, on=on) is None
    assert verdict([*both, vote("cora", REJECT)], on=on) is False


def test_nobody_stands_in_for_who_asked_or_being_who_asked() -> None:
    as_delegate = vote("eve", APPROVE, assigned="cora", at=AT)
    on = board(delegates=AWAY)
    assert counted([vote("ben", APPROVE), as_delegate], on=on, requester="eve") is None
    assert counted([vote("ben", APPROVE), as_delegate], on=on, requester="cora") is None


def test_one_who_stood_in_for_two_approves_once() -> None:
    one_after_the_other = [*AWAY, {"for": "dan", "to": "eve", "from": "2026-12-15", "until": "2026-12-16"}]
    on = board(delegates=one_after_the_other)
    twice = [vote("eve", APPROVE, at=AT), vote("eve", APPROVE, at=AT.replace(day=15))]
    assert counted(twice, on=on) is None
    assert verdict([*twice, vote("ben", APPROVE)], on=on) is True
    of_business = board(delegates=one_after_the_other, require={"business": 1})
    assert verdict([*twice, vote("ben", APPROVE)], on=of_business) is False  # what counts is the first seat, cora's
    assert verdict([vote("eve", APPROVE, at=AT.replace(day=15)), vote("eve", REJECT, at=AT)], on=on) is False


def test_conditions_are_part_of_the_reason() -> None:
    decision = counted([vote("ben", APPROVE, conditions="only with\nfay watching"), vote("dan", APPROVE)])
    assert decision is not None
    assert decision.reason.endswith("Ben (ben) approved on the condition “only with fay watching”.")
    assert decision.votes[0].conditions == "only with\nfay watching"


def test_a_member_who_left_the_board_has_no_vote_any_more() -> None:
    votes = [vote("ben", APPROVE), vote("dan", APPROVE)]
    assert verdict(votes) is True
    assert counted(votes, on=board("ann ben cora")) is None


def test_authors_are_known_by_their_e_mail_and_have_no_vote() -> None:
    people = book({}, senior_management=["maya"])
    assert authors_of(["BEN@example.com", "x@example.com"], people) == ("ben",)
    assert counted([vote("ben", APPROVE), vote("dan", APPROVE)], excluded=("ben",)) is None


def test_authors_are_barred_where_the_flow_says_so() -> None:
    people, plan = book({}, senior_management=["maya"]), releases.plan(authors=("ben@example.com", "x@example.com"))
    assert barred_authors(Flow(exclude_authors=True), plan, people) == ("ben",)
    assert barred_authors(Flow(exclude_authors=False), plan, people) == ()


def test_people_of_one_rule_do_not_vote_in_place_of_anothers() -> None:
    further = board("ann eve", 1, "")
    further = further.model_copy(
        update={"demands": (further.demands[0].model_copy(update={"title": "Shop board", "place": "elsewhere"}),)}
    )
    on = merge(board("ben cora dan", 2, ""), further)
    assert counted([vote("ann", APPROVE), vote("eve", APPROVE)], on=on) is None
    passed = counted([vote("ann", APPROVE), vote("ben", APPROVE), vote("dan", APPROVE)], on=on)
    assert passed is not None
    assert passed.approved
    assert passed.reason == (
        "CAB and Shop board: approved by Ann (ann), Ben (ben) and Dan (dan); "
        "needed: 2 approvals of 3 of CAB; 1 approval of 2 of Shop board."
    )
    lost = counted([vote("ann", REJECT), vote("eve", ABSTAIN)], on=on)
    assert lost is not None
    assert "rejected, because 1 approval of Shop board can no longer be reached." in lost.reason


several = st.builds(
    lambda one, other: merge(
        board(" ".join(one[0]), min(one[1], len(one[0])), ""),
        board(" ".join(other[0]), min(other[1], len(other[0])), other[0][0], delegates=DELEGATES),
    ),
    *[st.tuples(st.lists(st.sampled_from(PEOPLE), min_size=1, unique=True), st.integers(1, 3))] * 2,
)
DELEGATES = [
    {"for": "ann", "to": "fay", "from": "2026-12-01", "until": "2026-12-07"},
    {"for": "ben", "to": "fay", "from": "2026-12-08", "until": "2026-12-14"},
]
cast = st.builds(
    Vote,
    user=st.sampled_from([*PEOPLE, "fay", "rita"]),
    assigned=st.sampled_from([*PEOPLE, "fay"]),
    choice=st.sampled_from(CHOICES),
    at=st.sampled_from([datetime(2026, 12, 5, tzinfo=UTC), datetime(2026, 12, 10, tzinfo=UTC)]),
)
ORDER = {False: 0, None: 1, True: 2}


@given(several, st.lists(cast, max_size=8), cast, st.booleans())
def test_one_more_rejection_never_helps_whoever_gives_it(
    on: VotingRule, votes: list[Vote], late: Vote, expired: bool
) -> None:
    rejection = late.model_copy(update={"choice": REJECT})
    assert ORDER[verdict([*votes, rejection], on=on, expired=expired)] <= ORDER[verdict(votes, on=on, expired=expired)]


@given(several, st.lists(cast, max_size=8), st.randoms(), st.booleans())
def test_with_several_rules_and_delegates_the_order_does_not_matter(
    on: VotingRule, votes: list[Vote], random: Any, expired: bool
) -> None:
    shuffled = votes.copy()
    random.shuffle(shuffled)
    assert counted(votes, on=on, expired=expired) == counted(shuffled, on=on, expired=expired)


@given(several, boards, st.lists(cast, max_size=8))
def test_a_further_rule_never_turns_a_rejection_into_an_approval(
    on: VotingRule, further: VotingRule, votes: list[Vote]
) -> None:
    if verdict(votes, on=merge(on, further)) is True:
        assert verdict(votes, on=on) is True


def test_votes_are_on_record_in_one_order() -> None:
    in_order = [
        vote("ben", APPROVE),
        vote(None, APPROVE, assigned="dan"),
        vote("Anna", APPROVE, assigned="dan"),
        vote("dan", ABSTAIN, at=AT),
        vote("dan", APPROVE),
        vote("dan", APPROVE, at=AT),
        vote("dan", APPROVE, "why", at=AT),
        vote("dan", APPROVE, "why", at=AT, conditions="at night"),
    ]
    for votes in (in_order, in_order[::-1], in_order[1::2] + in_order[::2]):
        decision = counted(votes, expired=True)
        assert decision is not None
        assert decision.votes == tuple(in_order)
