"""The command ``interlock``: its subcommands and exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

import interlock
from interlock.domain.errors import ReleaseError

from . import catalogue_commands, installation_commands, ledger_commands, release_commands, stack_commands

app = typer.Typer(
    name="interlock",
    help="Release management on Apache Airflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(stack_commands.app)
app.add_typer(catalogue_commands.app)
app.add_typer(ledger_commands.app)
installation_commands.add_to(app)
release_commands.add_to(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"interlock {interlock.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Release management on Apache Airflow."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    :param arguments: by default those of this process.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="interlock", standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _say_interrupted()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ReleaseError as error:
        from interlock.estate.steps import open_console, show_failure

        show_failure(open_console(), error)
        return 1
    return 0


INTERRUPTED = 130


def _say_interrupted() -> None:
    from interlock.estate.steps import open_console

    open_console().print("[red]✗[/] interrupted")
