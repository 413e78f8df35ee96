"""``board.yaml``: people, the boards that vote on rollout plans, the rules on who votes, and delegates."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from operator import not_
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.domain.canonical import Model

from .values import (
    ChangeType,
    Day,
    Duration,
    Email,
    Identifier,
    Line,
    People,
    Roles,
    UserName,
    in_words,
    named_twice,
)


class Person(Model):
    """A person who decides or is notified, with the login name."""

    user: UserName
    name: Line
    email: Email
    role: Identifier = Field(description="The role in which this person votes or answers, such as operations")


DEFAULT_DEADLINE = timedelta(days=2)
"""Default time for a vote of a board."""


class Demands(Model):
    """What some members must do for an approval."""

    approvals: int = Field(1, ge=1, description="Minimum number of approvals, from members of any role")
    require: dict[Identifier, Annotated[int, Field(ge=1)]] = Field(
        {}, description="Role: minimum number of approvals from members with this role, as part of all approvals"
    )
    veto: People = Field((), description="Members with a veto: their rejection rejects the release")
    veto_roles: Roles = Field(
        (), description="Roles with a veto: a rejection of a member with such a role rejects the release"
    )
    deadline: Duration | None = None
    remind_before: Duration | None = Field(
        None,
        description="Time before the deadline at which members get a reminder to vote; default: a quarter of it",
    )

    @model_validator(mode="after")
    def _reminds_in_time(self) -> Self:
        if self.remind_before and self.deadline and self.remind_before >= self.deadline:
            raise ValueError(
                f"remind_before is {in_words(self.remind_before)}, and the deadline {in_words(self.deadline)}: "
                "a reminder cannot be sent before the vote starts"
            )
        return self


class Quorum(Demands):
    """What a board needs to decide."""

    approvals: int = Field(ge=1, description="Minimum number of approvals, from members of any role")
    deadline: Duration = Field(
        DEFAULT_DEADLINE, description="Time for the vote; without a decision by then, the release is rejected"
    )


class RuleQuorum(Demands):
    """What a rule asks of its members; a deadline that it does not name is the others'."""

    deadline: Duration | None = Field(None, description="Time for the vote; default: the deadline of the other rules")


class Board(Model):
    """A board that votes on rollout plans."""

    title: Line
    members: Annotated[People, Field(min_length=1)]
    quorum: Quorum


class Condition(Model):
    """The releases that a rule applies to: all named conditions must match; omitted conditions always match."""

    change_types: tuple[ChangeType, ...] = Field((), description="Empty: all")
    tiers: tuple[Annotated[int, Field(ge=1, le=4)], ...] = Field((), description="Tiers of services; empty: all")
    risk_from: int = Field(0, ge=0, le=100, description="Minimum risk of the release")
    business_units: tuple[Identifier, ...] = Field((), description="Empty: all, and services without one")
    services: tuple[Identifier, ...] = Field((), description="Empty: all")
    irreversible: bool = Field(
        False,
        exclude_if=not_,  # rules of before there were runbooks keep their digest
        description="true: only releases with a step that cannot be taken back (runbook, way_back: none)",
    )


class BoardRule(Model):
    """Who votes, too, on some releases: a board of board.yaml, or the people that the rule names."""

    name: Identifier
    when: Condition = Condition()
    board: Identifier | None = Field(None, description="A board that votes, by its own quorum")
    members: People = Field((), description="People who vote, by the rule's quorum")
    quorum: RuleQuorum | None = Field(
        None, description="Quorum of the members; with a board, an additional quorum of that board"
    )

    @model_validator(mode="after")
    def _says_who_votes(self) -> Self:
        if (self.board is None) == (not self.members):
            raise ValueError("a rule names either a board or members")
        if self.members and self.quorum is None:
            raise ValueError("members need a quorum")
        return self


def refuse_rules_twice(rules: Iterable[BoardRule]) -> None:
    """Refuse rules of one place that have the same name."""
    if twice := named_twice(rule.name for rule in rules):
        raise ValueError(f"board rules: {twice} is named twice")


class Delegation(Model):
    """A person who votes in place of a member, from the first day to the last (UTC, both included)."""

    model_config = ConfigDict(serialize_by_alias=True)

    for_: UserName = Field(alias="for", description="The member who is represented, with their role and veto")
    to: UserName = Field(description="The delegate, who votes once, in place of the member")
    from_: Day = Field(alias="from", description="The first day, such as 2026-12-01")
    until: Day = Field(description="The last day, such as 2026-12-14")

    @model_validator(mode="after")
    def _is_a_time_of_somebody_else(self) -> Self:
        if self.for_ == self.to:
            raise ValueError(f"{self.to} cannot be their own delegate")
        if self.until < self.from_:
            raise ValueError(f"it ends on {self.until}, before it begins on {self.from_}")
        return self

    def holds(self, at: datetime) -> bool:
        """Say whether the delegate may vote at an instant."""
        return self.from_ <= at.astimezone(UTC).date().isoformat() <= self.until

    def meets(self, other: Delegation) -> bool:
        """Say whether two delegations have a day in common."""
        return self.from_ <= other.until and other.from_ <= self.until


class BoardBook(Model):
    """People and boards: ``board.yaml``."""

    people: tuple[Person, ...]
    boards: dict[Identifier, Board]
    rules: tuple[BoardRule, ...] = Field(
        (), description="Rules on who votes in addition to the board of the change type"
    )
    delegates: tuple[Delegation, ...] = Field((), description="Delegates of members, with their dates")
    senior_management: People = Field(
        description="People who can approve the plan of a major release; one approval is enough"
    )

    @model_validator(mode="after")
    def _everybody_is_somebody(self) -> Self:
        users = [person.user for person in self.people]
        if twice := named_twice(users):
            raise ValueError(f"people: {twice} is listed twice")
        if twice := named_twice(person.email.casefold() for person in self.people):
            raise ValueError(
                f"people: {twice} is the address of two people; each person needs one user name and one address"
            )
        named = {*self.voters, *self.senior_management, *(delegate.for_ for delegate in self.delegates)}
        if strangers := sorted(named - set(users)):
            raise ValueError(f"{', '.join(strangers)} is not listed under people")
        return self

    @model_validator(mode="after")
    def _rules_and_delegates_are_plain(self) -> Self:
        refuse_rules_twice(self.rules)
        for one, other in combinations(self.delegates, 2):
            if one.meets(other) and one.to == other.to:
                raise ValueError(
                    f"delegates: {one.to} represents two members at the same time; a delegate votes for one member"
                )
            if one.meets(other) and one.for_ == other.for_:
                raise ValueError(f"delegates: {one.for_} has two delegates at the same time; a member has one ballot")
        return self

    @property
    def voters(self) -> tuple[UserName, ...]:
        """All people who may get a ballot: members of boards and rules, and their delegates."""
        boards = (user for board in self.boards.values() for user in board.members)
        rules = (user for rule in self.rules for user in rule.members)
        return tuple(dict.fromkeys((*boards, *rules, *(delegate.to for delegate in self.delegates))))

    @property
    def names(self) -> dict[str, str]:
        """The name of each person, by user name."""
        return {person.user: person.name for person in self.people}

    def person(self, user: str) -> Person:
        """Return the person who logs in as ``user``; KeyError for a stranger."""
        return next((person for person in self.people if person.user == user), None) or _stranger(user)


def _stranger(user: str) -> Person:
    raise KeyError(f"{user} is not listed under people in board.yaml")
