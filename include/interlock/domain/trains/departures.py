"""When a train departs: by its cadence and the calendars; and the milestones of an enterprise release.

A departure takes place if at least one of the train's services may change the environment then; services that may not
are left behind. If none may, the departure is moved to the first time at which one may, or dropped, as the train says.
A moved departure never reaches the next one of the cadence: the next one takes its place.

Times are local times, as everywhere in the calendars: a time that the clocks skip is an hour later; for a time that
occurs twice, the first is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from croniter import croniter

from interlock.domain.calendars.calendar import HORIZON, Answer, Calendars, may_change, opens_at
from interlock.domain.calendars.entry_times import HolidaysOf, in_utc
from interlock.domain.calendars.recurrence import Recurrence
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.calendar_file import zone_of
from interlock.domain.catalogue.train_file import Cadence, Target, Train, local_of

MOST_LOOKED_AT = 2000
"""So many departures in a row that may not be are looked at, and none beyond the calendars' horizon."""
_A_DAY = timedelta(days=1)
_LEAP_YEARS = 366 * 8 + 2
"""So many days can lie between two 29ths of February."""
_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


Opens = Callable[[datetime], datetime | None]
"""Says when one of a train's services may change the environment, from an instant on; none: not within the horizon."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A departure of a train.

    :ivar planned: by the cadence.
    :ivar at: by the calendars; later than planned if it was moved.
    """

    planned: datetime
    at: datetime

    @property
    def is_moved(self) -> bool:
        """Say whether it departs later than its cadence says."""
        return self.at != self.planned


# --- the cadence -----------------------------------------------------------------------------------------------------


def planned(train: Train, after: datetime) -> Iterator[datetime]:
    """Yield the departures of a cadence, or the one of an enterprise release, that come after an instant, in UTC."""
    zone = zone_of(train.time_zone)
    last = after.astimezone(UTC)
    for local in _local_times(train, _on_the_wall(last, zone) - _A_DAY):
        at = in_utc(local, zone)
        if at > last:  # what the clocks have twice, or skip, may come to the same instant again
            last = at
            yield at


def _on_the_wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _local_times(train: Train, near: datetime) -> Iterator[datetime]:
    """Yield departures in local time, in order, from before an instant on."""
    if train.target is not None:
        return iter([local_of(train.target.at)])
    if train.cadence is None:
        return iter(())
    return _of_cadence(train.cadence, near)


def _of_cadence(cadence: Cadence, near: datetime) -> Iterator[datetime]:
    if cadence.cron is not None:
        days = _days_of(cadence.cron)
        yield from (_plain if days else _any_cron)(cadence.cron, near)
    elif cadence.rule is not None and cadence.from_ is not None:
        start = local_of(cadence.from_)
        yield from Recurrence(cadence.rule, start).after(near)


def _any_cron(cron: str, near: datetime) -> Iterator[datetime]:
    times = croniter(cron, near, ret_type=datetime)
    while True:
        try:
            yield times.get_next(datetime)
        except (StopIteration, ValueError):  # no such date in the years to come
            return


def _plain(cron: str, near: datetime) -> Iterator[datetime]:
    """Yield the times of a cron expression day by day: a year of them costs a tenth of what croniter takes."""
    days = _days_of(cron)
    if days is None:
        return
    day, idle = near.date(), 0
    while idle < _LEAP_YEARS:
        idle += 1
        if days.holds(day):
            idle = 0
            yield from (at for time in days.times if (at := datetime.combine(day, time)) > near)
        day += _A_DAY


@dataclass(frozen=True, slots=True)
class _Days:
    """A cron expression: the times of a day, and the days; of the days of month and week, none says: any."""

    times: tuple[time, ...]
    months: frozenset[int] | None
    of_month: frozenset[int] | None
    of_week: frozenset[int] | None

    def holds(self, day: date) -> bool:
        """Say whether it is about a day: if it names both days of the month and of the week, either fits."""
        if self.months is not None and day.month not in self.months:
            return False
        fits = [one for one in (self._fits_month(day), self._fits_week(day)) if one is not None]
        return any(fits) or not fits

    def _fits_month(self, day: date) -> bool | None:
        return None if self.of_month is None else day.day in self.of_month

    def _fits_week(self, day: date) -> bool | None:
        return None if self.of_week is None else day.isoweekday() % 7 in self.of_week


@lru_cache(maxsize=4096)
def _days_of(cron: str) -> _Days | None:
    """Return what a cron expression says in numbers; none: it says something beyond, such as the last Friday."""
    fields, special = croniter.expand(cron)
    if special or any(not isinstance(one, int) and one != "*" for field in fields for one in field):
        return None
    minutes, hours, of_month, months, of_week = (None if "*" in field else frozenset(field) for field in fields)
    times = [time(hour, minute) for hour in sorted(hours or range(24)) for minute in sorted(minutes or range(60))]
    return _Days(tuple(times), months, of_month, of_week)


