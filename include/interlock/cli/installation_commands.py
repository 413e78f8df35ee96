"""``interlock init``, ``setup`` and ``doctor``: install Interlock into an Airflow of one's own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from .where import end, failures_on_stderr, quiet_airflow

Folder = Annotated[Path, typer.Argument(help="The folder of the project.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(setup)
    app.command()(doctor)


def init(folder: Folder = Path()) -> None:
    """Write a project: a catalogue to edit, settings, and a README with the next steps. Files that exist stay."""
    quiet_airflow()
    with failures_on_stderr():
        from airflow.configuration import conf

        from interlock.installation.project import write_project

        bundles = conf.get("dag_processor", "dag_bundle_config_list")
        written = write_project(folder, bundles, conf.get("api", "base_url", fallback="/"))
    for path, kept in written:
        print(f"{'kept   ' if kept else 'written'} {path}")
    print(f"\nNext: {folder.resolve() / 'README.md'} says what to do.")


def setup(
    folder: Folder = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be changed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before changing anything.")] = False,
) -> None:
    """Create what is missing: the ledger's database, keys, roles, accounts, connections. Run it again at any time.

    Set INTERLOCK_LEDGER_ADMIN_URL to an administrator of the PostgreSQL server that is to hold the ledger, such as
    postgresql://postgres:password@host/postgres, or INTERLOCK_LEDGER_OWNER_URL to the owner of the ledger's database.
    """
    quiet_airflow()
    with failures_on_stderr():
        from interlock.adapters.catalogue.catalogue import load_catalogue
        from interlock.installation.fab import security_manager
        from interlock.installation.setup import Setup
        from interlock.locations import catalogue_folder

        catalogue = load_catalogue(catalogue_folder())
        with security_manager() as manager:
            plan = Setup(folder.resolve(), os.environ, catalogue, manager).plan()
            for change in plan.changes:
                print(f"+ {change.what}")
            print(*(f"\nNote: {note}" for note in plan.notes), sep="")
            if not plan.changes:
                print("There is nothing to change.")
            elif not dry_run and (yes or typer.confirm("Change this?")):
                for change in plan.changes:
                    change.make()
                    print(f"done: {change.what}")
            else:
                print("Nothing was changed.")
                end(dry_run)


def doctor(
    api_server: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of an API server. Give it again for each further one. Default: those of "
            "INTERLOCK_API_SERVERS, or the one of interlock_airflow.",
            show_default=False,
        ),
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON, a finding a line.")] = False,
) -> None:
    """Check a running installation; end with 1 if anything is wrong. Nothing is changed.

    Run it on each machine that runs tasks, with the environment of Airflow's components there.
    """
    quiet_airflow()
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape

    from interlock.installation.doctor.doctor import findings

    console, is_well = Console(soft_wrap=True, highlight=False), True
    for found in findings(api_server or ()):
        is_well = is_well and found.state != "wrong"
        if json_lines:
            print(json.dumps(asdict(found)))
            continue
        console.print(f"{_MARKS[found.state]} [bold]{escape(found.check)}[/]: {escape(found.what)}")
        if found.fix:
            console.print(f"    fix: {escape(found.fix)}")
    end(is_well)


_MARKS = {"well": "[green]✓[/]", "wrong": "[red]✗[/]", "unknown": "[yellow]?[/]"}
