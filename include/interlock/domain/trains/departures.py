"""When a train departs: by its cadence and the calendars.

A departure takes place if at least one of the train's services may change the environment then; services that may not
are left behind. If none may, the departure is moved to the first time at which one may, or dropped, as the train says.
A moved departure never reaches the next one of the cadence: the next one takes its place.

Times are local times, as everywhere in the calendars: a time that the clocks skip is an hour later; for a time that
occurs twice, the first is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated

from pydantic import AfterValidator, Field

from interlock.domain.calendars.calendar import HORIZON, Answer, Calendars, may_change, opens_at
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.train_file import Cadence, Train
from interlock.domain.trigger_form import Form, Instant, is_near

from .cadence import Departure, planned_departures


def _near(departure: datetime | None) -> datetime | None:
    if departure is not None and not is_near(departure, datetime.now(UTC)):
        raise ValueError("must be at most one day ago and one year ahead")
    return departure


class TrainRequest(Form):
    """The form of a train that is triggered manually."""

    departure: Annotated[Instant, AfterValidator(_near)] = Field(
        None,
        title="Departure",
        description="The departure time with its time zone, such as 2026-12-01T20:00:00Z; at most one year ahead. "
        "Empty: once the board has decided.",
    )


MAX_DEPARTURES = 2000
"""Maximum number of forbidden departures in a row that are examined, within the calendars' horizon."""


Opens = Callable[[datetime], datetime | None]
"""Returns when one of a train's services can next change the environment; none within the horizon."""


def opens(calendars: Calendars, services: Sequence[Service], environment: str) -> Opens:
    """Return a function that finds when one of some services may change an environment.

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
    times = planned_departures(train, earliest if done is None else max(done, earliest))
    current, idle = next(times, None), 0
    since: datetime | None = None
    while current is not None and idle < MAX_DEPARTURES:
        following, idle, since = next(times, None), idle + 1, since or current
        if current - since > HORIZON:
            return
        at = _departure_time(train, opening, current, following)
        if at is not None and at > after:
            idle, since = 0, None
            yield Departure(current, at)
        current = following


def _departure_time(train: Train, opening: Opens, plan: datetime, following: datetime | None) -> datetime | None:
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


def closed_for(
    calendars: Calendars,
    services: Iterable[Service],
    environment: str,
    at: datetime,
    overridden: Callable[[str], frozenset[str]],
) -> dict[str, Answer]:
    """Return what closes an environment at an instant, for each service that may not change it.

    :param overridden: says which entries are overridden for a service.
    """
    answers = (may_change(calendars, one, environment, at, overridden=overridden(one.name)) for one in services)
    return {answer.service: answer for answer in answers if not answer.open}


def cadence_in_words(train: Train) -> str:
    """Describe when a train departs, by its file."""
    if train.target is not None:
        return f"once, {train.target.at.replace('T', ' ')} {train.time_zone}"
    cadence = train.cadence or Cadence()
    when = cadence.cron or f"{cadence.rule} from {(cadence.from_ or '').replace('T', ' ')}"
    return f"{when} {train.time_zone}"


def freeze_in_words(train: Train) -> str:
    """Describe what happens to a departure during a freeze."""
    if train.freeze.then == "drop":
        return "a departure during a freeze is cancelled"
    hours = train.freeze.farthest.total_seconds() / 3600
    return f"a departure during a freeze moves to the next allowed time, by at most {hours:g} hours"
