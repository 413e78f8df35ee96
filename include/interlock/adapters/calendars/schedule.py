"""What the release calendar shows: departures, calendars, bookings, conflicts and past releases; also as a feed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from interlock.adapters.trains.history import (
    TrainHistory,
    id_of,
    id_of_departure,
    made_up_to,
    planned_as,
    train_histories,
)
from interlock.domain.calendars.bookings import standing_bookings
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.calendars.conflicts import USUAL
from interlock.domain.calendars.entry_times import in_utc
from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION, Catalogue
from interlock.domain.catalogue.calendar_file import Scope, zone_of
from interlock.domain.catalogue.train_file import Train
from interlock.domain.dag_names import RELEASES, ROLLBACKS, TRAINS, dag_of_train
from interlock.domain.ledger.chain import INSTALLATION, Chains, Entry, release_chain
from interlock.domain.ledger.kinds import RELEASE_ENDED
from interlock.domain.ledger.runs import CHAINS, run_of
from interlock.domain.trains.arrivals import Arrival, PassengerOutcome
from interlock.domain.trains.cadence import Departure
from interlock.domain.trains.manifest import PlannedRun, manifest_in
from interlock.domain.trains.milestones import milestones

from ._clashes import Clash, clashes_of_trains, lengths_of, noted_clashes
from .conflicts import CHECKED_PERIOD, slots_by, upcoming
from .holidays import public_holidays

Kind = Literal[
    "departure",
    "freeze",
    "window",
    "maintenance",
    "event",
    "holiday",
    "booking",
    "release",
    "train",
    "milestone",
    "conflict",
]
Idle = Literal["", "paused", "off schedule"]
"""Why a train does not depart by its cadence; empty: it does."""
MAX_SHOWN_PERIOD = timedelta(days=800)
"""The longest period that is shown at once."""
A_WHILE = timedelta(minutes=30)
"""How long something is drawn that has no length."""
A_DAY = timedelta(days=1)


class Item(Model):
    """Something that goes on at some time."""

    id: str
    kind: Kind
    title: str
    start: AwareDatetime
    end: AwareDatetime
    about: str = ""
    state: str = ""
    dag_id: str = ""
    run_id: str = ""
    scope: Scope = Field(Scope(), description="What it concerns")
    planned: AwareDatetime | None = Field(None, description="When it was to start, if it started at another time")
    day: date | None = Field(None, description="Of whole days: the first one, wherever the reader is")
    until_day: date | None = Field(None, description="Of whole days: the day after the last")


class Schedule:
    """The schedule, from the catalogue and its calendars, the ledger, and the runs in progress in Airflow.

    :param unpaused: the Dags of trains that make runs; none: not known.
    :param under_way: Dag and run of all runs that have not ended; none: what the ledger says is taken for it.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        calendars: Calendars,
        ledger: Chains,
        trains: Mapping[str, Train],
        *,
        now: datetime,
        unpaused: Collection[str] | None = None,
        under_way: Collection[str] | None = None,
    ) -> None:
        self._catalogue, self._calendars, self._ledger, self._trains = catalogue, calendars, ledger, trains
        self._now, self._under_way = now, under_way
        self._paused = {name for name in trains if unpaused is not None and dag_of_train(name) not in unpaused}
        self._idle = self._paused | {name for name, train in trains.items() if not train.on_schedule}
        self._went = train_histories(ledger)
        self._going = [one for one in self._went if one.arrival is None and (under_way is None or one.run in under_way)]
        self._lengths = lengths_of(ledger, trains)

    def items(self, begin: datetime, end: datetime) -> list[Item]:
        """Return what goes on from an instant to before another, by its start."""
        end = min(end, begin + MAX_SHOWN_PERIOD)
        to_come = self._to_come(begin, end)
        found = [
            *_find_calendar_items(self._calendars, begin, end),
            *_find_departures(self._trains, to_come, self._idle),
            *_find_train_runs(
                self._ledger, self._went, self._trains, self._paused, {one.chain for one in self._going}, self._now
            ),
            *_find_arrivals(self._went, self._trains),
            *_find_milestones(self._trains),
            *_find_bookings(self._ledger, self._under_way, self._now),
            *_find_releases(self._ledger, begin),
            *(_conflict(one, self._trains) for one in self._clashes(to_come)),
        ]
        within = [one for one in found if one.start < end and one.end > begin]
        return sorted(within, key=lambda one: (one.start, one.end, one.id))

    def conflicts(self) -> list[Item]:
        """Return the conflicts of the time to come; of two trains that clash again and again, the first one."""
        end = self._now + CHECKED_PERIOD
        coming = (
            one for one in self._clashes(self._to_come(self._now, end)) if self._now < one.end and one.start < end
        )
        first: dict[str, Clash] = {}
        for one in sorted(coming, key=lambda one: one.start):
            first.setdefault(one.of, one)
        return [_conflict(one, self._trains) for one in first.values()]

    def _to_come(self, begin: datetime, end: datetime) -> dict[str, list[Departure]]:
        """Return the departures that have no run yet; also those before, as long as they can clash with a later one."""
        since = max(begin - max(self._lengths.values(), default=USUAL), self._now)
        ahead = upcoming(self._catalogue, self._calendars, self._trains, since, end)
        planned = made_up_to(self._went)
        return {
            name: [one for one in each if name not in planned or one.planned > planned[name]]
            for name, each in ahead.items()
        }

    def _clashes(self, to_come: Mapping[str, Sequence[Departure]]) -> Iterator[Clash]:
        departures = _add_train_runs(to_come, self._going, self._trains)
        free = slots_by(self._catalogue, self._calendars)
        sent = {
            (one.planned_run.train, one.planned_run.departure) for one in self._going if one.planned_run is not None
        }

        def is_idle(train: str, one: Departure) -> bool:
            return train in (self._paused if (train, one.at) in sent else self._idle)

        yield from clashes_of_trains(self._trains, departures, self._lengths, is_idle, free)
        yield from noted_clashes(self._ledger, self._going, self._under_way)


