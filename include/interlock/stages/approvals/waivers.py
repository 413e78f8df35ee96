"""The quality gate: a failure ends the release, unless the people whom the policy names waive every failure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import XComArg, chain

from interlock.adapters.templates import render
from interlock.domain.board import waivers
from interlock.domain.board.questions import ASK_WAIVERS
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import BoardBook, Policy, Service
from interlock.domain.change.policy import time_limits_of
from interlock.domain.errors import QualityRejected
from interlock.domain.ledger.kinds import QUALITY_PASSED, QUALITY_WAIVED
from interlock.domain.paths import quality_page
from interlock.domain.quality.rows import SUITE_TITLES
from interlock.domain.records import FailedExpectation, PolicyInForce, QualityReport, ReleasePlan, Waiver
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import record
from interlock.stages.runtime.taskflow import stage_task, this_run
from interlock.stages.testing import defects

from .in_force import before_asking
from .people import ask, question, votes_on


@stage_task(task_display_name="Prepare the waivers", words=ASK_WAIVERS)
def prepare_waivers(
    service: str, in_force: PolicyInForce, plan: ReleasePlan, report: QualityReport
) -> list[dict[str, Any]]:
    """Prepare one waiver question for each failed expectation, if the policy allows all of them to be waived."""
    return waiver_questions(service, in_force, plan, report)


def waiver_questions(
    service: str, in_force: PolicyInForce, plan: ReleasePlan, report: QualityReport
) -> list[dict[str, Any]]:
    """Return one waiver question for each failed expectation of a report; none if some of them cannot be waived."""
    catalogue = resources.catalogue_of(service)
    book, described = catalogue.board, catalogue.service
    if plan.rehearsal or not waivers.can_be_waived(in_force, book.people, report, requester=plan.requested_by):
        return []
    notice = before_asking(catalogue, plan)
    return [_waiver_question(described, book, in_force, plan, report, failure, notice) for failure in report.failures]


def _waiver_question(
    service: Service,
    book: BoardBook,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    report: QualityReport,
    failure: FailedExpectation,
    notice: str,
) -> dict[str, Any]:
    rule = in_force.waivers[failure.suite]
    body = notice + render(
        "waiver.md.j2",
        plan=plan,
        service=service,
        report=report,
        failure=failure,
        rule=rule,
        names=book.names,
        quality_page=quality_page(*this_run()),
    )
    suite = SUITE_TITLES.get(failure.suite, failure.suite)
    return question(
        f"Waive for {service.title} {plan.version}? {suite}: {failure.expected}",
        body,
        waivers.digest_of(report, failure),
        waivers.may_waive(in_force, book.people, failure.suite, requester=plan.requested_by),
        options=[*waivers.offered(rule.longest), waivers.REFUSE],
    )


@stage_task(task_display_name="Quality gate")
def pass_gate(service: str, in_force: PolicyInForce, plan: ReleasePlan, report: QualityReport) -> list[Waiver]:
    """Let the release continue if all expectations passed or each failed expectation was waived; return the waivers.

    A waiver does not change the quality report. A release that does not pass ends here and lists the failed rows.
    """
    granted = waivers_granted(service, in_force, plan, report, asks=ASK_WAIVERS, kind=QUALITY_WAIVED)
    record(QUALITY_PASSED, {"digest": sha256_of(report), "waived": len(granted)})
    return granted


def waivers_granted(
    service: str, in_force: PolicyInForce, plan: ReleasePlan, report: QualityReport, *, asks: str, kind: str
) -> list[Waiver]:
    """Record the waivers of a report's failures, and return them.

    :param asks: the task that asked for them. :param kind: of their entries.
    :raises QualityRejected: a failure was not waived.
    """
    policy, book, _ = resources.catalogue_of(service)
    answers = [
        waivers.decide_waiver(
            in_force,
            book.people,
            failure,
            votes_on(asks, waivers.digest_of(report, failure)),
            requester=plan.requested_by,
        )
        for failure in report.failures
    ]
    answered = list(zip(report.failures, answers, strict=True))
    granted = [
        answer.model_copy(update={"environment": report.environment})
        for answer in answers
        if isinstance(answer, Waiver)
    ]
    for waiver in granted:
        record(kind, waiver, actor=waiver.by, seal=True)
    defects.accept_waived(service, report, granted)
    if not report.success and not (report.failures and len(granted) == len(report.failures)):
        refused = [f"{failure.suite}: {said}" for failure, said in answered if isinstance(said, str)]
        where = f" in {report.environment}" if report.environment else ""
        asked = waivers.can_be_waived(in_force, book.people, report, requester=plan.requested_by)
        raise QualityRejected(
            f"Quality review of {service} {plan.version}{where} failed. {report.reason()}."
            + (f" Waivers: {'; '.join(refused)}." if asked and not plan.rehearsal else ""),
            rule=f"thresholds of {', '.join(sorted(set(in_force.sources.values())))}",
            who=f"the service's team can fix the failures; {policy.owner} can change the thresholds",
            next_step="fix the failures and release a new version",
        )
    return granted


def quality_gate(service: Service, policy: Policy, in_force: XComArg, plan: XComArg, report: XComArg) -> XComArg:
    """Request waivers of the failures, if the policy allows them, and decide; return the waivers."""
    prepared = prepare_waivers(service.name, in_force, plan, report)
    asked = ask_waivers(prepared, within=time_limits_of(policy, service).acceptance)
    passed: XComArg = pass_gate(service.name, in_force, plan, report)
    chain([prepared, asked], passed)
    return passed


def ask_waivers(questions: XComArg, *, within: timedelta) -> EmptyOperator:
    """Ask each question about a waiver; return the task that follows all of them."""
    return ask(
        questions,
        task_id="waive_expectation",
        title="Waive a failed expectation",
        default=waivers.REFUSE,
        within=within,
        doc_md="One question for each failed expectation, to the people whom the policy names. No answer: no waiver.",
    )
