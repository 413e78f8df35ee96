"""``interlock setup``: the ledger's database, keys, roles, accounts and connections of an installation.

It first works out what is missing. What people made stays: an account keeps its other roles and its password, a
connection that Airflow has is not written, and a key is not replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from interlock.adapters.airflow.connections import LEDGER, has_connection
from interlock.adapters.ledger import database, owner
from interlock.adapters.private_files import secret, write_private, write_whole
from interlock.adapters.signing.signing import generate_key
from interlock.console.auth import roles
from interlock.console.control.rules import RELEASE_MANAGER
from interlock.domain.catalogue import Catalogue

from . import provision
from .accounts import Account, accounts_of
from .astro_settings import FILE_NAME, ConnectionEntry, read_astro_settings
from .project import SERVICE_CONNECTIONS

ADMIN_URL = "INTERLOCK_LEDGER_ADMIN_URL"
"""Environment variable: an administrator of the PostgreSQL server that is to hold the ledger."""
OWNER, WRITER, WITNESS = database.ROLES
UNCHANGED = "CHANGE-ME"
"""What ``interlock init`` writes where only the organisation knows the value."""
SIGNING_KEY, WITNESS_KEY, WITNESS_URL = "keys/signing.pem", "api-server/witness.pem", "api-server/ledger_url"
PUBLIC_KEYS = "keys"
"""Files of the project: the second and the third are for the API server only."""
LOGINS = "logins"
"""The folder, among the secrets, of the first passwords of people."""


@dataclass(frozen=True, slots=True)
class Change:
    """What setup does: a sentence that begins with a verb, and the function that does it."""

    what: str
    make: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """What setup would change, in this order, and what people have to do themselves."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]


