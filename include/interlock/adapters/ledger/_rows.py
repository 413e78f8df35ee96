"""The ledger's rows in PostgreSQL: how they are read, checked while they are, and what the database's errors mean."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, JSON, BigInteger, Column, Connection, DateTime, MetaData, Table, Text, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from interlock.domain.errors import LedgerBroken
from interlock.domain.ledger.chain import Break, Entry, SignedHead, broken_by, read_entry
from interlock.domain.ledger.integrity import intact

from .migrations import SCHEMA

SETTINGS = "the connection interlock_ledger"

_METADATA = MetaData(schema=SCHEMA)
ENTRIES = Table(
    "entries",
    _METADATA,
    *(Column(name, Text) for name in ("chain", "actor", "kind", "key", "previous", "hash")),
    Column("sequence", BigInteger),
    Column("at", DateTime(timezone=True)),
    Column("payload", JSON),
)
HEADS = Table(
    "heads",
    _METADATA,
    *(Column(name, Text) for name in ("chain", "hash", "key_id")),
    Column("sequence", BigInteger),
    Column("envelope", JSON),
)
# As text: JSON that was manipulated to break the parser would fail in the driver.
ENTRY_ROWS = select(*(c for c in ENTRIES.c if c.name != "payload"), cast(ENTRIES.c.payload, Text).label("payload"))
_HEAD_ROWS = select(*(c for c in HEADS.c if c.name != "envelope"), cast(HEADS.c.envelope, Text).label("envelope"))
_ORDER_OF_HEADS = (HEADS.c.sequence, HEADS.c.key_id)


class Tail(NamedTuple):
    """The fields of the last entry that the next one needs: a manipulated entry must not prevent a finding."""

    sequence: int
    at: datetime
    hash: str


def rows_of_chain(chain: str) -> Any:
    """Return the query for a chain's rows, in order."""
    return ENTRY_ROWS.where(ENTRIES.c.chain == chain).order_by(ENTRIES.c.sequence)


def parsed(row: Any) -> dict[str, Any]:
    """Return a row with its parsed payload; None if it cannot be parsed."""
    fields = dict(row._mapping)
    try:
        fields["payload"] = json.loads(fields["payload"])
    except (ValueError, RecursionError):
        fields["payload"] = None
    return fields


def stretch(connection: Connection, chain: str, after: int) -> tuple[Entry, ...]:
    """Return what follows an entry, checked from that entry on; from the start, if it is not there or not good."""
    rows = [parsed(row) for row in connection.execute(rows_of_chain(chain).where(ENTRIES.c.sequence >= after))]
    known = read_entry(rows[0]) if after and rows and rows[0]["sequence"] == after else None
    if known is None and after:
        rows = [parsed(row) for row in connection.execute(rows_of_chain(chain))]
    found = intact(chain, rows[1:] if known else rows, heads=heads_of(connection, chain), after=known)
    if isinstance(found, Break):
        raise broken_by(found)
    return tuple(entry for entry in found if entry.sequence > after)


def whole_chains(connection: Connection, chains: Collection[str]) -> dict[str, tuple[Entry, ...] | Break]:
    """Return the entries of each chain, checked from the start, or the first place where it is not intact."""
    rows: dict[str, list[dict[str, Any]]] = {chain: [] for chain in chains}
    for row in connection.execute(
        ENTRY_ROWS.where(_among(ENTRIES, chains)).order_by(ENTRIES.c.chain, ENTRIES.c.sequence)
    ):
        rows[row.chain].append(parsed(row))
    heads: dict[str, list[Any]] = {chain: [] for chain in chains}
    for row in connection.execute(_HEAD_ROWS.where(_among(HEADS, chains)).order_by(HEADS.c.chain, *_ORDER_OF_HEADS)):
        heads[row.chain].append(row)
    return {chain: _whole(chain, rows[chain], heads[chain]) for chain in chains}


def _whole(chain: str, rows: list[dict[str, Any]], heads: list[Any]) -> tuple[Entry, ...] | Break:
    try:
        return intact(chain, rows, heads=tuple(map(_head, heads)))
    except LedgerBroken as error:
        return error.broken


def entries_of_kind(
    connection: Connection, chain: str, kind: str, after: int, since: datetime | None = None
) -> tuple[Entry, ...]:
    """Return the entries of a kind, or of all kinds that begin alike, each checked by itself."""
    query = rows_of_chain(chain) if since is None else rows_of_chain(chain).where(ENTRIES.c.at >= since)
    wanted = ENTRIES.c.kind.startswith(kind[:-1], autoescape=True) if kind.endswith(".*") else ENTRIES.c.kind == kind
    rows = connection.execute(query.where(ENTRIES.c.sequence > after, wanted))
    return tuple(read_entry(parsed(row)) for row in rows)


def entries_among(connection: Connection, chains: Collection[str], kinds: Collection[str]) -> tuple[Entry, ...]:
    """Return the entries of some kinds in some chains, each checked by itself."""
    of_kinds = ENTRIES.c.kind == func.any(cast(list(kinds), ARRAY(Text)))
    rows = connection.execute(
        ENTRY_ROWS.where(_among(ENTRIES, chains), of_kinds).order_by(ENTRIES.c.chain, ENTRIES.c.sequence)
    )
    return tuple(read_entry(parsed(row)) for row in rows)


