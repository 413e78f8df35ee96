"""Canonical JSON: the bytes of a record, and their digest."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest: 64 lower-case hexadecimal digits."""

T = TypeVar("T")
Later = Annotated[T | None, Field(exclude_if=lambda value: value is None)]
"""A field that older records did not have. It is left out if it is not set, so that they keep their digest."""


class Model(BaseModel):
    """Base of all models: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


def canonical_bytes(value: Model | dict[str, Any]) -> bytes:
    """Return ``value`` as JSON with sorted keys, no spaces and UTF-8: the same value is always the same bytes."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_of(value: Model | dict[str, Any] | bytes) -> str:
    """Return the SHA-256 of bytes, or of a record's canonical bytes, as 64 hexadecimal digits."""
    data = value if isinstance(value, bytes) else canonical_bytes(value)
    return hashlib.sha256(data).hexdigest()
