"""The timetable of a train: Airflow creates a run when boarding opens. The departure is the end of its data interval.

Airflow asks for the next run after each run and whenever it parses the Dag's file. The calendars are read each time, so
a new freeze moves the next departure within a minute. A run in progress reads the calendars again when it departs.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk.timezone import coerce_datetime
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from interlock.adapters.calendars.copies import CopiesThere, copies_folder
from interlock.adapters.catalogue.catalogue import calendars_of, load_catalogue
from interlock.domain.catalogue.train_file import Train
from interlock.domain.catalogue.values import in_words
from interlock.domain.dag_names import instant_in_name
from interlock.domain.errors import CatalogueError
from interlock.domain.trains.departures import Opens, cadence_in_words, departures, freeze_in_words, opens
from interlock.locations import catalogue_folder

log = logging.getLogger(__name__)


class TrainTimetable(Timetable):
    """Departures of a train by its cadence and the calendars; a run's data interval is from boarding to departure.

    :param train: the train's file.
    """

    run_ordering: ClassVar[tuple[str, ...]] = ("data_interval_end", "logical_date")

    def __init__(self, train: Train) -> None:
        self.train = train

    @property
    def description(self) -> str:
        """Describe when the train departs, and what a freeze does to a departure."""
        train, departs = self.train, "Departs"
        if not train.on_schedule:
            departs = "Departs only when triggered (on_schedule: false). With a schedule, it departs"
        return (
            f"{departs} {cadence_in_words(train)}; boarding opens {in_words(train.boarding.opens)} before, "
            f"the manifest is frozen {in_words(train.boarding.cut_off)} before; {freeze_in_words(train)}."
        )

    @property
    def summary(self) -> str:
        """Describe in a few words when the train departs."""
        return f"{'' if self.train.on_schedule else 'off: '}{cadence_in_words(self.train)}"

    def serialize(self) -> dict[str, Any]:
        """Return the train as plain JSON."""
        return {"train": self.train.model_dump(mode="json", by_alias=True)}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> TrainTimetable:
        """Return the timetable of a train as it was serialised."""
        return cls(Train.model_validate(data["train"]))

    def generate_run_id(
        self, *, run_type: Any, run_after: datetime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """Name a run by its departure. People cannot trigger a run with the prefix that Airflow puts before it."""
        departure = data_interval.end if data_interval is not None else run_after
        return str(run_type.generate_run_id(suffix=instant_in_name(departure)))

    def infer_manual_data_interval(self, *, run_after: Any) -> DataInterval:
        """Return the instant of a manual trigger. The form has the departure time."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the run for the next departure; None: it has no schedule, or none within the calendars' horizon.

        A departure whose boarding should have opened already gets its run at once; one that is over gets none.
        """
        if not self.train.on_schedule:
            return None
        done = last_automated_data_interval.end if last_automated_data_interval is not None else None
        after = done or datetime(1970, 1, 1, tzinfo=UTC)
        if restriction.earliest is not None:
            after = max(after, restriction.earliest - timedelta(microseconds=1))
        if not restriction.catchup:
            after = max(after, datetime.now(UTC))
        found = next(departures(self.train, opening_now(self.train), after, done=done), None)
        if found is None or (restriction.latest is not None and found.at > restriction.latest):
            return None
        opening = coerce_datetime(found.at - self.train.boarding.opens)
        return DagRunInfo(run_after=opening, data_interval=DataInterval(opening, coerce_datetime(found.at)))


def opening_now(train: Train) -> Opens:
    """Return what says when the calendars, as they are now, let a train depart; with a broken catalogue, at any time.

    A train is not lost because a file is broken: nothing departs while it is, and the run says so.
    """
    folder = catalogue_folder()
    try:
        catalogue = load_catalogue(folder)
    except CatalogueError as error:
        log.error("The departures of the train %s are planned without calendars: %s", train.name, error)
        return lambda at: at
    services = [catalogue.services[name] for name in train.services if name in catalogue.services]
    calendars = calendars_of(folder, catalogue.policy, CopiesThere(copies_folder()))
    return opens(calendars, services, train.environment)
