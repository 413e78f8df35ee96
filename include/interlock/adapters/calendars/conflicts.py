"""What is needed to find conflicts: by the ledger, the catalogue and its calendars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from interlock.domain.calendars.bookings import standing_bookings
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.calendars.conflicts import (
    USUAL,
    Conflict,
    Free,
    Taken,
    of_release,
    of_trains,
    relations,
    slot_for_all,
)
from interlock.domain.catalogue import Catalogue
from interlock.domain.catalogue.train_file import Train
from interlock.domain.ledger.chain import INSTALLATION, Chains, release_chain
from interlock.domain.ledger.kinds import BASELINE_MEASURED, RELEASE_CLOSED, RELEASE_ENDED
from interlock.domain.trains.cadence import Departure
from interlock.domain.trains.departures import departures_between, opens

CHECKED_PERIOD = timedelta(days=60)
"""So far ahead trains are looked at."""
LAST = 10
"""Number of a service's last releases from which the duration of a release is estimated."""


def longest_of(ledger: Chains, services: Sequence[str]) -> dict[str, timedelta]:
    """Return the longest that the last deployed releases of services took, from what first touches the target on.

    A service without any is not in it.
    """
    ended = [
        one.payload for one in ledger.entries(INSTALLATION, kind=RELEASE_ENDED) if one.payload["outcome"] == "deployed"
    ]
    found: dict[str, timedelta] = {}
    for service in services:
        runs = [str(told["run"]) for told in ended if told["service"] == service][-LAST:]
        took = [length for run in runs if (length := _took(ledger, release_chain(*run.split("/", 1))))]
        if took:
            found[service] = max(took)
    return found


def _took(ledger: Chains, chain: str) -> timedelta | None:
    began = ledger.entries(chain, kind=BASELINE_MEASURED)
    ended = ledger.entries(chain, kind=RELEASE_CLOSED)
    return ended[-1].at - began[0].at if began and ended else None


def upcoming(
    catalogue: Catalogue, calendars: Calendars, trains: Mapping[str, Train], begin: datetime, end: datetime
) -> dict[str, list[Departure]]:
    """Return the departures of all trains from an instant to before another, by the train's name."""
    found = {}
    for name, train in trains.items():
        services = [catalogue.services[one] for one in train.services if one in catalogue.services]
        found[name] = departures_between(train, opens(calendars, services, train.environment), begin, end)
    return found


def taken(
    ledger: Chains,
    trains: Mapping[str, Train],
    departures: Mapping[str, Sequence[Departure]],
    lengths: Mapping[str, timedelta],
    *,
    but: str = "",
) -> list[Taken]:
    """Return what is booked now, and what trains will change.

    :param but: the chain of a release, whose own booking is not in its way, and whose own train is not.
    """
    return [*_booked(ledger, but), *_on_trains(trains, departures, lengths)]


def _booked(ledger: Chains, but: str) -> Iterator[Taken]:
    for _, booking in standing_bookings(ledger):
        if booking.holder != but:
            yield Taken(
                service=booking.service,
                environment=booking.environment,
                start=booking.since,
                end=booking.until,
                what=str(booking),
            )


def _on_trains(
    trains: Mapping[str, Train], departures: Mapping[str, Sequence[Departure]], lengths: Mapping[str, timedelta]
) -> Iterator[Taken]:
    for name, each in departures.items():
        for service in trains[name].services:
            lasts = lengths.get(service, USUAL)
            for one in each:
                what = f"{trains[name].title} ({name}) departs at {one.at:%Y-%m-%d %H:%M} UTC"
                yield Taken(
                    service=service,
                    environment=trains[name].environment,
                    start=one.at,
                    end=one.at + lasts,
                    what=what,
                )


def conflicts_of_release(
    catalogue: Catalogue,
    calendars: Calendars,
    ledger: Chains,
    trains: Mapping[str, Train],
    *,
    service: str,
    environment: str,
    start: datetime,
    chain: str,
    train: str = "",
) -> list[Conflict]:
    """Return what a release clashes with if it begins at an instant.

    :param chain: the release's own.
    :param train: the name of the train that it is a passenger of; others with the same passenger clash with the train.
    """
    related = relations(trains.values(), service)
    lengths = longest_of(ledger, [service, *related])
    other = {
        name: one
        for name, one in trains.items()
        if one.on_schedule and (not train or (name != train and service not in one.services))
    }
    window = max((*lengths.values(), USUAL))
    departing = upcoming(catalogue, calendars, other, start - window, start + CHECKED_PERIOD)
    return of_release(
        calendars,
        catalogue.services[service],
        environment,
        start=start,
        length=lengths.get(service),
        taken=taken(ledger, other, departing, lengths, but=chain),
        related=related,
    )


def slots_by(catalogue: Catalogue, calendars: Calendars) -> Free:
    """Return a function that finds when some services may change an environment for a duration."""

    def free(services: Sequence[str], environment: str, after: datetime, lasts: timedelta) -> datetime | None:
        known = [catalogue.services[service] for service in services if service in catalogue.services]
        return slot_for_all(calendars, known, environment, after, lasts)

    return free


def conflicts_of_trains(
    catalogue: Catalogue,
    calendars: Calendars,
    ledger: Chains | None,
    trains: Mapping[str, Train],
    now: datetime,
    *,
    sent: Mapping[str, datetime] | None = None,
) -> list[Conflict]:
    """Return the coming conflicts between trains.

    :param ledger: says how long releases took; none: what is usual.
    :param sent: a departure beside those of its cadence, by the train's name.
    """
    services = sorted({service for train in trains.values() for service in train.services})
    lengths = longest_of(ledger, services) if ledger is not None else {}
    departing: dict[str, list[Departure]] = {name: [] for name in trains}
    on_schedule = {name: train for name, train in trains.items() if train.on_schedule}
    departing |= upcoming(catalogue, calendars, on_schedule, now, now + CHECKED_PERIOD)
    for name, at in (sent or {}).items():
        departing[name] = sorted((*departing.get(name, ()), Departure(at, at)), key=lambda one: one.at)
    return of_trains(list(trains.values()), departing, lengths, free=slots_by(catalogue, calendars))
