"""The Dag ``reconcile``: emergency changes that production had before an authority had a record of them.

An emergency change does not wait for its record. Until the record is there, that is a finding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from interlock.domain.catalogue import ChangeType
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.findings import RECORD_MISSING, Finding, unsettled
from interlock.domain.ledger.kinds import FINDING, FINDING_SETTLED, PERMIT_ISSUED, POLICY_RESOLVED
from interlock.domain.outbox.facts import records_of
from interlock.domain.permits.permit import BEGINS
from interlock.stages.runtime.evidence import this_task

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger


def find_missing_records(ledger: Ledger, watched: Collection[str]) -> Iterator[Finding]:
    """Yield the emergency changes that began to change production, and of which an authority has no record yet.

    :param watched: the chains of releases that are compared.
    """
    resolved = ledger.among(watched, (POLICY_RESOLVED,))
    urgent = {one.chain for one in resolved if one.payload.get("change_type") == ChangeType.EMERGENCY}
    numbers = _numbers(ledger, urgent)
    for chain in sorted(urgent):
        entries = ledger.entries(chain)
        began = (one for one in entries if one.kind == PERMIT_ISSUED and one.payload["permit"]["purpose"] in BEGINS)
        if next(began, None) is None:
            continue
        for system, mode in records_of(entries).items():
            if mode == "authority" and not numbers.get((system, chain)):
                yield Finding(
                    kind=RECORD_MISSING,
                    what=f"The emergency change {chain.removeprefix('release/')} changes production, and {system} has "
                    "no record of it yet. It keeps its permits; interlock deliveries says why it was not made.",
                    evidence={"system": system, "release": chain},
                    chain=INSTALLATION,
                )


def settle_found_records(ledger: Ledger) -> None:
    """Record of each such finding that the record is there now."""
    every = ledger.entries(INSTALLATION, kind=FINDING)
    missing = [*unsettled(every, ledger.entries(INSTALLATION, kind=FINDING_SETTLED))]
    numbers = _numbers(ledger, {str(finding.payload["evidence"]["release"]) for finding in missing})
    for finding in missing:
        about = finding.payload["evidence"]
        if number := numbers.get((about["system"], about["release"])):
            said = {"what": f"{about['system']} has the record {number}.", "key": finding.key, **about}
            key = f"{FINDING_SETTLED}/{finding.key}"
            ledger.append(INSTALLATION, FINDING_SETTLED, said, actor=this_task(), key=key)


def _numbers(ledger: Ledger, chains: Collection[str]) -> dict[tuple[str, str], str]:
    """Return the number of each record of some releases, by system and chain; empty: it was not made."""
    if not chains:
        return {}
    from interlock.adapters.ledger.deliveries import Outbox  # not at the top: brings SQLAlchemy

    return {(one.system, one.chain): one.number if one.reference else "" for one in Outbox(ledger).all(chains=chains)}
