"""When an environment is open in one year: the times of entries, merged into spans that do not touch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .entries import Entry, Occurrence

_STRICTNESS = {"stop": 2, "back_out": 1, "finish": 0}


@dataclass(frozen=True, slots=True)
class YearTimes:
    """When it is open in a year: spans that do not touch, in order.

    :ivar denies: what denies, by its start; with the latest end up to each.
    """

    begin: datetime
    end: datetime
    starts: Sequence[datetime]
    ends: Sequence[datetime]
    denies: Sequence[Occurrence]
    latest: Sequence[datetime]
    windows: Sequence[Occurrence]

    @classmethod
    def of(cls, occurrences: Sequence[Occurrence], begin: datetime, end: datetime, *, limited: bool) -> YearTimes:
        """Merge what goes on between two instants.

        :param limited: something allows, so only what is allowed is open.
        """
        denies = [one for one in occurrences if one.entry.effect == "deny"]
        windows = [one for one in occurrences if one.entry.effect == "allow"]
        allowed = merge_spans((one.start, one.end) for one in windows)
        spans = [(max(start, begin), min(until, end)) for start, until in allowed] if limited else [(begin, end)]
        spans = list(subtract_spans(spans, merge_spans((one.start, one.end) for one in denies)))
        latest: list[datetime] = []
        for one in denies:
            latest.append(max(one.end, latest[-1]) if latest else one.end)
        return cls(begin, end, [span[0] for span in spans], [span[1] for span in spans], denies, latest, windows)

    def open_at(self, at: datetime) -> bool:
        """Say whether it is open at an instant."""
        index = bisect_right(self.starts, at) - 1
        return index >= 0 and at < self.ends[index]

    def turn(self, at: datetime, *, opens: bool) -> datetime | None:
        """Return the first instant at or after a start when it is open (or closed); none in this year."""
        if self.open_at(at) == opens:
            return at
        index = bisect_right(self.starts, at)
        if opens:
            return self.starts[index] if index < len(self.starts) else None
        return self.ends[index - 1] if self.ends[index - 1] < self.end else None

    def last_end(self, at: datetime) -> datetime | None:
        """Return when it closed last, up to an instant at which it is closed; none: not in this year."""
        index = bisect_right(self.ends, at)
        return self.ends[index - 1] if index else None

    def ended(self, at: datetime) -> Entry:
        """Return the change window that ends at an instant: of several the strictest."""
        found = (one.entry for one in self.windows if one.end == at)
        return max(found, key=lambda entry: (_STRICTNESS[entry.during_rollout], entry.place))

    def window(self, at: datetime) -> Occurrence | None:
        """Return the next change window to begin after an instant; none: none in this year."""
        index = bisect_right(self.windows, at, key=lambda one: one.start)
        return self.windows[index] if index < len(self.windows) else None

    def reason(self, at: datetime) -> tuple[Entry, str] | None:
        """Return what denies at an instant: of several the strictest, then the longest; none: no window is open."""
        index = bisect_right(self.denies, at, key=lambda one: one.start)
        active: list[Occurrence] = []
        while index > 0 and self.latest[index - 1] > at:
            index -= 1
            if self.denies[index].end > at:
                active.append(self.denies[index])
        if not active:
            return None
        one = max(active, key=lambda one: (_STRICTNESS[one.entry.during_rollout], one.end, one.entry.place, one.title))
        return one.entry, one.title


Span = tuple[datetime, datetime]


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, with touching spans merged."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def subtract_spans(spans: Iterable[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Yield what is left of spans without others; both merged."""
    first = 0
    for start, end in spans:
        while first < len(others) and others[first][1] <= start:
            first += 1
        for other_start, other_end in others[first:]:
            if other_start >= end:
                break
            if start < other_start:
                yield start, other_start
            start = max(start, other_end)
        if start < end:
            yield start, end


def year_span(year: int) -> Span:
    """Return the first instant of a year (UTC), and of the next one."""
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