def _find_calendar_items(calendars: Calendars, begin: datetime, end: datetime) -> Iterator[Item]:
    seen = set()
    for year in range(begin.year, end.year + 1):
        for one in calendars.occurrences(year):
            id = f"{one.entry.place}/{one.start.isoformat()}"
            if id in seen:
                continue
            seen.add(id)
            scope = one.entry.scope
            named = ", ".join((*scope.services, *scope.business_units, *scope.environments)) or "everything"
            days = one.days
            zone = f"; days in {days.zone}" if days and days.zone else ""
            does = {"deny": "Closed", "allow": "Open"}.get(one.entry.effect, "Information only")
            yield Item(
                id=id,
                kind=one.entry.kind,
                title=one.title,
                start=one.start,
                end=one.end,
                about=f"{does}: {named} ({one.entry.place}){zone}",
                state=one.entry.effect,
                scope=scope,
                day=days and days.first,
                until_day=days and days.after,
            )


def _add_train_runs(
    to_come: Mapping[str, Sequence[Departure]], going: Iterable[TrainHistory], trains: Mapping[str, Train]
) -> dict[str, list[Departure]]:
    """Return departures with those that are under way, of which some were sent by hand."""
    found = {name: list(each) for name, each in to_come.items()}
    for planned_run in (one.planned_run for one in going if one.planned_run is not None):
        if planned_run.train in found:
            found[planned_run.train].append(Departure(planned_as(planned_run, trains), planned_run.departure))
    return {name: sorted(each, key=lambda one: one.at) for name, each in found.items()}


def _find_departures(
    trains: Mapping[str, Train], to_come: Mapping[str, Sequence[Departure]], idle: Collection[str]
) -> Iterator[Item]:
    for name, each in to_come.items():
        train = trains[name]
        for one in each:
            moved = f"; moved from {one.planned:%Y-%m-%d %H:%M} UTC by a calendar" if one.is_moved else ""
            yield Item(
                id=id_of_departure(name, one.planned),
                kind="departure",
                title=_title(train.title, _why_idle(train, name in idle)),
                start=one.at,
                end=one.at + A_WHILE,
                about=f"With {', '.join(train.services)}, as far as they are ready{moved}"
                + _if_idle(_why_idle(train, name in idle)),
                state="paused" if name in idle else "moved" if one.is_moved else "planned",
                dag_id=dag_of_train(name),
                scope=_of_train(train),
                planned=one.planned if one.is_moved else None,
            )


