"""``interlock connect``: check a system of service management, and write its part of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import typer
import yaml

from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.catalogue.systems import FILE, load_systems
from interlock.adapters.jira import connecting as jira
from interlock.adapters.jira.issues import Issues
from interlock.adapters.jira.site import open_jira
from interlock.adapters.outbox.system import System
from interlock.adapters.outbox.trying import try_out
from interlock.adapters.servicenow import connecting as servicenow
from interlock.adapters.servicenow.changes import Changes
from interlock.adapters.servicenow.instance import open_instance
from interlock.domain.errors import CatalogueError
from interlock.domain.outbox.systems_file import Jira, ServiceNow

CALLS_PER_SECOND = 5


def connect_servicenow(name: str, connection: str, folder: Path, *, yes: bool) -> bool:
    """Check an instance, propose its part of systems.yaml, try it out and write it; say whether it was written.

    :param name: of the system in systems.yaml.
    :param yes: do not ask.
    :raises CatalogueError: systems.yaml has the system already.
    """
    _refuse_known(name, folder)
    with closing(open_instance(stored_connection(connection), CALLS_PER_SECOND)) as api:
        _say(servicenow.checked(api))
        found = servicenow.proposal(api, connection)
        return _settled(name, found, Changes(api, ServiceNow.model_validate(found)), folder, yes=yes)


def connect_jira(name: str, connection: str, folder: Path, *, project: str, yes: bool) -> bool:
    """Check a Jira, propose its part of systems.yaml, try it out and write it; say whether it was written.

    :param project: the key of the project whose issues are changes; others as for :func:`connect_servicenow`.
    """
    _refuse_known(name, folder)
    with closing(open_jira(stored_connection(connection), CALLS_PER_SECOND)) as api:
        _say(jira.checked(api, project))
        found = jira.proposal(api, connection, project)
        return _settled(name, found, Issues(api, Jira.model_validate(found)), folder, yes=yes)


def _refuse_known(name: str, folder: Path) -> None:
    if name in load_systems(folder).systems:
        raise CatalogueError(
            f"{FILE} has the system {name} already.",
            rule="interlock connect changes nothing that people wrote",
            next_step="edit the file, or choose another --name",
        )


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(f"✓ {sentence}")


def _settled(name: str, found: dict[str, Any], system: System, folder: Path, *, yes: bool) -> bool:
    text = yaml.safe_dump({name: found}, sort_keys=False, allow_unicode=True)
    print(f"\nProposed for {FILE}:\n\n{text}")
    if yes or typer.confirm("Make a test change there, and cancel it?"):
        made = try_out(system, f"interlock-connect-{uuid4()}")
        print(f"✓ The test change {made.number} was made and cancelled.")
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
