"""The Dag ``reconcile``: records findings in the ledger and notifies people."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.sdk import TriggerRule

from interlock.adapters.templates import counted
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import AlreadyRecorded, LedgerBroken
from interlock.domain.ledger import findings
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.findings import Finding
from interlock.domain.ledger.kinds import EVENT_COUNTED, FINDING, FINDING_TOLD
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import this_task
from interlock.stages.runtime.notices import notify
from interlock.stages.runtime.taskflow import stage_task, this_run

from .told_incidents import tell_of_incidents
from .watched_releases import watched_chains

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)


def record_findings(ledger: Ledger, found: Iterable[Finding]) -> int:
    """Record and sign the findings that are not recorded yet; return their number."""
    new: dict[str, list[Entry]] = {}
    for finding in found:
        chain = finding.chain or INSTALLATION
        with suppress(AlreadyRecorded):
            entry = ledger.append_once(chain, FINDING, finding.payload, actor=this_task(), key=finding.key)
            new.setdefault(chain, []).append(entry)
            log.warning("Finding in %s: %s", chain, finding.what)
    for chain, entries in new.items():
        with suppress(LedgerBroken):  # a broken chain is not signed; check_ledger records a finding
            ledger.sign_head(chain, resources.signer(), seals=entries[-1])
    return sum(map(len, new.values()))


@stage_task(task_display_name="Send notifications", trigger_rule=TriggerRule.ALL_DONE)
def tell_people() -> list[str]:
    """Send one e-mail about all findings, and one about all events that stopped something, that were not sent before.

    They go to the people under findings.notify. People who were asked about a release before an incident opened get one
    about the incident.
    """
    now = datetime.now(UTC)
    with resources.ledger() as ledger:
        told = {(one.payload["chain"], one.payload["key"]) for one in ledger.entries(INSTALLATION, kind=FINDING_TOLD)}
        new: list[Entry] = []
        watched = watched_chains(ledger, now)
        for chain in (INSTALLATION, *watched):
            with suppress(LedgerBroken):
                new += [one for one in ledger.entries(chain, kind=FINDING) if (chain, one.key) not in told]
        events: list[Entry] = []
        with suppress(LedgerBroken):
            of_events = ledger.entries(INSTALLATION, kind=EVENT_COUNTED)
            events = [one for one in of_events if (INSTALLATION, one.key) not in told]
        about = f"about releases: {'/'.join(this_run())}"
        to = _tell(ledger, new, f"{counted(len(new), FINDING)} {about}", findings.mail_text(new))
        said = f"{counted(len(events), 'event')} of other systems stopped rollouts"
        to += _tell(ledger, events, said, findings.text_of_events(events))
        to += tell_of_incidents(ledger, watched)
    return list(dict.fromkeys(to))


def _tell(ledger: Ledger, new: Sequence[Entry], subject: str, text: str) -> list[str]:
    """Send one e-mail about entries, and record that it was sent."""
    if not new:
        return []
    to = notify(subject, text, same=sha256_of({"told": [one.hash for one in new]})[:32])
    for one in new:
        about = {"chain": one.chain, "key": one.key, "to": list(to)}
        ledger.append(INSTALLATION, FINDING_TOLD, about, actor=this_task(), key=f"{FINDING_TOLD}/{one.hash}")
    ledger.sign_head(INSTALLATION, resources.signer())
    return list(to)
