"""What paging services say of a release: one line, and its page."""

from __future__ import annotations

from interlock.domain.ledger.runs import run_of
from interlock.domain.outbox.facts import Statement
from interlock.domain.paths import release_page


def in_a_line(statement: Statement) -> str:
    """Return a statement about production in a line."""
    change = statement.change
    ended = f": {change.outcome.replace('_', ' ')}" if statement.event == "closed" and change.outcome else ""
    did = {"begun": "begins", "backed_out": "was backed out"}.get(statement.event, "ended")
    return f"{change.title} {did}{ended}"


def page_of(statement: Statement, site: str) -> str:
    """Return the address of a release's page.

    :param site: Airflow's address.
    """
    return f"{site.rstrip('/')}/{release_page(*(run_of(statement.change.chain) or ('', '')))}"
