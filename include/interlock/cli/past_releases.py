"""Files of past releases, one JSON object in each line: what a backtest reads."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from rich.console import Console

from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.artifacts.store import open_store
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.ledger.past_releases import past_releases
from interlock.estate.settings import Settings
from interlock.locations import PROJECT

from .where import run_in_stack, runs

SAMPLE = PROJECT / "include" / "samples" / "past_releases.jsonl"


def write(file: Path) -> None:
    """Write the releases of this Airflow's ledger; those that are left out are named on the standard error."""
    with open_ledger(stored_connection("interlock_ledger")) as ledger:
        releases, left_out = past_releases(ledger, open_store(stored_connection("interlock_artifacts")))
    for why in left_out:
        print(why, file=sys.stderr)
    file.write_text("".join(f"{release.model_dump_json()}\n" for release in releases), encoding="utf-8")


def releases_of_stack(settings: Settings, file: Path, console: Console) -> Path:
    """Return a file of past releases for the embedded stack: those of its ledger, or the sample's; say which.

    :param file: where those of the ledger are written.
    """
    if not runs(settings):
        console.print("The stack does not run: these are the releases of the sample.", highlight=False)
        return SAMPLE
    if run_in_stack(settings, "past-releases", "--here", "--", str(file)):
        raise typer.Exit(1)
    if not file.read_text(encoding="utf-8"):
        console.print("No release has ended in the stack: these are the releases of the sample.", highlight=False)
        return SAMPLE
    console.print(f"These are the releases of the ledger of {settings.state}.", highlight=False, soft_wrap=True)
    return file
