"""The ledger's entries, and the chain that makes a later change of them visible.

An entry's hash is the SHA-256 of the canonical JSON of all its other fields, including its predecessor's hash. So a
chain proves its own order and completeness up to its last entry. The signed head proves the last entry.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, field_serializer, field_validator

from interlock.domain.canonical import Model, Sha256, canonical_bytes, sha256_of
from interlock.domain.errors import ClockError, LedgerBroken, LedgerError

from .kinds import CLOCK_CORRECTED, KINDS, following

START = "0" * 64
"""The predecessor's hash in the first entry of a chain."""
INSTALLATION = "installation"
"""The chain of what belongs to no single release."""
HEAD_TYPE = "application/vnd.interlock.chain-head+json"
"""Payload type of a signed head."""
IN_ANY_CASE = frozenset(one.name for one in KINDS.values() if one.any_clock)
"""Kinds that are recorded even with a wrong clock: an emergency stop must always be possible."""

END = tuple(one.name for one in KINDS.values() if one.ends)
"""The entries with which the chain of a release and of a train end."""
AFTER_END = following("end")
"""Kinds that may follow the end of any chain: findings, and requests at Airflow's API."""
AFTER_FAILURE = following("failure")
"""Kinds that may follow the end of a failed release: it is backed out, which closes it again."""
AFTER_DEPLOYMENT = following("deployment")
"""Kinds that may follow the end of a deployed release: a host that was down gets it."""

SEALED = frozenset(one.name for one in KINDS.values() if one.seals)
"""Kinds in a release's or a train's chain after which its head is signed."""

LARGEST_PAYLOAD = 1024 * 1024
"""Bytes of a payload's canonical JSON: what is larger belongs into the artifact store, with its digest here."""
DEEPEST_PAYLOAD = 32
LARGEST_INTEGER = 2**53 - 1
"""Other readers of JSON round what is above."""

_UNREADABLE, _CHANGED = "cannot be read", "was changed: its hash does not match its content"
_HALF = re.compile("[\ud800-\udfff]")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

