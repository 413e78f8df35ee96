"""Who must agree to a release: the boards and rules that match it, merged into one rule.

Each makes a demand: how many approvals by its own members, how many of them in a role, whose rejection decides, and by
when. Merging keeps every demand, so members of another rule cannot give the approvals that a rule demands of its own
members. The result is the union of members and of vetoes, the highest minimum, in total and of each role, and the
shortest deadline. The order in which rules are merged, and how often, makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial, reduce
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from interlock.domain.canonical import Model, canonical_bytes
from interlock.domain.catalogue import (
    DEFAULT_DEADLINE,
    Board,
    BoardBook,
    BoardRule,
    ChangeType,
    Condition,
    Delegation,
    Demands,
    Duration,
    Flow,
    Person,
    Policy,
    Service,
    SignOff,
    UserName,
)
from interlock.domain.catalogue.values import in_words
from interlock.domain.change.policy import flows_of
from interlock.domain.change.tightening import ENTERPRISE, Governed, levels
from interlock.domain.records import Rules

BOOK = "board.yaml"

M = TypeVar("M", bound=Model)


class Seat(Model):
    """A person who may vote, and the person's role."""

    user: UserName
    name: str
    role: str

    def __str__(self) -> str:
        return f"{self.name} ({self.user})"


class Demand(Model):
    """The approvals that one board or rule requires of its own members."""

    title: str
    place: str = Field(description="Where it is written: the file, and the part of it")
    members: tuple[UserName, ...]
    approvals: int
    require: dict[str, int] = Field({}, description="Role: fewest approvals of members with it")
    veto: tuple[UserName, ...] = Field((), description="Members with a veto, by name or by role")
    deadline: Duration | None = None
    remind_before: Duration | None = None

    def __str__(self) -> str:
        """Describe the demand in words."""
        roles = "".join(f", {number} by {role}" for role, number in sorted(self.require.items()))
        return f"{approvals(self.approvals)} of {len(self.members)}{roles}"


class Ballot(Model):
    """The ballot of one seat.

    :ivar voters: who may cast it: the member, and the delegates in the meantime.
    """

    seat: Seat
    voters: tuple[UserName, ...]


def _each_once(key: Callable[[M], str], models: tuple[M, ...]) -> tuple[M, ...]:
    """Bring models into their one order, each once: so a rule is the same whatever it was merged from."""
    by_place = {(key(model), canonical_bytes(model)): model for model in models}
    return tuple(by_place[place] for place in sorted(by_place))


class VotingRule(Model):
    """Everything that the boards and rules that match a release ask."""

    demands: Annotated[tuple[Demand, ...], AfterValidator(partial(_each_once, lambda demand: demand.place))] = Field(
        min_length=1
    )
    seats: Annotated[tuple[Seat, ...], AfterValidator(partial(_each_once, lambda seat: seat.user))]
    delegations: Annotated[
        tuple[Delegation, ...],
        AfterValidator(partial(_each_once, lambda delegation: f"{delegation.for_} {delegation.from_}")),
    ] = ()
    delegates: Annotated[tuple[Seat, ...], AfterValidator(partial(_each_once, lambda seat: seat.user))] = Field(
        (), description="Delegations, each with the delegate"
    )

    @property
    def title(self) -> str:
        """The names of the people who decide."""
        return listed([demand.title for demand in self.demands])

    @property
    def members(self) -> tuple[UserName, ...]:
        """All people who vote: the members of every demand."""
        return tuple(seat.user for seat in self.seats)

    @property
    def approvals(self) -> int:
        """The fewest approvals that may suffice: the highest minimum."""
        return max(demand.approvals for demand in self.demands)

    @property
    def require(self) -> dict[str, int]:
        """Role: the highest minimum of approvals in it."""
        every = sorted((role, number) for demand in self.demands for role, number in demand.require.items())
        return dict(every)  # of several numbers for a role, the last and highest stays

    @property
    def veto(self) -> tuple[UserName, ...]:
        """All people with a veto."""
        return tuple(sorted({user for demand in self.demands for user in demand.veto}))

    @property
    def deadline(self) -> timedelta:
        """The time to vote: the shortest of the deadlines."""
        return min((demand.deadline for demand in self.demands if demand.deadline), default=DEFAULT_DEADLINE)

    @property
    def remind_before(self) -> timedelta:
        """How long before the deadline who has not voted is reminded: the longest that is asked and possible."""
        asked = (demand.remind_before for demand in self.demands)
        possible = (length for length in asked if length and length < self.deadline)
        return max(possible, default=self.deadline / 4)

    def seat(self, user: str) -> Seat:
        """Return the seat of a member; KeyError for other people."""
        return {seat.user: seat for seat in self.seats}[user]

    def lines(self) -> tuple[str, ...]:
        """Say in words what is asked, a line for each demand with its place, and one for what they come to."""
        each = [f"{demand.title} ({demand.place}): {demand}{self._limits(demand)}" for demand in self.demands]
        away = [
            f"{self.called(delegation.to)} may vote in place of {self.called(delegation.for_)} "
            f"from {delegation.from_} until {delegation.until}"
            for delegation in self.delegations
        ]
        if len(each) == 1:
            return (*each, *away)
        roles = "".join(f", {number} by {role}" for role, number in self.require.items())
        all_of_it = (
            f"in total: {len(self.seats)} may vote, at least {approvals(self.approvals)}{roles}, and each line must "
            "be met"
        )
        return (*each, f"{all_of_it}; within {in_words(self.deadline)}", *away)

    def _limits(self, demand: Demand) -> str:
        veto = f"; a rejection by {listed([str(self.seat(user)) for user in demand.veto], 'or')} is a veto"
        within = f"; within {in_words(demand.deadline)}" if demand.deadline else ""
        return f"{veto if demand.veto else ''}{within}"

    def called(self, user: str) -> str:
        """Return the name of a member or a delegate."""
        return next(str(seat) for seat in (*self.seats, *self.delegates) if seat.user == user)


