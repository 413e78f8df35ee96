"""Who can log in to the embedded Airflow, in which roles, with which password.

Besides the accounts that the catalogue gives there are those of the staff whom it does not name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from interlock.adapters.private_files import write_private
from interlock.domain.catalogue import Catalogue
from interlock.domain.errors import ReleaseError
from interlock.estate.settings import Settings
from interlock.installation.accounts import Account, accounts_of

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
)


def accounts(catalogue: Catalogue) -> tuple[Account, ...]:
    """Return all accounts of the embedded Airflow; the release manager's comes first."""
    found = accounts_of(catalogue, STAFF)
    return tuple(sorted(found, key=lambda account: account.user != STAFF[0].user))


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
