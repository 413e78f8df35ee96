"""``interlock catalogue``: check the catalogue, pull it from its repository, write its JSON schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock.locations import catalogue_folder

from .where import Stack, asks_stack, end, stack_settings

app = typer.Typer(
    name="catalogue",
    help="Check the catalogue, pull it from its repository, or write its JSON schemas.",
    no_args_is_help=True,
)

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
def pull(
    repository: Annotated[str, typer.Argument(help="URL of the catalogue's git repository.", show_default=False)],
    place: Annotated[Path, typer.Argument(help="The folder that it is kept in.", show_default=False)],
    ref: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    below: Annotated[str, typer.Option(help="The catalogue's folder in the repository.")] = "",
    login_file: Annotated[
        Path | None, typer.Option(help="File with LOGIN:PASSWORD for https, or LOGIN:TOKEN.", show_default=False)
    ] = None,
    every: Annotated[int, typer.Option(help="Seconds; pull again and again. 0: once.")] = 0,
) -> None:
    """Bring a folder to a commit of the catalogue's repository, as a whole, if the commit has no faults.

    Ends with 1 if the commit was not taken: the commit before stays in force. With --every it goes on.
    """
    import time

    from interlock.adapters.catalogue import pulled
    from interlock.domain.errors import ReleaseError, describe_error

    said = ""
    while True:
        try:
            login, _, password = login_file.read_text().strip().partition(":") if login_file else ("", "", "")
            found = pulled.pull(repository, place, ref=ref, below=below, login=login or None, password=password or None)
            now, good = f"In force: {found.commit}, in {found.folder}", True
        except (ReleaseError, OSError) as error:
            now, good = describe_error(error), False
        if now != said:
            print(now, flush=True)
        said = now
        if not every:
            end(good)
            return
        time.sleep(every)


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
