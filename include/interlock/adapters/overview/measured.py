"""What is measured of all releases, kept in memory: a release that has ended is read from the ledger once."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, Protocol, Self

from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.kinds import RELEASE_ENDED
from interlock.domain.ledger.runs import CHAINS
from interlock.domain.measures.facts import MEASURED, MeasuredRelease, measured

from .records import ManyChains, in_parts


class AllChains(ManyChains, Protocol):
    """The part of the ledger that is read here."""

    def chains(self, beginning: str = "") -> tuple[str, ...]: ...  # noqa: D102
    def __enter__(self) -> Self: ...


class MeasuredReleases:
    """Reads what is measured of releases, for all requests of a process.

    What comes after the end of a release, such as a finding, counts once the process is started anew.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._after = 0
        self._ends: dict[str, Entry] = {}
        self._kept: dict[str, MeasuredRelease | None] = {}

    def read(self, opened: AbstractContextManager[Any]) -> tuple[MeasuredRelease, ...]:
        """Return every release and rollback that the ledger has.

        :param opened: the ledger.
        """
        with self._lock, opened as ledger:
            found = self._read(ledger)
        return tuple(one for one in found.values() if one is not None)

    def _read(self, ledger: AllChains) -> dict[str, MeasuredRelease | None]:
        _, (ends,) = ledger.look((INSTALLATION, RELEASE_ENDED, self._after))
        self._ends |= {f"{CHAINS}{one.payload.get('run')}": one for one in ends}
        now = {}
        wanted = [chain for chain in ledger.chains(CHAINS) if chain not in self._kept]
        for some in in_parts(wanted):
            entries: dict[str, list[Entry]] = defaultdict(list)
            for entry in ledger.among(some, MEASURED):
                entries[entry.chain].append(entry)
            for chain in some:
                now[chain] = measured(chain, entries[chain], self._ends.get(chain))
        self._kept |= {chain: one for chain, one in now.items() if chain in self._ends}
        self._after = ends[-1].sequence if ends else self._after
        return self._kept | now
