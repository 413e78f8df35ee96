"""Strict reading of what a pipeline signed: JSON with each key once, base64 in the one way to write it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any

from interlock.domain.prebuilt.claims import STATEMENT


class NotVerified(Exception):
    """A statement does not count, and why."""


def as_statement(payload: bytes) -> Mapping[str, Any]:
    """Return the in-toto statement that a payload is."""
    try:
        plain = json_object(parsed(payload.decode()))
    except ValueError as error:
        raise NotVerified(f"its payload is not JSON: {error}") from error
    if plain.get("_type") != STATEMENT:
        raise NotVerified(f"is not an in-toto statement v1, but {str(plain.get('_type'))[:100]!r}")
    return plain


def decoded(text: object) -> bytes:
    """Return what base64 says; only the one way to write it counts."""
    try:
        data = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotVerified("its payload or a signature is not base64") from error
    if not data or base64.b64encode(data).decode() != text:
        raise NotVerified("its payload or a signature is not base64")
    return data


def json_object(value: object) -> Mapping[str, Any]:
    """Return an object of JSON; NotVerified if it is something else."""
    if not isinstance(value, dict):
        raise NotVerified("is not a JSON object")
    return value


def parsed(text: str) -> Any:
    """Read JSON in which each key stands once: two readers may take another one of two."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in pairs:
        if key in plain:
            raise ValueError(f"{key[:100]!r} stands in it twice")
        plain[key] = value
    return plain


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
