"""The installation's chain: how each release ended, and which was reviewed; and the chains of a service."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from interlock.adapters.ledger.past_releases import ended_releases
from interlock.domain.dag_names import dags_of_service
from interlock.domain.errors import AlreadyRecorded, ReleaseError
from interlock.domain.ledger.chain import INSTALLATION, Entry, instant
from interlock.domain.ledger.kinds import RELEASE_ENDED
from interlock.domain.ledger.runs import of_dag, run_of
from interlock.domain.records import Outcome, PastRelease

from . import resources
from .evidence import this_task

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)


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


def ends_of_releases(ledger: Ledger) -> dict[str, datetime]:
    """Return when each release ended, by Dag and run."""
    return {str(entry.payload["run"]): entry.at for entry in ledger.entries(INSTALLATION, kind=RELEASE_ENDED)}


def chains_of(ledger: Ledger, service: str) -> dict[str, str]:
    """Return the chains of a service's releases and rollbacks, by Dag and run."""
    dags = dags_of_service(service)
    chains = (chain for dag_id in dags for chain in ledger.chains(of_dag(dag_id)))
    return {"/".join(run): chain for chain in chains if (run := run_of(chain))}


def append_once(
    ledger: Ledger, kind: str, payload: Mapping[str, Any], *, key: str, actor: str, chain: str = INSTALLATION
) -> Entry:
    """Append to a chain. If the key is on record already, return the recorded entry."""
    try:
        return ledger.append_once(chain, kind, payload, actor=actor, key=key)
    except AlreadyRecorded as error:
        return error.entry


def sign_if_possible(ledger: Ledger, entry: Entry) -> None:
    """Sign the head of an entry's chain. The entry holds without a signature, and reconcile signs it later."""
    try:
        ledger.sign_head(entry.chain, resources.signer())
    except ReleaseError:
        log.exception("%s could not be signed yet", entry.key)


def append(kind: str, payload: Mapping[str, Any], *, key: str, actor: str) -> Entry:
    """Append to the installation's chain and sign its head."""
    with resources.ledger() as ledger:
        entry = ledger.append(INSTALLATION, kind, payload, actor=actor, key=key)
        ledger.sign_head(INSTALLATION, resources.signer())
    return entry
