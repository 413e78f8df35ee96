"""The runs of trains, from the ledger: the planned departure, whether it departed, and how it arrived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from interlock.domain.catalogue.train_file import Train
from interlock.domain.dag_names import TRAINS
from interlock.domain.ledger.chain import Chains, Entry
from interlock.domain.ledger.kinds import TRAIN_ARRIVED, TRAIN_DEPARTED, TRAIN_OPENED, family
from interlock.domain.ledger.runs import CHAINS, run_of
from interlock.domain.trains.arrivals import Arrival
from interlock.domain.trains.cadence import planned_departures
from interlock.domain.trains.manifest import PlannedRun


@dataclass(frozen=True, slots=True)
class TrainHistory:
    """A run of a train.

    :ivar planned_run: none: it never opened boarding.
    :ivar departed: when it did; none: it did not, or not yet.
    :ivar arrival: what became of it; none: that is not on record.
    :ivar ended: when that was recorded.
    """

    chain: str
    dag_id: str
    run_id: str
    planned_run: PlannedRun | None = None
    departed: datetime | None = None
    arrival: Arrival | None = None
    ended: datetime | None = None

    @property
    def run(self) -> str:
        """Dag and run."""
        return f"{self.dag_id}/{self.run_id}"


def train_histories(ledger: Chains) -> list[TrainHistory]:
    """Return all runs of trains with records."""
    each = ((chain, run) for chain in ledger.chains(CHAINS + TRAINS) if (run := run_of(chain)))
    return [_history(chain, *run, ledger.entries(chain, kind=family(TRAIN_OPENED))) for chain, run in each]


def _history(chain: str, dag_id: str, run_id: str, entries: Sequence[Entry]) -> TrainHistory:
    last = {entry.kind: entry for entry in entries}
    opened, departed, arrived = (last.get(kind) for kind in (TRAIN_OPENED, TRAIN_DEPARTED, TRAIN_ARRIVED))
    return TrainHistory(
        chain=chain,
        dag_id=dag_id,
        run_id=run_id,
        planned_run=PlannedRun.from_xcom(opened.payload) if opened else None,
        departed=departed.at if departed else None,
        arrival=Arrival.from_xcom(arrived.payload) if arrived else None,
        ended=arrived.at if arrived else None,
    )


def made_up_to(found: Iterable[TrainHistory]) -> dict[str, datetime]:
    """Return the last departure for which a timetable created a run, by the train's name.

    What the cadence planned up to then is over, also if it was moved: the timetable makes no run for it again.
    """
    planned: dict[str, datetime] = {}
    for one in found:
        if one.planned_run is not None and not one.planned_run.asked_by:
            name = one.planned_run.train
            planned[name] = max(planned.get(name, one.planned_run.departure), one.planned_run.departure)
    return planned


def id_of(one: TrainHistory, trains: Mapping[str, Train]) -> str:
    """Return the calendar id of a train run: the planned departure, if the timetable created the run.

    So a planned, a running and an arrived train are one event, also for subscribers of the calendar.
    """
    if one.planned_run is None or one.planned_run.asked_by:
        return one.chain
    return id_of_departure(one.planned_run.train, planned_as(one.planned_run, trains))


def id_of_departure(train: str, plan: datetime) -> str:
    """Return the calendar id of a departure, from its planned time, so that a moved departure keeps its id."""
    return f"train/{train}/{plan.astimezone(UTC).isoformat()}"


def planned_as(planned_run: PlannedRun, trains: Mapping[str, Train]) -> datetime:
    """Return when a departure was planned, by the current cadence: a moved departure never reaches the next one."""
    train, at = trains.get(planned_run.train), planned_run.departure
    if train is None or planned_run.asked_by:
        return at
    before = planned_departures(train, at - train.freeze.farthest - timedelta(microseconds=1))
    return max(takewhile(lambda plan: plan <= at, before), default=at)
