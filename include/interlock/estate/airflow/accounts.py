"""Who can log in to the embedded Airflow, in which roles, with which password.

Each person whom the catalogue names as a board member, approver or support has an account with the matching roles.
Further accounts are those of the staff whom the catalogue does not name, and the service accounts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from interlock.domain.canonical import Model
from interlock.domain.catalogue import Board, Catalogue, Service
from interlock.domain.errors import ReleaseError
from interlock.domain.trains.manifest import CONDUCTOR
from interlock.estate.private_files import write_private
from interlock.estate.settings import Settings

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
        return self.user in (READER, CLERK, CONDUCTOR)


STAFF = (
    Account(
        user="rita", name="Rita Reyes", email="rita@example.com", roles=("release_manager",), title="release manager"
    ),
    Account(user="audrey", name="Audrey Osei", email="audrey@example.com", roles=("auditor",), title="auditor"),
    Account(
        user="olga", name="Olga Petrenko", email="olga@example.com", roles=("operator",), title="operator of Airflow"
    ),
    Account(
        user="admin", name="Ada Min", email="admin@example.com", roles=("Admin",), title="administrator of Airflow"
    ),
    Account(user=READER, name="Interlock reader", email="reader@example.com", roles=(READER,)),
    Account(user=CLERK, name="Board clerk", email="clerk@example.com", roles=(CLERK,)),
    Account(user=CONDUCTOR, name="Conductor of trains", email="conductor@example.com", roles=(CONDUCTOR,)),
)


def accounts(catalogue: Catalogue) -> tuple[Account, ...]:
    """Return all accounts; a person with several positions has the roles of each."""
    people = {person.user: (person.name, person.email) for person in catalogue.board.people}
    staff = {account.user: (account.name, account.email) for account in STAFF}
    held: dict[str, list[tuple[str, str]]] = {}
    for user, role, title in positions(catalogue):
        held.setdefault(user, []).append((role, title))
    result = []
    for user, ranks in held.items():
        name, email = people.get(user) or staff[user]
        roles = tuple(dict.fromkeys(role for role, _ in ranks))
        titles = ", ".join(dict.fromkeys(title for _, title in ranks))
        result.append(Account(user=user, name=name, email=email, roles=roles, title=titles))
    return tuple(result)


def positions(catalogue: Catalogue) -> Iterator[tuple[str, str, str]]:
    """Yield user, role and title of each position; the release manager comes first."""
    yield from ((account.user, account.roles[0], account.title) for account in STAFF[:1])
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
    yield from ((account.user, account.roles[0], account.title) for account in STAFF[1:])


def _of_service(service: Service) -> Iterator[tuple[str, str, str]]:
    for user in service.functional_approvers:
        yield user, "functional_approver", f"accepts {service.title}"
    for role, users in (service.training.acknowledge if service.training else {}).items():
        yield from ((user, "support", role.replace("-", " ")) for user in users)
    for role, users in (service.cases.testers if service.cases else {}).items():
        yield from ((user, "tester", f"tests {service.title}: {role.replace('-', ' ')}") for user in users)


def _vetoes(catalogue: Catalogue, board: Board, user: str) -> bool:
    return user in board.quorum.veto or catalogue.board.person(user).role in board.quorum.veto_roles


def logins_file(settings: Settings) -> Path:
    """Return the file with the passwords."""
    return settings.state / "logins.json"


def passwords(settings: Settings) -> dict[str, str]:
    """Return the password of every account of a stack that has been started."""
    try:
        return {user: str(password) for user, password in json.loads(logins_file(settings).read_text()).items()}
    except FileNotFoundError:
        raise ReleaseError(
            f"There are no logins yet: {logins_file(settings)} does not exist.", next_step="make up makes the accounts"
        ) from None


def keep_passwords(settings: Settings, all_accounts: Iterable[Account]) -> dict[str, str]:
    """Make a password for each account that has none; return all passwords, also those of closed accounts."""
    known = passwords(settings) if logins_file(settings).exists() else {}
    kept = known | {user: secrets.token_urlsafe(9) for account in all_accounts if (user := account.user) not in known}
    if kept != known:
        write_private(logins_file(settings), json.dumps(kept, indent=2) + "\n")
    return kept