def _among(table: Table, chains: Collection[str]) -> Any:
    # As an array: of a thousand chains, a list of parameters takes longer to plan than to read.
    return table.c.chain == func.any(cast(list(chains), ARRAY(Text)))


def has_gaps(connection: Connection, chain: str) -> bool:
    """Say whether there are fewer entries than there were."""
    counted = select(func.count(), func.coalesce(func.max(ENTRIES.c.sequence), 0)).where(ENTRIES.c.chain == chain)
    count, last = connection.execute(counted).one()
    signed = select(func.coalesce(func.max(HEADS.c.sequence), 0)).where(HEADS.c.chain == chain)
    return bool(count != last or connection.scalar(signed) > last)


def entry_with_key(connection: Connection, chain: str, key: str) -> Entry | None:
    """Return the entry with a key, checked by itself."""
    row = connection.execute(rows_of_chain(chain).where(ENTRIES.c.key == key).limit(1)).one_or_none()
    return read_entry(parsed(row)) if row else None


def last_entry(connection: Connection, chain: str) -> Entry | None:
    """Return the last entry of a chain, checked by itself."""
    newest = ENTRY_ROWS.where(ENTRIES.c.chain == chain).order_by(ENTRIES.c.sequence.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return read_entry(parsed(row)) if row else None


def ends_of_chains(connection: Connection, beginning: str) -> dict[str, datetime | None]:
    """Return when the last entry of each chain with a prefix was recorded; none: it is not there or not good."""
    begins = (table.c.chain.startswith(beginning, autoescape=True) for table in (ENTRIES, HEADS))
    of_entries, of_heads = begins
    newest = (
        select(ENTRIES.c.chain, func.max(ENTRIES.c.sequence).label("sequence"))
        .where(of_entries)
        .group_by(ENTRIES.c.chain)
        .subquery()
    )
    last = (ENTRIES.c.chain == newest.c.chain) & (ENTRIES.c.sequence == newest.c.sequence)
    found: dict[str, datetime | None] = dict.fromkeys(
        connection.scalars(select(HEADS.c.chain).distinct().where(of_heads))
    )
    found |= {row.chain: _instant_of(row) for row in connection.execute(ENTRY_ROWS.join_from(ENTRIES, newest, last))}
    return found


def chains_with_open(
    connection: Connection, beginning: str, opens: str, closes: Collection[str], field: str
) -> tuple[str, ...]:
    """Return the chains with a prefix whose last entry of a kind is not followed by one that closes the same."""
    later = ENTRIES.alias()
    # As text: PostgreSQL takes JSON that it cannot read, such as \u0000, and would refuse the query for all chains.
    about = f'"{field}":"([^"]*)"'
    last = (
        select(ENTRIES.c.chain, ENTRIES.c.sequence, _found(ENTRIES, about).label("about"))
        .ext(distinct_on(ENTRIES.c.chain))
        .where(ENTRIES.c.chain.startswith(beginning, autoescape=True), ENTRIES.c.kind == opens)
        .order_by(ENTRIES.c.chain, ENTRIES.c.sequence.desc())
    ).subquery()
    closed = select(later.c.sequence).where(
        later.c.chain == last.c.chain,
        later.c.sequence > last.c.sequence,
        later.c.kind.in_(closes),
        _found(later, about) == last.c.about,
    )
    return tuple(connection.scalars(select(last.c.chain).where(~closed.exists()).order_by(last.c.chain)))


def _found(table: Any, pattern: str) -> Any:
    return func.substring(cast(table.c.payload, Text), pattern)


def _instant_of(row: Any) -> datetime | None:
    try:
        return read_entry(parsed(row)).at
    except LedgerBroken:
        return None


def tail_of(connection: Connection, chain: str) -> Tail | None:
    """Return what the next entry is linked to."""
    columns = select(ENTRIES.c.sequence, ENTRIES.c.at, ENTRIES.c.hash).where(ENTRIES.c.chain == chain)
    row = connection.execute(columns.order_by(ENTRIES.c.sequence.desc()).limit(1)).one_or_none()
    return Tail(*row) if row else None


def heads_of(
    connection: Connection, chain: str, key_id: str | None = None, sequence: int | None = None
) -> tuple[SignedHead, ...]:
    """Return a chain's signed heads, in order; who signed them is not checked."""
    query = _HEAD_ROWS.where(HEADS.c.chain == chain).order_by(*_ORDER_OF_HEADS)
    if key_id is not None:
        query = query.where(HEADS.c.key_id == key_id)
    if sequence is not None:
        query = query.where(HEADS.c.sequence == sequence)
    return tuple(_head(row) for row in connection.execute(query))


def _head(row: Any) -> SignedHead:
    fields = {name: getattr(row, name) for name in ("chain", "sequence", "hash")}
    try:
        return SignedHead(**fields, envelope=json.loads(row.envelope))
    except (ValueError, RecursionError) as error:  # pydantic's ValidationError is a ValueError
        sentence = f"Entry {row.sequence} of the chain {row.chain} has a signed head that cannot be read."
        raise broken_by(Break(chain=row.chain, sequence=row.sequence, what="head", sentence=sentence)) from error
