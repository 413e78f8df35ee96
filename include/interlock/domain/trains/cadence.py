"""The cadence of a train: when it departs by its timetable, before calendars are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import croniter

from interlock.domain.calendars.entry_times import in_utc
from interlock.domain.calendars.recurrence import Recurrence
from interlock.domain.catalogue.calendar_file import zone_of
from interlock.domain.catalogue.train_file import Cadence, Train, local_of

A_DAY = timedelta(days=1)
_LEAP_YEARS = 366 * 8 + 2
"""Maximum number of days between two 29ths of February."""
WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


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
        """Tell whether it departs later than planned by its cadence."""
        return self.at != self.planned


def planned_departures(train: Train, after: datetime) -> Iterator[datetime]:
    """Yield the departures of a cadence, or the one of an enterprise release, that come after an instant, in UTC."""
    zone = zone_of(train.time_zone)
    last = after.astimezone(UTC)
    for local in _local_times(train, _on_the_wall(last, zone) - A_DAY):
        at = in_utc(local, zone)
        if at > last:  # Local times that occur twice, or are skipped, may give the same instant again.
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
        yield from (_simple_cron if days else _any_cron)(cadence.cron, near)
    elif cadence.rule is not None and cadence.from_ is not None:
        start = local_of(cadence.from_)
        yield from Recurrence(cadence.rule, start).after(near)


def _any_cron(cron: str, near: datetime) -> Iterator[datetime]:
    times = croniter(cron, near, ret_type=datetime)
    while True:
        try:
            yield times.get_next(datetime)
        except (StopIteration, ValueError):  # The date does not occur in the coming years.
            return


def _simple_cron(cron: str, near: datetime) -> Iterator[datetime]:
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
        day += A_DAY


@dataclass(frozen=True, slots=True)
class _Days:
    """A cron expression: the times of a day, and the days of the month and of the week; none: any day."""

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
    """Return the numbers of a cron expression; none: it needs more than numbers, such as the last Friday."""
    fields, special = croniter.expand(cron)
    if special or any(not isinstance(one, int) and one != "*" for field in fields for one in field):
        return None
    minutes, hours, of_month, months, of_week = (None if "*" in field else frozenset(field) for field in fields)
    times = [time(hour, minute) for hour in sorted(hours or range(24)) for minute in sorted(minutes or range(60))]
    return _Days(tuple(times), months, of_month, of_week)
