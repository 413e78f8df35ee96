"""The values of iCalendar properties: days, times, periods and durations, and the time zones of a file."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from interlock.domain.calendars.recurrence import Recurrence
from interlock.domain.catalogue.calendar_file import zone_of

from .text import Component, Property, needed

_MOMENT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?", re.ASCII)
_DURATION = re.compile(
    r"\+?P(?=.)(?:(\d{1,5})W)?(?:(\d{1,6})D)?(?:T(?=.)(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A day or a time as it is written.

    :ivar local: on the wall; of a day, its midnight.
    :ivar zone: none: it has none, as days have none.
    """

    local: datetime
    is_day: bool
    zone: tzinfo | None

    @property
    def kind(self) -> str:
        """Say whether it is a day, a time, or a time with a time zone."""
        return "a day" if self.is_day else "a time without a time zone" if self.zone is None else "a time"


@dataclass(frozen=True, slots=True)
class Period:
    """A start; of a period, with its end, or how long it lasts: days on the wall, and hours that pass."""

    start: Moment
    end: Moment | tuple[timedelta, timedelta] | None = None


def periods_of(one: Property, zones: Zones) -> list[Period]:
    """Return the days, times and periods of a property."""
    found = []
    for text in one.value.upper().split(","):
        begins, slash, rest = text.strip().partition("/")
        start = _moment(one, begins, zones)
        if not slash:
            found.append(Period(start))
        elif rest.lstrip("+").startswith("P"):
            found.append(Period(start, duration_of(rest)))
        else:
            found.append(Period(start, _moment(one, rest, zones)))
    return found


def moment_of(one: Property, zones: Zones) -> Moment:
    """Return the only moment of a property."""
    first, *more = periods_of(one, zones)
    if more or first.end is not None:
        raise ValueError(f"{one.name}: found {one.value[:100]}; allowed: one day or time")
    return first.start


def _moment(one: Property, text: str, zones: Zones) -> Moment:
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{one.name}: found {text[:100] or 'nothing'}; allowed: a day or a time, as in 20261201T100000Z"
        )
    is_day = match[4] is None
    said = (one.param("VALUE") or "").upper()
    if said and is_day != (said == "DATE"):
        raise ValueError(f"{one.name}: found {text} with VALUE={said}; allowed: one that is the other")
    try:
        year, month, day, hour, minute, second = (int(number or 0) for number in match.groups()[:6])
        local = datetime(year, month, day, hour, minute, min(second, 59))  # there may be a leap second
    except ValueError as error:
        raise ValueError(f"{one.name}: found {text}: {error}") from None
    if match[7]:
        return Moment(local, False, UTC)
    tzid = None if is_day else one.param("TZID")
    return Moment(local, is_day, None if tzid is None else zones.of(tzid))


def duration_of(text: str) -> tuple[timedelta, timedelta]:
    """Return how long something lasts: days on the wall, and hours that pass."""
    match = _DURATION.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError(f"DURATION: found {text[:100] or 'nothing'}; allowed: a length of time, as in PT2H")
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return timedelta(weeks=weeks, days=days), timedelta(hours=hours, minutes=minutes, seconds=seconds)


_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)(\d\d)?", re.ASCII)
_KNOWN_FROM, _KNOWN_TO = datetime(1960, 1, 1), datetime(2200, 1, 1)
"""The changes of the clocks by a file's own time zone are worked out between these."""
MAX_CHANGES = 1000
"""So many changes of the clocks by one rule: four a year."""


class Zones:
    """The time zones of a calendar, by their names in it."""

    def __init__(self, calendar: Component) -> None:
        self._calendar = calendar
        self._known: dict[str, tzinfo] = {}

    def of(self, tzid: str) -> tzinfo:
        """Return a time zone: of that name in the world, else as the file defines it, else by its name on Windows.

        :raises ValueError: it is unknown.
        """
        if tzid not in self._known:
            self._known[tzid] = known_zone(tzid) or self._own(tzid) or _windows_zone(tzid)
        return self._known[tzid]

    def _own(self, tzid: str) -> tzinfo | None:
        found = [one for one in self._calendar.components if one.name == "VTIMEZONE" and _is_called(one, tzid)]
        zones = [_OwnZone.of(one, tzid) for one in found]
        if any(zone != zones[0] for zone in zones):
            raise ValueError(f"TZID={tzid}: found {len(zones)} VTIMEZONE of that name that differ; allowed: one")
        return zones[0] if zones else None


def _is_called(component: Component, tzid: str) -> bool:
    return any(one.name == "TZID" and tzid in (one.value, one.text) for one in component.properties)


def known_zone(tzid: str) -> ZoneInfo | None:
    """Return a time zone by the name that it has in the world, also behind that of a program that begins with a slash.

    Such as /freeassociation.sourceforge.net/Europe/Berlin.
    """
    parts = tzid.split("/")
    behind = ["/".join(parts[-number:]) for number in (3, 2) if tzid.startswith("/") and len(parts) > number]
    return next((zone for name in (tzid, *behind) if (zone := _zone_or_none(name)) is not None), None)


