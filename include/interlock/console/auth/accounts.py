"""The accounts of people who answer, as FAB keeps them: an answer from an account in doubt is refused and recorded.

Other auth managers keep accounts elsewhere; their administrators are responsible for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.control.current_request import CurrentRequest
from interlock.console.control.lookups import asked_at_of
from interlock.console.control.routes import RequestKind
from interlock.console.record.witness import is_answer
from interlock.domain.board.accounts import CLERK, DOUBTED, Account, doubt, refusal
from interlock.domain.canonical import sha256_of
from interlock.domain.dag_names import CONFIRM_ACCOUNT
from interlock.domain.errors import describe_error
from interlock.domain.ledger.chain import INSTALLATION, Book, Entry
from interlock.domain.ledger.kinds import ACCOUNT_CONFIRMED, ACCOUNT_KNOWN, FINDING, family

from .roles import ROLES

log = logging.getLogger(__name__)


def is_vouched_for(asked: CurrentRequest) -> bool:
    """Tell whether a request needs an account that is not in doubt: an answer, or the confirmation of an account."""
    return is_answer(asked) or (
        asked.request_kind is RequestKind.TRIGGER and asked.names.get("dag_id") == CONFIRM_ACCOUNT
    )


def objection(
    user: str,
    asked: CurrentRequest,
    open_ledger: OpenLedger = configured_ledger,
    accounts: Callable[[], list[Account]] = lambda: accounts_of_ours(),
    asked_at: Callable[[CurrentRequest], datetime | None] = asked_at_of,
) -> str:
    """Say why the answer of an account is refused; empty: the account is not in doubt, or it is the clerk's.

    Accounts that are not on record yet are recorded as they are, so that later changes show.
    """
    if user == CLERK:
        return ""
    try:
        with open_ledger() as ledger:
            entries = _about_accounts(ledger)
            at = asked_at(asked) if is_answer(asked) else _last_doubt(entries)
            everybody = {one.user: one for one in accounts()}
            why = _doubt_of(ledger, everybody.get(user), user, at or datetime.now(UTC), entries)
            _note_new(ledger, everybody, entries)
    except Exception as error:  # of any kind: an account that cannot be checked is in doubt
        log.exception("The account of %s could not be checked", user)
        return refusal(f"The account of {user} cannot be checked: {describe_error(error)}.")
    return refusal(why) if why else ""


def _doubt_of(ledger: Book, account: Account | None, user: str, at: datetime, entries: list[Entry]) -> str:
    """Return what is doubted about an account, and put it on record."""
    if account is None:
        return f"The account of {user} does not have a role of Interlock."
    why = doubt(account, at, entries)
    if why:
        evidence = account.payload()
        key = f"{FINDING}/{DOUBTED}/{sha256_of({**evidence, 'why': why})[:32]}"
        finding = {"what": f"{why} An answer of this account was refused.", "found": DOUBTED, "evidence": evidence}
        ledger.append(INSTALLATION, FINDING, finding, actor=user, key=key)
    return why


def _note_new(ledger: Book, everybody: Mapping[str, Account], entries: list[Entry]) -> None:
    known = {entry.payload["user"] for entry in entries if entry.kind in (ACCOUNT_KNOWN, ACCOUNT_CONFIRMED)}
    for user in sorted(everybody.keys() - known):
        ledger.append(
            INSTALLATION, ACCOUNT_KNOWN, everybody[user].payload(), actor="interlock", key=f"{ACCOUNT_KNOWN}/{user}"
        )


def _about_accounts(ledger: Book) -> list[Entry]:
    found = [*ledger.entries(INSTALLATION, kind=family(ACCOUNT_KNOWN)), *ledger.entries(INSTALLATION, kind=FINDING)]
    return [one for one in found if one.kind != FINDING or one.payload.get("found") == DOUBTED]


def _last_doubt(entries: list[Entry]) -> datetime | None:
    return max((one.at for one in entries if one.kind == FINDING), default=None)


def accounts_of_ours() -> list[Account]:
    """Return the accounts that have a role of Interlock's, as FAB's tables have them now."""
    from airflow.providers.fab.auth_manager.models import Role, User
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = select(User.username, User.id, User.created_on, User.password).where(User.roles.any(Role.name.in_(ROLES)))
    with create_session() as session:
        return [_account(*row) for row in session.execute(wanted)]


def _account(user: str, number: int, since: datetime | None, password: str | None) -> Account:
    return Account(
        user=user,
        number=str(number),
        since=since.astimezone(UTC) if since else None,  # FAB writes this machine's time, and no zone
        secret=sha256_of(password.encode()) if password else None,
    )
