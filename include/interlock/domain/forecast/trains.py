"""When all passengers of a train will be through: as for a release, each after those that it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from interlock.domain.canonical import Model

from .forecast import Forecast, History, Outlook


class Passenger(Model):
    """A passenger of a train, as far as its release is known.

    :ivar outlook: its release; none: it has not been requested.
    :ivar ended_at: when its release ended; none: it has not.
    """

    service: str
    after: tuple[str, ...] = ()
    outlook: Outlook | None = None
    ended_at: datetime | None = None


def forecast_of_train(
    history: History, passengers: Sequence[Passenger], change_type: str, departure: datetime, now: datetime
) -> Forecast:
    """Return when all passengers will be through.

    All of so many must be in time at once, so that each gets the range that it keeps more often than nine times of ten.

    :param departure: before that, nobody departs.
    """
    starts = departure if departure > now else None
    bare = Forecast(reached="", steps=(), starts=starts, based_on=0)
    to_come = [one for one in passengers if one.ended_at is None]
    if not to_come:
        return bare.model_copy(update={"why": "All passengers have arrived." if passengers else "Nobody is on board."})
    ends = {one.service: (one.ended_at, one.ended_at) for one in passengers if one.ended_at is not None}
    based_on: list[int] = []
    for one in _in_order(to_come):
        begin = [max(now, departure, *(ends[each][number] for each in one.after if each in ends)) for number in (0, 1)]
        found = []
        for number in (0, 1):
            expected = one.outlook or Outlook(
                service=one.service, change_type=change_type, requested_at=begin[number], reached={}
            )
            at = now if one.outlook else begin[number]
            forecast = history.forecast(expected, at, among=len(to_come))
            if forecast.half is None or forecast.nine_of_ten is None:
                return bare.model_copy(update={"why": f"{one.service}: {forecast.why}"})
            found.append((forecast.half, forecast.nine_of_ten)[number])
            based_on.append(forecast.based_on)
        ends[one.service] = (found[0], max(found))
    half, nine = (max(ends[one.service][number] for one in to_come) for number in (0, 1))
    return bare.model_copy(update={"based_on": min(based_on), "half": half, "nine_of_ten": nine})


def _in_order(passengers: Sequence[Passenger]) -> list[Passenger]:
    """Return passengers so that each comes after those that it waits for; what waits for itself is last."""
    left, found = list(passengers), list[Passenger]()
    while left:
        names = {one.service for one in left}
        ready = [one for one in left if not names & set(one.after)] or left
        found += ready
        left = [one for one in left if one not in ready]
    return found
