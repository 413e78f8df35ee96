"""Write roles, accounts, pools, variables and connections into Airflow's database. Entries that people added stay."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from interlock.domain.errors import ReleaseError

from .accounts import Account
from .astro_settings import AstroSettings, ConnectionEntry


def provision_account(manager: Any, account: Account, password: str) -> None:
    """Make an account, or give it these roles and this password.

    :param manager: FAB's security manager.
    """
    from werkzeug.security import check_password_hash, generate_password_hash

    user = manager.find_user(username=account.user)
    if user is None:
        add_account(manager, account, password)
        return
    user.first_name, user.last_name = _names(account)
    user.email, user.roles, user.active = account.email, _roles(manager, account), True
    if not check_password_hash(user.password, password):
        user.password = generate_password_hash(password)
    manager.update_user(user)


def add_account(manager: Any, account: Account, password: str) -> None:
    """Make an account.

    :raises ReleaseError: FAB does not take it, for instance because another account has its e-mail address.
    """
    if not manager.add_user(account.user, *_names(account), account.email, _roles(manager, account), password):
        raise ReleaseError(
            f"The account {account.user} could not be created: another one may have the address {account.email}.",
            who="the administrator of Airflow",
            next_step="correct the user name or the address in board.yaml, or the other account",
        )


def give_roles(manager: Any, account: Account) -> None:
    """Give an account that exists the roles that it lacks."""
    user = manager.find_user(username=account.user)
    user.roles = [*user.roles, *(role for role in _roles(manager, account) if role not in user.roles)]
    manager.update_user(user)


def _names(account: Account) -> tuple[str, str]:
    first, _, last = account.name.partition(" ")
    return first, last


def _roles(manager: Any, account: Account) -> list[Any]:
    roles = [manager.find_role(name) for name in account.roles]
    if None in roles:
        raise ReleaseError(f"The roles of {account.user} are {', '.join(account.roles)}; not all of them exist.")
    return roles


def close_accounts(manager: Any, gone: Iterable[str]) -> None:
    """Close the accounts that were made here for people whom the catalogue no longer names."""
    for name in gone:
        user = manager.find_user(username=name)
        if user is not None and user.active:
            user.active = False
            manager.update_user(user)


def provision_entries(astro: AstroSettings, connections: Iterable[ConnectionEntry]) -> None:
    """Write pools, variables and connections, in the Astro CLI's order."""
    from airflow.models.pool import Pool
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        for pool in astro.pools:
            Pool.create_or_update_pool(pool.name, pool.slots, pool.description, include_deferred=False, session=session)
        for variable in astro.variables:
            Variable.set(variable.name, variable.value, session=session)
        for entry in connections:
            provision_connection(session, entry)


def add_connection(entry: ConnectionEntry) -> None:
    """Write one connection."""
    from airflow.utils.session import create_session

    with create_session() as session:
        provision_connection(session, entry)


def provision_connection(session: Any, entry: ConnectionEntry) -> None:
    """Write a connection; it replaces a connection with its id."""
    from airflow.models.connection import Connection
    from sqlalchemy import delete

    extra = json.dumps(entry.extra) if entry.extra else None
    if entry.uri:
        connection = Connection(conn_id=entry.conn_id, uri=entry.uri)
        if extra:
            connection.set_extra(extra)
    else:
        connection = Connection(
            conn_id=entry.conn_id,
            conn_type=entry.type,
            host=entry.host or None,
            login=entry.login or None,
            password=entry.password or None,
            schema=entry.schema_ or None,
            port=entry.port or None,
            extra=extra,
        )
    session.execute(delete(Connection).where(Connection.conn_id == entry.conn_id))
    session.add(connection)
    session.flush()
