"""LCOV: a record for each source file and test, a line for each of its lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ._numbers import count
from ._untrusted import refuse_big, unreadable

MAX_LINES = 1_000_000
"""Lines of source that are held at once, of all files of a report."""
_MAX_LINE_LENGTH = 1 << 16
_KNOWN = frozenset(
    {"TN", "SF", "VER", "DA", "LF", "LH", "FN", "FNA", "FNL", "FNDA", "FNF", "FNH", "BA", "BRDA", "BRF", "BRH"}
    | {"MCDC", "MCF", "MRF", "MRH", "end_of_record"}
)


@dataclass(slots=True)
class Record:
    """One record about a source file.

    :param lines: number and how often it was run.
    :param code: what shows that there is code in it, of a record without lines.
    """

    name: str
    lines: list[tuple[int, int]] = field(default_factory=list)
    code: str = ""
    found: int | None = None
    hit: int | None = None


def records(path: Path) -> Iterator[Record]:
    """Read the records of a file.

    :raises QualityRejected: it is not LCOV, is incomplete, or its counts differ from its lines.
    """
    record: Record | None = None
    try:
        refuse_big(path)
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(_MAX_LINE_LENGTH):
                number += 1
                text = raw.decode(errors="replace").strip()
                if not text or text.startswith("#"):
                    continue
                key, _, value = text.partition(":")
                place = f"line {number}"
                if key not in _KNOWN:
                    raise unreadable(path, f"{text[:40]!r} is not valid in LCOV ({place})")
                if key == "SF":
                    if record or not value:
                        raise unreadable(path, f"a record does not end, or names no file ({place})")
                    record = Record(value)
                elif key == "end_of_record" and record:
                    yield _checked(path, record, place)
                    record = None
                else:
                    _take(path, record, key, value, place)
    except OSError as error:
        raise unreadable(path, str(error)) from error
    if record:
        raise unreadable(path, f"the record of {record.name} is incomplete")


def _take(path: Path, record: Record | None, key: str, value: str, place: str) -> None:
    """Take what concerns lines; functions and branches are not judged."""
    if key not in ("DA", "LF", "LH", "FNDA"):
        return
    if record is None:
        raise unreadable(path, f"{key} is outside of a record ({place})")
    if key == "DA":
        number, hits = (count(part) for part in (*value.split(",")[:2], "")[:2])
        if number is None or hits is None:
            raise unreadable(path, f"DA:{value[:40]} is not a line with a count ({place})")
        if len(record.lines) >= MAX_LINES:
            raise unreadable(path, f"it has more than {MAX_LINES} lines, which is the maximum")
        record.lines.append((number, hits))
    elif key == "FNDA":
        record.code = record.code or "it has functions, but no lines"
    else:
        amount = count(value)
        if amount is None:
            raise unreadable(path, f"{key}:{value[:40]} is not a count ({place})")
        record.found, record.hit = (amount, record.hit) if key == "LF" else (record.found, amount)


def _checked(path: Path, record: Record, place: str) -> Record:
    """Refuse a record whose number of lines differs from its count."""
    lines = dict.fromkeys(number for number, _ in record.lines)
    hit = {number for number, hits in record.lines if hits > 0}
    if not lines:
        record.code = record.code or (f"it has {record.found} lines, and none is listed" if record.found else "")
    elif record.found not in (None, len(lines)) or record.hit not in (None, len(hit)):
        says = f"{record.hit} of {record.found} lines were run"
        raise unreadable(path, f"{record.name}: it says that {says}, but lists {len(hit)} of {len(lines)} ({place})")
    return record
