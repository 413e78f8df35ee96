"""Accounts that answer: an account is in doubt if it is newer than the question or has a new password.

The administrator of the accounts can act as any user: delete a member's account and create it again, or set its
password, and vote as that member. The account then differs from the one on record. Interlock cannot tell who set a
password. So each new password is in doubt until a second person confirms that the owner set it; answers are refused
until then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue import BoardBook
from interlock.domain.dag_names import CONFIRM_ACCOUNT
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import ACCOUNT_CONFIRMED, ACCOUNT_KNOWN

DOUBTED = "account_doubted"
"""How the finding about an account is called."""
CLERK = "board_clerk"
"""The service account that closes questions which need no answer any more; its answers never count."""


class Account(Model):
    """An account as the auth manager has it."""

    user: str
    number: str
    since: AwareDatetime | None = Field(description="When it was made; none: not known")
    secret: Sha256 | None = Field(description="Digest of what proves the password; none: it logs in elsewhere")

    @property
    def digest(self) -> Sha256:
        """Return what changes if it is another account, or has another password."""
        return sha256_of(self)

    def payload(self) -> dict[str, Any]:
        """Return it as the ledger has it: nothing that proves a password."""
        since = self.since.isoformat() if self.since else None
        return {"user": self.user, "number": self.number, "since": since, "account": self.digest}


def is_of(entry: Entry, user: str) -> bool:
    """Tell whether an entry is about somebody's account."""
    evidence = entry.payload.get("evidence")
    payload = evidence if entry.payload.get("found") == DOUBTED and isinstance(evidence, dict) else entry.payload
    return payload.get("user") == user and "account" in payload


def doubt(account: Account, asked_at: AwareDatetime, entries: Iterable[Entry]) -> str:
    """Say why an account is doubted; empty: it is not.

    :param asked_at: when it was asked.
    :param entries: the installation's about accounts.
    """
    own = [entry for entry in entries if is_of(entry, account.user)]
    if any(entry.kind == ACCOUNT_CONFIRMED and entry.payload["account"] == account.digest for entry in own):
        return ""
    if account.since is None or account.since > asked_at:
        when = f"at {account.since:%Y-%m-%d %H:%M:%S} UTC, after it was asked" if account.since else "nobody knows when"
        return f"The account of {account.user} was made {when}."
    known = [entry.payload for entry in own if entry.kind == ACCOUNT_KNOWN]
    if not known or any(one["account"] == account.digest for one in known):
        return ""
    if all(one["number"] != account.number for one in known):
        return f"The account of {account.user} was deleted and made anew."
    return f"The password of {account.user} was set anew; whether by {account.user} cannot be told."


def refusal(why: str) -> str:
    """Say what follows from a doubt, to whoever answers."""
    return (
        f"Your answer was not taken. {why} Rule: who can administer accounts could answer as somebody else, so an "
        "account that changed is confirmed by a second person (include/interlock/domain/board/accounts.py). Who can: "
        f"somebody of board.yaml who has talked to the owner, with the Dag {CONFIRM_ACCOUNT}. "
        "Next: have it confirmed, and answer again."
    )


def confirmed(user: str, by: str, reason: str, book: BoardBook, entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the entry by which somebody vouches for another's account as it was doubted last.

    :raises PolicyViolation: they may not, or nobody doubts it.
    """
    rule = f"an account that changed is confirmed by another person of board.yaml (the Dag {CONFIRM_ACCOUNT})"
    problem = ""
    if by == user:
        problem = f"{by} cannot confirm their own account"
    elif by not in {person.user for person in book.people}:
        problem = f"{by} is nobody of board.yaml, and cannot confirm accounts"
    doubted = [one for one in entries if one.payload.get("found") == DOUBTED and is_of(one, user)]
    if not problem and not doubted:
        problem = f"nobody doubts the account of {user}, or it has not answered yet"
    if problem:
        raise PolicyViolation(
            f"The account of {user} is not confirmed: {problem}.",
            rule=rule,
            who="the people of board.yaml",
            next_step="ask somebody else of board.yaml who knows them; an account is doubted when it answers",
        )
    return {"user": user, "account": doubted[-1].payload["evidence"]["account"], "by": by, "reason": reason}
