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
from interlock.domain.trigger_form import Form, Reason

DOUBTED = "account_doubted"
"""The kind of the finding about an account."""
CLERK = "board_clerk"
"""The service account that closes questions which no longer need an answer; its answers never count."""


class Account(Model):
    """An account as the auth manager has it."""

    user: str
    number: str
    since: AwareDatetime | None = Field(description="Creation time; none: not known")
    secret: Sha256 | None = Field(description="Digest of what proves the password; none: it logs in elsewhere")

    @property
    def digest(self) -> Sha256:
        """Return a value that changes if the account is created again or its password changes."""
        return sha256_of(self)

    def payload(self) -> dict[str, Any]:
        """Return the account for the ledger, without the digest that proves the password."""
        since = self.since.isoformat() if self.since else None
        return {"user": self.user, "number": self.number, "since": since, "account": self.digest}


class ConfirmationRequest(Form):
    """The form of ``confirm_account``."""

    user: str = Field(title="Account", description="The account to confirm.")
    reason: Reason = Field(
        title="How you verified it",
        description="How the owner confirmed that they reset the password or have a new account. It is recorded.",
    )


def is_of(entry: Entry, user: str) -> bool:
    """Tell whether an entry is about the account of a user."""
    evidence = entry.payload.get("evidence")
    payload = evidence if entry.payload.get("found") == DOUBTED and isinstance(evidence, dict) else entry.payload
    return payload.get("user") == user and "account" in payload


def doubt(account: Account, asked_at: AwareDatetime, entries: Iterable[Entry]) -> str:
    """Return why an account is in doubt; empty if it is not.

    :param asked_at: when it was asked.
    :param entries: the installation's about accounts.
    """
    own = [entry for entry in entries if is_of(entry, account.user)]
    if any(entry.kind == ACCOUNT_CONFIRMED and entry.payload["account"] == account.digest for entry in own):
        return ""
    if account.since is None or account.since > asked_at:
        when = (
            f"at {account.since:%Y-%m-%d %H:%M:%S} UTC, after the question" if account.since else "at an unknown time"
        )
        return f"The account of {account.user} was created {when}."
    known = [entry.payload for entry in own if entry.kind == ACCOUNT_KNOWN]
    if not known or any(one["account"] == account.digest for one in known):
        return ""
    if all(one["number"] != account.number for one in known):
        return f"The account of {account.user} was deleted and created again."
    return f"The password of {account.user} was reset. Interlock cannot tell whether {account.user} did it."


def refusal(why: str) -> str:
    """Return the refusal of an answer from an account in doubt."""
    return (
        f"Your answer was not accepted. {why} Rule: an administrator of accounts could answer as another user, so a "
        "second person must confirm a changed account (include/interlock/domain/board/accounts.py). Who can: "
        f"another person listed in board.yaml who has talked to you, with the Dag {CONFIRM_ACCOUNT}. "
        "Next: have your account confirmed, and answer again."
    )


def is_doubted(user: str, entries: Iterable[Entry]) -> bool:
    """Tell whether an answer of a user was refused because of the account.

    :param entries: the findings of the installation.
    """
    return bool(_doubts(user, entries))


def _doubts(user: str, entries: Iterable[Entry]) -> list[Entry]:
    return [one for one in entries if one.payload.get("found") == DOUBTED and is_of(one, user)]


def confirmed(request: ConfirmationRequest, by: str, book: BoardBook, entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the payload with which a person confirms the account of another user, as it was when last in doubt.

    :raises PolicyViolation: the person may not confirm it, or the account is not in doubt.
    """
    user = request.user
    rule = f"another person listed in board.yaml confirms a changed account (the Dag {CONFIRM_ACCOUNT})"
    problem = ""
    if by == user:
        problem = f"{by} cannot confirm their own account"
    elif by not in {person.user for person in book.people}:
        problem = f"{by} is not listed in board.yaml and cannot confirm accounts"
    doubted = _doubts(user, entries)
    if not problem and not doubted:
        problem = f"no answer of the account of {user} was refused"
    if problem:
        raise PolicyViolation(
            f"The account of {user} is not confirmed: {problem}.",
            rule=rule,
            who="the people listed in board.yaml",
            next_step="ask another person listed in board.yaml; only an account whose answer was refused can be "
            "confirmed",
        )
    return {"user": user, "account": doubted[-1].payload["evidence"]["account"], "by": by, "reason": request.reason}
