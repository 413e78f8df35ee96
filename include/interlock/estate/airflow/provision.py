"""Bring Airflow's database to what the project says: tables, roles, accounts, pools, variables, connections.

This is one process, because each call of Airflow's command line costs seconds. Entries that people added stay.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.signing.signing import generate_key
from interlock.console.auth.roles import sync_roles
from interlock.domain.errors import ReleaseError
from interlock.estate.settings import SETTINGS_FILE, Settings
from interlock.estate.stack.postgres import LEDGER_WRITER, ledger_password
from interlock.estate.stack.shop_databases import READER, shop_password
from interlock.installation.accounts import Account
from interlock.installation.astro_settings import read_astro_settings
from interlock.installation.provision import close_accounts, provision_account, provision_entries

from .accounts import accounts, keep_passwords
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
    secrets = {
        **passwords,
        LEDGER_WRITER: ledger_password(settings, LEDGER_WRITER),
        READER: shop_password(settings, READER),
    }
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


if __name__ == "__main__":
    sys.exit(main())
