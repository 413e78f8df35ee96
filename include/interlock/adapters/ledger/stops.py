"""Emergency stops in the ledger: recorded with the request, or by the run's task if that was not possible."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.calendars import stops
from interlock.domain.calendars.stops import EVERYTHING, StopRequest
from interlock.domain.errors import AlreadyRecorded, CatalogueError
from interlock.domain.ledger.chain import INSTALLATION, Book, Entry
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED


def scopes(folder: Path) -> tuple[str, ...]:
    """Return what can be stopped; with a broken catalogue, everything and whatever has a file."""
    try:
        return stops.scopes_of(load_catalogue(folder))
    except CatalogueError:
        return (EVERYTHING, *sorted(path.stem for path in folder.glob("services/*.yaml")))


def request_in(form: Mapping[str, Any], folder: Path) -> StopRequest:
    """Read the form of a stop; RequestRefused with every field that is wrong."""
    return stops.parse_stop(form, scopes(folder))


def declare(book: Book, request: StopRequest, by: str, run: tuple[str, str], *, actor: str) -> Entry:
    """Record an emergency stop in the installation's chain once for each run, or return the existing entry.

    From then on no permit is given in its scope, and a wave that is under way halts before its next host.

    :param run: the Dag and the run of it that was asked for.
    """
    stop = request.declared(stops.id_of(*run), by, book.now())
    try:
        payload = stop.model_dump(mode="json")
        return book.append_once(
            INSTALLATION, EMERGENCY_STOP_DECLARED, payload, actor=actor, key=f"{EMERGENCY_STOP_DECLARED}/{stop.id}"
        )
    except AlreadyRecorded as error:
        return error.entry