class Setup:
    """Works out what an installation lacks.

    :param folder: the project that ``interlock init`` wrote.
    :param manager: FAB's security manager; None: another auth manager is in force.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], catalogue: Catalogue, manager: Any) -> None:
        self._folder, self._secrets, self._settings = folder, folder / "secrets", folder / FILE_NAME
        self._admin, self._owner = environ.get(ADMIN_URL), environ.get(owner.OWNER_URL)
        self._catalogue, self._manager = catalogue, manager
        self._notes: list[str] = []
        self._new_passwords: set[str] = set()

    def plan(self) -> Plan:
        """Return what is missing, and change nothing.

        :raises ReleaseError: the ledger's server does not answer, or a file of the project is wrong.
        """
        self._notes.clear()
        changes = (*self._ledger(), *self._keys(), *self._people(), *self._connections())
        return Plan(changes, tuple(self._notes))

    def _password(self, name: str) -> str:
        return secret(self._secrets / name)

    def _knows(self, name: str) -> bool:
        return name in self._new_passwords or (self._secrets / name).exists()

    def _ledger(self) -> Iterator[Change]:
        missing = database.missing_roles(self._admin) if self._admin else ()
        if self._admin and missing:
            self._new_passwords.update(missing)
            made = f"create the database {database.DATABASE}, its tables, and the roles {', '.join(missing)}"
            yield Change(made, partial(self._make_ledger, self._admin, missing))
        elif url := self._owner or (self._admin and self._knows(OWNER) and self._ledger_url(OWNER)):
            if pending := owner.pending_migration(url):
                yield Change(f"migrate the ledger {pending}", partial(owner.migrate_database, url))
        else:
            self._notes.append(
                f"The ledger was not looked at: set {ADMIN_URL} to an administrator of its PostgreSQL server, or "
                f"{owner.OWNER_URL} to the owner of its database, as postgresql://user:password@host/database."
            )
        yield from self._witness_url()

    def _witness_url(self) -> Iterator[Change]:
        file = self._folder / WITNESS_URL
        if self._admin and self._knows(WITNESS) and not file.exists():
            yield Change(f"write {file}", lambda: write_private(file, self._ledger_url(WITNESS)))

    def _make_ledger(self, admin: str, missing: Sequence[str]) -> None:
        database.make_ledger_database(admin, {role: self._password(role) for role in missing})
        owner.migrate_database(self._ledger_url(OWNER) if self._knows(OWNER) else self._owner or "")

    def _ledger_url(self, role: str) -> str:
        """Return the URL with which a role logs in to the ledger, on the administrator's server."""
        place = urlsplit(self._admin or "").netloc.rpartition("@")[2]
        return f"postgresql://{role}:{quote(self._password(role), safe='')}@{place}/{database.DATABASE}"

    def _keys(self) -> Iterator[Change]:
        for name in (SIGNING_KEY, WITNESS_KEY):
            if not (self._folder / name).exists():
                yield Change(f"make the key {self._folder / name}", partial(self._make_key, name))

    def _make_key(self, name: str) -> None:
        """Make a key, and put its public key where all components find it."""
        key = self._folder / name
        key.parent.mkdir(mode=0o700, exist_ok=True)
        generate_key(key)
        public = key.with_name(f"{key.name}.pub")
        write_whole(self._folder / PUBLIC_KEYS / public.name, public.read_text())

    def _people(self) -> Iterator[Change]:
        accounts = accounts_of(self._catalogue)
        if self._manager is None:
            listed = "; ".join(f"{one.user}: {', '.join(one.roles)}" for one in accounts)
            self._notes.append(
                "Airflow has another auth manager than FAB: create these accounts and roles there. Their user names "
                f"must be the ids of users in that auth manager. {listed}."
            )
            return
        if wanted := roles.differences(self._manager):
            yield Change("; ".join(wanted), partial(roles.sync_roles, self._manager))
        for account in accounts:
            yield from self._account(account)
        self._note_people(accounts)

    def _account(self, account: Account) -> Iterator[Change]:
        user = self._manager.find_user(username=account.user)
        held = {role.name for role in user.roles} if user else set()
        lacking = [role for role in account.roles if role not in held]
        if user is None:
            self._new_passwords.add(self._login(account))
            yield Change(
                f"create the account {account.user} ({account.email}) with {', '.join(account.roles)}",
                lambda: provision.add_account(self._manager, account, self._password(self._login(account))),
            )
        elif lacking:
            yield Change(
                f"give the account {account.user} {', '.join(lacking)}",
                lambda: provision.give_roles(self._manager, account),
            )

    @staticmethod
    def _login(account: Account) -> str:
        return account.user if account.is_service else f"{LOGINS}/{account.user}"

    def _note_people(self, accounts: Iterable[Account]) -> None:
        named = {account.user: set(account.roles) for account in accounts}
        users = self._manager.get_all_users()
        for user in users:
            spare = {role.name for role in user.roles} & roles.FROM_CATALOGUE - named.get(user.username, set())
            if spare:
                self._notes.append(
                    f"{user.username} has {', '.join(sorted(spare))}, which the catalogue does not say: add this "
                    "person to the catalogue, or take the role away in Airflow (Security, List Users)."
                )
        if not any(role.name == RELEASE_MANAGER for user in users for role in user.roles):
            self._notes.append(
                f"Nobody has the role {RELEASE_MANAGER}, so nobody can request a release: give it to your release "
                "managers in Airflow (Security, List Users)."
            )

    def _connections(self) -> Iterator[Change]:
        if not self._settings.exists():
            self._notes.append(f"There is no {self._settings}: no connection is created. Next: run interlock init.")
            return
        astro = read_astro_settings(self._settings)
        self._notes.extend(f"{FILE_NAME}: {note}." for note in astro.notes)
        for entry in astro.connections:
            if has_connection(entry.conn_id):
                continue
            if unchanged := _unchanged(entry):
                self._notes.append(
                    f"The connection {entry.conn_id} is not created: {', '.join(unchanged)} is still {UNCHANGED}. "
                    f"Next: edit {self._settings}, then run this again."
                )
            elif lacks := self._lacks(entry):
                self._notes.append(f"The connection {entry.conn_id} is not created: {lacks}")
            else:
                yield Change(f"create the connection {entry.conn_id}", partial(self._connect, entry))

    def _lacks(self, entry: ConnectionEntry) -> str:
        """Say which password a connection needs and nobody here knows."""
        needed = _password_of(entry)
        if needed is None or entry.password or self._knows(needed):
            return ""
        return (
            f"the password of {needed} is not known here. Next: write it into conn_password of the connection in "
            f"{self._settings}, or create the connection yourself."
        )

    def _connect(self, entry: ConnectionEntry) -> None:
        needed = _password_of(entry)
        filled = {"password": self._password(needed)} if needed and not entry.password else {}
        provision.add_connection(entry.model_copy(update=filled))


def _password_of(entry: ConnectionEntry) -> str | None:
    """Return which password of ours a connection needs."""
    return dict(SERVICE_CONNECTIONS).get(entry.conn_id) or (WRITER if entry.conn_id == LEDGER else None)


def _unchanged(entry: ConnectionEntry) -> list[str]:
    fields = {**entry.model_dump(exclude={"conn_id", "extra"}), **entry.extra}
    return sorted(name.rstrip("_") for name, value in fields.items() if UNCHANGED in str(value))
