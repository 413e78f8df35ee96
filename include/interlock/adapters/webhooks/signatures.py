"""Signatures of webhooks, as Standard Webhooks have them: HMAC-SHA256 over id, time and body.

A secret is ``whsec_`` and base64 of 24 to 64 bytes. Several secrets, separated by spaces, let a secret be changed
without a gap: what is sent has a signature by each, and what comes in needs a signature by one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from interlock.domain.errors import ReleaseError, RequestRefused

TOLERANCE = timedelta(minutes=5)
"""How far the time of a webhook may be from now, in both directions."""
_PREFIX = "whsec_"
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def secrets_in(text: str, connection: str) -> tuple[bytes, ...]:
    """Read the secrets of a connection.

    :param text: its password.
    :raises ReleaseError: there is none, or one is too short to be a secret, or no base64.
    """
    found = []
    for one in text.split():
        try:
            secret = base64.b64decode(one.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if not (one.startswith(_PREFIX) and 24 <= len(secret) <= 64):
            raise _of_no_use(connection)
        found.append(secret)
    if not found:
        raise _of_no_use(connection)
    return tuple(found)


def signed_headers(secrets: Sequence[bytes], id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that sign a body.

    :param id: of the event, the same each time it is sent.
    """
    stamp = str(int(at.timestamp()))
    signatures = " ".join(f"v1,{_signature(secret, id, stamp, body)}" for secret in secrets)
    return {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": signatures}


def verified_id(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """Return the id of a webhook whose signature holds.

    :param headers: with names in lower case.
    :raises RequestRefused: it is not signed by one of the secrets, or its time is not now.
    """
    id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = [one.partition(",") for one in headers.get("webhook-signature", "").split()[:10]]
    wanted = [_signature(secret, id, stamp, body) for secret in secrets]
    signed = any(
        version == "v1" and hmac.compare_digest(signature.encode(), one.encode())
        for version, _, signature in given
        for one in wanted
    )
    if not signed or not _ID.fullmatch(id) or not re.fullmatch(r"[0-9]{1,11}", stamp, re.ASCII):
        raise RequestRefused("The webhook is not signed with a secret of this source.")
    if abs(now.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        raise RequestRefused(
            "The time of the webhook is more than five minutes from now.",
            next_step="correct the clock of the sender, and send the event again with the time of sending",
        )
    return id


def _signature(secret: bytes, id: str, stamp: str, body: bytes) -> str:
    said = b".".join((id.encode(), stamp.encode(), body))
    return base64.b64encode(hmac.new(secret, said, hashlib.sha256).digest()).decode()


def _of_no_use(connection: str) -> ReleaseError:
    return ReleaseError(
        f"The password of the connection {connection} is no secret of webhooks.",
        rule="it is whsec_ and 24 to 64 bytes in base64; several are separated by spaces",
        who="the platform engineer",
        next_step='make one: echo "whsec_$(openssl rand -base64 32)"',
    )
