"""What is measured of all releases, kept in memory: a release that has ended is read from the ledger once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from threading import Lock
from typing import Any, Protocol, Self

from interlock.domain.forecast.forecast import History, held
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.kinds import FINDING, RELEASE_ENDED
from interlock.domain.ledger.runs import CHAINS
from interlock.domain.measures.facts import ASIDE, MEASURED, Aside, MeasuredRelease, measured

from .records import ManyChains, in_parts

FORECAST = 500
"""Of so many releases a process finds out at once whether their forecasts held: the last ones that ended."""


class AllChains(ManyChains, Protocol):
    """The part of the ledger that is read here."""

    def chains(self, beginning: str = "") -> tuple[str, ...]: ...  # noqa: D102
    def __enter__(self) -> Self: ...


class MeasuredReleases:
    """Reads what is measured of releases, for all requests of a process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._after = dict.fromkeys((RELEASE_ENDED, *ASIDE), 0)
        self._ends: dict[str, Entry] = {}
        self._aside: list[Entry] = []
        self._kept: dict[str, MeasuredRelease | None] = {}
        self._held: dict[str, bool | None] = {}

    def read(self, opened: AbstractContextManager[Any]) -> tuple[MeasuredRelease, ...]:
        """Return every release and rollback that the ledger has.

        :param opened: the ledger.
        """
        with self._lock, opened as ledger:
            found = self._read(ledger)
            known = [one for one in found.values() if one is not None]
            self._forecast(known)
            aside, following = Aside(self._aside), _following(known)
            return tuple(self._whole(aside.beside(one, following.get(one.run))) for one in known)

    def _whole(self, one: MeasuredRelease) -> MeasuredRelease:
        known = self._held.get(one.run)
        return one if known is None else one.model_copy(update={"forecast_held": known})

    def _forecast(self, known: Sequence[MeasuredRelease]) -> None:
        """Find out of each release that has ended whether its forecast held, once."""
        ended = [one for one in known if one.ended_at is not None and one.run not in self._held]
        ended.sort(key=lambda one: (one.ended_at, one.run))
        if ended:
            history = History(known)
            self._held |= dict.fromkeys((one.run for one in ended[:-FORECAST]), None)
            self._held |= {one.run: held(history, one) for one in ended[-FORECAST:]}

    def _read(self, ledger: AllChains) -> dict[str, MeasuredRelease | None]:
        _, read = ledger.look(*((INSTALLATION, kind, after) for kind, after in self._after.items()))
        new = dict(zip(self._after, read, strict=True))
        self._ends |= {f"{CHAINS}{one.payload.get('run')}": one for one in new[RELEASE_ENDED]}
        now = {}
        wanted = [chain for chain in ledger.chains(CHAINS) if chain not in self._kept]
        for some in in_parts([*wanted, *self._found_since(ledger)]):
            entries: dict[str, list[Entry]] = defaultdict(list)
            for entry in ledger.among(some, MEASURED):
                entries[entry.chain].append(entry)
            for chain in some:
                now[chain] = measured(chain, entries[chain], self._ends.get(chain))
        # Only now: what could not be read is read again by the next request.
        self._kept |= {chain: one for chain, one in now.items() if chain in self._ends}
        self._after |= {kind: each[-1].sequence for kind, each in new.items() if each}
        self._aside += [one for kind in ASIDE for one in new[kind]]
        return self._kept | now

    def _found_since(self, ledger: AllChains) -> list[str]:
        """Return the chains of releases that had ended when they were read, and have a finding since."""
        ended = sorted(chain for chain, one in self._kept.items() if one is not None)
        counted = Counter(one.chain for some in in_parts(ended) for one in ledger.among(some, (FINDING,)))
        return [chain for chain, number in counted.items() if (one := self._kept[chain]) and one.findings != number]


def _following(known: Iterable[MeasuredRelease]) -> dict[str, datetime]:
    """Return when the next deployment of the service ended, of each release that it followed."""
    found: dict[str, datetime] = {}
    last: dict[str, str] = {}
    deployed = [one for one in known if one.is_deployment and one.ended_at is not None]
    for one in sorted(deployed, key=lambda one: (one.ended_at, one.run)):
        if one.ended_at is not None and (before := last.get(one.service)):
            found[before] = one.ended_at
        last[one.service] = one.run
    return found
