"""Errors of the database, turned into errors for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from interlock.adapters.ledger.migrations.rightful import LOST, OVERTAKEN
from interlock.domain.errors import AssetMissing, HeldBack, LedgerError, LostRight, ReleaseError, TransientError
from interlock.domain.permits.fencing import LOST_RULE
from interlock.domain.permits.overtaking import OVERTAKEN_RULE

from ._rows import SETTINGS

_RETRY_CODES = ("40001", "40P01", "23505")  # serialization, deadlock, another writer was first
_SET_UP_CODES = ("42501", "42P01", "3F000", "28000", "28P01", "3D000")


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn a database's errors into errors for people."""
    try:
        yield
    except DBAPIError as error:
        raise describe_error(error) from error


def is_temporary(error: DBAPIError) -> bool:
    """Tell whether an immediate retry may succeed: another writer was first, or the connection was lost."""
    code = _code(error)
    return code in _RETRY_CODES or code.startswith(("08", "57P")) or not code


def describe_error(error: DBAPIError) -> ReleaseError:
    """Return the error for people: whether to try again later, or to complete the setup."""
    said = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    code = _code(error)
    if code == LOST:
        return LostRight(f"The ledger refused an entry of this process: {said}.", rule=LOST_RULE, who="no user")
    if code == OVERTAKEN:
        return HeldBack(f"The ledger refused an entry: {said}.", rule=OVERTAKEN_RULE, who="no user")
    if code in _SET_UP_CODES:
        return AssetMissing(
            f"The ledger is not usable: {said}.",
            rule="every decision is recorded in the ledger before it takes effect",
            who="the operators of the ledger's PostgreSQL",
            next_step=f"run interlock ledger migrate to create tables and permissions, then check {SETTINGS}",
        )
    if code in _RETRY_CODES or code.startswith(("08", "53", "55", "57")) or not code:
        return TransientError(f"The ledger does not answer: {said}.", next_step=f"try again, or check {SETTINGS}")
    return LedgerError(f"The database of the ledger refused the request: {said}.")


def _code(error: DBAPIError) -> str:
    return str(getattr(error.orig, "pgcode", None) or "")
