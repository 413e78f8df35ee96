"""What the connections of a release are, by digest: an edit is found by what a connection has become.

The frozen plan has the digests, so the board decides on them, and packs contain them. They are keyed with a secret of
the installation: a reader of a plan cannot try values out. Passwords and tokens are left out: a new password for the
same login on the same host leads to the same place.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from interlock.domain.canonical import Model, canonical_bytes

_SECRET = re.compile(r"passw|passphrase|secret|token|private_?key|api_?key|credential", re.IGNORECASE)
_DIGITS = 32


class ConnectionDigests(Model):
    """Connections of Airflow, as they were at one time."""

    key: str = Field(description="Digest of the key; digests by different keys cannot be compared")
    of: dict[str, dict[str, str]] = Field(
        description="Connection: each of its fields, and what it leads to, with a digest; none: no such connection"
    )


def fields_of(connection: Any) -> dict[str, str]:
    """Return what a connection is, without its secrets.

    :param connection: Airflow's.
    """
    fields = {name: getattr(connection, name, None) for name in ("conn_type", "host", "login", "port", "schema")}
    more = _without_secrets(connection.extra_dejson)
    extra = {f"extra.{key}": value for key, value in more.items()} if isinstance(more, dict) else {"extra": more}
    said = {"type": fields.pop("conn_type"), **fields, **extra}
    return {name: _text(value) for name, value in said.items() if value not in (None, "", {}, [])}


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(one) for key, one in value.items() if not _SECRET.search(str(key))}
    return [_without_secrets(one) for one in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_bytes({"value": value}).decode()


def digests_of(contents: Mapping[str, Mapping[str, str]], key: bytes) -> ConnectionDigests:
    """Return the digests of connections.

    :param contents: connection: its fields; ``key``: a secret of the installation.
    """
    found = {
        name: {field: _digest(key, name, field, value) for field, value in sorted(fields.items())}
        for name, fields in sorted(contents.items())
    }
    return ConnectionDigests(key=_digest(key), of=found)


def _digest(key: bytes, *said: str) -> str:
    return hmac.new(key, "\0".join(said).encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def changes(frozen: ConnectionDigests | None, now: ConnectionDigests | None) -> tuple[str, ...]:
    """Return, in sentences, which connections are not what they were when a plan was frozen, and in which fields.

    :param frozen: none: the plan is from before connections were recorded.
    """
    if frozen is None or now is None:
        return ()
    if frozen.key != now.key:
        return (
            "The connections cannot be compared with those of the plan: the installation's signing key is another one, "
            "or the password of interlock_ledger if that key is in KMS.",
        )
    names = sorted(frozen.of.keys() | now.of.keys())
    return tuple(said for name in names if (said := _change(name, frozen.of.get(name), now.of.get(name))))


def _change(name: str, before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> str:
    old, new = before or {}, after or {}
    differ = sorted(field for field in old.keys() | new.keys() if old.get(field) != new.get(field))
    if not differ:
        return ""
    if not new:
        return f"The connection {name} was deleted after the plan was frozen."
    if not old:
        return f"The connection {name} was created after the plan was frozen."
    return f"The connection {name} is not what it was when the plan was frozen: it differs in {', '.join(differ)}."
