"""Conflicts of a release or a train, found when it is planned, and the next time without them.

A conflict does not stop a release: rules are enforced before the change itself. A conflict says early what is coming,
how severe it is, and when it would not occur.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Literal

from pydantic import AwareDatetime, Field

from interlock.domain.board.decision import eligible_members
from interlock.domain.board.voting import VotingRule
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.train_file import Train
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import CONFLICTS_FOUND
from interlock.domain.trains.cadence import Departure

from .calendar import Calendars, may_change

Severity = Literal["note", "warning", "severe"]
USUAL = timedelta(hours=1)
"""Assumed duration of an implementation until the service has a history."""
MAX_TRIED_TIMES = 500
"""So many times are tried for a free slot."""
Free = Callable[[Sequence[str], str, datetime, timedelta], datetime | None]
"""Returns when some services can next change an environment for a duration; none within the calendars' horizon."""


class Conflict(Model):
    """Something that a release or a train clashes with."""

    kind: Literal["environment", "dependency", "two_trains", "window", "quorum", "line", "elsewhere"]
    severity: Severity
    what: str
    next_free: AwareDatetime | None = Field(None, description="When it would not be there; none: not known")

    def __str__(self) -> str:
        """Say it, with the next free slot."""
        following = f" Next free slot: {_shown(self.next_free)}." if self.next_free else ""
        return f"{self.severity}: {self.what}{following}"


def conflicts_in(entries: Sequence[Entry]) -> tuple[Conflict, ...]:
    """Return the conflicts in a chain, as they were found last: at planning, or before the board was asked."""
    found = next((entry.payload for entry in reversed(entries) if entry.kind == CONFLICTS_FOUND), {})
    return tuple(Conflict.model_validate(one) for one in found.get("conflicts", ()))


class Taken(Model):
    """A time in which an environment of a service is booked for another change."""

    service: str
    environment: str
    start: AwareDatetime
    end: AwareDatetime
    what: str = Field(description="By whom, in words")


def of_release(
    calendars: Calendars,
    service: Service,
    environment: str,
    *,
    start: datetime,
    length: timedelta | None,
    taken: Sequence[Taken],
    related: Mapping[str, str],
) -> list[Conflict]:
    """Return the conflicts of a release that starts at an instant.

    :param length: how long such releases took; none: not known.
    :param taken: of any services; also of those that the service has nothing to do with.
    :param related: services that it depends on, or that depend on it, and how, in words.
    """
    lasts = length or USUAL
    mine = [one for one in taken if one.environment == environment and one.service == service.name]
    others = [one for one in taken if one.environment == environment and one.service in related]
    found = [*_of_window(calendars, service, environment, start, length, mine)]
    free = next_slot(calendars, service, environment, start, lasts, [*mine, *others])
    for one in _overlapping(mine, start, lasts):
        what = f"{environment} of {service.name} is already booked at that time: {one.what}."
        found.append(Conflict(kind="environment", severity="warning", what=what, next_free=free))
    for one in _overlapping(others, start, lasts):
        what = f"{one.service}, {related[one.service]}, changes in the same window: {one.what}."
        found.append(Conflict(kind="dependency", severity="warning", what=what, next_free=free))
    return found


def _of_window(
    calendars: Calendars,
    service: Service,
    environment: str,
    start: datetime,
    length: timedelta | None,
    taken: Sequence[Taken],
) -> Iterator[Conflict]:
    answer = may_change(calendars, service, environment, start)
    if answer.faults:
        yield Conflict(kind="window", severity="severe", what=str(answer))
        return
    if not answer.open:
        free = next_slot(calendars, service, environment, start, length or USUAL, taken)
        yield Conflict(kind="window", severity="warning", what=str(answer), next_free=free)
    elif length is not None and answer.until is not None and answer.until - start < length:
        left = in_words(_rounded(answer.until - start))
        what = (
            f"{environment} of {service.name} may be changed for {left} only, until {_shown(answer.until)}, "
            f"and its past releases took up to {in_words(_rounded(length))}."
        )
        free = next_slot(calendars, service, environment, answer.until, length, taken)
        yield Conflict(kind="window", severity="warning", what=what, next_free=free)


