"""Conflicts as something that happens at a time: what trains clash with, again and again, and what releases noted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

from interlock.adapters.trains.history import TrainHistory
from interlock.domain.calendars.conflicts import USUAL, Conflict, Free, of_trains
from interlock.domain.catalogue.train_file import Train
from interlock.domain.dag_names import TRAINS, dag_of_train
from interlock.domain.ledger.chain import INSTALLATION, Chains
from interlock.domain.ledger.kinds import CONFLICTS_FOUND, PLAN_MADE, RELEASE_ENDED
from interlock.domain.ledger.runs import CHAINS, run_of
from interlock.domain.trains.cadence import Departure

from .conflicts import longest_of

DRAWN = timedelta(minutes=30)
"""How long a conflict is drawn whose end is not known."""

IsIdle = Callable[[str, Departure], bool]
"""Tells of a train, by its name, whether a departure does not take place as the train is now."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A conflict, and when it is there.

    :ivar of: what clashes, whenever it does.
    :ivar key: names it among those, also when it is moved.
    :ivar run: the Dag it is about, and its run if there is one.
    :ivar note: what else is to be known of it.
    :ivar idle: it is none as long as a train does not depart by its cadence.
    """

    conflict: Conflict
    of: str
    key: str
    start: datetime
    end: datetime
    run: str
    note: str = ""
    idle: bool = False


def lengths_of(ledger: Chains, trains: Mapping[str, Train]) -> dict[str, timedelta]:
    """Return how long releases took of the services that are on several trains."""
    carried = Counter(service for train in trains.values() for service in train.services)
    return longest_of(ledger, sorted(service for service, number in carried.items() if number > 1))


def clashes_of_trains(
    trains: Mapping[str, Train],
    departures: Mapping[str, Sequence[Departure]],
    lengths: Mapping[str, timedelta],
    is_idle: IsIdle,
    free: Free,
) -> Iterator[Clash]:
    """Yield each time at which two trains with one passenger depart so close that the first is not there yet.

    :param departures: of each train, by its name, in order.
    :param is_idle: tells whether a train does not depart then as it is now: it is paused, or off schedule.
    :param free: says when the calendars let what both carry depart.
    """
    gap = max((USUAL, *lengths.values()))
    for one, other in combinations(trains.values(), 2):
        if not set(one.services) & set(other.services):
            continue
        second_ats = [each.at for each in departures.get(other.name, ())]
        for first in departures.get(one.name, ()):
            near = slice(bisect_left(second_ats, first.at - gap), bisect_right(second_ats, first.at + gap))
            for second in departures[other.name][near]:
                yield from _of_pair(one, other, first, second, lengths, is_idle, free)


def _of_pair(
    one: Train,
    other: Train,
    first: Departure,
    second: Departure,
    lengths: Mapping[str, timedelta],
    is_idle: IsIdle,
    free: Free,
) -> Iterator[Clash]:
    lasts = max(lengths.get(service, USUAL) for service in one.services if service in other.services)
    idle = [train.title for train, at in ((one, first), (other, second)) if is_idle(train.name, at)]
    depart = "departs" if len(idle) == 1 else "depart"
    for conflict in of_trains([one, other], {one.name: [first], other.name: [second]}, lengths, free=free):
        yield Clash(
            conflict=conflict,
            of=f"{one.name}/{other.name}",
            key=f"{first.planned.isoformat()}/{second.planned.isoformat()}",
            start=max(first.at, second.at),
            end=min(first.at, second.at) + lasts,
            run=dag_of_train(one.name if first.at >= second.at else other.name),
            note=f"Only if {' and '.join(idle)} {depart} on schedule." if idle else "",
            idle=bool(idle),
        )


def noted_clashes(ledger: Chains, going: Iterable[TrainHistory], under_way: Collection[str] | None) -> Iterator[Clash]:
    """Yield what releases and trains that have not ended noted when they were planned.

    Of trains, what is not about other trains: that is computed again each time.

    :param going: the train runs that have not ended.
    :param under_way: Dag and run of all runs that have not ended; none: what the ledger says is taken for it.
    """
    departs = {one.chain: one.planned_run.departure for one in going if one.planned_run is not None}
    ended = {str(entry.payload["run"]) for entry in ledger.entries(INSTALLATION, kind=RELEASE_ENDED)}
    for chain in ledger.chains(CHAINS):
        run = "/".join(run_of(chain) or ())
        of_train = run.startswith(TRAINS)
        if not run or (chain not in departs if of_train else not _goes_on(run, ended, under_way)):
            continue
        noted = ledger.entries(chain, kind=CONFLICTS_FOUND)
        if noted:
            start = departs[chain] if of_train else _begins(ledger, chain, noted[-1].at)
            yield from _noted(chain, run, start, noted[-1].payload, of_train=of_train)


def _goes_on(run: str, ended: Collection[str], under_way: Collection[str] | None) -> bool:
    return run not in ended and (under_way is None or run in under_way)


def _begins(ledger: Chains, chain: str, planned: datetime) -> datetime:
    """Return when a release begins by its plan; what may begin at once, when it was planned."""
    plans = ledger.entries(chain, kind=PLAN_MADE)
    not_before = plans[-1].payload.get("not_before") if plans else None
    return datetime.fromisoformat(str(not_before)) if not_before else planned


def _noted(chain: str, run: str, start: datetime, payload: Mapping[str, Any], *, of_train: bool) -> Iterator[Clash]:
    for number, said in enumerate(payload.get("conflicts", ())):
        conflict = Conflict.model_validate(said)
        if of_train and conflict.kind == "two_trains":
            continue
        note = f"Found when {run} was planned."
        yield Clash(conflict, f"{chain}/{number}", "", start, start + DRAWN, run, note)
