"""Which Airflow a command asks: the embedded stack's, or the Airflow that is configured where the command runs."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.domain.errors import ReleaseError
from interlock.locations import INSTALLED, PROJECT

if TYPE_CHECKING:
    from interlock.estate.settings import Settings

Stack = Annotated[
    bool | None,
    typer.Option(
        "--stack/--here",
        help="Ask the embedded stack of this project, or the Airflow that is configured here. "
        "Default: the stack if this runs from the project's folder and AIRFLOW_HOME is not set, else the Airflow here.",
        show_default=False,
    ),
]


def asks_stack(chosen: bool | None) -> bool:
    """Tell whether a command asks the embedded stack."""
    return not INSTALLED and not os.environ.get("AIRFLOW_HOME") if chosen is None else chosen


def stack_settings() -> Settings:
    """Return the settings of the embedded stack.

    :raises ReleaseError: there can be no stack, or a setting cannot be used.
    """
    if INSTALLED:
        raise ReleaseError(
            "The embedded stack is started from the project's folder, and this package was installed from a wheel.",
            rule="the stack uses the project's Dags, connections, sample service and locked requirements",
            next_step="clone the project and run make up there",
        )
    from interlock.estate.settings import Settings

    return Settings.from_environment(os.environ)


def runs(settings: Settings) -> bool:
    """Tell whether a stack runs, which its database shows by answering."""
    from interlock.estate.stack import postgres

    return settings.state.exists() and postgres.is_ready(settings)


def run_in_stack(settings: Settings, *arguments: str) -> int:
    """Run one of our commands in the environment of the stack; return its exit code."""
    from interlock.estate.airflow.home import airflow_environment

    command = [sys.executable, "-m", "interlock", *arguments]
    return subprocess.run(command, env=airflow_environment(settings), cwd=PROJECT, check=False).returncode


def end(is_well: bool) -> None:
    """End a command with exit code 1 if it failed."""
    if not is_well:
        raise typer.Exit(1)


@contextmanager
def failures_on_stderr(code: int = 1) -> Iterator[None]:
    """Print failures to the standard error: the standard output is for results."""
    try:
        yield
    except ReleaseError as error:
        from rich.console import Console

        from interlock.estate.steps import show_failure

        show_failure(Console(stderr=True), error)
        raise typer.Exit(code) from None


def quiet_airflow() -> None:
    """Keep Airflow's own log lines and warnings out of the output; to be called before Airflow is imported."""
    for name in ("LOGGING_LEVEL", "FAB_LOGGING_LEVEL"):
        os.environ.setdefault(f"AIRFLOW__LOGGING__{name}", "ERROR")
    warnings.simplefilter("ignore")
