"""What the release calendar shows: departures, calendars, bookings and past releases; also as an iCalendar feed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from icalendar import Calendar as ICalendar
from icalendar import Event
from pydantic import AwareDatetime

from include.interlock.domain.bookings import PREFIX, standing
from include.interlock.domain.calendar import Calendars
from include.interlock.domain.canonical import Model
from include.interlock.domain.catalogue import Catalogue
from include.interlock.domain.catalogue.train_file import Train
from include.interlock.domain.ledger import INSTALLATION, Entry
from include.interlock.domain.reconcile import run_of
from include.interlock.domain.train_manifest import ARRIVED, TRAINS, Arrival

from .conflicts import upcoming

Kind = Literal["departure", "freeze", "window", "maintenance", "event", "holiday", "booking", "release", "train"]
LONGEST = timedelta(days=800)
"""Nobody is shown more than this at once."""
A_WHILE = timedelta(minutes=30)
"""How long something is drawn that has no length."""
ENDED = "release.ended"


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
    all_day: bool = False


class Chains(Protocol):
    """The part of the ledger that is read here."""

    def entries(self, chain: str, *, kind: str | None = None) -> Sequence[Entry]: ...  # noqa: D102
    def chains(self) -> Sequence[str]: ...  # noqa: D102


def items(
    catalogue: Catalogue,
    calendars: Calendars,
    ledger: Chains,
    trains: Mapping[str, Train],
    *,
    begin: datetime,
    end: datetime,
    now: datetime,
) -> list[Item]:
    """Return what goes on from an instant to before another, by its start."""
    end = min(end, begin + LONGEST)
    found = [
        *_of_calendars(calendars, begin, end),
        *_departures(catalogue, calendars, trains, max(begin, now), end),
        *_bookings(ledger),
        *_releases(ledger),
        *_journeys(ledger),
    ]
    within = [one for one in found if one.start < end and one.end > begin]
    return sorted(within, key=lambda one: (one.start, one.end, one.id))


def _of_calendars(calendars: Calendars, begin: datetime, end: datetime) -> Iterator[Item]:
    seen = set()
    for year in range(begin.year, end.year + 1):
        for one in calendars.occurrences(year):
            id = f"{one.entry.place}/{one.start.isoformat()}"
            if id in seen:
                continue
            seen.add(id)
            scope = one.entry.scope
            named = ", ".join((*scope.services, *scope.business_units, *scope.environments)) or "everything"
            does = {"deny": "Nothing is changed", "allow": "May be changed"}.get(one.entry.effect, "Shown only")
            yield Item(
                id=id,
                kind=one.entry.kind,
                title=one.title,
                start=one.start,
                end=one.end,
                about=f"{does}: {named} ({one.entry.place})",
                state=one.entry.effect,
                all_day=one.end - one.start >= timedelta(hours=23),
            )


def _departures(
    catalogue: Catalogue, calendars: Calendars, trains: Mapping[str, Train], begin: datetime, end: datetime
) -> Iterator[Item]:
    for name, each in upcoming(catalogue, calendars, trains, begin, end).items():
        train = trains[name]
        for one in each:
            moved = f"; moved from {one.planned:%Y-%m-%d %H:%M} UTC by a calendar" if one.is_moved else ""
            yield Item(
                id=f"train/{name}/{one.at.isoformat()}",
                kind="departure",
                title=train.title,
                start=one.at,
                end=one.at + A_WHILE,
                about=f"With {', '.join(train.services)}, as far as they are ready{moved}",
                state="moved" if one.is_moved else "planned",
                dag_id=_dag_of(name),
            )


def _dag_of(train: str) -> str:
    return TRAINS + train.replace("-", "_")


def _bookings(ledger: Chains) -> Iterator[Item]:
    for chain in ledger.chains():
        booking = standing(ledger.entries(chain)).booking if chain.startswith(PREFIX) else None
        if booking is not None:
            run = run_of(booking.holder)
            yield Item(
                id=chain,
                kind="booking",
                title=f"{booking.service} in {booking.environment} is booked",
                start=booking.since,
                end=booking.until,
                about=str(booking),
                state="running",
                dag_id=run[0] if run else "",
                run_id=run[1] if run else "",
            )


def _releases(ledger: Chains) -> Iterator[Item]:
    for entry in ledger.entries(INSTALLATION, kind=ENDED):
        told = entry.payload
        dag_id, _, run_id = str(told["run"]).partition("/")
        yield Item(
            id=str(told["run"]),
            kind="release",
            title=f"{told['service']} {told['version']}: {str(told['outcome']).replace('_', ' ')}",
            start=entry.at - A_WHILE,
            end=entry.at,
            about=f"A {told['change_type']} change",
            state=str(told["outcome"]),
            dag_id=dag_id,
            run_id=run_id,
        )


def _journeys(ledger: Chains) -> Iterator[Item]:
    for chain in ledger.chains():
        run = run_of(chain)
        if run is None or not run[0].startswith(TRAINS):
            continue
        for entry in ledger.entries(chain, kind=ARRIVED):
            came = Arrival.from_xcom(entry.payload)
            each = "; ".join(f"{one.service} {one.version}: {one.outcome}".strip() for one in came.passengers)
            start = came.departure if came.departure and came.departure < entry.at else entry.at - A_WHILE
            yield Item(
                id=chain,
                kind="train",
                title=f"{came.train}: {'arrived' if came.departed and not came.missing else 'not everybody arrived'}",
                start=start,
                end=entry.at,
                about=each or came.reason,
                state="deployed" if came.departed and not came.missing else "failed",
                dag_id=run[0],
                run_id=run[1],
            )


def as_ical(found: Sequence[Item], *, address: str, now: datetime) -> bytes:
    """Return items as an iCalendar file to subscribe to.

    :param address: Airflow's own, for links to runs.
    """
    calendar = ICalendar()
    for name, value in (
        ("prodid", "-//Interlock//Release calendar//EN"),
        ("version", "2.0"),
        ("x-wr-calname", "Releases"),
        ("refresh-interval;value=duration", "PT15M"),
        ("x-published-ttl", "PT15M"),
    ):
        calendar.add(name, value)
    for one in found:
        event = Event()
        event.add("uid", f"{one.id}@interlock")
        event.add("dtstamp", now.astimezone(UTC))
        event.add("dtstart", one.start.astimezone(UTC))
        event.add("dtend", one.end.astimezone(UTC))
        event.add("summary", one.title)
        event.add("description", one.about)
        event.add("categories", [one.kind, one.state] if one.state else [one.kind])
        event.add("transp", "OPAQUE" if one.kind in ("freeze", "booking") else "TRANSPARENT")
        if path := path_of(one):
            event.add("url", f"{address.rstrip('/')}/{path}")
        calendar.add_component(event)
    return bytes(calendar.to_ical())


def path_of(one: Item) -> str:
    """Return where an item is in Airflow's UI; empty: nowhere."""
    if not one.dag_id:
        return ""
    return f"dags/{one.dag_id}/runs/{one.run_id}" if one.run_id else f"dags/{one.dag_id}"