def merge(one: VotingRule, other: VotingRule) -> VotingRule:
    """Return the rule that applies if both match."""
    return VotingRule(
        demands=(*one.demands, *other.demands),
        seats=(*one.seats, *other.seats),
        delegations=(*one.delegations, *other.delegations),
        delegates=(*one.delegates, *other.delegates),
    )


def voting_rule(
    policy: Policy,
    book: BoardBook,
    service: Governed,
    *,
    change_type: ChangeType,
    risk: int,
    irreversible: bool = False,
) -> VotingRule | None:
    """Return what the boards and rules that match a release ask, merged; None if none does: it is pre-authorised.

    :param irreversible: the release has a step that cannot be taken back.
    """
    demands = _demands(policy, book, service, change_type=change_type, risk=risk, irreversible=irreversible)
    return _merged(book, demands)


def rule_on_record(
    rules: Rules, *, change_type: ChangeType, risk: int, irreversible: bool = False
) -> VotingRule | None:
    """Return what :func:`voting_rule` returned when rules of a release were recorded.

    :param rules: as ``domain/change/effective.py`` has them.
    """
    flow, book = Flow.model_validate(rules[ENTERPRISE]["change_types"][change_type.value]), book_on_record(rules)
    placed = {place: _as_written(rule) for place, rule in rules[BOOK]["rules"].items()}
    matching = {
        place: rule
        for place, rule in placed.items()
        if risk >= rule.when.risk_from and (irreversible or not rule.when.irreversible)
    }
    boards = (_of_board(book, name) for name in _boards_of(flow))
    further = (demand for place, rule in matching.items() for demand in demands_of_rule(book, rule, place))
    return _merged(book, (*boards, *further))


def book_on_record(rules: Rules) -> BoardBook:
    """Return the board book, without its rules, as it was when rules of a release were recorded.

    :param rules: as ``domain/change/effective.py`` has them.
    """
    return BoardBook.model_validate(
        {
            **{key: rules[BOOK][key] for key in ("boards", "senior_management")},
            **{key: [*rules[BOOK][key].values()] for key in ("people", "delegates")},
        }
    )


def _as_written(rule: Mapping[str, Any]) -> BoardRule:
    when = {key: rule[key] for key in ("risk_from", "irreversible") if key in rule}
    return BoardRule.model_validate({**{key: rule[key] for key in rule if key not in when}, "when": when})


def _merged(book: BoardBook, demands: Iterable[Demand]) -> VotingRule | None:
    matching = [_rule(book, demand) for demand in demands]
    return reduce(merge, matching) if matching else None


def both(one: VotingRule | None, other: VotingRule | None) -> VotingRule | None:
    """Return the rule of a release of which both are asked; None: neither asks for a vote."""
    return merge(one, other) if one and other else one or other


def board_rule(book: BoardBook, name: str) -> VotingRule:
    """Return what one board of the board book asks, whatever it votes on."""
    return _rule(book, _of_board(book, name))


def signers(asked: SignOff, people: Iterable[Person]) -> tuple[UserName, ...]:
    """Return who signs an environment off: the people who are named, and those who have one of the roles."""
    return tuple(sorted({*asked.people, *(person.user for person in people if person.role in asked.roles)}))


