"""Quality that is judged again: thresholds of the release were tightened after its review."""

from __future__ import annotations

from interlock.domain.canonical import Sha256, sha256_of
from interlock.domain.catalogue import ServiceCatalogue, Thresholds
from interlock.domain.ledger.kinds import (
    ARTIFACT_BUILT,
    CASES_RUN,
    PLAN_MADE,
    QUALITY_JUDGED_AGAIN,
    SUITES_RUN,
    TEST_LOADED,
)
from interlock.domain.ledger.reading import last_in, last_of_each
from interlock.domain.records import Artifact, CaseRuns, LoadReport, ReleasePlan, SuiteRuns
from interlock.stages.approvals.amended import began_with, thresholds_in_force
from interlock.stages.runtime.evidence import chain_entries, record

ON_TEST = "test"


def judge_again(catalogue: ServiceCatalogue) -> None:
    """Judge what the suites and the load of the running release came to by its thresholds now, once for each version.

    The report is recorded beside the first one, which stays as it is. A rollback judged nothing itself.
    """
    entries = chain_entries()
    began, suites = began_with(entries), last_in(entries, SUITES_RUN, SuiteRuns)
    plan, artifact = last_in(entries, PLAN_MADE, ReleasePlan), last_in(entries, ARTIFACT_BUILT, Artifact)
    load = last_in(entries, TEST_LOADED, LoadReport)
    if began is None or suites is None or plan is None or artifact is None or load is None:
        return
    thresholds = thresholds_in_force(catalogue, began)
    digest = digest_of(thresholds)
    if any(one.kind == QUALITY_JUDGED_AGAIN and one.payload.get("thresholds") == digest for one in entries):
        return
    from .review import judge_test  # Great Expectations takes seconds to import

    in_force = began.model_copy(update={"thresholds": thresholds})
    cases = last_of_each(entries, CASES_RUN, CaseRuns).get(ON_TEST)
    report = judge_test(catalogue, in_force, plan, artifact, suites, load, cases)
    record(QUALITY_JUDGED_AGAIN, {**report.to_xcom(), "thresholds": digest})


def digest_of(thresholds: Thresholds) -> Sha256:
    """Return what names some thresholds."""
    return sha256_of(thresholds)
