"""``interlock deliveries``: what other systems were told of releases, and what they refused."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from interlock.adapters.airflow.connections import LEDGER, stored_connection
from interlock.adapters.ledger.deliveries import Outbox
from interlock.adapters.ledger.ledger import open_ledger
from interlock.domain.outbox.delivery import Delivery

MOST = 200
"""Rows of the table; --json has all."""


def read_deliveries(*, every: bool) -> tuple[Delivery, ...]:
    """Return the deliveries of the ledger of this Airflow: those that failed or wait, or all."""
    with open_ledger(stored_connection(LEDGER)) as ledger:
        return tuple(one for one in Outbox(ledger).all() if every or one.state != "told")


def show(deliveries: tuple[Delivery, ...]) -> None:
    """Print them as a table."""
    console = Console(soft_wrap=True, highlight=False)
    if not deliveries:
        console.print("Every system was told everything.")
        return
    table = Table("System", "Record", "Release", "State", "Next attempt", "Reason")
    for one in deliveries[:MOST]:
        at = f"{one.next_at:%Y-%m-%d %H:%M:%S} UTC" if one.next_at else ""
        table.add_row(one.system, one.number, one.chain.removeprefix("release/"), one.state, at, one.error)
    console.print(table)
    if len(deliveries) > MOST:
        console.print(f"… and {len(deliveries) - MOST} more: --json prints all.")
    if any(one.state == "refused" for one in deliveries):
        console.print("Refused: correct the reason, then trigger the Dag retry_deliveries.")