Line = Annotated[str, StringConstraints(min_length=1, max_length=600, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
"""A text that fits on one line."""
Kind = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$")]
"""What an entry records, in dotted words: ``board.decided``."""


class Entry(Model):
    """One event, in its place in a chain."""

    chain: Line
    sequence: int = Field(ge=1, strict=True)
    at: AwareDatetime
    actor: Line
    kind: Kind
    key: Line = Field(description="Names the thing: what has the same key in a chain is the same thing")
    payload: dict[str, Any]
    previous: Sha256
    hash: Sha256

    @field_validator("at", mode="before")
    @classmethod
    def _one_way_to_write_it(cls, value: Any) -> Any:
        if isinstance(value, str) and not _INSTANT.fullmatch(value):
            raise ValueError("an instant is written YYYY-MM-DDTHH:MM:SS.ffffffZ")
        return value

    @field_validator("at")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        return value.astimezone(UTC)

    @field_serializer("at", when_used="json")
    def _written(self, value: datetime) -> str:
        return instant(value)

    @field_validator("payload", mode="before")
    @classmethod
    def _plain_json(cls, value: Any) -> Any:
        for problem in _not_json(value, "payload", 0):
            raise ValueError(problem)
        return value


class Predecessor(Protocol):
    """The fields of an entry to which the next entry is linked."""

    @property
    def sequence(self) -> int:
        """Its place in the chain."""

    @property
    def at(self) -> datetime:
        """When it was recorded."""

    @property
    def hash(self) -> str:
        """Its stored hash."""


class SignedHead(Model):
    """The last entry of a chain at the time when it was signed with the installation's key."""

    chain: Line
    sequence: int = Field(ge=1, strict=True)
    hash: Sha256
    envelope: dict[str, Any] = Field(description="DSSE; its payload is the canonical JSON of chain, sequence, hash, at")


BreakKind = Literal[
    "unreadable", "changed", "foreign", "missing", "reordered", "duplicated", "unlinked", "clock", "head"
]


class Chains(Protocol):
    """The part of the ledger that is read for what goes on, or did."""

    def entries(self, chain: str, *, kind: str | None = None) -> Sequence[Entry]: ...  # noqa: D102
    def chains(self) -> Sequence[str]: ...  # noqa: D102


class Break(Model):
    """The first place where a chain is not intact."""

    chain: str
    sequence: int = Field(description="The place in the chain, counted from 1")
    what: BreakKind
    sentence: str = Field(description="For people: what was found there")


def release_chain(dag_id: str, run_id: str) -> str:
    """Return the name of a release's chain."""
    return f"release/{dag_id}/{run_id}"


def instant(at: datetime) -> str:
    """Return an instant as entries have it: UTC, with microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"


def entry_hash(entry: Entry) -> str:
    """Return the hash that an entry must have."""
    return sha256_of(entry.model_dump(mode="json", exclude={"hash"}))


def next_entry(
    last: Predecessor | None, *, chain: str, at: datetime, actor: str, kind: str, key: str, payload: Mapping[str, Any]
) -> Entry:
    """Return the entry that follows the last one of a chain; ClockError if it would be earlier.

    Kinds that are always recorded then get the time of the entry before.
    """
    if last is not None and kind in IN_ANY_CASE:
        at = max(at, last.at)
    if last is not None and at < last.at and kind != CLOCK_CORRECTED:
        raise ClockError(
            f"The clock is at {instant(at)}, but entry {last.sequence} of the chain {chain} is from "
            f"{instant(last.at)}.",
            rule="an entry is not earlier than the entry before it (include/interlock/domain/ledger/chain.py)",
            who="the operators of the machine with the wrong clock",
            next_step="correct the clock and try again; if the earlier entry has a wrong time, record that with "
            "interlock ledger correct-clock",
        )
    fields: dict[str, Any] = {
        "chain": chain,
        "sequence": last.sequence + 1 if last else 1,
        "at": at,
        "actor": actor,
        "kind": kind,
        "key": key,
        "payload": dict(payload),
        "previous": last.hash if last else START,
    }
    try:
        draft = Entry(**fields, hash=START)
    except ValidationError as error:
        raise _refused(chain, kind, _problems(error)) from error
    size = len(canonical_bytes(draft.payload))
    if size > LARGEST_PAYLOAD:
        raise _refused(chain, kind, f"its payload has {size} bytes; the maximum is {LARGEST_PAYLOAD}")
    return draft.model_copy(update={"hash": entry_hash(draft)})


def same_thing(entry: Entry, *, actor: str, kind: str, payload: Mapping[str, Any]) -> bool:
    """Tell whether an entry records exactly this, at any time."""
    return (entry.actor, entry.kind) == (actor, kind) and canonical_bytes(entry.payload) == canonical_bytes(
        dict(payload)
    )


def read_entry(row: Mapping[str, Any]) -> Entry:
    """Read a stored entry; LedgerBroken if its hash does not match its content."""
    entry = _read(row)
    if entry is None or entry_hash(entry) != entry.hash:
        what: BreakKind = "changed" if entry else "unreadable"
        sentence = _CHANGED if entry else _UNREADABLE
        raise broken_by(_broken(str(row.get("chain")), int(row.get("sequence", 0)), what, sentence))
    return entry


def broken_by(found: Break) -> LedgerBroken:
    """Return the error for a chain that is not intact."""
    return LedgerBroken(
        found.sentence,
        broken=found,
        rule="a decision needs an intact chain (include/interlock/domain/ledger/chain.py)",
        who="the owner of the ledger's database",
        next_step="have the change investigated; an evidence pack or a database backup has the original chain",
    )


def first_break(
    chain: str,
    entries: Iterable[Entry | Mapping[str, Any]],
    *,
    heads: Iterable[SignedHead] = (),
    after: Entry | None = None,
) -> Break | None:
    """Return the first place where a chain is not intact, or None.

    :param entries: in the order in which they were kept; what cannot be read as an entry is a break.
    :param heads: of this chain; who signed them is for the caller to check.
    :param after: an entry that is known to be good: the chain is checked from there.
    """
    rows = list(entries)
    found, good = _walk(chain, rows, after)
    broken_head = _head_break(chain, good, heads, after)
    if found is None or (broken_head is not None and broken_head.sequence < found.sequence):
        return broken_head
    return found


def unsigned_since(chain: str, entries: Sequence[Entry], heads: Iterable[SignedHead]) -> Break | None:
    """Return where a chain lacks a signed head after an entry that requires it; None if no head is missing.

    :param entries: of the chain, found to be whole; without heads, whoever may write rows could write them all anew.
    :param heads: of this chain, each signed by a known key.
    """
    end = max((head.sequence for head in heads), default=0)
    missing = next((entry for entry in entries if entry.kind in SEALED and entry.sequence > end), None)
    if missing is None:
        return None
    return _broken(
        chain, missing.sequence, "head", f"({missing.kind}) is not signed, as every entry of its kind must be"
    )


def _walk(
    chain: str, rows: Sequence[Entry | Mapping[str, Any]], after: Entry | None
) -> tuple[Break | None, dict[int, Entry]]:
    """Follow the links; return the first break, and by sequence what is good before it."""
    last, keys = after, {after.key} if after else set()
    good = {after.sequence: after} if after else {}
    for index, row in enumerate(rows):
        place = last.sequence + 1 if last else 1
        entry = _read(row)
        if entry is None:
            return _broken(chain, place, "unreadable", _UNREADABLE), good
        for what, sentence in _faults(chain, place, entry, last, keys):
            if what == "missing" and any(_sequence(later) == place for later in rows[index + 1 :]):
                what, sentence = "reordered", f"is out of order: entry {entry.sequence} is in its place"
            return _broken(chain, place, what, sentence), good
        good[place] = last = entry
        keys.add(entry.key)
    return None, good


def _faults(
    chain: str, place: int, entry: Entry, last: Entry | None, keys: set[str]
) -> Iterator[tuple[BreakKind, str]]:
    if entry_hash(entry) != entry.hash:
        yield "changed", _CHANGED
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
            return _broken(chain, head.sequence, "head", f"has a signed head of the chain {head.chain}")
        if head.sequence > end:
            return _broken(chain, end + 1, "missing", f"is missing: the chain was signed up to entry {head.sequence}")
        if head.sequence >= begin and good[head.sequence].hash != head.hash:
            return _broken(chain, head.sequence, "head", "is not the entry that was signed")
    return None


def _read(row: Entry | Mapping[str, Any]) -> Entry | None:
    if isinstance(row, Entry):
        return row
    try:
        return Entry.model_validate(dict(row))
    except (ValidationError, TypeError):
        return None


def _sequence(row: Entry | Mapping[str, Any]) -> Any:
    return row.sequence if isinstance(row, Entry) else row.get("sequence")


def _broken(chain: str, place: int, what: BreakKind, sentence: str) -> Break:
    return Break(chain=chain, sequence=place, what=what, sentence=f"Entry {place} of the chain {chain} {sentence}.")


def _problems(error: ValidationError) -> str:
    """Say what is wrong, and not with what values: they may be anything."""
    return "; ".join(
        str(problem["ctx"]["error"]) if problem["type"] == "value_error" else f"{problem['loc'][0]}: {problem['msg']}"
        for problem in error.errors()
    )


def _refused(chain: str, kind: str, problem: str) -> LedgerError:
    return LedgerError(
        f"{kind!r} cannot be recorded in the chain {chain!r}: {problem}.",
        rule="an entry is one line of plain JSON (include/interlock/domain/ledger/chain.py)",
        next_step="report this as a bug in Interlock",
    )


def _not_json(value: Any, where: str, depth: int) -> Iterator[str]:
    """Say where a value is not JSON that every reader reads alike."""
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
            yield from _not_json(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_json(inner, f"{where}[{index}]", depth + 1)
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
