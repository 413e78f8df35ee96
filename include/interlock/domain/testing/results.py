"""What came of test cases: a tester's answer as a result, and the rows that Great Expectations judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import not_
from typing import Literal

from pydantic import Field

from interlock.domain.canonical import Model, Sha256
from interlock.domain.catalogue import UserName
from interlock.domain.catalogue.cases_file import Case, Severity
from interlock.domain.records import Blob, CaseRuns, Record, Vote

from .attachments import Attachment
from .planning import PlannedCase, TestPlan

Verdict = Literal["passed", "failed", "blocked", "not_applicable"]
PASSED, FAILED, BLOCKED, NOT_APPLICABLE = "Passed", "Failed", "Blocked", "Not applicable"
VERDICTS: Mapping[str, Verdict] = {
    PASSED: "passed",
    FAILED: "failed",
    BLOCKED: "blocked",
    NOT_APPLICABLE: "not_applicable",
}
"""The answers that a tester can give: what each means."""


class CaseResult(Record):
    """What a tester found when running a test case."""

    case: str = Field(description="The id of the case")
    title: str
    environment: str
    result: Verdict
    severity: Severity
    proves: tuple[str, ...] = ()
    comment: str = ""
    evidence: str = Field("", description="The address or the text of what shows it, as the tester entered it")
    by: UserName
    at: datetime
    step: str = Field(
        "", exclude_if=not_, description="If it failed: the text of the step, or of what was expected; empty: not said"
    )
    defect: str = Field("", exclude_if=not_, description="If it failed: the open defect that the tester saw again")
    files: tuple[Attachment, ...] = Field(
        (), exclude_if=not_, description="What the tester attached to the case before the result, in this order"
    )
    artifact: Sha256 = Field(description="SHA-256 of the bundle on which it was run")
    binds: Sha256 = Field(description="Digest of the case and the bundle, which the question named")


class CaseRow(Model):
    """A test case that must be run, and its result."""

    case: str
    title: str
    role: str
    proves: tuple[str, ...]
    result: Verdict | Literal["not_run", "known_defect"] = Field(
        description="known_defect: it failed, and its defect is accepted as known"
    )
    by: str = ""
    comment: str = ""
    step: str = Field("", description="As in the result; so is the defect")
    defect: str = ""
    other: str = Field("", description="Why it is not the failure that is accepted as known; empty: none is")
    artifact: str = Field("", description="SHA-256 of the bundle on which it was run; empty: it was not run")
    expected_artifact: Sha256
    barred: str = Field("", description="Why its tester may not run cases of this release; empty: they may")


def result_of(
    plan: TestPlan, planned: PlannedCase, votes: Iterable[Vote], attached: Iterable[Attachment] = ()
) -> CaseResult | None:
    """Return the result of a case: the first answer of somebody who may run it; none: it was not run.

    :param votes: on this case and these bytes.
    :param attached: files of the release, in their order; those of this tester for this case belong to the result.
    """
    heard = [
        (vote.at, vote.user, vote)
        for vote in votes
        if vote.user in planned.testers and vote.user == vote.assigned and vote.at and vote.choice in VERDICTS
    ]
    if not heard:
        return None
    at, by, vote = min(heard, key=lambda one: one[:2])
    case, binds = planned.case, planned.digest(plan.artifact)
    return CaseResult(
        case=case.id,
        title=case.title,
        environment=plan.environment,
        result=VERDICTS[vote.choice],
        severity=case.severity,
        proves=case.proves,
        comment=vote.comment,
        evidence=vote.evidence,
        step=_step(case, vote.step) if vote.choice == FAILED else "",
        defect=vote.defect.strip() if vote.choice == FAILED else "",
        by=by,
        at=at,
        files=tuple(one for one in attached if one.by == by and one.binds == binds),
        artifact=plan.artifact,
        binds=binds,
    )


def _step(case: Case, number: str) -> str:
    """Return the text of a step by its number; what is expected comes after the last step."""
    texts = (*case.steps, case.expected)
    return texts[int(number) - 1] if number.strip().isdecimal() and 0 < int(number) <= len(texts) else ""


def rows_of(
    planned: Sequence[PlannedCase], results: Iterable[CaseResult], *, artifact: Sha256, barred: Mapping[str, str]
) -> tuple[CaseRow, ...]:
    """Return a row for each case that must be run.

    :param artifact: SHA-256 of the bundle that is released.
    :param barred: people who may not run cases of this release, each with the reason.
    """
    found = {result.case: result for result in results}
    return tuple(_row(one, found.get(one.case.id), artifact=artifact, barred=barred) for one in planned if one.demanded)


def _row(planned: PlannedCase, result: CaseResult | None, *, artifact: Sha256, barred: Mapping[str, str]) -> CaseRow:
    case = planned.case
    about = {"case": case.id, "title": case.title, "role": case.role, "proves": case.proves}
    if result is None:
        return CaseRow(**about, result="not_run", expected_artifact=artifact)
    return CaseRow(
        **about,
        result=result.result,
        by=result.by,
        comment=result.comment,
        step=result.step,
        defect=result.defect,
        artifact=result.artifact,
        expected_artifact=artifact,
        barred=f"{result.by}: {barred[result.by]}" if result.by in barred else "",
    )


def runs_of(plan: TestPlan, rows: Collection[CaseRow], table: Blob) -> CaseRuns:
    """Return what came of the test cases of an environment, in numbers.

    :param table: the rows, in the artifact store.
    """
    return CaseRuns(
        environment=plan.environment,
        artifact=plan.artifact,
        rows=table,
        counts=dict(Counter(row.result for row in rows)),
        left_out=plan.left_out,
        unproven=plan.unproven,
    )