def _name(train: str, trains: Mapping[str, Train]) -> str:
    """Return the title of a train; its name, if its file was removed."""
    return trains[train].title if train in trains else train


def _title(title: str, idle: Idle, *, by_hand: bool = False) -> str:
    marks = ", ".join(filter(None, ("manual" if by_hand else "", idle)))
    return f"{title} ({marks})" if marks else title


def _why_idle(train: Train, is_idle: bool) -> Idle:
    return "" if not is_idle else "paused" if train.on_schedule else "off schedule"


def _if_idle(why: Idle) -> str:
    return {
        "": "",
        "paused": "; paused: it departs only if its Dag is unpaused before",
        "off schedule": "; off schedule: it departs only if on_schedule is true in its file by then",
    }[why]


def _find_train_runs(
    ledger: Chains,
    went: Iterable[TrainHistory],
    trains: Mapping[str, Train],
    paused: Collection[str],
    going: Collection[str],
    now: datetime,
) -> Iterator[Item]:
    """Yield the train runs that have not arrived, including those whose run ended without an arrival."""
    for one in went:
        if one.planned_run is None or one.arrival is not None:
            continue
        planned_run, lost = one.planned_run, one.chain not in going
        held: Idle = "paused" if planned_run.train in paused and not lost else ""
        title = _name(planned_run.train, trains)
        until = planned_run.departure + A_WHILE
        yield Item(
            id=id_of(one, trains),
            kind="train" if lost or one.departed else "departure",
            title=f"{title}: the run ended without an arrival"
            if lost
            else _title(title, held, by_hand=bool(planned_run.asked_by)),
            start=planned_run.departure,
            end=until if lost else max(until, now),
            about=_describe_passengers(ledger, one, planned_run) + _if_idle(held),
            state="failed" if lost else "paused" if held else "running" if one.departed else "boarding",
            dag_id=one.dag_id,
            run_id=one.run_id,
            scope=_of_train(trains.get(planned_run.train)),
        )


def _describe_passengers(ledger: Chains, one: TrainHistory, planned_run: PlannedRun) -> str:
    """Say who sent a train, and who is on it."""
    sent = f"Triggered by {planned_run.asked_by}" if planned_run.asked_by else "On schedule"
    manifest = manifest_in(ledger.entries(one.chain))
    if manifest is None:
        return f"{sent}; manifest frozen at {planned_run.cut_off:%Y-%m-%d %H:%M} UTC"
    boarded = ", ".join(f"{each.service} {each.version}" for each in manifest.passengers) or "none"
    return f"{sent}; on board: {boarded}"


def _find_arrivals(went: Iterable[TrainHistory], trains: Mapping[str, Train]) -> Iterator[Item]:
    for one in went:
        if one.arrival is None or one.ended is None:
            continue
        came = one.arrival
        each = "; ".join(map(_describe_outcome, came.passengers))
        state, ended = _ending(came)
        yield Item(
            id=id_of(one, trains),
            kind="train",
            title=f"{_name(came.train, trains)}: {ended}",
            start=came.departure if came.departure and came.departure < one.ended else one.ended - A_WHILE,
            end=one.ended,
            about=each or came.reason,
            state=state,
            dag_id=one.dag_id,
            run_id=one.run_id,
            scope=_of_train(trains.get(came.train)),
            planned=one.planned_run.departure if one.planned_run else None,
        )


def _describe_outcome(one: PassengerOutcome) -> str:
    """Say what became of a passenger; of one that was not on board, why."""
    if not one.boarded:
        return f"{one.service}: {one.outcome} ({one.reason})"
    return f"{one.service} {one.version}: {one.outcome}"


def _ending(came: Arrival) -> tuple[str, str]:
    """Return the state of a journey that has ended, and how it ended in words."""
    if came.without_passengers:
        return "empty", "departed without passengers"
    if not came.departed:
        return "failed", "did not depart"
    return ("failed", "some passengers did not arrive") if came.missing else ("deployed", "arrived")


