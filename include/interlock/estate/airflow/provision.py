"""Bring Airflow's database to what the project says: tables, roles, accounts, pools, variables, connections.

This is one process, because each call of Airflow's command line costs seconds. Entries that people added stay.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.signing.signing import generate_key
from interlock.console.auth.roles import sync_roles
from interlock.domain.errors import ReleaseError
from interlock.estate.settings import Settings
from interlock.estate.stack.postgres import LEDGER_WRITER, ledger_password

from .accounts import Account, accounts, keep_passwords
from .astro_settings import SETTINGS_FILE, AstroSettings, ConnectionEntry, read_astro_settings
from .connections import actual


def main() -> int:
    """Provision the database that the environment names; problems go to the standard error."""
    settings = Settings.from_environment(os.environ)
    try:
        astro = read_astro_settings(SETTINGS_FILE)
        all_accounts = accounts(load_catalogue(settings.catalogue))
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    passwords = keep_passwords(settings, all_accounts)
    secrets = {**passwords, LEDGER_WRITER: ledger_password(settings, LEDGER_WRITER)}
    generate_key(settings.signing_key)
    migrate()
    provision_people(all_accounts, passwords)
    provision_entries(astro, [actual(entry, settings, secrets) for entry in astro.connections])
    for note in astro.notes:
        print(f"{SETTINGS_FILE.name}: {note}")
    return 0


def migrate() -> None:
    """Make or upgrade the tables, the auth manager's too."""
    from airflow.utils.db import upgradedb
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    providers_configuration_loaded(upgradedb)()


def provision_people(all_accounts: Iterable[Account], passwords: Mapping[str, str]) -> None:
    """Make the roles and accounts, and close the accounts of people whom the catalogue no longer names."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as appbuilder:
        manager = appbuilder.sm
        manager.sync_roles()  # Airflow's own roles, and the permissions that ours are made of
        sync_roles(manager)
        for account in all_accounts:
            provision_account(manager, account, passwords[account.user])
        close_accounts(manager, set(passwords) - {account.user for account in all_accounts})


def provision_account(manager: Any, account: Account, password: str) -> None:
    """Make an account, or give it these roles and this password."""
    from werkzeug.security import check_password_hash, generate_password_hash

    first, _, last = account.name.partition(" ")
    roles = [manager.find_role(name) for name in account.roles]
    if None in roles:
        raise ReleaseError(f"The roles of {account.user} are {', '.join(account.roles)}; not all of them exist.")
    user = manager.find_user(username=account.user)
    if user is None:
        manager.add_user(account.user, first, last, account.email, roles, password)
        return
    user.first_name, user.last_name, user.email = first, last, account.email
    user.roles, user.active = roles, True
    if not check_password_hash(user.password, password):
        user.password = generate_password_hash(password)
    manager.update_user(user)


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


if __name__ == "__main__":
    sys.exit(main())
