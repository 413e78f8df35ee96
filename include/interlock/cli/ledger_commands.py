"""``interlock ledger``: the commands of the owner of the ledger's database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .where import end, failures_on_stderr

app = typer.Typer(
    name="ledger",
    help="Migrate and check the ledger, as the owner of its database.\n\n"
    "Each command logs in with the URL in INTERLOCK_LEDGER_OWNER_URL, such as "
    "postgresql://owner:password@host/database.",
    short_help="Migrate and check the ledger, as the owner of its database.",
    no_args_is_help=True,
)
FAILED = 2
"""The exit code of a command that could not do its work; 1 is for a ledger that does not hold."""

Writer = Annotated[str, typer.Option(help="The role that tasks log in as.")]


@app.command()
def migrate(
    writer: Writer = "interlock_ledger_writer",
    witness: Annotated[
        str, typer.Option(help="The role that Airflow's API server logs in as.")
    ] = "interlock_ledger_witness",
) -> None:
    """Make or upgrade the tables, and set the rights of the roles."""
    with failures_on_stderr(FAILED):
        from interlock.adapters.ledger.owner import migrate_ledger

        print(f"The ledger is at version {migrate_ledger(writer, witness)}.")


@app.command()
def check(
    key: Annotated[
        list[Path] | None,
        typer.Option(
            help="A public key that signs heads, PEM. Give it again for each further key.", show_default=False
        ),
    ] = None,
    writer: Writer = "interlock_ledger_writer",
    kept: Annotated[
        list[Path] | None,
        typer.Option(help="A file that 'interlock ledger heads' wrote earlier. Give it again for each further file."),
    ] = None,
) -> None:
    """Check all chains, signed heads, triggers and rights; end with 1 if anything does not hold."""
    with failures_on_stderr(FAILED):
        from interlock.adapters.ledger.owner import check_ledger

        heads = [line for path in kept or () for line in path.read_text("utf-8").splitlines()]
        found = check_ledger([path.read_bytes() for path in key or ()], writer, heads)
    for chain in found.chains:
        print(chain)
    if not key:
        print("Signatures were not checked: name the public keys with --key.")
    for problem in found.problems:
        print(f"BROKEN: {problem}")
    end(not found.problems)


@app.command()
def heads() -> None:
    """Print the newest signed head of each chain, to be kept outside of the installation for 'check --kept'."""
    with failures_on_stderr(FAILED):
        from interlock.adapters.ledger.owner import newest_heads

        for line in newest_heads():
            print(line)


@app.command("correct-clock")
def correct_clock(
    chain: Annotated[str, typer.Argument(help="The chain whose last entry has a wrong time, such as installation.")],
    actor: Annotated[str, typer.Option(help="Your name.")],
    reason: Annotated[str, typer.Option(help="Why the clock was wrong.")],
) -> None:
    """Record that the last entry of a chain has a time in the future, so that the chain goes on."""
    with failures_on_stderr(FAILED):
        from interlock.adapters.ledger import owner

        entry = owner.correct_clock(chain, actor=actor, reason=reason)
        print(f"Entry {entry.sequence} of {entry.chain} records that the clock was wrong.")
