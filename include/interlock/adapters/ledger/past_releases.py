"""Past releases as the ledger has them: what was asked for, planned, observed, and how each ended.

Read from the releases' own chains, and what was observed from the tables in the artifact store that their entries name.
What is not there any more is not known, and nothing is made up for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from interlock.adapters.artifacts.bom import component_rows
from interlock.adapters.artifacts.store import ArtifactStore
from interlock.domain.canonical import Model
from interlock.domain.change.backtest import ReleaseFacts
from interlock.domain.dag_names import dag_of_release
from interlock.domain.errors import AssetMissing, DigestMismatch, LedgerBroken, RequestRefused
from interlock.domain.ledger.chain import INSTALLATION, Chains, Entry, release_chain
from interlock.domain.ledger.kinds import (
    ARTIFACT_BUILT,
    BASELINE_SEEN,
    PLAN_MADE,
    RELEASE_CLOSED,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    RELEASE_REVIEWED,
    SUITES_RUN,
    TEST_LOADED,
    VERIFICATION_JUDGED,
    family,
)
from interlock.domain.outcome.marks import MARKS, known_versions
from interlock.domain.quality.rows import CoverageRow, TestRow, rows_from_json
from interlock.domain.quality.verification import compare_loads
from interlock.domain.records import (
    Artifact,
    Blob,
    LoadReport,
    Outcome,
    PastRelease,
    ReleasePlan,
    SuiteRuns,
    VerificationReport,
)

if TYPE_CHECKING:
    from .ledger import Ledger

PREFIX = "release/"
GONE = (AssetMissing, DigestMismatch, RequestRefused)
"""Errors of a table in the store: missing, changed, or in a store of an earlier configuration."""
_TIER = re.compile(r"tier ([1-4])\b", re.IGNORECASE)

M = TypeVar("M", bound=Model)


def past_releases(ledger: Ledger, store: ArtifactStore) -> tuple[tuple[ReleaseFacts, ...], tuple[str, ...]]:
    """Return the releases that have ended, the oldest first, and why some are left out."""
    reviewed = _reviewed(ledger.entries(INSTALLATION, kind=RELEASE_REVIEWED))
    found, left_out = [], []
    for chain in ledger.chains(PREFIX):
        try:
            entries = ledger.entries(chain)
        except LedgerBroken as error:
            left_out.append(f"{chain} is left out: {error.what}")
            continue
        run = chain.removeprefix(PREFIX)
        if facts := facts_of(run, entries, store, reviewed=run in reviewed):
            found.append(facts)
    return tuple(sorted(found, key=lambda facts: facts.at)), tuple(left_out)


def ended_releases(ledger: Chains, service: str) -> tuple[PastRelease, ...]:
    """Return how the releases of a service ended, the oldest first, and which were reviewed."""
    entries = ledger.entries(INSTALLATION, kind=family(RELEASE_ENDED))
    reviewed = _reviewed(entries)
    return tuple(
        PastRelease(
            service=service,
            run=entry.payload["run"],
            version=entry.payload["version"],
            change_type=entry.payload["change_type"],
            outcome=entry.payload["outcome"],
            at=entry.at,
            planned=entry.payload.get("planned", True),
            reviewed=entry.payload["run"] in reviewed,
        )
        for entry in entries
        if entry.kind == RELEASE_ENDED and entry.payload["service"] == service
    )


def versions_of(ledger: Chains, service: str) -> tuple[str, ...]:
    """Return the versions of a service that the ledger knows, the latest first; those of releases under way, too.

    A chain that does not hold is left out.
    """
    ended = ledger.entries(INSTALLATION, kind=RELEASE_ENDED)
    over = {entry.payload["run"] for entry in ended}
    asked: list[Entry] = []
    prefix = release_chain(dag_of_release(service), "")
    for chain in ledger.chains(prefix):
        if chain.removeprefix(PREFIX) not in over:
            with suppress(LedgerBroken):
                asked += ledger.entries(chain, kind=RELEASE_REQUESTED)
    others = (entry for kind in (MARKS, BASELINE_SEEN) for entry in ledger.entries(INSTALLATION, kind=kind))
    return known_versions((*ended, *others, *asked), service)


def _reviewed(entries: Iterable[Entry]) -> frozenset[str]:
    return frozenset(entry.payload["run"] for entry in entries if entry.kind == RELEASE_REVIEWED)


def facts_of(run: str, entries: Sequence[Entry], store: ArtifactStore, *, reviewed: bool) -> ReleaseFacts | None:
    """Return the facts of a release that has ended; None for an open release, and for a rollback.

    :param run: Dag and run.
    """
    kinds = {entry.kind: entry for entry in entries}  # of several of a kind, the last
    payloads = {kind: entry.payload for kind, entry in kinds.items()}
    request = payloads.get(RELEASE_REQUESTED)
    outcome = _read(Outcome, payloads.get(RELEASE_CLOSED))
    if request is None or outcome is None or request.get("rollback"):
        return None
    plan = _read(ReleasePlan, payloads.get(PLAN_MADE))
    return ReleaseFacts(
        service=outcome.service,
        run=run,
        version=outcome.version,
        change_type=request.get("change_type") or "normal",
        outcome=outcome.outcome,
        at=kinds[RELEASE_CLOSED].at,
        planned=plan is not None,
        reviewed=reviewed,
        requested_by=request.get("requested_by") or "",
        answers=request.get("risk") or {},
        declared_risk=request.get("declared_risk"),
        quality=dict(_observed(payloads, store)),
        **(_planned(plan) if plan else {}),
    )


def _planned(plan: ReleasePlan) -> dict[str, Any]:
    tiers = [found for term in plan.risk.terms if (found := _TIER.search(f"{term.name} {term.why}"))]
    return {
        "commits": plan.commit_count,
        "bump": plan.bump,
        **({"tier": int(tiers[0][1])} if tiers else {}),
    }


def _observed(payloads: Mapping[str, Any], store: ArtifactStore) -> Iterator[tuple[str, float | tuple[str, ...]]]:
    """Yield what was observed, by the threshold that it is held against."""
    artifact = _read(Artifact, payloads.get(ARTIFACT_BUILT))
    suites = _read(SuiteRuns, payloads.get(SUITES_RUN))
    if artifact:
        yield from _of_tests([artifact.tests, *([suites.tests] if suites else [])], store)
        yield from _of_coverage(artifact.coverage, store)
        if (bom := _bytes(artifact.bom, store)) is not None:
            yield "allowed_licences", tuple(sorted({row.licence for row in component_rows(bom)}))
    if (load := _read(LoadReport, payloads.get(TEST_LOADED))) and load.results:
        yield "max_p95_ms", max(result.p95_ms for result in load.results)
        yield "max_error_percent", max(result.error_percent for result in load.results)
    if verification := _read(VerificationReport, payloads.get(VERIFICATION_JUDGED)):
        yield from _of_change(verification)


def _of_tests(tables: Sequence[Blob], store: ArtifactStore) -> Iterator[tuple[str, float]]:
    read = [_bytes(table, store) for table in tables]
    rows = [row for table in read if table is not None for row in rows_from_json(TestRow, table)]
    if None in read:
        return
    # The kind with the fewest tests: releases from before kinds were distinguished have one kind.
    ran = Counter({row.kind: 0 for row in rows})
    ran.update(row.kind for row in rows if row.status != "skipped")
    yield "min_tests", float(min(ran.values(), default=0))
    yield "max_failed_tests", float(sum(row.status in ("failed", "error") for row in rows))
    yield "max_skipped_tests", float(sum(row.status == "skipped" for row in rows))


def _of_coverage(table: Blob | None, store: ArtifactStore) -> Iterator[tuple[str, float]]:
    read = _bytes(table, store) if table else None
    rows = rows_from_json(CoverageRow, read) if read is not None else ()
    if known := [row.percent for row in rows if row.percent is not None]:
        yield "min_line_coverage_percent", min(known)


def _of_change(verification: VerificationReport) -> Iterator[tuple[str, float]]:
    """Yield the path that became slower by most of those that people notice: a rise of little time is never held."""
    pairs = [
        (one.p95_ratio, one.p95_rise_ms)
        for one in compare_loads(verification.before, verification.after)
        if one.p95_ratio is not None and one.p95_rise_ms is not None
    ]
    if pairs:
        ratio, rise = max(pairs, key=lambda pair: (pair[1] > NOTICED_MS, pair[0]))
        yield "max_p95_ratio", ratio
        yield "max_p95_rise_ms", rise


NOTICED_MS = 100.0
"""A rise of p95 that people notice: of the paths that rose so much, the one with the greatest ratio stands for all."""


def _bytes(blob: Blob, store: ArtifactStore) -> bytes | None:
    try:
        return store.get_bytes(blob)
    except GONE:
        return None


def _read(model: type[M], payload: Mapping[str, Any] | None) -> M | None:
    return None if payload is None else model.model_validate(payload, extra="ignore")
