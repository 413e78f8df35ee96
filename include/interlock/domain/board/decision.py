"""Who may decide, and what was decided: works with people, ballots and a digest, without a Dag.

The decisions do not depend on the order of the votes. A vote without the right to it does not count, however it got
into the record: a vote on another person's ballot, of the requester or of a stranger, or an answer that is not on the
ballot. If a person is on record with several answers, the most cautious one counts.

A delegate votes in the seat of the member whom they represent, in that member's role and with their veto, once. A
member who was made a delegate votes for themselves only. If a person represented two members, one after the other,
while a board was voting, one of their approvals counts, and the other is an abstention; each rejection counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from interlock.domain.canonical import Model, Sha256
from interlock.domain.catalogue import BoardBook, Flow, UserName
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import Decision, ReleasePlan, Vote

from .seats import careful_seats, eligible_seats, is_met, lacking, seat_of
from .voting import Demand, Seat, VotingRule, approvals, listed

APPROVE, REJECT, ABSTAIN = "Approve", "Reject", "Abstain"
CHOICES = (APPROVE, REJECT, ABSTAIN)
"""The choices of a ballot."""
MOST_CAREFUL_FIRST = (REJECT, ABSTAIN, APPROVE)

MAX_QUOTE_LENGTH = 1000
"""Maximum length of a comment in a reason; the vote itself contains the full comment."""

_NOUN = {"plan": "the plan of the release", "acceptance": "the release"}


def authors_of(addresses: Iterable[str], book: BoardBook) -> tuple[UserName, ...]:
    """Return the people of the board book who wrote a change, by the e-mail addresses of its commits."""
    wrote = {address.casefold() for address in addresses}
    return tuple(sorted(person.user for person in book.people if person.email.casefold() in wrote))


def barred_authors(flow: Flow, plan: ReleasePlan, book: BoardBook) -> tuple[UserName, ...]:
    """Return the authors of a change, if the flow excludes them from the decision."""
    return authors_of(plan.wrote, book) if flow.exclude_authors else ()


def eligible_members(rule: VotingRule, *, requester: str, excluded: Collection[str] = ()) -> tuple[Seat, ...]:
    """Return the seats that may vote on a release, in the order of their user names.

    :param requester: does not decide on the release.
    :param excluded: further people who had a hand in it.
    :raises PolicyViolation: they are too few for what a board or rule asks.
    """
    eligible = eligible_seats(rule, barred={requester, *excluded})
    for demand in rule.demands:
        if not is_met(demand, eligible):
            may = _only(seat for seat in eligible if seat.user in demand.members)
            raise PolicyViolation(
                f"The board {demand.title} cannot decide on this release: it needs {demand}, and {may} may vote.",
                rule=f"the requester and the authors of a release do not vote on it (the quorum is in {demand.place})",
                who=f"the owner of {demand.place.partition(' ')[0]}",
                next_step="have a person who is not on the board trigger the release, or add members to the board",
            )
    return eligible


def count_votes(
    rule: VotingRule,
    votes: Sequence[Vote],
    *,
    digest: Sha256,
    requester: str,
    asked_by: Collection[str] = (),
    excluded: Collection[str] = (),
    expired: bool,
    subject: Literal["board", "sign_off"] = "board",
) -> Decision | None:
    """Count the votes on the subject with a digest; None while the result is still open.

    A rejection by a member with a veto comes before everything, then all required approvals, then approvals that can no
    longer be reached, then the deadline: no decision in time is a rejection.

    :param rule: all matching rules, merged, with the board's current members.
    :param asked_by: further requesters, who are authenticated like the requester.
    :param excluded: further people without a vote: the authors, if the policy excludes them. Of members with a veto,
        only a rejection counts.
    :param expired: whether the deadline has passed.
    :param subject: what they decide on: a rollout plan or a manifest, or the sign-off of an environment.
    """
    count = _Count(rule, votes, asked_by={requester, *asked_by}, excluded=excluded)
    title = rule.title

    def decided(approved: bool, *sentences: str, late: bool = False, vetoed_by: Iterable[str] = ()) -> Decision:
        every = (f"{title}: {sentences[0]}", *sentences[1:], *count.said())
        return _decision(subject, digest, votes, approved, every, late=late, vetoed_by=vetoed_by)

    if vetoing := [seat for seat in count.seats(REJECT) if seat.user in rule.veto]:
        said = f"rejected by {count.called(vetoing)}, who has a veto."
        return decided(False, said, vetoed_by=count.voters(vetoing))
    if all(is_met(demand, count.approving) for demand in rule.demands):
        asked = count.needed()
        return decided(True, f"approved by {count.called(count.approving)}; needed: {asked}.")
    if out_of_reach := count.out_of_reach():
        return decided(False, *out_of_reach)
    if expired:
        silent = listed(map(str, count.silent))
        late = f"not approved in time: only {count.progress()} by the deadline."
        return decided(False, late, f"{silent} did not answer in time.", late=True)
    return None


class Tally(Model):
    """How a vote stands, whatever it comes to.

    :ivar seats: who may vote, or whose rejection counts, and the vote that stands for each.
    :ivar lacking: what each demand still lacks, in words; a demand that is met is not in it.
    """

    seats: tuple[tuple[Seat, Vote | None], ...]
    lacking: dict[str, tuple[str, ...]]


def tally(
    rule: VotingRule, votes: Iterable[Vote], *, asked_by: Collection[str] = (), excluded: Collection[str] = ()
) -> Tally:
    """Say how a vote stands, for people to look at: what is decided says :func:`count_votes`."""
    count = _Count(rule, votes, asked_by=asked_by, excluded=excluded)
    return Tally(
        seats=tuple((seat, count.counted.get(seat.user)) for seat in count.heard),
        lacking={
            demand.place: tuple(f"{found} of {_asked(asked, role)}" for role, (found, asked) in missing.items())
            for demand in rule.demands
            if (missing := lacking(demand, count.approving))
        },
    )


class _Count:
    """The votes that count on a rule, each in its seat.

    :ivar eligible: the seats that may vote.
    :ivar heard: those, and the seats of which a rejection counts.
    :ivar counted: seat: the vote that stands for it.
    """

    def __init__(
        self, rule: VotingRule, votes: Iterable[Vote], *, asked_by: Collection[str], excluded: Collection[str]
    ) -> None:
        self.rule = rule
        self._asked_by, self._barred = asked_by, {*asked_by, *excluded}
        self.eligible = eligible_seats(rule, barred=self._barred)
        careful = careful_seats(rule, asked_by=asked_by, excluded=excluded)
        self.heard = tuple(seat for seat in rule.seats if seat in self.eligible or seat in careful)
        # The record of an answer names who gave it, if the ballot was theirs to cast, and otherwise whose it was.
        valid = [
            (seat, vote)
            for vote in votes
            if vote.user is not None and (seat := seat_of(rule, vote.user, vote.at)) is not None
            if self._counts(vote, seat) and vote.assigned in (seat, vote.user)
        ]
        self.counted = _most_careful(valid)

    def _counts(self, vote: Vote, seat: str) -> bool:
        if seat in {one.user for one in self.eligible}:
            return vote.user not in self._barred and vote.choice in CHOICES
        heard = seat in {one.user for one in self.heard}
        return heard and vote.choice == REJECT and vote.user not in self._asked_by

    def seats(self, choice: str) -> list[Seat]:
        """Return the seats with a vote."""
        return [seat for seat in self.heard if seat.user in self.counted and self.counted[seat.user].choice == choice]

    @property
    def approving(self) -> list[Seat]:
        """The seats that approve; a person's approval counts for only one seat."""
        by_person = {self.counted[seat.user].user: seat for seat in reversed(self.seats(APPROVE))}
        return [seat for seat in self.eligible if seat in by_person.values()]

    @property
    def silent(self) -> list[Seat]:
        """The seats without a vote."""
        return [seat for seat in self.eligible if seat.user not in self.counted]

    def out_of_reach(self) -> list[str]:
        """Return which demands can no longer be met, whatever the remaining votes are."""
        at_best = [*self.approving, *self.silent]
        beyond = [demand for demand in self.rule.demands if not is_met(demand, at_best)]
        if not beyond:
            return []
        what = listed(
            f"{_asked(asked, role)}{self._of(demand)}"
            for demand in beyond
            for role, (_, asked) in lacking(demand, at_best).items()
        )
        sentences = [f"rejected, because {what} can no longer be reached."]
        for demand in beyond:
            may = [seat for seat in self.eligible if seat.user in demand.members]
            if not is_met(demand, may):
                sentences.append(f"{_only(may, 'Only', 'No member')}{self._of(demand)} may vote on it.")
        return sentences

    def _of(self, demand: Demand) -> str:
        """Name the demand, if there are several."""
        return f" of {demand.title}" if len(self.rule.demands) > 1 else ""

    def needed(self) -> str:
        """Describe all that is required."""
        if len(self.rule.demands) > 1:
            return "; ".join(f"{demand} of {demand.title}" for demand in self.rule.demands)
        demand = self.rule.demands[0]
        return approvals(demand.approvals) + "".join(f", {number} by {role}" for role, number in demand.require.items())

    def progress(self) -> str:
        """Describe how many approvals were received, for each demand that lacks some."""
        return listed(
            f"{found} of {_asked(asked, role)}{self._of(demand)}"
            for demand in self.rule.demands
            for role, (found, asked) in lacking(demand, self.approving).items()
        )

    def voters(self, seats: Iterable[Seat]) -> list[str]:
        """Return the user names of who voted in some seats."""
        found = (self.counted[seat.user].user for seat in seats)
        return sorted({user for user in found if user is not None})

    def called(self, seats: Iterable[Seat]) -> str:
        """Return the names of the people who voted in some seats."""
        return listed(map(self._voter, seats))

    def _voter(self, seat: Seat) -> str:
        user = self.counted[seat.user].user
        return str(seat) if user is None or user == seat.user else f"{self.rule.called(user)} in place of {seat}"

    def said(self) -> Iterator[str]:
        """Return the comments of the rejections, the abstentions, and the conditions of the approvals."""
        for seat in self.seats(REJECT):
            yield f"{self._voter(seat)} rejected {_comment(self.counted[seat.user])}."
        if abstaining := self.seats(ABSTAIN):
            yield f"{self.called(abstaining)} abstained."
        for seat in self.seats(APPROVE):
            if conditions := _quoted(self.counted[seat.user].conditions):
                yield f"{self._voter(seat)} approved on the condition {conditions}."