def _zone_or_none(name: str) -> ZoneInfo | None:
    try:
        return zone_of(name)
    except ValueError:
        return None


def _windows_zone(tzid: str) -> ZoneInfo:
    name = WINDOWS_TO_OLSON.get(tzid)
    if name is None:
        raise ValueError(f"found TZID={tzid[:100]}, which is neither a time zone nor a VTIMEZONE of the file")
    return zone_of(name)


def zone_said(name: str) -> ZoneInfo | None:
    """Return the time zone of X-WR-TIMEZONE; none: it is unknown."""
    windows = WINDOWS_TO_OLSON.get(name)
    return known_zone(name) or (zone_of(windows) if windows else None)


class _OwnZone(tzinfo):
    """A time zone that a file defines itself.

    A time that the clocks skip is an hour later; of one that they have twice, the first is meant.
    """

    def __init__(self, name: str, onsets: Sequence[tuple[datetime, timedelta, timedelta]]) -> None:
        """Take when the clocks change, on the wall before it, and the offsets before and after."""
        self._name, self._onsets = name, tuple(sorted(onsets))
        self._walls = [max(at, at + after - before) for at, before, after in self._onsets]
        self._instants = [at - before for at, before, _ in self._onsets]

    @classmethod
    def of(cls, component: Component, name: str) -> _OwnZone:
        """Read a VTIMEZONE."""
        onsets: list[tuple[datetime, timedelta, timedelta]] = []
        try:
            for part in component.components:
                if part.name in ("STANDARD", "DAYLIGHT"):
                    onsets += _onsets(part)
        except ValueError as error:
            raise ValueError(f"TZID={name}: its VTIMEZONE cannot be read: {error}") from None
        if not onsets:
            raise ValueError(f"TZID={name}: its VTIMEZONE has no times; allowed: STANDARD, DAYLIGHT")
        return cls(name, onsets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _OwnZone) and self._onsets == other._onsets

    def __hash__(self) -> int:
        return hash(self._onsets)

    def utcoffset(self, at: datetime | None) -> timedelta:
        """Return the offset of a time on the wall."""
        return self._after(self._walls, (at or _KNOWN_FROM).replace(tzinfo=None))

    def dst(self, at: datetime | None) -> None:
        """Return None: no caller needs to know whether it is summer time."""

    def tzname(self, at: datetime | None) -> str:
        """Return its name in the file."""
        return self._name

    def fromutc(self, at: datetime) -> datetime:
        """Return an instant on the wall."""
        return at + self._after(self._instants, at.replace(tzinfo=None))

    def _after(self, edges: Sequence[datetime], at: datetime) -> timedelta:
        index = bisect_right(edges, at)
        return self._onsets[index - 1][2] if index else self._onsets[0][1]


def _onsets(part: Component) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """Yield when one half of a time zone begins."""
    before, after = (_offset(part, name) for name in ("TZOFFSETFROM", "TZOFFSETTO"))
    plain = Zones(part)
    start = needed(part, "DTSTART", lambda one: moment_of(one, plain)).local
    dates = [period.start.local for one in part.all("RDATE") for period in periods_of(one, plain)]
    rule = part.one("RRULE")
    if rule is None:
        dates.append(start)
    else:
        dates += _yearly(rule.value, start, before)
    for at in dates:
        yield at, before, after


def _yearly(rule: str, start: datetime, before: timedelta) -> list[datetime]:
    """Return the occurrences of a rule of a time zone; the first start need not be one of them."""
    if "FREQ=YEARLY" not in rule.upper():
        raise ValueError(f"RRULE: found {rule[:100]}; allowed: FREQ=YEARLY")
    if until := re.search(r"UNTIL=(\d{8}T\d{6})Z", rule, re.IGNORECASE | re.ASCII):
        local = datetime.strptime(until[1].upper(), "%Y%m%dT%H%M%S") + before
        rule = rule.replace(until[0], f"UNTIL={local:%Y%m%dT%H%M%S}")
    found = list(islice(Recurrence(rule, start).between(_KNOWN_FROM, _KNOWN_TO), MAX_CHANGES + 1))
    if len(found) > MAX_CHANGES:
        raise ValueError(f"RRULE: {rule[:100]} changes the clocks more than {MAX_CHANGES} times; allowed: twice a year")
    return found


def _offset(part: Component, name: str) -> timedelta:
    def read(one: Property) -> timedelta:
        match = _OFFSET.fullmatch(one.value)
        if match is None or int(match[2]) > 23 or int(match[3]) > 59:
            raise ValueError(f"{name}: found {one.value[:100]}; allowed: an offset, as in +0100")
        length = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4] or 0))
        return -length if match[1] == "-" else length

    return needed(part, name, read)
