"""The schedule as an iCalendar file to subscribe to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from icalendar import Calendar as ICalendar
from icalendar import Event

from .schedule import Item


def write_ical(found: Sequence[Item], *, address: str, now: datetime) -> bytes:
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
        event.add("dtstart", one.day or one.start.astimezone(UTC))
        event.add("dtend", one.until_day or one.end.astimezone(UTC))
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
