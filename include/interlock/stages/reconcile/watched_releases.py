"""The releases that are compared with other records: those under way, and those that ended recently."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

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
    ended, last = ends_of_releases(ledger), ledger.ends(runs.CHAINS)
    return sorted(
        chain for chain, at in last.items() if (run := runs.run_of(chain)) and _is_watched(run, at, ended, now)
    )


def _is_watched(run: tuple[str, str], last: datetime | None, ended: Mapping[str, datetime], now: datetime) -> bool:
    if at := ended.get("/".join(run)):
        return at > now - WATCH_AFTER_END
    return last is None or last > now - WATCH_WITHOUT_END
