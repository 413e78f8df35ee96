"""``interlock catalogue``: check the catalogue, write its JSON schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock.locations import catalogue_folder

from .where import Stack, asks_stack, end, stack_settings

app = typer.Typer(name="catalogue", help="Check the catalogue, or write its JSON schemas.", no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option(
        help="The catalogue's folder. Default: INTERLOCK_CATALOGUE, or the project's own.", show_default=False
    ),
]


@app.command()
def check(folder: Folder = None, stack: Stack = None) -> None:
    """Print the faults of the catalogue; end with 1 if there are any.

    In the project's folder this also checks that the connections that services name are in airflow_settings.yaml or in
    the Airflow of the embedded stack.
    """
    from interlock.adapters.catalogue.catalogue import what_is_wrong

    settings = stack_settings() if asks_stack(stack) else None
    where = folder or (settings.catalogue if settings else catalogue_folder())
    wrong, doubtful = what_is_wrong(where), list[str]()
    if settings:
        from interlock.estate.airflow.named_connections import with_faults_of_connections

        wrong, doubtful = with_faults_of_connections(settings, where, wrong)
    print("\n\n".join(wrong) if wrong else f"OK: {where}")
    for sentence in doubtful:
        print(f"\nWarning: {sentence}.")
    end(not wrong)


@app.command()
def schemas(folder: Folder = None) -> None:
    """Write the JSON schemas of the catalogue's files into the folder schemas of the catalogue.

    Editors check the files with these schemas.
    """
    from interlock.adapters.catalogue.catalogue import refuse_missing
    from interlock.adapters.catalogue.schemas import write_schemas

    where = folder or catalogue_folder()
    refuse_missing(where)
    written = write_schemas(where / "schemas")
    print(f"Written: {', '.join(path.name for path in written)}." if written else "The schemas are up to date.")
