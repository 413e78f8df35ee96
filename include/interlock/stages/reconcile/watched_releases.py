"""The releases that are compared with other records: those under way, and those that ended recently."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from interlock.domain.errors import LedgerBroken
from interlock.domain.ledger import runs
from interlock.stages.runtime.history import ends_of_releases

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger
WATCH_AFTER_END = timedelta(days=7)
"""How long after its end a release is still compared with Airflow's record."""
WATCH_WITHOUT_END = timedelta(days=31)
"""How long a release without a recorded end is compared: its Dag times out after 30 days."""


def watched_chains(ledger: Ledger, now: datetime) -> list[str]:
    """Return the chains of the releases that are under way or ended recently."""
    ended = ends_of_releases(ledger)
    return [
        chain
        for chain in ledger.chains()
        if (run := runs.run_of(chain)) and _is_watched(ledger, chain, run, ended, now)
    ]


def _is_watched(ledger: Ledger, chain: str, run: tuple[str, str], ended: Mapping[str, datetime], now: datetime) -> bool:
    if at := ended.get("/".join(run)):
        return at > now - WATCH_AFTER_END
    try:
        last = ledger.last(chain)
    except LedgerBroken:
        return True
    return last is None or last.at > now - WATCH_WITHOUT_END
