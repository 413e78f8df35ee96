"""What other systems say of the change of a release before its board votes: what it clashes with there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from interlock.adapters.catalogue.systems import load_systems
from interlock.domain.calendars.conflicts import Conflict, Severity, conflicts_in
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.domain.outbox.facts import records_of
from interlock.domain.outbox.systems_file import ServiceNow
from interlock.locations import catalogue_folder
from interlock.stages.runtime import conflicts, resources
from interlock.stages.runtime.evidence import chain_entries

if TYPE_CHECKING:
    from interlock.domain.outbox.delivery import Delivery


def note_conflicts_elsewhere() -> None:
    """Add the conflicts that ServiceNow has of the running release's change to those that were found at planning.

    They are shown, as those are, and refuse nothing. What cannot be read is one of them.
    """
    entries = chain_entries()
    known = conflicts_in(entries)
    found = [*(one for one in known if one.kind != "elsewhere"), *_conflicts(entries)]
    if found != [*known]:
        conflicts.leave(found)


def _conflicts(entries: Sequence[Entry]) -> Iterator[Conflict]:
    from interlock.adapters.ledger.deliveries import Outbox  # not at the top: brings SQLAlchemy

    named = records_of(entries)
    if not named:
        return
    try:
        systems = load_systems(catalogue_folder()).systems
    except ReleaseError:  # it is told where the release is delivered
        return
    asked = {name: one for name in named if isinstance(one := systems.get(name), ServiceNow)}
    if not asked:
        return
    with resources.ledger() as ledger:
        rows = {one.system: one for one in Outbox(ledger).all(chains=[entries[0].chain])}
    for name, described in asked.items():
        try:
            yield from _of_change(name, described, rows.get(name))
        except ReleaseError as error:
            yield _conflict("note", f"{name} did not say what the change clashes with: {error.what}")


def _of_change(name: str, described: ServiceNow, row: Delivery | None) -> Iterator[Conflict]:
    from interlock.adapters.servicenow.conflicts import read_conflicts
    from interlock.adapters.servicenow.instance import open_instance

    if row is None or not row.reference:
        yield _conflict("note", f"{name} has no change of this release yet, so its conflicts there are not known.")
        return
    api = open_instance(BaseHook.get_connection(described.connection), described.calls_per_second)
    try:
        for what in read_conflicts(api, row.reference):
            yield _conflict("warning", f"{row.number} in {name}: {what}.")
    finally:
        api.close()


def _conflict(severity: Severity, what: str) -> Conflict:
    return Conflict(kind="elsewhere", severity=severity, what=what)
