"""Numbers in reports: what is certain is read, what could be two numbers is not."""

from __future__ import annotations

import math
import re

_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_POINT = re.compile(r"-?\d{1,3}(,\d{3})+\.\d*|-?\d{1,3}(,\d{3}){2,}", re.ASCII)
"""1,234.5 and 1,234,567: the comma parts thousands."""
_COMMA = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d*|[+-]?\d+,\d*([eE][+-]?\d{1,3})?", re.ASCII)
"""1.234,5 and 0,160: the comma is the decimal sign."""
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""1,234 is one number in English, and another in German."""
_GROUPED = re.compile(r"(?<=\d)[ '\u2019\u00a0\u202f\u2009](?=\d{3}(\D|$))")
"""1 234,5 and 1'234.5."""


def seconds(text: str) -> float | None:
    """Return a time in seconds; None if it is not a number, or could be two.

    Tools write times in the language of the machine: ``0.16``, ``0,160``, ``1,234.5``, ``1.234,5``.
    """
    text = _GROUPED.sub("", text.strip())
    if not text:
        return 0.0
    if _PLAIN.fullmatch(text):
        value = float(text)
    elif _EITHER.fullmatch(text):
        return None
    elif _POINT.fullmatch(text):
        value = float(text.replace(",", ""))
    elif _COMMA.fullmatch(text):
        value = float(text.replace(".", "").replace(",", "."))
    else:
        return None
    return value if math.isfinite(value) else None


def count(text: str) -> int | None:
    """Return a count; None if it is not a whole number from 0."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
