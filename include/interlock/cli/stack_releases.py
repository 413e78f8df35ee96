"""The past releases that a policy is tried against on the embedded stack: those of its ledger, or the sample's."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from interlock.estate.settings import Settings
from interlock.locations import PROJECT

from .where import run_in_stack, runs

SAMPLE = PROJECT / "include" / "samples" / "past_releases.jsonl"


def releases_of_stack(settings: Settings, file: Path, console: Console) -> Path:
    """Return a file of past releases, and say whose they are.

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