# --- the calendars ---------------------------------------------------------------------------------------------------


def opens(calendars: Calendars, services: Sequence[Service], environment: str) -> Opens:
    """Return what says when one of some services may change an environment.

    With calendars that cannot be read, whenever it is planned: nothing departs then, but the gate says why.
    """

    def first(at: datetime) -> datetime | None:
        if all(calendars.faults_about(service, environment) for service in services):
            return at
        found: datetime | None = None
        for service in services:
            opening = opens_at(calendars, service, environment, at)
            if opening == at:
                return at
            if opening is not None and (found is None or opening < found):
                found = opening
        return found

    return first


def departures(train: Train, opening: Opens, after: datetime, *, done: datetime | None = None) -> Iterator[Departure]:
    """Yield the departures of a train that come after an instant, in order.

    :param opening: says when the calendars let the train depart.
    :param done: the last departure that was made: what was planned up to then is over, also if it was moved.
    """
    earliest = after - train.freeze.farthest  # what was planned up to then is over, however far it was moved
    times = planned(train, earliest if done is None else max(done, earliest))
    current, idle = next(times, None), 0
    since: datetime | None = None
    while current is not None and idle < MOST_LOOKED_AT:
        following, idle, since = next(times, None), idle + 1, since or current
        if current - since > HORIZON:
            return
        at = _departs(train, opening, current, following)
        if at is not None and at > after:
            idle, since = 0, None
            yield Departure(current, at)
        current = following


def _departs(train: Train, opening: Opens, plan: datetime, following: datetime | None) -> datetime | None:
    """Return when a planned departure departs; none: it is dropped."""
    at = opening(plan)
    if at == plan:
        return plan
    if at is None or train.freeze.then == "drop" or at > plan + train.freeze.farthest:
        return None
    return at if following is None or at < following else None


def departures_between(train: Train, opening: Opens, begin: datetime, end: datetime) -> list[Departure]:
    """Return the departures from an instant to before another."""
    found = []
    for one in departures(train, opening, begin - timedelta(microseconds=1)):
        if one.at >= end:
            break
        found.append(one)
    return found


def next_departures(train: Train, opening: Opens, after: datetime, number: int) -> list[Departure]:
    """Return the next so many departures after an instant."""
    return list(islice(departures(train, opening, after), number))


# --- who may change what at a departure ------------------------------------------------------------------------------


def closed_for(
    calendars: Calendars,
    services: Iterable[Service],
    environment: str,
    at: datetime,
    overridden: Callable[[str], frozenset[str]],
) -> dict[str, Answer]:
    """Return, for each service that may not change an environment at an instant, what closes it.

    :param overridden: says which entries are overridden for a service.
    """
    answers = (may_change(calendars, one, environment, at, overridden=overridden(one.name)) for one in services)
    return {answer.service: answer for answer in answers if not answer.open}


# --- milestones ------------------------------------------------------------------------------------------------------


def working_day_before(day: date, number: int, is_free: Callable[[date], bool]) -> date:
    """Return the working day so many working days before a day; of none, the last one up to it."""
    left = number
    while True:
        if not is_free(day):
            if left == 0:
                return day
            left -= 1
        day -= _A_DAY


def milestones(target: Target, holidays: HolidaysOf) -> list[tuple[date, str, str]]:
    """Return day, name and title of what is due before an enterprise release, the earliest first."""
    years: dict[int, Mapping[date, str]] = {}

    def is_free(day: date) -> bool:
        if _WEEK[day.weekday()] in target.weekend:
            return True
        if target.holidays is None:
            return False
        if day.year not in years:
            years[day.year] = holidays(target.holidays.country, target.holidays.region, day.year)
        return day in years[day.year]

    day = local_of(target.at).date()
    found = [
        (working_day_before(day, one.working_days_before, is_free), one.name, one.title) for one in target.milestones
    ]
    return sorted(found)


# --- words -----------------------------------------------------------------------------------------------------------


def cadence_in_words(train: Train) -> str:
    """Say when a train departs, as its file has it."""
    if train.target is not None:
        return f"once, {train.target.at.replace('T', ' ')} {train.time_zone}"
    cadence = train.cadence or Cadence()
    when = cadence.cron or f"{cadence.rule} from {(cadence.from_ or '').replace('T', ' ')}"
    return f"{when} {train.time_zone}"


def freeze_in_words(train: Train) -> str:
    """Say what becomes of a departure that falls into a freeze."""
    if train.freeze.then == "drop":
        return "a departure in a freeze is dropped"
    hours = train.freeze.farthest.total_seconds() / 3600
    return f"a departure in a freeze moves to the next allowed time, by {hours:g} hours at most"
