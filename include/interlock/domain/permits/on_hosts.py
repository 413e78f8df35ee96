"""A permit as a production host reads it: lines of plain text, with a signature that OpenSSH's own tool verifies."""

from __future__ import annotations

from dataclasses import dataclass

from .permit import Permit

NAMESPACE = "interlock-permit"
"""What the signature is for: a signature for anything else is not valid for a permit."""
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
    place, token = (permit.entered.place, permit.entered.token) if permit.entered else ("-", 0)
    lines = (
        f"{NAMESPACE} 1",
        f"id {permit.id}",
        f"purpose {permit.purpose}",
        f"place {place}",
        f"token {token}",
        f"bundle {permit.bundle or '-'}",
        f"from {int(permit.issued_at.timestamp())}",
        f"until {int(permit.expires_at.timestamp())}",
        *(f"host {address}" for address in permit.hosts),
    )
    return "".join(f"{_one_line(line)}\n" for line in lines)


def allowed_signer(key: str) -> str:
    """Return a line of a host's permit-keys.

    :param key: public, as OpenSSH writes it.
    """
    return f'{PRINCIPAL} namespaces="{NAMESPACE}" {key}\n'


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