def _asked(number: int, role: str) -> str:
    """Describe the required number of approvals, in total or by a role."""
    return approvals(number) + (f" by {role}" if role else "")


def _only(seats: Iterable[Seat], only: str = "only", none: str = "no member") -> str:
    """Return some seats as all that there are."""
    names = listed(map(str, seats))
    return f"{only} {names}" if names else none


def _most_careful(votes: Iterable[tuple[str | None, Vote]]) -> dict[str | None, Vote]:
    """Return the vote that stands for each seat, or for each person who may answer."""
    # Later entries win in a dictionary, so the most cautious choice comes last.
    in_order = sorted(votes, key=lambda cast: (-MOST_CAREFUL_FIRST.index(cast[1].choice), _sort_key(cast[1])))
    return dict(in_order)


def decide_single(
    approvers: Sequence[str],
    votes: Sequence[Vote],
    *,
    subject: Literal["plan", "acceptance"],
    digest: Sha256,
    requester: str,
    excluded: Collection[str] = (),
    expired: bool,
    names: Mapping[str, str] | None = None,
) -> Decision | None:
    """Decide by the first answer of the named people; None while there is no answer and the time is not over.

    :param excluded: who else does not approve it: those who wrote it, if the policy says so.
    :param expired: whether the time to answer has passed.
    :param names: how people call them, by user name.
    """
    eligible = others(approvers, {requester, *excluded})
    valid = [vote for vote in votes if vote.user in eligible and vote.choice in CHOICES]
    counted = _most_careful((vote.user, vote) for vote in valid)
    by_choice = {
        choice: [user for user in eligible if user in counted and counted[user].choice == choice] for choice in CHOICES
    }
    noun = _NOUN[subject]

    if rejecting := by_choice[REJECT]:
        sentences = [f"{_called([user], names)} rejected {noun} {_comment(counted[user])}." for user in rejecting]
        return _decision(subject, digest, votes, False, sentences)
    if approving := by_choice[APPROVE]:
        return _decision(subject, digest, votes, True, [f"{_called(approving, names)} approved {noun}."])
    if not eligible:
        return _decision(
            subject,
            digest,
            votes,
            False,
            [f"No approver is left for {noun}: the requester and the authors cannot approve it."],
        )
    if expired:
        silent = [user for user in eligible if user not in counted]
        sentences = [f"No approver approved {noun} in time."]
        sentences += [f"{_called(silent, names)} did not answer."] if silent else []
        sentences += [f"{_called(by_choice[ABSTAIN], names)} abstained."] if by_choice[ABSTAIN] else []
        return _decision(subject, digest, votes, False, sentences, late=True)
    return None


