"""Quality that is judged again: thresholds of the release were tightened after its review."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from interlock.domain.canonical import Sha256, sha256_of
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.change.amended import began_with
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    ARTIFACT_BUILT,
    CASES_RUN,
    PATH_JUDGED,
    PATH_LOADED,
    PATH_SUITES_RUN,
    PLAN_MADE,
    QUALITY_JUDGED_AGAIN,
    SUITES_RUN,
    TEST_LOADED,
)
from interlock.domain.ledger.reading import all_in, last_in, last_of_each
from interlock.domain.records import (
    Artifact,
    CaseRuns,
    LoadReport,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    SuiteRuns,
)
from interlock.stages.approvals.amended import thresholds_in_force
from interlock.stages.runtime.evidence import chain_entries, record

ON_TEST = "test"


def judge_again(catalogue: ServiceCatalogue) -> None:
    """Judge what ran on test and in each environment after it by thresholds now, once for each of their versions.

    Each report is recorded beside the first one, which stays as it is. A rollback judged nothing itself.
    """
    entries = chain_entries()
    began, plan = began_with(entries), last_in(entries, PLAN_MADE, ReleasePlan)
    artifact, suites = last_in(entries, ARTIFACT_BUILT, Artifact), last_in(entries, SUITES_RUN, SuiteRuns)
    load = last_in(entries, TEST_LOADED, LoadReport)
    if began is None or plan is None or artifact is None or suites is None or load is None:
        return
    of_people = last_of_each(entries, CASES_RUN, CaseRuns)
    if digest := _lacking(catalogue, began, entries):
        from .review import judge_test  # Great Expectations takes seconds to import

        report = judge_test(catalogue, began, plan, artifact, suites, load, of_people.get(ON_TEST))
        record(QUALITY_JUDGED_AGAIN, {**report.to_xcom(), "thresholds": digest})
    ran, loaded = (last_of_each(entries, PATH_SUITES_RUN, SuiteRuns), last_of_each(entries, PATH_LOADED, LoadReport))
    for name in last_of_each(entries, PATH_JUDGED, QualityReport):
        if digest := _lacking(catalogue, began, entries, name):
            from .review import judge_environment

            cases = of_people.get(name)
            report = judge_environment(catalogue, name, began, plan, artifact, ran.get(name), loaded.get(name), cases)
            record(QUALITY_JUDGED_AGAIN, {**report.to_xcom(), "thresholds": digest})


def reports_again(
    catalogue: ServiceCatalogue, began: PolicyInForce, entries: Sequence[Entry]
) -> tuple[QualityReport, ...] | None:
    """Return the reports by thresholds as they are now, of test and of each environment after it; none: one lacks."""
    judged = last_of_each(entries, PATH_JUDGED, QualityReport)
    places = (None, *judged)
    if any(_lacking(catalogue, began, entries, place) for place in places):
        return None
    reports = {one.environment: one for one in all_in(entries, QUALITY_JUDGED_AGAIN, QualityReport)}
    return tuple(reports[place] for place in places)


def _lacking(
    catalogue: ServiceCatalogue, began: PolicyInForce, entries: Sequence[Entry], environment: str | None = None
) -> Sha256 | Literal[""]:
    """Return the digest of the thresholds by which a place was not judged last; empty: it was."""
    digest = sha256_of(thresholds_in_force(catalogue, began, environment))
    judged = [
        one.payload.get("thresholds")
        for one in entries
        if one.kind == QUALITY_JUDGED_AGAIN and one.payload.get("environment") == environment
    ]
    return "" if judged[-1:] == [digest] else digest
