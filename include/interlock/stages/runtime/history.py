"""What the installation's chain remembers across releases: how each ended, and which was reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from interlock.adapters.ledger.past_releases import ended_releases
from interlock.domain.ledger.chain import INSTALLATION, Entry, instant
from interlock.domain.ledger.kinds import RELEASE_ENDED
from interlock.domain.records import Outcome, PastRelease

from . import resources
from .evidence import this_task


def remember(run: str, outcome: Outcome, change_type: str, *, planned: bool, began: datetime) -> None:
    """Record in the installation's chain how a release ended.

    :param run: Dag and run: ``release_bike_shop/1.4.0__2026-…``.
    :param planned: it got a plan; it was not refused before.
    :param began: when the first entry of its chain was recorded.
    """
    told = {
        "run": run,
        "service": outcome.service,
        "version": outcome.version,
        "change_type": change_type,
        "outcome": outcome.outcome,
        "planned": planned,
        "began": instant(began),
    }
    append(RELEASE_ENDED, told, key=f"{RELEASE_ENDED}/{run}", actor=this_task())


def past_releases(service: str) -> tuple[PastRelease, ...]:
    """Return how the releases of a service ended, the oldest first, and which were reviewed."""
    with resources.ledger() as ledger:
        return ended_releases(ledger, service)


def append(kind: str, payload: Mapping[str, Any], *, key: str, actor: str) -> Entry:
    """Append to the installation's chain and sign its head."""
    with resources.ledger() as ledger:
        entry = ledger.append(INSTALLATION, kind, payload, actor=actor, key=key)
        ledger.sign_head(INSTALLATION, resources.signer())
    return entry
