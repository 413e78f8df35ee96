"""Who may decide, and what was decided: knows people, ballots and a digest, and no Dag.

The decisions do not depend on the order of the votes. What a person may not say is not counted, however it got into the
record: someone else's ballot, a vote of the requester or of a stranger, a word that is not on the ballot. If one person
is on record with several answers, the most careful one stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from .canonical import Sha256
from .catalogue import Board, UserName
from .errors import PolicyViolation
from .records import Decision, Vote

APPROVE, REJECT, ABSTAIN = "Approve", "Reject", "Abstain"
CHOICES = (APPROVE, REJECT, ABSTAIN)
"""What a ballot offers."""
MOST_CAREFUL_FIRST = (REJECT, ABSTAIN, APPROVE)

LONGEST_QUOTE = 1000
"""Characters of a comment that a reason repeats; the vote itself has all."""

_NOUN = {"plan": "the plan of the release", "acceptance": "the release"}


def eligible_members(board: Board, *, requester: str, excluded: Collection[str] = ()) -> tuple[UserName, ...]:
    """Return the members who may vote on a release, in the order of the board.

    :param requester: who asked for the release, and therefore does not decide on it.
    :param excluded: further people who had a hand in it.
    :raises PolicyViolation: they are too few for the board's quorum.
    """
    eligible = _eligible(board.members, requester, excluded)
    if len(eligible) < board.quorum.approvals:
        raise PolicyViolation(
            f"The board {board.title} cannot decide on this release: it needs {_approvals(board.quorum.approvals)}, "
            f"and {_names(eligible) or 'nobody'} may vote.",
            rule="who asks for a release, or made it, does not vote on it (board.yaml has the quorum)",
            who="whoever keeps board.yaml",
            next_step="have somebody who is not on the board trigger the release, or give the board more members",
        )
    return eligible


def eligible_approvers(approvers: Sequence[str], *, requester: str, subject: str) -> tuple[UserName, ...]:
    """Return who of some named people may approve, in their order: everybody but the requester.

    :raises PolicyViolation: nobody is left.
    """
    eligible = _eligible(approvers, requester, ())
    if not eligible:
        raise PolicyViolation(
            f"Nobody may decide on the {subject}: {_names(approvers) or 'nobody'} could, and asked for the release.",
            rule="who asks for a release does not approve it",
            who="whoever keeps the catalogue",
            next_step="have somebody else trigger the release, or name more people",
        )
    return eligible


def count_votes(
    board: Board,
    votes: Sequence[Vote],
    *,
    digest: Sha256,
    requester: str,
    excluded: Collection[str] = (),
    expired: bool,
) -> Decision | None:
    """Count a board's votes on what a digest names; None while the board can still go either way.

    A rejection by a member with a veto comes before everything, then enough approvals, then the end of all hope for
    them, then the deadline: no decision in time is a rejection.

    :param expired: whether the board's deadline has passed.
    """
    eligible = _eligible(board.members, requester, excluded)
    counted = _counted(votes, eligible, own_ballot_only=True)
    needed = board.quorum.approvals
    approving = [user for user in eligible if _is(counted, user, APPROVE)]
    silent = [user for user in eligible if user not in counted]
    said = _what_was_said(counted, eligible)

    def decided(approved: bool, *sentences: str, late: bool = False) -> Decision:
        return _decision("board", digest, votes, approved, sentences, late=late)

    vetoing = [user for user in eligible if user in board.quorum.veto and _is(counted, user, REJECT)]
    if vetoing:
        return decided(False, f"{board.title}: rejected by {_names(vetoing)}, whose rejection alone decides.", *said)
    if len(approving) >= needed:
        return decided(True, f"{board.title}: approved by {_names(approving)}; {_approvals(needed)} needed.", *said)
    if len(approving) + len(silent) < needed:
        who = [f"Only {_names(eligible) or 'nobody'} may vote on it."] if len(eligible) < needed else []
        return decided(False, f"{board.title}: rejected, for {_approvals(needed)} can not be reached.", *who, *said)
    if expired:
        missing = f"{board.title}: not approved in time, for {_of(len(approving), needed)} had come in by the deadline."
        return decided(False, missing, f"{_names(silent)} did not answer.", *said, late=True)
    return None


def decide_single(
    approvers: Sequence[str],
    votes: Sequence[Vote],
    *,
    subject: Literal["plan", "acceptance"],
    digest: Sha256,
    requester: str,
    expired: bool,
) -> Decision | None:
    """Decide by the answer of any one of the named people; None while nobody answered and there is time.

    :param expired: whether the time to answer has passed.
    """
    eligible = _eligible(approvers, requester, ())
    counted = _counted(votes, eligible, own_ballot_only=False)
    by_choice = {choice: [user for user in eligible if _is(counted, user, choice)] for choice in CHOICES}
    noun = _NOUN[subject]

    if rejecting := by_choice[REJECT]:
        sentences = [f"{user} rejected {noun} {_comment(counted[user])}." for user in rejecting]
        return _decision(subject, digest, votes, False, sentences)
    if approving := by_choice[APPROVE]:
        return _decision(subject, digest, votes, True, [f"{_names(approving)} approved {noun}."])
    if not eligible:
        return _decision(
            subject, digest, votes, False, [f"Nobody may decide on {noun}: who asks for it does not approve it."]
        )
    if expired:
        silent = [user for user in eligible if user not in counted]
        sentences = [f"Nobody approved {noun} in time."]
        sentences += [f"{_names(silent)} did not answer."] if silent else []
        sentences += [f"{_names(by_choice[ABSTAIN])} abstained."] if by_choice[ABSTAIN] else []
        return _decision(subject, digest, votes, False, sentences, late=True)
    return None


def _eligible(people: Iterable[str], requester: str, excluded: Collection[str]) -> tuple[UserName, ...]:
    return tuple(dict.fromkeys(user for user in people if user != requester and user not in excluded))


def _counted(votes: Iterable[Vote], eligible: Collection[str], *, own_ballot_only: bool) -> dict[str, Vote]:
    """Return the vote that counts of each person who may vote and did."""
    valid = [
        vote
        for vote in votes
        if vote.user in eligible and vote.choice in CHOICES and (vote.user == vote.assigned or not own_ballot_only)
    ]
    # Later entries win in a dictionary, so the most careful choice comes last.
    in_order = sorted(valid, key=lambda vote: (-MOST_CAREFUL_FIRST.index(vote.choice), _sort_key(vote)))
    return {vote.user: vote for vote in in_order if vote.user is not None}


def _is(counted: dict[str, Vote], user: str, choice: str) -> bool:
    return user in counted and counted[user].choice == choice


def _sort_key(vote: Vote) -> tuple[str, str, str, str, str]:
    return vote.assigned, vote.user or "", vote.choice, vote.at.isoformat() if vote.at else "", vote.comment


def _decision(
    subject: Literal["plan", "acceptance", "board"],
    digest: Sha256,
    votes: Iterable[Vote],
    approved: bool,
    sentences: Iterable[str],
    *,
    late: bool = False,
) -> Decision:
    return Decision(
        subject=subject,
        digest=digest,
        approved=approved,
        required=True,
        expired=late,
        reason=" ".join(sentences),
        votes=tuple(sorted(votes, key=_sort_key)),
    )


def _what_was_said(counted: dict[str, Vote], eligible: Sequence[str]) -> list[str]:
    rejecting = [user for user in eligible if _is(counted, user, REJECT)]
    abstaining = [user for user in eligible if _is(counted, user, ABSTAIN)]
    said = [f"{user} rejected {_comment(counted[user])}." for user in rejecting]
    return said + ([f"{_names(abstaining)} abstained."] if abstaining else [])


def _comment(vote: Vote) -> str:
    words = " ".join(vote.comment.split())
    return f"with the words “{words[:LONGEST_QUOTE]}”" if words else "without saying why"


def _names(users: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(users[:-1]), *users[-1:])))


def _approvals(number: int) -> str:
    return "1 approval" if number == 1 else f"{number} approvals"


def _of(number: int, needed: int) -> str:
    return f"{number} of {needed} approvals"
