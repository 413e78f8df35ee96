"""How far the steps of a runbook have come, by the ledger, and what follows from that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from interlock.domain.catalogue.runbook_file import ManualStep
from interlock.domain.errors import StepFailed
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import STEP_BEGUN, STEP_ENDED
from interlock.domain.permits.permit import MAX_PERMIT_AGE
from interlock.domain.records import PlannedStep, RolloutPlan, StepDirection, StepIntent, StepReport, Vote

from .planning import step_id

DONE, FAILED = "Done", "Failed"
"""The answers to the question about a manual step."""
NOT_BEGUN = "it was not begun, so there is nothing to take back"
UNKNOWN = "It is not known whether it was done"


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger has of one step in one direction.

    :param began_at: when its beginning was recorded.
    """

    intent: StepIntent | None = None
    began_at: datetime | None = None
    report: StepReport | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step ended.

    :param by: who answered for it; ``evidence``: what they or it said.
    :param reason: why it failed; empty: it did not.
    """

    reason: str = ""
    by: str = ""
    evidence: str = ""


def known_of(entries: Iterable[Entry], id: str) -> Known:
    """Return what a release's chain has of a step.

    :param id: of the step, by :func:`step_id`.
    """
    known = Known()
    for entry in entries:
        if entry.kind == STEP_BEGUN and entry.payload.get("id") == id:
            intent = StepIntent.model_validate(entry.payload, extra="ignore")
            known = Known(intent, entry.at, known.report)
        elif entry.kind == STEP_ENDED and entry.payload.get("id") == id:
            report = StepReport.model_validate(entry.payload, extra="ignore")
            known = Known(known.intent, known.began_at, report)
    return known


def has_begun(plan: RolloutPlan, step: PlannedStep, entries: Sequence[Entry]) -> bool:
    """Tell whether a step was begun, however it ended: then there may be something to take back."""
    return known_of(entries, step_id(plan.digest, step, "forward")).intent is not None


def refuse_unmet(plan: RolloutPlan, step: PlannedStep, entries: Sequence[Entry]) -> None:
    """Refuse a step that needs steps which the ledger does not have as done."""
    of_name = {one.name: one for one in plan.steps}
    reports = {name: known_of(entries, step_id(plan.digest, of_name[name], "forward")).report for name in step.needs}
    # In a rehearsal, a step may be left out: what needs it goes on.
    lacking = [name for name, report in reports.items() if report is None or report.outcome == "failed"]
    if lacking:
        raise StepFailed(
            f"“{step.title}” was not begun: according to the ledger, {', '.join(lacking)} is not done.",
            rule="a step is done after the steps that it needs (runbook in the service's YAML)",
            who="the release manager",
            next_step="trigger the release again",
        )


def report_of(
    step: PlannedStep, direction: StepDirection, id: str, ended: Ended, *, began_at: datetime | None, now: datetime
) -> StepReport:
    """Return the report of a step that ended now."""
    return StepReport(
        number=step.number,
        name=step.name,
        title=step.title,
        direction=direction,
        id=id,
        outcome="failed" if ended.reason else "done",
        estimate=step.estimate,
        began_at=began_at,
        ended_at=now,
        by=ended.by,
        evidence=ended.evidence[-4000:],
        reason=ended.reason,
    )


def left_out(step: PlannedStep, direction: StepDirection, id: str, why: str) -> StepReport:
    """Return the report of a step that is not done."""
    return StepReport(
        number=step.number,
        name=step.name,
        title=step.title,
        direction=direction,
        id=id,
        outcome="left_out",
        estimate=step.estimate,
        reason=why,
    )


def refuse_failed(report: StepReport) -> StepReport:
    """Return a report, unless the step failed.

    :raises StepFailed: it did, and why.
    """
    if report.outcome != "failed":
        return report
    back = report.direction == "back"
    raise StepFailed(
        f"“{report.title}” was not {'taken back' if back else 'done'}: {report.reason.rstrip('.')}.",
        rule="a step of a runbook is done once (runbook in the service's YAML)",
        who="the service's team",
        next_step="take it back by hand, and record that in the review of the release"
        if back
        else "the release is backed out automatically; fix the step and release a new version",
    )


def settle_manual(manual: ManualStep, votes: Iterable[Vote], began_at: datetime) -> Ended:
    """Return how a manual step ended, by the answers of the people who may answer for it.

    Of several answers, one that it failed counts. Without an answer in time, it has failed.
    """
    # The question may be asked as long after the permit as that is valid.
    until = began_at + manual.within + MAX_PERMIT_AGE
    said = [vote for vote in votes if vote.user in manual.who and vote.at is not None and vote.at <= until]
    said.sort(key=lambda vote: vote.choice == DONE)
    if not said:
        return Ended(f"nobody answered in time ({', '.join(manual.who)}). {UNKNOWN}")
    first = said[0]
    by, comment = str(first.user), first.comment.strip()
    if first.choice != DONE:
        return Ended(f"{by} answered {first.choice}: {comment or 'no reason was given'}", by=by, evidence=comment)
    if not comment:
        return Ended(f"{by} answered {DONE}, and did not name {manual.evidence}", by=by)
    return Ended(by=by, evidence=comment)
