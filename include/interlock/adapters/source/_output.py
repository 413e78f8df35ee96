"""Reading what git prints: commits, changed lines and times."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time

from interlock.domain.records import Commit

LOG_FORMAT = "--format=%H%x00%an%x00%ae%x00%cI %ct%x00%s"


def parse_commits(listed: bytes) -> tuple[Commit, ...]:
    """Read what git printed in :data:`LOG_FORMAT` with ``-z``: five fields for each commit, each ended by NUL."""
    fields = [field.decode(errors="replace") for field in listed.split(b"\0")[:-1]]
    return tuple(
        Commit(sha=sha, author=author, email=email, at=_instant(at), subject=subject)
        for sha, author, email, at, subject in zip(*[iter(fields)] * 5, strict=True)
    )


_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def parse_diff(diff: Iterable[str]) -> dict[str, frozenset[int]]:
    """Read a diff without context: the number of each line that it adds, by the file's path."""
    found: dict[str, set[int]] = {}
    name, left = "", 0
    for line in diff:
        if left:  # a line of the files, whatever it looks like
            left -= line[:1] in ("+", "-")
        elif line.startswith("+++ "):
            name = line[4:].removesuffix("\t").strip('"').removeprefix("b/")
        elif hunk := _HUNK.match(line):
            removed, added = (int(part) if part is not None else 1 for part in (hunk[1], hunk[3]))
            left = removed + added
            found.setdefault(name, set()).update(range(int(hunk[2]), int(hunk[2]) + added))
    return {path: frozenset(numbers) for path, numbers in found.items() if numbers}


def _instant(told: str) -> datetime:
    """Read a commit's time, in ISO 8601 and in seconds; git holds times and time zones that Python cannot.

    A time zone that is none is taken for UTC, and a time outside of the calendar for its first or last day: whatever a
    commit's author writes there, the commit is released by its id, and nothing is decided by its time.
    """
    written, _, seconds = told.rpartition(" ")
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        first, last = (datetime.combine(day, time(), UTC) for day in (date(1970, 1, 1), date.max))
        return datetime.fromtimestamp(min(max(parse_integer(seconds), first.timestamp()), last.timestamp()), UTC)


def parse_integer(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else 0
