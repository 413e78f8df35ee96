"""Payloads are plain JSON: values that every JSON reader reads alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

DEEPEST_PAYLOAD = 32
LARGEST_INTEGER = 2**53 - 1
"""Many JSON readers round larger integers."""

_HALF = re.compile("[\ud800-\udfff]")


def not_plain_json(value: Any, where: str, depth: int = 0) -> Iterator[str]:
    """Yield where a value is not JSON that every reader reads alike."""
    if value is None or isinstance(value, bool):
        return
    if depth > DEEPEST_PAYLOAD:
        yield f"{where} is nested more than {DEEPEST_PAYLOAD} levels deep"
    elif isinstance(value, str):
        yield from _bad_text(value, where)
    elif isinstance(value, int | float):
        yield from _bad_number(value, where)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _bad_text(key, f"a key of {where}")
            yield from not_plain_json(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from not_plain_json(inner, f"{where}[{index}]", depth + 1)
    else:
        yield f"{where} is of the type {type(value).__name__}, which JSON does not have"


def _bad_text(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{where} is not text"
    elif not value.isascii() and _HALF.search(value):
        yield f"{where} contains an incomplete character"


def _bad_number(value: float, where: str) -> Iterator[str]:
    if not math.isfinite(value):
        yield f"{where} is {value}, which JSON does not have"
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        yield f"{where} is a number that JSON readers would round"