def _overlapping(taken: Iterable[Taken], start: datetime, lasts: timedelta) -> list[Taken]:
    return [one for one in taken if one.start < start + lasts and start < one.end]


def next_slot(
    calendars: Calendars,
    service: Service,
    environment: str,
    after: datetime,
    lasts: timedelta,
    taken: Sequence[Taken],
) -> datetime | None:
    """Return the first instant at which an environment is open for a duration and not booked by another change.

    :param taken: all of it is in the way; None if there is no such time within the calendars' horizon.
    """
    at = after.astimezone(UTC)
    for _ in range(MAX_TRIED_TIMES):
        answer = may_change(calendars, service, environment, at)
        if not answer.open:
            if answer.next is None:
                return None
            at = answer.next
        elif answer.until is not None and answer.until - at < lasts:
            at = answer.until
        elif busy := _overlapping(taken, at, lasts):
            at = max(one.end for one in busy)
        else:
            return at
    return None


def slot_for_all(
    calendars: Calendars, services: Sequence[Service], environment: str, after: datetime, lasts: timedelta
) -> datetime | None:
    """Return the first instant at which an environment is open for a duration to all of some services."""
    at: datetime | None = after.astimezone(UTC)
    for _ in range(MAX_TRIED_TIMES):
        before = at
        for service in services:
            at = next_slot(calendars, service, environment, at, lasts, ()) if at else None
        if at == before:
            return at
    return None


def of_line(service: str, running: Sequence[str]) -> list[Conflict]:
    """Return a conflict if releases of a passenger are under way: its own begins when they have ended."""
    if not running:
        return []
    what = f"{service} is being released by {', '.join(running)}; the next release starts when that one has ended."
    return [Conflict(kind="line", severity="note", what=what)]


def of_quorum(rule: VotingRule | None, *, requester: str, barred: Collection[str] = ()) -> list[Conflict]:
    """Return a conflict if too few people may vote."""
    if rule is None:
        return []
    try:
        eligible_members(rule, requester=requester, excluded=tuple(barred))
    except PolicyViolation as error:
        return [Conflict(kind="quorum", severity="severe", what=error.what)]
    return []


def of_trains(
    trains: Sequence[Train],
    departures: Mapping[str, Sequence[Departure]],
    lengths: Mapping[str, timedelta],
    *,
    free: Free | None = None,
) -> list[Conflict]:
    """Return where two trains with one passenger depart so close that the first is not there yet; the first time each.

    :param departures: of each train, by its name, in order.
    :param lengths: how long the releases of a service took; none: not known.
    :param free: says when the calendars let all that the two share depart; none: at any time.
    """
    found = []
    for one, other in combinations(trains, 2):
        shared = [service for service in one.services if service in other.services]
        if not shared:
            continue
        gap = max(lengths.get(service, USUAL) for service in shared)
        close = (
            (first, second)
            for first in departures.get(one.name, ())
            for second in departures.get(other.name, ())
            if abs(first.at - second.at) < gap
        )
        if pair := next(close, None):
            first, second = pair
            what = (
                f"{one.title} ({one.name}) departs at {_shown(first.at)} and {other.title} ({other.name}) at "
                f"{_shown(second.at)}, both with {', '.join(shared)}."
            )
            over = max(first.at, second.at) + gap
            slot = free(shared, one.environment, over, gap) if free else over
            found.append(Conflict(kind="two_trains", severity="warning", what=what, next_free=slot))
    return found


def relations(trains: Iterable[Train], service: str) -> dict[str, str]:
    """Return the services that a service depends on, or that depend on it, according to trains; and how, in words."""
    found: dict[str, str] = {}
    for train in trains:
        for passenger in train.passengers:
            if passenger.service == service:
                found |= dict.fromkeys(passenger.after, f"which {service} depends on")
            elif service in passenger.after:
                found[passenger.service] = f"which depends on {service}"
    return found


def _rounded(length: timedelta) -> timedelta:
    """Return a duration in whole minutes, at least one."""
    return max(timedelta(minutes=round(length.total_seconds() / 60)), timedelta(minutes=1))


def _shown(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else "never"
