"""Who may vote on a release, and whether the votes are enough."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from interlock.domain.catalogue import UserName

from .voting import Ballot, Demand, Seat, VotingRule


def seat_of(rule: VotingRule, user: str, at: datetime | None) -> UserName | None:
    """Return the seat in which a person votes at an instant; None if the person may not vote.

    Members vote for themselves, even if they are delegates: a person has one vote.
    """
    if user in rule.members:
        return user
    held = (delegation for delegation in rule.delegations if delegation.to == user and at and delegation.holds(at))
    return min((delegation.for_ for delegation in held), default=None)


def eligible_seats(rule: VotingRule, *, barred: Collection[str]) -> tuple[Seat, ...]:
    """Return the seats whose votes count on a release: not those of its requesters and authors."""
    return tuple(seat for seat in rule.seats if seat.user not in barred)


def careful_seats(rule: VotingRule, *, asked_by: Collection[str], excluded: Collection[str]) -> tuple[Seat, ...]:
    """Return the seats with a veto of which only a rejection counts: of members who are said to have made the release.

    The writer of a commit names its authors, without proof. So a name in it takes an approval from a member,
    which can only stop a release, and never their veto, which could let one through.

    :param asked_by: who asked for the release: that is known for certain, and they have no vote of any kind.
    :param excluded: who is said to have had a hand in it.
    """
    return tuple(
        seat for seat in rule.seats if seat.user in rule.veto and seat.user in excluded and seat.user not in asked_by
    )


def describe_exclusions(
    rule: VotingRule, *, asked_by: Collection[str], authors: Collection[str], excluded: Collection[str]
) -> tuple[str, ...]:
    """Say who of the members and delegates does not vote, or only against it, and why: a sentence each.

    :param authors: whom the addresses in its commits name.
    :param excluded: all people who contributed to it, according to its commits.
    """
    careful = [seat.user for seat in careful_seats(rule, asked_by=asked_by, excluded=(*authors, *excluded))]
    hand = dict.fromkeys(excluded, "contributed to it") | dict.fromkeys(authors, "is named as an author in its commits")
    why = hand | dict.fromkeys(asked_by, "requested it")

    def sentence(seat: Seat) -> str:
        if seat.user in careful:
            return f"{seat} {why[seat.user]}: their approval does not count, but their veto does."
        if seat.user not in rule.members:
            return f"{seat} {why[seat.user]}, and cannot vote for another member."
        no_veto = ", and has no veto" if seat.user in rule.veto else ""
        return f"{seat} {why[seat.user]}, and does not vote{no_veto}."

    return tuple(dict.fromkeys(sentence(seat) for seat in (*rule.seats, *rule.delegates) if seat.user in why))


def ballots(
    rule: VotingRule, *, barred: Collection[str], since: datetime, until: datetime, careful: Collection[Seat] = ()
) -> tuple[Ballot, ...]:
    """Return the ballots to hand out: one for each seat that may vote.

    :param barred: who asked for the release or made it: they vote neither for themselves nor for others.
    :param careful: seats of them that vote nevertheless, for their rejection counts.
    :param since: when voting begins; with ``until``, it says which delegates may come to vote.
    """
    days = tuple(at.astimezone(UTC).date().isoformat() for at in (since, until))

    def stand_ins(user: str) -> Iterator[str]:
        for delegation in rule.delegations:
            meanwhile = delegation.from_ <= days[1] and days[0] <= delegation.until
            if delegation.for_ == user and meanwhile and delegation.to not in {*rule.members, *barred}:
                yield delegation.to

    return tuple(
        Ballot(seat=seat, voters=tuple(dict.fromkeys((seat.user, *stand_ins(seat.user)))))
        for seat in rule.seats
        if seat.user not in barred or seat in careful
    )


def is_met(demand: Demand, approving: Collection[Seat]) -> bool:
    """Say whether approvals are what a demand asks."""
    return lacking(demand, approving) == {}


def lacking(demand: Demand, approving: Collection[Seat]) -> dict[str, tuple[int, int]]:
    """Return what a demand lacks: a role (empty for the total), the approvals found and the approvals required."""
    own = [seat for seat in approving if seat.user in demand.members]
    found = {"": (len(own), demand.approvals)}
    found |= {role: (sum(seat.role == role for seat in own), number) for role, number in demand.require.items()}
    return {role: numbers for role, numbers in found.items() if numbers[0] < numbers[1]}
