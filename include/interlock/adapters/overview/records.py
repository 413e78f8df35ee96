"""What the ledger says of all environments, kept in memory: each request reads only what has been added since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Protocol, Self

from interlock.domain.calendars.stops import STOPS, EmergencyStop, all_in_force
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.kinds import FINDING, FINDING_TOLD, FREEZE_OVERRIDDEN, RELEASE_ENDED, RELEASE_REVIEWED
from interlock.domain.outcome.marks import MARKS
from interlock.domain.overview.board import Marks
from interlock.domain.overview.running import OF_RELEASES, Running
from interlock.domain.records import PastRelease

AT_ONCE = 500
"""So many chains are read with one query."""
MOST_UNREVIEWED = 20
"""Of each service and change type, so many releases without a review are kept: the latest ones."""
_KINDS = (RELEASE_ENDED, RELEASE_REVIEWED, FINDING, FINDING_TOLD, MARKS, STOPS, FREEZE_OVERRIDDEN)


class ManyChains(Protocol):
    """The part of the ledger that is read here."""

    def look(self, *queries: tuple[str, str, int]) -> tuple[datetime, tuple[tuple[Entry, ...], ...]]: ...  # noqa: D102
    def among(self, chains: Collection[str], kinds: Collection[str]) -> tuple[Entry, ...]: ...  # noqa: D102
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger says, at one moment.

    :ivar now: by the clock of the ledger's database.
    :ivar overrides: of freezes, by service and environment.
    :ivar unreviewed: releases that were deployed and have no review, by service; few of them need one.
    """

    now: datetime
    running: Running
    marks: Marks
    stops: tuple[EmergencyStop, ...]
    overrides: dict[tuple[str, str], list[Entry]]
    unreviewed: dict[str, list[PastRelease]]


class Records:
    """Reads what has been added to the ledger, for all requests of a process.

    What a release deployed to test is in its own chain. Its chain is read while it is under way, and once more when the
    installation's chain says that it ended, or that people were told of a finding in it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._after = dict.fromkeys(_KINDS, 0)
        self._running = Running()
        self._unreviewed: dict[tuple[str, str], list[PastRelease]] = defaultdict(list)
        self._kept: dict[str, list[Entry]] = {MARKS: [], STOPS: [], FREEZE_OVERRIDDEN: []}

    def read(self, opened: AbstractContextManager[Any], under_way: Collection[str]) -> Recorded:
        """Return what the ledger says.

        :param opened: the ledger.
        :param under_way: Dag and run of the releases that have not ended.
        """
        with self._lock, opened as ledger:
            now, found = ledger.look(*((INSTALLATION, kind, self._after[kind]) for kind in _KINDS))
            new = dict(zip(_KINDS, found, strict=True))
            chains = {release_chain(*run.split("/", 1)) for run in under_way}
            chains |= {f"release/{one.payload.get('run')}" for one in new[RELEASE_ENDED]}
            chains |= {str(one.payload.get("chain")) for one in new[FINDING_TOLD]} - {INSTALLATION}
            self._running.take((*new[RELEASE_ENDED], *new[FINDING]))
            for some in in_parts(sorted(chains)):
                self._running.take(ledger.among(some, OF_RELEASES))
            # Only now: what could not be read is read again by the next request.
            for kind, entries in new.items():
                self._after[kind] = entries[-1].sequence if entries else self._after[kind]
                if kind in self._kept:
                    self._kept[kind] += entries
            self._keep_unreviewed(new[RELEASE_ENDED], new[RELEASE_REVIEWED])
            return self._as_it_is(now)

    def _keep_unreviewed(self, ended: Sequence[Entry], reviewed: Sequence[Entry]) -> None:
        for entry in ended:
            if entry.payload.get("outcome") == "deployed" and "change_type" in entry.payload:
                one = PastRelease.model_validate({**entry.payload, "at": entry.at}, extra="ignore")
                kept = self._unreviewed[one.service, one.change_type]
                kept.append(one)
                del kept[:-MOST_UNREVIEWED]
        held = {str(entry.payload.get("run")) for entry in reviewed}
        for kept in self._unreviewed.values() if held else ():
            kept[:] = [one for one in kept if one.run not in held]

    def _as_it_is(self, now: datetime) -> Recorded:
        overrides: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        in_time = [
            one for one in self._kept[FREEZE_OVERRIDDEN] if datetime.fromisoformat(str(one.payload["until"])) > now
        ]
        self._kept[FREEZE_OVERRIDDEN] = in_time
        for one in in_time:
            overrides[str(one.payload["service"]), str(one.payload["environment"])].append(one)
        unreviewed: dict[str, list[PastRelease]] = defaultdict(list)
        for (service, _), each in self._unreviewed.items():
            unreviewed[service] += each
        return Recorded(
            now=now,
            running=self._running,
            marks=Marks(self._kept[MARKS]),
            stops=tuple(all_in_force(self._kept[STOPS], now)),
            overrides=overrides,
            unreviewed=unreviewed,
        )


def in_parts(chains: Sequence[str]) -> list[Sequence[str]]:
    """Return parts of names of chains that are not too long for one query."""
    return [chains[begin : begin + AT_ONCE] for begin in range(0, len(chains), AT_ONCE)]
