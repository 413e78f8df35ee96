"""The Dag ``reconcile``: verifies the chains of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from airflow.sdk import TriggerRule, get_current_context

from interlock.adapters.catalogue.catalogue import digests_of
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import AlreadyRecorded
from interlock.domain.ledger import runs
from interlock.domain.ledger.chain import INSTALLATION, Break
from interlock.domain.ledger.findings import Finding
from interlock.domain.ledger.integrity import cut_end, ends_by_chain, unsigned_since
from interlock.domain.ledger.kinds import CATALOGUE_CHANGED, KEY_USED, RELEASE_ENDED
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import this_task
from interlock.stages.runtime.taskflow import stage_task

from .findings import record_findings
from .reconcile_records import find_missing_records, settle_found_records
from .watched_releases import watched_chains

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger
MAX_SEALING_TIME = timedelta(minutes=10)
"""The longest time from a decision's entry to the signed head after it, retries included."""
LEDGER_PARTS = 288
"""All other chains are verified in this many parts: a part every five minutes, and so each once a day."""


@stage_task(task_display_name="Verify the chains of the ledger", trigger_rule=TriggerRule.ALL_DONE)
def check_ledger() -> int:
    """Verify the chains of recent releases, of the installation, and a part of all others; return the new findings.

    An intact chain is signed up to its last entry, so that its end cannot be removed unnoticed. An entry that was
    signed at the last check and has no signature now is a finding: the signature was removed. So is an emergency change
    of which an authority has no record, until it has one.
    """
    now = datetime.now(UTC)
    looked = _last_check()
    found: list[Finding] = []
    with resources.ledger() as ledger:
        _record_catalogue_and_key(ledger)
        chains, ends = ledger.chains(), ends_by_chain(ledger.entries(INSTALLATION, kind=RELEASE_ENDED))
        gone = [chain for chain in ends if chain not in chains]
        watched = [chain for chain in (INSTALLATION, *watched_chains(ledger, now)) if chain in chains]
        whole = {*watched}
        others = [chain for chain in chains if chain not in watched and _is_due(chain, now)]
        for chain in (*watched, *others, *gone):
            broken = ledger.check(chain, [resources.signer().public_key])
            if broken := broken or cut_end(chain, ledger.entries(chain), ends):
                evidence = broken.model_dump(mode="json")
                found.append(Finding(kind="chain_broken", what=broken.sentence, evidence=evidence, chain=INSTALLATION))
                whole.discard(chain)
                continue
            removed = [*_find_removed_heads(ledger, chain, looked)] if chain in watched and looked is not None else []
            lacking = _find_unsealed_decision(ledger, chain)
            found += [*removed, *_find_overdue_seal(chain, lacking, now)]
            if not removed and lacking is None:  # entries that may have been rewritten are not signed
                ledger.sign_head(chain, resources.signer())
        if INSTALLATION in whole:
            settle_found_records(ledger)
            found += find_missing_records(ledger, whole)
        return record_findings(ledger, found)


def _record_catalogue_and_key(ledger: Ledger) -> None:
    """Record the digests of the catalogue's files, if they changed, and the signing key."""
    signer = resources.signer()
    key = {"key_id": signer.key_id, "public_key": signer.public_key.decode()}
    ledger.append(INSTALLATION, KEY_USED, key, actor="interlock", key=f"{KEY_USED}/{signer.key_id}")
    files = digests_of(catalogue_folder())
    before = ledger.entries(INSTALLATION, kind=CATALOGUE_CHANGED)
    if not before or before[-1].payload["files"] != files:
        told = {"files": files, "digest": sha256_of(files)}
        with suppress(AlreadyRecorded):  # another check was faster
            ledger.append_once(
                INSTALLATION, CATALOGUE_CHANGED, told, actor=this_task(), key=f"{CATALOGUE_CHANGED}/{len(before) + 1}"
            )


def _last_check() -> datetime | None:
    """Return the start of the last successful check; None if there was none."""
    at: Any = get_current_context().get("prev_start_date_success")  # Airflow's stand-in for it, also for None
    return datetime.fromisoformat(at.isoformat()) if at else None


def _is_due(chain: str, now: datetime) -> bool:
    """Tell whether a chain is in the part that is verified now."""
    look = int(now.timestamp() // 300)
    return crc32(chain.encode()) % LEDGER_PARTS == look % LEDGER_PARTS


def _find_removed_heads(ledger: Ledger, chain: str, looked: datetime) -> Iterator[Finding]:
    """Yield a finding if entries that the last check signed have no signature now."""
    signed = max((head.sequence for head in ledger.heads(chain)), default=0)
    lost = [entry for entry in ledger.entries(chain, after=signed) if entry.at < looked]
    if lost:
        yield Finding(
            kind="signature_gone",
            what=f"Signatures of the chain {chain} were removed: it was signed up to entry {lost[-1].sequence}, and is "
            f"now signed up to entry {signed}.",
            evidence={"chain": chain, "signed_up_to": signed, "was": lost[-1].sequence},
            chain=INSTALLATION,
        )


class UnsealedDecision(NamedTuple):
    """An unsigned decision in a release's chain. Only the task that records a decision signs it.

    :param at: the time of the decision.
    """

    where: Break
    at: datetime


def _find_unsealed_decision(ledger: Ledger, chain: str) -> UnsealedDecision | None:
    if runs.run_of(chain) is None:
        return None
    entries = ledger.entries(chain)
    lacking = unsigned_since(chain, entries, ledger.heads(chain))
    return UnsealedDecision(lacking, entries[lacking.sequence - 1].at) if lacking is not None else None


def _find_overdue_seal(chain: str, lacking: UnsealedDecision | None, now: datetime) -> Iterator[Finding]:
    """Yield a finding if a decision has not been signed within :data:`MAX_SEALING_TIME`."""
    if lacking is not None and lacking.at < now - MAX_SEALING_TIME:
        evidence = lacking.where.model_dump(mode="json")
        yield Finding(kind="seal_missing", what=lacking.where.sentence, evidence=evidence, chain=INSTALLATION)
