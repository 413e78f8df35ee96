"""A permit as a production host reads it: lines of plain text, with a signature that OpenSSH's own tool verifies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from interlock.domain.calendars.bookings import Entered

from .permit import MAX_PERMIT_AGE, Permit

NAMESPACE = "interlock-permit"
"""What the signature is for: a signature for anything else is not valid for a permit."""
CLOSE = "close"
"""The purpose of what is shown to hosts when a release is closed."""
PRINCIPAL = "interlock"
"""Who signs, in a host's file of keys."""


@dataclass(frozen=True, slots=True)
class ShownPermit:
    """What a visit shows to a host.

    :param signature: in OpenSSH's format for signed files (SSHSIG).
    :param must_verify: a host that has no keys to verify it with is not changed.
    """

    text: str
    signature: str
    must_verify: bool = False


def permit_text(permit: Permit) -> str:
    """Return what a host must know of a permit, a line for each thing; the program on hosts reads it.

    :param permit: one that lets something be changed.
    """
    return _text(
        permit.id, permit.purpose, permit.entered, permit.bundle, permit.hosts, permit.issued_at, permit.expires_at
    )


def closing_text(id: str, entered: Entered, hosts: Iterable[str], now: datetime) -> str:
    """Return what tells hosts that the permits with lower tokens are void: their release is closed.

    It lets nothing be changed.

    :param entered: the place, and the lowest token that a later permit can have.
    """
    return _text(id, CLOSE, entered, None, hosts, now, now + MAX_PERMIT_AGE)


def _text(
    id: str,
    purpose: str,
    entered: Entered | None,
    bundle: str | None,
    hosts: Iterable[str],
    since: datetime,
    until: datetime,
) -> str:
    place, token = (entered.place, entered.token) if entered else ("-", 0)
    lines = (
        f"{NAMESPACE} 1",
        f"id {id}",
        f"purpose {purpose}",
        f"place {place}",
        f"token {token}",
        f"bundle {bundle or '-'}",
        f"from {int(since.timestamp())}",
        f"until {int(until.timestamp())}",
        *(f"host {address}" for address in hosts),
    )
    return "".join(f"{_one_line(line)}\n" for line in lines)


def allowed_signer(key: str) -> str:
    """Return a line of a host's permit-keys.

    :param key: public, as OpenSSH writes it.
    """
    return f'{PRINCIPAL} namespaces="{NAMESPACE}" {key}\n'


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
