"""Whether a chain is intact: its hashes, its order, its keys and its signed heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .chain import (
    CHANGED,
    SEALED,
    START,
    UNREADABLE,
    Break,
    BreakKind,
    Entry,
    SignedHead,
    break_at,
    entry_hash,
    instant,
    read_or_none,
)
from .kinds import CLOCK_CORRECTED, RELEASE_CLOSED
from .runs import CHAINS


def intact(
    chain: str,
    entries: Iterable[Entry | Mapping[str, Any]],
    *,
    heads: Iterable[SignedHead] = (),
    after: Entry | None = None,
) -> tuple[Entry, ...] | Break:
    """Return the entries of a chain, or the first place where it is not intact.

    :param entries: in the order in which they were kept; what cannot be read as an entry is a break.
    :param heads: of this chain; who signed them is for the caller to check.
    :param after: an entry that is known to be good: the chain is checked from there, and it is not returned.
    """
    rows = list(entries)
    found, good = _walk(chain, rows, after)
    broken_head = _head_break(chain, good, heads, after)
    if found is None or (broken_head is not None and broken_head.sequence < found.sequence):
        found = broken_head
    return found or tuple(entry for entry in good.values() if entry is not after)


def first_break(chain: str, entries: Iterable[Entry | Mapping[str, Any]], **known: Any) -> Break | None:
    """Return the first place where a chain is not intact, or None; for ``known``, see :func:`intact`."""
    found = intact(chain, entries, **known)
    return found if isinstance(found, Break) else None


def unsigned_since(chain: str, entries: Sequence[Entry], heads: Iterable[SignedHead]) -> Break | None:
    """Return where a chain lacks a signed head after an entry that requires it; None if no head is missing.

    :param entries: of the chain, found to be intact; without heads, a writer of rows could replace all of them.
    :param heads: of this chain, each signed by a known key.
    """
    end = max((head.sequence for head in heads), default=0)
    missing = next((entry for entry in entries if entry.kind in SEALED and entry.sequence > end), None)
    if missing is None:
        return None
    return break_at(
        chain, missing.sequence, "head", f"({missing.kind}) is not signed, as every entry of its kind must be"
    )


def ends_by_chain(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the entries of the installation's chain that say how a release ended, by the chain of the release."""
    return {f"{CHAINS}{entry.payload['run']}": entry for entry in entries}


def cut_end(chain: str, entries: Sequence[Entry], ends: Mapping[str, Entry]) -> Break | None:
    """Return where the end of a release's chain was cut off together with its signed heads; None if it was not.

    :param entries: of the chain, found to be intact.
    :param ends: as :func:`ends_by_chain` returns them.
    """
    ended = ends.get(chain)
    if ended is None or any(entry.kind == RELEASE_CLOSED for entry in entries):
        return None
    sentence = f"is missing: the release has ended by entry {ended.sequence} of the chain {ended.chain}"
    return break_at(chain, len(entries) + 1, "missing", sentence)


def _walk(
    chain: str, rows: Sequence[Entry | Mapping[str, Any]], after: Entry | None
) -> tuple[Break | None, dict[int, Entry]]:
    """Follow the links; return the first break, and by sequence what is good before it."""
    last, keys = after, {after.key} if after else set()
    good = {after.sequence: after} if after else {}
    for index, row in enumerate(rows):
        place = last.sequence + 1 if last else 1
        entry = read_or_none(row)
        if entry is None:
            return break_at(chain, place, "unreadable", UNREADABLE), good
        for what, sentence in _faults(chain, place, entry, last, keys):
            if what == "missing" and any(_sequence(later) == place for later in rows[index + 1 :]):
                what, sentence = "reordered", f"is out of order: entry {entry.sequence} is in its place"
            return break_at(chain, place, what, sentence), good
        good[place] = last = entry
        keys.add(entry.key)
    return None, good


def _faults(
    chain: str, place: int, entry: Entry, last: Entry | None, keys: set[str]
) -> Iterator[tuple[BreakKind, str]]:
    if entry_hash(entry) != entry.hash:
        yield "changed", CHANGED
    if entry.chain != chain:
        yield "foreign", f"belongs to the chain {entry.chain}"
    if entry.sequence < place:
        yield "duplicated", f"repeats entry {entry.sequence}"
    if entry.sequence > place:
        yield "missing", f"is missing: entry {entry.sequence} is in its place"
    if entry.previous != (last.hash if last else START):
        yield "unlinked", "does not match the hash of the entry before it: one of the two was replaced"
    if entry.key in keys:
        yield "duplicated", f"records {entry.key} a second time"
    if last and entry.at < last.at and entry.kind != CLOCK_CORRECTED:
        yield "clock", f"is from {instant(entry.at)}, earlier than the one before it ({instant(last.at)})"


def _head_break(
    chain: str, good: Mapping[int, Entry], heads: Iterable[SignedHead], after: Entry | None
) -> Break | None:
    """Return the first signed head that does not match the entries."""
    begin, end = after.sequence if after else 1, max(good, default=0)
    for head in sorted(heads, key=lambda head: head.sequence):
        if head.chain != chain:
            return break_at(chain, head.sequence, "head", f"has a signed head of the chain {head.chain}")
        if head.sequence > end:
            return break_at(chain, end + 1, "missing", f"is missing: the chain was signed up to entry {head.sequence}")
        if head.sequence >= begin and good[head.sequence].hash != head.hash:
            return break_at(chain, head.sequence, "head", "is not the entry that was signed")
    return None


def _sequence(row: Entry | Mapping[str, Any]) -> Any:
    return row.sequence if isinstance(row, Entry) else row.get("sequence")
