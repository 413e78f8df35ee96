"""The ledger's entries, and the chain that makes a later change of them visible.

An entry's hash is the SHA-256 of the canonical JSON of all its other fields, including its predecessor's hash. So a
chain proves its own order and completeness up to its last entry. The signed head proves the last entry.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, field_serializer, field_validator

from interlock.domain.canonical import Model, Sha256, canonical_bytes, sha256_of
from interlock.domain.errors import ClockError, LedgerBroken, LedgerError

from ._plain_json import not_plain_json
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
"""Maximum bytes of a payload's canonical JSON; larger content belongs in the artifact store, with its digest here."""

UNREADABLE, CHANGED = "cannot be read", "was changed: its hash does not match its content"
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
        for problem in not_plain_json(value, "payload"):
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
    def chains(self, beginning: str = "") -> Sequence[str]: ...  # noqa: D102
    def whole(self, chains: Collection[str]) -> Mapping[str, tuple[Entry, ...] | Break]: ...  # noqa: D102
    def open_chains(  # noqa: D102
        self, beginning: str, opens: str, closes: Collection[str], field: str
    ) -> Sequence[str]: ...
    def began(self, beginning: str) -> Mapping[str, datetime]: ...  # noqa: D102


class Book(Chains, Protocol):
    """The part of the ledger that the API server reads and writes."""

    def append(self, chain: str, kind: str, payload: Any, *, actor: str, key: str) -> Entry: ...  # noqa: D102
    def append_once(self, chain: str, kind: str, payload: Any, *, actor: str, key: str) -> Entry: ...  # noqa: D102
    def now(self) -> datetime: ...  # noqa: D102
    def turn(self, name: str) -> AbstractContextManager[None]: ...  # noqa: D102


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
    entry = read_or_none(row)
    if entry is None or entry_hash(entry) != entry.hash:
        what: BreakKind = "changed" if entry else "unreadable"
        sentence = CHANGED if entry else UNREADABLE
        raise broken_by(break_at(str(row.get("chain")), int(row.get("sequence", 0)), what, sentence))
    return entry


def broken_by(found: Break) -> LedgerBroken:
    """Return the error for a chain that is not intact."""
    return LedgerBroken(
        found.sentence,
        broken=found,
        rule="a decision needs an intact chain (include/interlock/domain/ledger/integrity.py)",
        who="the owner of the ledger's database",
        next_step="have the change investigated; an evidence pack or a database backup has the original chain",
    )


def read_or_none(row: Entry | Mapping[str, Any]) -> Entry | None:
    """Return a stored entry; None if it cannot be read."""
    if isinstance(row, Entry):
        return row
    try:
        return Entry.model_validate(dict(row))
    except (ValidationError, TypeError):
        return None


def break_at(chain: str, place: int, what: BreakKind, sentence: str) -> Break:
    """Return the break at a place of a chain."""
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
        rule="an entry is one line of plain JSON (include/interlock/domain/ledger/_plain_json.py)",
        next_step="report this as a bug in Interlock",
    )
