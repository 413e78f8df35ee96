"""``interlock connect``: check a system of service management, and write its part of the catalogue."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import typer
import yaml

from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.catalogue.systems import FILE, load_systems
from interlock.adapters.servicenow.connecting import checked, proposal, try_out
from interlock.adapters.servicenow.instance import open_instance
from interlock.domain.errors import CatalogueError
from interlock.domain.outbox.systems_file import ServiceNow


def connect_servicenow(name: str, connection: str, folder: Path, *, yes: bool) -> bool:
    """Check an instance, propose its part of systems.yaml, try it out and write it; say whether it was written.

    :param name: of the system in systems.yaml.
    :param yes: do not ask.
    :raises CatalogueError: systems.yaml has the system already.
    """
    if name in load_systems(folder).systems:
        raise CatalogueError(
            f"{FILE} has the system {name} already.",
            rule="interlock connect changes nothing that people wrote",
            next_step="edit the file, or choose another --name",
        )
    api = open_instance(stored_connection(connection), calls_per_second=5)
    try:
        for sentence in checked(api):
            print(f"✓ {sentence}")
        found = proposal(api, connection)
        text = yaml.safe_dump({name: found}, sort_keys=False, allow_unicode=True)
        print(f"\nProposed for {FILE}:\n\n{text}")
        if yes or typer.confirm("Make a test change in this instance, and cancel it?"):
            made = try_out(api, ServiceNow.model_validate(found), f"interlock-connect-{uuid4()}")
            print(f"✓ The test change {made.number} was made and cancelled.")
    finally:
        api.close()
    if not (yes or typer.confirm(f"Write this to {folder / FILE}?")):
        print("Nothing was written.")
        return False
    _write(folder / FILE, text)
    load_systems(folder)
    print(f"Written: {folder / FILE}. Next: name {name} under records of a change type in policy.yaml.")
    return True


def _write(path: Path, part: str) -> None:
    """Add a system at the end of the file: what people wrote there stays as it is, with their comments."""
    before = path.read_text("utf-8") if path.exists() else "systems:\n"
    indented = "".join(f"  {line}\n" for line in part.splitlines())
    path.write_text(f"{before.rstrip()}\n{indented}", encoding="utf-8")