def sign_off_rule(book: BoardBook, service: Service, environment: str) -> VotingRule | None:
    """Return what the sign-off of an environment asks; None if nobody is asked.

    :param book: as it was when the release began (:func:`.amended.as_begun`).
    """
    asked = service.stations[environment].sign_off
    if asked is None:
        return None
    place = f"services/{service.name}.yaml {service.key_of(environment)}.sign_off"
    members = signers(asked, book.people)
    demand = Demand(title=asked.title, place=place, members=members, approvals=asked.quorum, deadline=asked.within)
    return _rule(book, demand)


def longest_deadline(policy: Policy, book: BoardBook, service: Governed) -> timedelta | None:
    """Return the longest time to vote on releases of a service; None: its releases need no vote."""
    every = [
        demand.deadline or DEFAULT_DEADLINE
        for kind in policy.change_types
        for demand in _demands(policy, book, service, change_type=kind, risk=100, irreversible=True)
    ]
    return max(every, default=None)


def rules_of(policy: Policy, book: BoardBook, service: Governed) -> Iterator[tuple[str, BoardRule]]:
    """Yield every rule on a service's releases, of every level, and where it is written."""
    yield from ((f"{BOOK} rules.{rule.name}", rule) for rule in book.rules)
    for place, level in levels(policy, service):
        yield from ((f"{place} board_rules.{rule.name}", rule) for rule in level.board_rules)


def matches(
    when: Condition, service: Governed, *, change_type: ChangeType, risk: int, irreversible: bool = False
) -> bool:
    """Tell whether a rule applies to a release: all its conditions are met."""
    named: list[tuple[Collection[object], object]] = [
        (when.change_types, change_type),
        (when.tiers, service.tier),
        (when.business_units, service.business_unit),
        (when.services, service.name),
    ]
    met = risk >= when.risk_from and (irreversible or not when.irreversible)
    return met and all(not allowed or found in allowed for allowed, found in named)


def _demands(
    policy: Policy, book: BoardBook, service: Governed, *, change_type: ChangeType, risk: int, irreversible: bool
) -> Iterator[Demand]:
    flow = flows_of(policy, service)[change_type]
    for name in _boards_of(flow):
        yield _of_board(book, name)
    for place, rule in rules_of(policy, book, service):
        if matches(rule.when, service, change_type=change_type, risk=risk, irreversible=irreversible):
            yield from demands_of_rule(book, rule, place)


def _boards_of(flow: Flow) -> Iterator[str]:
    yield from dict.fromkeys(filter(None, (flow.board, *flow.further_boards)))


def demands_of_rule(book: BoardBook, rule: BoardRule, place: str) -> Iterator[Demand]:
    """Yield what a rule asks: its board's own quorum, and the rule's of the same members or of its own."""
    if rule.board is not None:
        yield _of_board(book, rule.board)
    if rule.quorum is not None:
        board = book.boards[rule.board] if rule.board is not None else None
        title = f"{board.title}, by the rule {rule.name}" if board else f"Rule {rule.name}"
        members = board.members if board else rule.members
        yield _demand(book, members, rule.quorum, title=title, place=place)


def _of_board(book: BoardBook, name: str) -> Demand:
    board: Board = book.boards[name]
    place = f"{BOOK} boards.{name}"
    return _demand(book, board.members, board.quorum, title=board.title, place=place)


def _demand(book: BoardBook, members: Sequence[str], asked: Demands, *, title: str, place: str) -> Demand:
    by_role = (user for user in members if book.person(user).role in asked.veto_roles)
    return Demand(
        title=title,
        place=place,
        members=tuple(sorted(members)),
        approvals=asked.approvals,
        require=dict(sorted(asked.require.items())),
        veto=tuple(sorted({*asked.veto, *by_role})),
        deadline=asked.deadline,
        remind_before=asked.remind_before,
    )


def _rule(book: BoardBook, demand: Demand) -> VotingRule:
    away = tuple(delegation for delegation in book.delegates if delegation.for_ in demand.members)
    return VotingRule(
        demands=(demand,),
        seats=tuple(_seat(book, user) for user in demand.members),
        delegations=away,
        delegates=tuple(_seat(book, delegation.to) for delegation in away),
    )


def _seat(book: BoardBook, user: str) -> Seat:
    person = book.person(user)
    return Seat(user=person.user, name=person.name, role=person.role)


def approvals(number: int) -> str:
    """Return a number of approvals in words."""
    return "1 approval" if number == 1 else f"{number} approvals"


def listed(names: Iterable[str], joined_by: str = "and") -> str:
    """Return names as people list them, each once."""
    each = list(dict.fromkeys(names))
    return f" {joined_by} ".join(filter(None, (", ".join(each[:-1]), *each[-1:])))