def others(people: Iterable[str], barred: Collection[str]) -> tuple[UserName, ...]:
    """Return people without duplicates and without those who cannot approve this."""
    return tuple(dict.fromkeys(user for user in people if user not in barred))


def _called(users: Iterable[str], names: Mapping[str, str] | None) -> str:
    known = names or {}
    return listed(f"{known[user]} ({user})" if user in known else user for user in users)


def _sort_key(vote: Vote) -> tuple[str, str, str, str, str, str]:
    at = vote.at.isoformat() if vote.at else ""
    return vote.assigned, vote.user or "", vote.choice, at, vote.comment, vote.conditions


def _decision(
    subject: Literal["plan", "acceptance", "board", "sign_off"],
    digest: Sha256,
    votes: Iterable[Vote],
    approved: bool,
    sentences: Iterable[str],
    *,
    late: bool = False,
    vetoed_by: Iterable[str] = (),
) -> Decision:
    return Decision(
        subject=subject,
        digest=digest,
        approved=approved,
        required=True,
        expired=late,
        vetoed_by=tuple(vetoed_by),
        reason=" ".join(sentences),
        votes=tuple(sorted(votes, key=_sort_key)),
    )


def _comment(vote: Vote) -> str:
    words = _quoted(vote.comment)
    return f"with the comment {words}" if words else "without a comment"


def _quoted(text: str) -> str:
    words = " ".join(text.split())
    return f"“{words[:MAX_QUOTE_LENGTH]}”" if words else ""
