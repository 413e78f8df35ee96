"""Accounts that an installation needs: one for each person whom the catalogue asks, and the service accounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interlock.domain.canonical import Model
from interlock.domain.catalogue import Board, Catalogue, Service
from interlock.domain.change.pipelines import PIPELINE
from interlock.domain.trains.manifest import CONDUCTOR

READER, CLERK = "interlock_reader", "board_clerk"
"""Service accounts: the first reads answers, the second closes ballots that are no longer needed."""


class Account(Model):
    """An account of a person or a program."""

    user: str
    name: str
    email: str
    roles: tuple[str, ...]
    title: str = ""

    @property
    def is_service(self) -> bool:
        """Say whether a program uses this account."""
        return self.user in (READER, CLERK, CONDUCTOR) or PIPELINE in self.roles


SERVICE_ACCOUNTS = (
    Account(user=READER, name="Interlock reader", email="reader@example.com", roles=(READER,)),
    Account(user=CLERK, name="Board clerk", email="clerk@example.com", roles=(CLERK,)),
    Account(user=CONDUCTOR, name="Conductor of trains", email="conductor@example.com", roles=(CONDUCTOR,)),
)
"""Each with the role of its name."""


def accounts_of(catalogue: Catalogue, staff: Sequence[Account] = ()) -> tuple[Account, ...]:
    """Return the accounts of a catalogue and the service accounts; a person with several positions has all their roles.

    :param staff: people whom the catalogue may not name.
    """
    people = {person.user: (person.name, person.email) for person in catalogue.board.people}
    others = (*staff, *SERVICE_ACCOUNTS, *_of_pipelines(catalogue))
    given = {account.user: (account.name, account.email) for account in others}
    held: dict[str, list[tuple[str, str]]] = {}
    for user, role, title in (*positions(catalogue), *((one.user, one.roles[0], one.title) for one in others)):
        held.setdefault(user, []).append((role, title))
    result = []
    for user, ranks in held.items():
        name, email = people.get(user) or given[user]
        roles = tuple(dict.fromkeys(role for role, _ in ranks))
        titles = ", ".join(dict.fromkeys(title for _, title in ranks))
        result.append(Account(user=user, name=name, email=email, roles=roles, title=titles))
    return tuple(result)


def _of_pipelines(catalogue: Catalogue) -> Iterator[Account]:
    for user, services in catalogue.policy.pipelines.items():
        title = f"pipeline of {', '.join(services)}"
        yield Account(user=user, name=f"Pipeline {user}", email=f"{user}@example.com", roles=(PIPELINE,), title=title)


def positions(catalogue: Catalogue) -> Iterator[tuple[str, str, str]]:
    """Yield user, role and title of each position that a catalogue gives."""
    for board in catalogue.board.boards.values():
        for user in board.members:
            yield user, "board_member", f"{board.title}{' (veto)' if _vetoes(catalogue, board, user) else ''}"
    for user in catalogue.voters:
        if not any(user in board.members for board in catalogue.board.boards.values()):
            yield user, "board_member", "board member by rule or as a delegate"
    for user in catalogue.board.senior_management:
        yield user, "senior_management", "senior management"
    for service in catalogue.services.values():
        yield from _of_service(service)


def _of_service(service: Service) -> Iterator[tuple[str, str, str]]:
    for user in service.functional_approvers:
        yield user, "functional_approver", f"accepts {service.title}"
    for role, users in (service.training.acknowledge if service.training else {}).items():
        yield from ((user, "support", role.replace("-", " ")) for user in users)
    for role, users in (service.cases.testers if service.cases else {}).items():
        yield from ((user, "tester", f"tests {service.title}: {role.replace('-', ' ')}") for user in users)


def _vetoes(catalogue: Catalogue, board: Board, user: str) -> bool:
    return user in board.quorum.veto or catalogue.board.person(user).role in board.quorum.veto_roles
