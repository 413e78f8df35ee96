"""Recurrence rules of RFC 5545: hourly or rarer, read with certainty, and computed in a limited number of steps.

dateutil computes a rule, in local time without a time zone. Rules that dateutil reads differently from the RFC, that
would never end, or that make no sense are refused here. All errors are ValueErrors, with a text for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice, takewhile

from dateutil.rrule import rrule, rruleset, rrulestr

FREQUENCIES = ("HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
MAX_OCCURRENCES_PER_YEAR = 10_000
"""Maximum occurrences of a rule in a year: slightly more than hourly."""
MAX_COUNT = 20_000
"""So many times of a rule with COUNT: it is counted from its start."""
MAX_INTERVAL = 10_000
MAX_MONTHS_WITHOUT = 12 * 40
"""A rule that gives nothing in so many months, or steps if those are longer, gives nothing: a 29th of February that is
a Monday can be 40 years from the next."""

_STEPS = {"HOURLY": timedelta(hours=1), "DAILY": timedelta(days=1), "WEEKLY": timedelta(weeks=1)}
_ONLY_WITH = {
    "BYWEEKNO": ("YEARLY",),
    "BYYEARDAY": ("YEARLY",),
    "BYMONTHDAY": ("HOURLY", "DAILY", "MONTHLY", "YEARLY"),
}
_NUMBERS = {
    "BYMONTH": (1, 12, False),
    "BYWEEKNO": (1, 53, True),
    "BYYEARDAY": (1, 366, True),
    "BYMONTHDAY": (1, 31, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSECOND": (0, 59, False),
    "BYSETPOS": (1, 366, True),
}
"""The lists of numbers of a rule: the least, the most, and whether they may count from the end."""
_DAYS = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_YEAR = timedelta(days=366)
LATEST_YEAR = 9990


class _NothingFound(Exception):
    """A rule was looked at for long enough."""


class _BoundedRule(rrule):
    """A rule whose search for the next time ends, also if no time fits all of its parts.

    dateutil itself looks up to the year 9999, which takes minutes. It reads ``_byeaster`` at each month or year that it
    comes to, and at nothing in between; BYEASTER is refused here.
    """

    _months = 0

    @property
    def _byeaster(self) -> None:
        self._months += 1
        if self._months > MAX_MONTHS_WITHOUT:
            raise _NothingFound

    def _iter(self) -> Iterator[datetime]:
        self._months = 0
        with suppress(_NothingFound):
            for at in super()._iter():  # type: ignore[misc]  # its stubs leave it out
                yield at
                self._months = 0


class Recurrence:
    """A rule and its first start, both in local time.

    An UNTIL that is a day has that day in it, as people mean it, also where starts have an hour.

    :raises ValueError: it is not a rule, or its occurrences are ambiguous.
    """

    def __init__(self, rule: str, start: datetime) -> None:
        self.start, self._rule = start, rule
        self._parts = _completed(_checked(_parts_of(rule)), start)
        _refuse_dates_that_never_come(self._parts, rule)
        self.until = _until(self._parts)
        if self.until is not None:
            self._parts["UNTIL"] = f"{self.until:%Y%m%dT%H%M%S}"
        if "COUNT" in self._parts:
            self._count()

    def refuse_what_is_out_of_step(self) -> None:
        """Refuse a first start that the rule itself would not give: calendar programs differ in what they show then."""
        first = next(self.after(self.start), None)
        if first != self.start and not self.is_over:
            raise ValueError(f"the start is not an occurrence of {self}: the first occurrence is {first or 'never'}")

    @property
    def is_over(self) -> bool:
        """Tell whether it ends before it starts, which is how some programs write a deleted event."""
        return self.until is not None and self.until < self.start

    def refuse_too_often(self) -> int:
        """Return how often it occurs in a year: that from its start, or that from its next turn, if that has more.

        From its start alone it would not do: what begins on a 31st of December, each second year, has hardly begun.

        :raises ValueError: more often than hourly.
        """
        found = max(map(self._in_a_year, {self.start, self._next_turn()}))
        if found > MAX_OCCURRENCES_PER_YEAR:
            raise ValueError(
                f"{self} occurs more than {MAX_OCCURRENCES_PER_YEAR} times a year; allowed: at most hourly"
            )
        return found

    def _in_a_year(self, begin: datetime) -> int:
        year = self.between(begin, _at_most(begin, _YEAR))
        return sum(1 for _ in islice(year, MAX_OCCURRENCES_PER_YEAR + 1))

    def _next_turn(self) -> datetime:
        """Return where the year, the month or the week begins that the rule comes to after that of its start."""
        frequency, interval = self._parts["FREQ"], int(self._parts.get("INTERVAL", 1))
        start = self.start
        if frequency == "YEARLY":
            year, month = start.year + interval, 1
        elif frequency == "MONTHLY":
            year, month = divmod(start.year * 12 + start.month - 1 + interval, 12)
            month += 1
        else:
            return max(_at_most(start, _STEPS[frequency] * interval) - _STEPS["WEEKLY"], start)
        return datetime(year, month, 1) if year <= LATEST_YEAR else start

    def after(self, near: datetime) -> Iterator[datetime]:
        """Yield the starts from a time on, in order."""
        if self.until is None or near <= self.until:
            yield from self._from(self._in_step(near)).xafter(near, inc=True)

    def between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield the starts from a time to another one, both included, in order."""
        return takewhile(lambda at: at <= last, self.after(first))

    def __str__(self) -> str:
        return self._rule

    def _count(self) -> None:
        """Replace COUNT by the last occurrence, so that later queries do not count from the start again."""
        count = int(self._parts["COUNT"])
        last = next(islice(self._from(self.start), count - 1, None), None)
        del self._parts["COUNT"]
        if last is not None:
            self.until = last
            self._parts["UNTIL"] = f"{last:%Y%m%dT%H%M%S}"

    def _from(self, start: datetime) -> rrule:
        try:
            found = rrulestr(_written(self._parts), dtstart=start)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise ValueError(f"{self} is not a valid recurrence rule: {error}") from error
        if isinstance(found, rruleset):
            raise ValueError(f"{self} is more than one rule")
        found.__class__ = _BoundedRule
        return found

    def _in_step(self, near: datetime) -> datetime:
        """Return a start before a time from which the rule goes on as from its own: it need not count its way there."""
        frequency, interval = self._parts["FREQ"], int(self._parts.get("INTERVAL", 1))
        if frequency in _STEPS:
            stride = _STEPS[frequency] * interval
            return self.start + stride * max((near - self.start) // stride - 1, 0)
        if frequency == "MONTHLY":
            months = _stepped((near.year - self.start.year) * 12 + near.month - self.start.month, interval)
            year, month = divmod(self.start.year * 12 + self.start.month - 1 + months, 12)
            return self.start.replace(year=year, month=month + 1, day=1) if months else self.start
        years = _stepped(near.year - self.start.year, interval)
        return self.start.replace(year=self.start.year + years, month=1, day=1) if years else self.start


def _at_most(at: datetime, length: timedelta) -> datetime:
    """Return a time so much later, none beyond the last year that there is."""
    try:
        return at + length
    except OverflowError:
        return datetime.max.replace(microsecond=0)


def _stepped(distance: int, interval: int) -> int:
    """Return how far to go in whole steps, and one step less than it could be."""
    return max(distance // interval - 1, 0) * interval


def _written(parts: Mapping[str, str]) -> str:
    return ";".join(f"{name}={value}" for name, value in parts.items())


def _parts_of(rule: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in rule.strip().upper().rstrip(";").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value or name in parts:
            raise ValueError(
                f"{rule} is not a valid recurrence rule: found {part or 'nothing'}; allowed: each name once, and ="
            )
        parts[name] = value
    return parts


def _checked(parts: dict[str, str]) -> dict[str, str]:
    rule = _written(parts)
    unknown = parts.keys() - {"FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "WKST", *_NUMBERS}
    if unknown:
        raise ValueError(
            f"{rule} is not a valid recurrence rule: found {', '.join(sorted(unknown))}; allowed: names of RFC 5545"
        )
    if parts.get("FREQ") not in FREQUENCIES:
        raise ValueError(f"a rule begins with FREQ= and one of {', '.join(FREQUENCIES)}; found {rule}")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError(f"{rule} is not a valid recurrence rule: found COUNT and UNTIL; allowed: one of them")
    _whole("INTERVAL", parts.get("INTERVAL", "1"), MAX_INTERVAL)
    _whole("COUNT", parts.get("COUNT", "1"), MAX_COUNT)
    for name in parts.keys() & _NUMBERS.keys():
        _refuse_numbers(name, parts)
    _refuse_days(parts)
    if "," in parts.get("BYSECOND", ""):
        raise ValueError(f"{rule} occurs several times a minute; allowed: at most hourly")
    if "BYSETPOS" in parts and not any(name in parts for name in (*_NUMBERS, "BYDAY") if name != "BYSETPOS"):
        raise ValueError(f"{rule} is not a valid recurrence rule: BYSETPOS goes with another part that begins with BY")
    _refuse_places(parts)
    return parts


def _refuse_places(parts: Mapping[str, str]) -> None:
    """Refuse a BYSETPOS beyond the times that an hour can have: each hour of all years would be looked at for it."""
    most = len(set(_numbers("BYMINUTE", parts))) or 1
    places = _numbers("BYSETPOS", parts)
    if parts["FREQ"] == "HOURLY" and places and min(abs(place) for place in places) > most:
        raise ValueError(f"BYSETPOS: found {parts['BYSETPOS']}; allowed: 1 to {most}, the times of an hour")


def _whole(name: str, value: str, most: int) -> None:
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not 1 <= int(value) <= most:
        raise ValueError(f"{name}: found {value}; allowed: 1 to {most}")


def _numbers(name: str, parts: Mapping[str, str]) -> list[int]:
    values = parts[name].split(",") if name in parts else []
    if not all(re.fullmatch(r"[+-]?\d{1,3}", value, re.ASCII) for value in values):
        raise ValueError(f"{name}: found {parts[name]}; allowed: numbers")
    return [int(value) for value in values]


def _refuse_numbers(name: str, parts: Mapping[str, str]) -> None:
    least, most, from_the_end = _NUMBERS[name]
    for number in _numbers(name, parts):
        if not least <= (abs(number) if from_the_end else number) <= most:
            raise ValueError(f"{name}: found {number}; allowed: {least} to {most}")
    if parts["FREQ"] not in _ONLY_WITH.get(name, FREQUENCIES):
        raise ValueError(f"{name} does not go with FREQ={parts['FREQ']}")


def _refuse_days(parts: Mapping[str, str]) -> None:
    """Refuse days of the week that are none, or that dateutil would read in another way than they are meant."""
    if not re.fullmatch(r"MO|TU|WE|TH|FR|SA|SU", parts.get("WKST", "MO")):
        raise ValueError(f"WKST: found {parts['WKST']}; allowed: a day such as MO")
    if "BYDAY" not in parts:
        if "BYWEEKNO" in parts:
            raise ValueError("BYWEEKNO goes with BYDAY: which day of the week is meant")
        return
    days = [_DAYS.fullmatch(day) for day in parts["BYDAY"].split(",")]
    numbers = {abs(int(day[1])) for day in days if day and day[1]}
    if not all(days) or 0 in numbers:
        raise ValueError(f"BYDAY: found {parts['BYDAY']}; allowed: days such as MO, or -1FR for the last Friday")
    if not numbers:
        return
    if not all(day and day[1] for day in days):
        raise ValueError(f"BYDAY: found {parts['BYDAY']}; allowed: days that are all numbered, or none")
    in_a_month = parts["FREQ"] == "MONTHLY" or "BYMONTH" in parts
    if parts["FREQ"] not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in parts or max(numbers) > (5 if in_a_month else 53):
        raise ValueError(f"BYDAY: {parts['BYDAY']} does not go with the rest of the rule: there is no such day")


def _completed(parts: dict[str, str], start: datetime) -> dict[str, str]:
    """Return a rule with the date that it takes from its start, so that it can continue from another date."""
    if parts["FREQ"] not in ("MONTHLY", "YEARLY"):
        return parts
    if parts.keys() & {"BYDAY", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO"}:
        return parts
    month = {"BYMONTH": str(start.month)} if parts["FREQ"] == "YEARLY" and "BYMONTH" not in parts else {}
    return {**parts, **month, "BYMONTHDAY": str(start.day)}


def _refuse_dates_that_never_come(parts: Mapping[str, str], rule: str) -> None:
    months, days = _numbers("BYMONTH", parts) or list(range(1, 13)), _numbers("BYMONTHDAY", parts)
    if days and not any(abs(day) <= _LONGEST_MONTH.get(month, 31) for month in months for day in days):
        raise ValueError(f"{rule} never occurs: none of its months has such a day")


def _until(parts: Mapping[str, str]) -> datetime | None:
    """Return when it ends, in local time."""
    if "UNTIL" not in parts:
        return None
    try:
        if "T" in parts["UNTIL"]:
            return datetime.strptime(parts["UNTIL"], "%Y%m%dT%H%M%S")
        return datetime.strptime(parts["UNTIL"], "%Y%m%d") + timedelta(days=1, seconds=-1)
    except (ValueError, OverflowError):
        raise ValueError(f"UNTIL: found {parts['UNTIL']}; allowed: a day, or a local time, as in 20261203") from None
