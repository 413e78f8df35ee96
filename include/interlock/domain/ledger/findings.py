"""Findings: what contradicts the ledger, and how people are notified.

A finding has a key that is made of what it is about, so that a second check finds the same finding again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from interlock.domain.canonical import Model, sha256_of

from .chain import Entry
from .kinds import FINDING
from .runs import run_of

RECORD_MISSING = "record_missing"
"""An emergency change of which an authority has no record yet. It ends when the record is there."""


class Finding(Model):
    """A record that contradicts the ledger."""

    kind: str
    what: str
    evidence: dict[str, Any]
    chain: str = ""

    @property
    def key(self) -> str:
        """Return its key in a chain."""
        return f"{FINDING}/{self.kind}/{sha256_of(self.evidence)[:32]}"

    @property
    def payload(self) -> dict[str, Any]:
        """Return its payload for the ledger."""
        return {"what": self.what, "found": self.kind, "evidence": self.evidence}


def findings_about(entries: Iterable[Entry], chain: str) -> Iterator[Entry]:
    """Yield the findings in the installation's chain about a release: its chain is not intact, or its run."""
    run = run_of(chain)
    for entry in entries:
        evidence = entry.payload.get("evidence")
        if isinstance(evidence, Mapping) and (
            evidence.get("chain") == chain or (run and (evidence.get("dag_id"), evidence.get("run_id")) == run)
        ):
            yield entry


def unsettled(entries: Iterable[Entry], settled: Iterable[Entry], chain: str = "") -> Iterator[Entry]:
    """Yield the findings of the installation's chain about records that are still missing.

    :param settled: entries that say that a record is there now.
    :param chain: of the only release that matters; empty: of all.
    """
    there = {one.payload["key"] for one in settled}
    for entry in (one for one in entries if one.payload.get("found") == RECORD_MISSING and one.key not in there):
        if chain in ("", entry.payload["evidence"]["release"]):
            yield entry


def mail_text(findings: Sequence[Entry]) -> str:
    """Return the text of the mail about findings, in Markdown."""
    lines = [f"- {_plain(entry.payload.get('what'))} (entry {entry.sequence} of `{entry.chain}`)" for entry in findings]
    return "\n".join(
        [
            "The ledger has new findings. A change may have bypassed the release process.",
            "",
            *lines,
            "",
            "A release with a finding gets no permit. Each entry contains its evidence; see docs/auditor.md.",
        ]
    )


def text_of_events(events: Sequence[Entry]) -> str:
    """Return the text of the mail about events of other systems that stopped rollouts, in Markdown."""
    lines = [
        f"- {_plain(entry.payload.get('what'))} (stop {_plain(entry.payload.get('stop'))}, entry {entry.sequence})"
        for entry in events
    ]
    lift = "To lift a stop, trigger the Dag emergency\\_stop with its id."
    return "\n".join(["Other systems sent signed events that policy.yaml lets stop rollouts.", "", *lines, "", lift])


def _plain(what: Any) -> str:
    """Return a sentence as one line that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(str(what or "A finding").split()))
