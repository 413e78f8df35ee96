"""The journeys of trains, as the ledger has them: when each was to depart, whether it did, and how it arrived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from interlock.domain.catalogue.train_file import Train
from interlock.domain.dag_names import TRAINS
from interlock.domain.ledger.chain import Chains, Entry
from interlock.domain.ledger.kinds import TRAIN_ARRIVED, TRAIN_DEPARTED, TRAIN_OPENED, family
from interlock.domain.ledger.runs import run_of
from interlock.domain.trains.arrivals import Arrival
from interlock.domain.trains.cadence import planned_departures
from interlock.domain.trains.manifest import PlannedRun


@dataclass(frozen=True, slots=True)
class TrainHistory:
    """A run of a train.

    :ivar voyage: none: it never opened boarding.
    :ivar departed: when it did; none: it did not, or not yet.
    :ivar arrival: what became of it; none: that is not on record.
    :ivar ended: when that was recorded.
    """

    chain: str
    dag_id: str
    run_id: str
    voyage: PlannedRun | None = None
    departed: datetime | None = None
    arrival: Arrival | None = None
    ended: datetime | None = None

    @property
    def run(self) -> str:
        """Dag and run."""
        return f"{self.dag_id}/{self.run_id}"


def journeys(ledger: Chains) -> list[TrainHistory]:
    """Return all journeys of trains that left anything."""
    runs = ((chain, run_of(chain)) for chain in ledger.chains())
    each = ((chain, run) for chain, run in runs if run is not None and run[0].startswith(TRAINS))
    return [_journey(chain, *run, ledger.entries(chain, kind=family(TRAIN_OPENED))) for chain, run in each]


def _journey(chain: str, dag_id: str, run_id: str, entries: Sequence[Entry]) -> TrainHistory:
    last = {entry.kind: entry for entry in entries}
    opened, departed, arrived = (last.get(kind) for kind in (TRAIN_OPENED, TRAIN_DEPARTED, TRAIN_ARRIVED))
    return TrainHistory(
        chain=chain,
        dag_id=dag_id,
        run_id=run_id,
        voyage=PlannedRun.from_xcom(opened.payload) if opened else None,
        departed=departed.at if departed else None,
        arrival=Arrival.from_xcom(arrived.payload) if arrived else None,
        ended=arrived.at if arrived else None,
    )


def made_up_to(found: Iterable[TrainHistory]) -> dict[str, datetime]:
    """Return the last departure for which a timetable created a run, by the train's name.

    What the cadence planned up to then is over, also if it was moved: the timetable makes no run for it again.
    """
    made: dict[str, datetime] = {}
    for one in found:
        if one.voyage is not None and not one.voyage.asked_by:
            name = one.voyage.train
            made[name] = max(made.get(name, one.voyage.departure), one.voyage.departure)
    return made


def id_of(one: TrainHistory, trains: Mapping[str, Train]) -> str:
    """Return the calendar id of a train run: the planned departure, if the timetable created the run.

    So what was planned, is under way and has arrived is one event, also for whoever subscribed to it.
    """
    if one.voyage is None or one.voyage.asked_by:
        return one.chain
    return id_of_departure(one.voyage.train, planned_as(one.voyage, trains))


def id_of_departure(train: str, plan: datetime) -> str:
    """Return the calendar id of a departure, from its planned time, so that a moved departure keeps its id."""
    return f"train/{train}/{plan.astimezone(UTC).isoformat()}"


def planned_as(voyage: PlannedRun, trains: Mapping[str, Train]) -> datetime:
    """Return when a departure was planned, by the current cadence: a moved departure never reaches the next one."""
    train, at = trains.get(voyage.train), voyage.departure
    if train is None or voyage.asked_by:
        return at
    before = planned_departures(train, at - train.freeze.farthest - timedelta(microseconds=1))
    return max(takewhile(lambda plan: plan <= at, before), default=at)
