"""A ledger in memory, for tests of what stages leave: its chains are real ones, its signatures are none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from interlock.domain.errors import AlreadyRecorded, LedgerConflict
from interlock.domain.ledger.chain import Break, Entry, SignedHead, next_entry, same_thing
from interlock.domain.ledger.integrity import first_break


class MemoryLedger:
    """Chains of entries, kept while the test runs."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Entry]] = {}
        self.signed: list[str] = []
        self._heads: dict[str, list[SignedHead]] = {}

    def __enter__(self) -> Self:
        """Be used as the ledger is."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stay open."""

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Let whoever asks go first: nobody else is here."""
        yield

    def now(self) -> datetime:
        """Have the clock of this machine."""
        return datetime.now(UTC)

    def append(
        self, chain: str, kind: str, payload: Mapping[str, Any], *, actor: str, key: str, at: datetime | None = None
    ) -> Entry:
        """Record something; again: the entry that is there."""
        known = self.find(chain, key)
        if known is None:
            return self._add(chain, kind, payload, actor, key, at)
        if same_thing(known, actor=actor, kind=kind, payload=payload):
            return known
        raise LedgerConflict(key)

    def append_once(
        self, chain: str, kind: str, payload: Mapping[str, Any], *, actor: str, key: str, at: datetime | None = None
    ) -> Entry:
        """Record something that may happen once."""
        if known := self.find(chain, key):
            raise AlreadyRecorded(key, entry=known)
        return self._add(chain, kind, payload, actor, key, at)

    def _add(
        self, chain: str, kind: str, payload: Mapping[str, Any], actor: str, key: str, at: datetime | None
    ) -> Entry:
        entries = self.kept.setdefault(chain, [])
        last = entries[-1] if entries else None
        when = at or datetime.now(UTC)
        entry = next_entry(last, chain=chain, at=when, actor=actor, kind=kind, key=key, payload=payload)
        entries.append(entry)
        return entry

    def entries(self, chain: str, *, kind: str | None = None, after: int = 0) -> tuple[Entry, ...]:
        """Return the entries of a chain."""
        found = [entry for entry in self.kept.get(chain, ()) if entry.sequence > after]
        if kind is not None:
            prefix = kind.removesuffix("*")
            found = [one for one in found if one.kind == kind or (kind.endswith(".*") and one.kind.startswith(prefix))]
        return tuple(found)

    def look(self, *asked: tuple[str, str, int]) -> tuple[datetime, tuple[tuple[Entry, ...], ...]]:
        """Return what time it is, and what chains have of a kind after a sequence."""
        return datetime.now(UTC), tuple(self.entries(chain, kind=kind, after=after) for chain, kind, after in asked)

    def among(self, chains: Collection[str], kinds: Collection[str]) -> tuple[Entry, ...]:
        """Return the entries of some kinds in some chains."""
        return tuple(one for chain in sorted(chains) for one in self.kept.get(chain, ()) if one.kind in kinds)

    def whole(self, chains: Collection[str]) -> dict[str, tuple[Entry, ...]]:
        """Return the entries of each chain."""
        return {chain: tuple(self.kept.get(chain, ())) for chain in chains}

    def find(self, chain: str, key: str) -> Entry | None:
        """Return the entry with a key."""
        return next((entry for entry in self.kept.get(chain, ()) if entry.key == key), None)

    def last(self, chain: str) -> Entry | None:
        """Return the last entry of a chain."""
        return self.kept[chain][-1] if self.kept.get(chain) else None

    def chains(self, beginning: str = "") -> tuple[str, ...]:
        """Return the names of all chains that begin so."""
        return tuple(sorted(chain for chain in self.kept if chain.startswith(beginning)))

    def open_chains(self, beginning: str, opens: str, closes: Collection[str], field: str) -> tuple[str, ...]:
        """Return the chains that begin so and whose last entry of a kind is followed by none that closes the same."""
        return tuple(chain for chain in self.chains(beginning) if _is_open(self.kept[chain], opens, closes, field))

    def began(self, beginning: str) -> dict[str, datetime]:
        """Return when each chain with a prefix began."""
        return {chain: self.kept[chain][0].at for chain in self.chains(beginning) if self.kept[chain]}

    def check(self, chain: str, keys: object = ()) -> Break | None:
        """Return the first place where a chain does not hold."""
        return first_break(chain, [*self.kept.get(chain, ())], heads=[])

    def heads(self, chain: str) -> tuple[SignedHead, ...]:
        """Return the heads of a chain that were to be signed."""
        return tuple(self._heads.get(chain, ()))

    def sign_head(self, chain: str, signer: object, *, seals: object = None) -> None:
        """Note that the chain was to be signed."""
        self.signed.append(chain)
        if last := self.last(chain):
            head = SignedHead(chain=chain, sequence=last.sequence, hash=last.hash, envelope={})
            self._heads.setdefault(chain, []).append(head)


def _is_open(entries: Sequence[Entry], opens: str, closes: Collection[str], field: str) -> bool:
    last = next((one for one in reversed(entries) if one.kind == opens), None)
    return last is not None and not any(
        one.sequence > last.sequence and one.kind in closes and one.payload[field] == last.payload[field]
        for one in entries
    )