def _find_milestones(trains: Mapping[str, Train]) -> Iterator[Item]:
    for name, train in trains.items():
        if train.target is None:
            continue
        zone = zone_of(train.time_zone)
        for day, key, title in milestones(train.target, public_holidays):
            start, end = (in_utc(datetime.combine(one, time()), zone) for one in (day, day + A_DAY))
            yield Item(
                id=f"milestone/{name}/{key}",
                kind="milestone",
                title=f"{train.title}: {title}",
                start=start,
                end=end,
                about=f"Due before {train.title} departs, {train.target.at.replace('T', ' ')} {train.time_zone}",
                dag_id=dag_of_train(name),
                scope=_of_train(train),
                day=day,
                until_day=day + A_DAY,
            )


def _find_bookings(ledger: Chains, under_way: Collection[str] | None, now: datetime) -> Iterator[Item]:
    """Yield the bookings of releases that are in progress."""
    for chain, booking in standing_bookings(ledger):
        run = run_of(booking.holder)
        if run is not None and (under_way is None or "/".join(run) in under_way):
            yield Item(
                id=chain,
                kind="booking",
                title=f"{booking.service} in {booking.environment} is booked",
                start=booking.since,
                end=booking.until if under_way is None else max(booking.until, now),
                about=str(booking),
                state="running",
                dag_id=run[0],
                run_id=run[1],
                scope=of_service(booking.service, booking.environment),
            )


def _find_releases(ledger: Chains, since: datetime) -> Iterator[Item]:
    """Yield the releases that ended after an instant."""
    ended = [entry for entry in ledger.entries(INSTALLATION, kind=RELEASE_ENDED) if entry.at > since]
    began = ledger.began(CHAINS) if any("began" not in entry.payload for entry in ended) else {}
    for entry in ended:
        told = entry.payload
        dag_id, _, run_id = str(told["run"]).partition("/")
        yield Item(
            id=str(told["run"]),
            kind="release",
            title=f"{told['service']} {told['version']}: {str(told['outcome']).replace('_', ' ')}",
            start=_began(entry, began.get(release_chain(dag_id, run_id))),
            end=entry.at,
            about=f"A {told['change_type']} change",
            state=str(told["outcome"]),
            dag_id=dag_id,
            run_id=run_id,
            scope=of_service(str(told["service"])),
        )


def _began(ended: Entry, first: datetime | None) -> datetime:
    """Return when a release began: as its end says, or by the first entry of its chain; else shortly before its end."""
    if began := ended.payload.get("began"):
        return datetime.fromisoformat(began)
    return first if first and first < ended.at else ended.at - A_WHILE


def of_service(service: str, environment: str = PRODUCTION) -> Scope:
    """Return what concerns a service in an environment; its name is not checked, for it comes from a record."""
    return Scope.model_construct(services=(service,), environments=(environment,))


def _of_train(train: Train | None) -> Scope:
    """Return what a train concerns; of one whose file was removed, nothing is known."""
    return Scope(services=tuple(train.services), environments=(train.environment,)) if train else Scope()


def _of_clash(dag_id: str, trains: Mapping[str, Train]) -> Scope:
    if dag_id.startswith(TRAINS):
        return _of_train(next((one for name, one in trains.items() if dag_of_train(name) == dag_id), None))
    return of_service(dag_id.removeprefix(RELEASES).removeprefix(ROLLBACKS).replace("_", "-"))


def _conflict(one: Clash, trains: Mapping[str, Train]) -> Item:
    free = one.conflict.next_free
    following = f"Next free slot: {free.astimezone(UTC):%Y-%m-%d %H:%M} UTC." if free else ""
    dag_id, _, run_id = one.run.partition("/")
    return Item(
        id=f"conflict/{one.of}/{one.key}".rstrip("/"),
        kind="conflict",
        title=f"{one.conflict.severity.capitalize()}: {one.conflict.what}",
        start=one.start,
        end=one.end,
        about=" ".join(filter(None, (following, one.note))),
        state="paused" if one.idle else one.conflict.severity,
        dag_id=dag_id,
        run_id=run_id,
        scope=_of_clash(dag_id, trains),
    )
