"""Errors in boards, rules and delegates: found when the catalogue is read, each with its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from interlock.domain.catalogue import BoardBook, BoardRule, Demands, Flow, FlowTightening, Policy, Tightening
from interlock.domain.catalogue.problem import Place, Problem

from .voting import approvals, listed


def faults_of_book(book: BoardBook, *, units: Collection[str], services: Collection[str]) -> Iterator[Problem]:
    """Yield what is wrong with boards, rules and delegates.

    :param units: the business units that there are.
    :param services: the services that there are.
    """
    for name, board in book.boards.items():
        yield from _of_demands(book, board.members, board.quorum, ("boards", name, "quorum"))
    for index, rule in enumerate(book.rules):
        yield from faults_of_rule(book, rule, ("rules", index), units=units, services=services)
    yield from _of_delegates(book)


def faults_of_policy(policy: Policy, book: BoardBook, *, services: Collection[str]) -> Iterator[Problem]:
    """Yield which boards a policy names that there are not, and what is wrong with the rules of its business units."""
    for kind, flow in policy.change_types.items():
        yield from _of_flow(book, flow, ("change_types", kind.value))
    for unit, level in policy.business_units.items():
        place = ("business_units", unit)
        yield from faults_of_level(level, book, place, units=policy.business_units.keys(), services=services)
    for user, named in policy.pipelines.items():
        if user in book.names:
            yield Problem(("pipelines", user), user, "an account that no person of board.yaml has")
        for index, service in enumerate(named):
            if service not in services:
                yield Problem(("pipelines", user, index), service, f"an existing service: {', '.join(services)}")


def faults_of_level(
    level: Tightening, book: BoardBook, place: Place, *, units: Collection[str], services: Collection[str]
) -> Iterator[Problem]:
    """Yield what is wrong with the boards that a lower level names, and with its rules."""
    for kind, flow in level.change_types.items():
        yield from _of_flow(book, flow, (*place, "change_types", kind.value))
    for index, rule in enumerate(level.board_rules):
        yield from faults_of_rule(book, rule, (*place, "board_rules", index), units=units, services=services)


def faults_of_rule(
    book: BoardBook, rule: BoardRule, place: Place, *, units: Collection[str], services: Collection[str]
) -> Iterator[Problem]:
    """Yield the faults of a rule: an unknown name, or more required votes than people."""
    yield from _of_board(book, rule.board, (*place, "board"))
    for key, asked, known in (
        ("business_units", rule.when.business_units, units),
        ("services", rule.when.services, services),
    ):
        for index, name in enumerate(asked):
            if name not in known:
                allowed = f"one of {listed(sorted(known), 'or')}" if known else "no value, because none is defined"
                yield Problem((*place, "when", key, index), name, allowed)
    people = book.names
    strangers = [
        Problem((*place, "members", index), user, _PEOPLE)
        for index, user in enumerate(rule.members)
        if user not in people
    ]
    yield from strangers
    members = book.boards[rule.board].members if rule.board in book.boards else rule.members
    if rule.quorum is not None and members and not strangers:
        yield from _of_demands(book, members, rule.quorum, (*place, "quorum"))


_PEOPLE = "a person listed in board.yaml"


def _of_flow(book: BoardBook, flow: Flow | FlowTightening, place: Place) -> Iterator[Problem]:
    yield from _of_board(book, flow.board, (*place, "board"))
    for index, name in enumerate(flow.further_boards):
        yield from _of_board(book, name, (*place, "further_boards", index))


def _of_board(book: BoardBook, name: str | None, place: Place) -> Iterator[Problem]:
    if name is not None and name not in book.boards:
        yield Problem(place, f'"{name}"', f"a board of board.yaml: {listed(sorted(book.boards), 'or')}")


def _of_demands(book: BoardBook, members: Sequence[str], asked: Demands, place: Place) -> Iterator[Problem]:
    """Yield where more is asked than the members can give."""
    roles = [book.person(user).role for user in members]
    if asked.approvals > len(members):
        allowed = f"at most {len(members)} (members: {listed(members)})"
        yield Problem((*place, "approvals"), approvals(asked.approvals), allowed)
    for role, number in asked.require.items():
        if number > roles.count(role):
            holders = listed(user for user in members if book.person(user).role == role)
            allowed = f"at most {roles.count(role)} (members in the role {role}: {holders or 'none'})"
            yield Problem((*place, "require", role), approvals(number), allowed)
    for index, user in enumerate(asked.veto):
        if user not in members:
            yield Problem((*place, "veto", index), user, f"a member: {listed(members, 'or')}")
    for index, role in enumerate(asked.veto_roles):
        if role not in roles:
            yield Problem((*place, "veto_roles", index), role, f"a role of a member: {listed(roles, 'or')}")


def _of_delegates(book: BoardBook) -> Iterator[Problem]:
    """Yield delegates who have a vote of their own on the same board: a person has one vote."""
    groups = [board.members for board in book.boards.values()] + [rule.members for rule in book.rules]
    for index, delegate in enumerate(book.delegates):
        if any(delegate.for_ in group and delegate.to in group for group in groups):
            allowed = f"a person who is not on the same board as {delegate.for_}: a person has one vote"
            yield Problem(("delegates", index, "to"), delegate.to, allowed)
