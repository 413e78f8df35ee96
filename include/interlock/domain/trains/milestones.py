"""Milestones: what is due before an enterprise release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

from interlock.domain.calendars.entry_times import HolidaysOf
from interlock.domain.catalogue.train_file import Target, local_of

from .cadence import A_DAY, WEEK


def working_day_before(day: date, number: int, is_free: Callable[[date], bool]) -> date:
    """Return the working day that is a number of working days before a day; for 0, the last one up to it."""
    left = number
    while True:
        if not is_free(day):
            if left == 0:
                return day
            left -= 1
        day -= A_DAY


def milestones(target: Target, holidays: HolidaysOf) -> list[tuple[date, str, str]]:
    """Return day, name and title of what is due before an enterprise release, the earliest first."""
    years: dict[int, Mapping[date, str]] = {}

    def is_free(day: date) -> bool:
        if WEEK[day.weekday()] in target.weekend:
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
