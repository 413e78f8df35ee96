"""What becomes of failed test cases: defects in the ledger, mail to the development team, and their end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from interlock.adapters import mail
from interlock.adapters.templates import counted, render
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.environment_path import later_on_path
from interlock.domain.ledger.kinds import DEFECT_ACCEPTED, DEFECT_CLOSED, DEFECT_OPENED, family
from interlock.domain.paths import run_page
from interlock.domain.records import DefectLine, Outcome, PolicyInForce, QualityReport, Record, ReleasePlan, Waiver
from interlock.domain.testing.defects import (
    AcceptedDefect,
    ClosedDefect,
    Defect,
    OpenDefect,
    accepted_with,
    chain_of_defects,
    judged_in,
    limit_of,
    lines_of,
    new_defects,
    open_defects,
    other_than_accepted,
)
from interlock.domain.testing.results import CaseResult, CaseRow
from interlock.stages.runtime import history, resources
from interlock.stages.runtime.evidence import this_chain, this_task
from interlock.stages.runtime.notices import page_link
from interlock.stages.runtime.taskflow import this_run


def open_defects_of(service: str) -> tuple[OpenDefect, ...]:
    """Return the open defects of a service."""
    with resources.ledger() as ledger:
        return open_defects(ledger.entries(chain_of_defects(service), kind=family(DEFECT_OPENED)))


def open_for(service: Service, version: str, results: Sequence[CaseResult]) -> tuple[Defect, ...]:
    """Open a defect for each case that failed and has none; return the new ones. A retry opens none again."""
    with resources.ledger() as ledger:
        entries = ledger.entries(chain_of_defects(service.name), kind=family(DEFECT_OPENED))
        found = new_defects(
            entries, results, service=service.name, owner=service.owner, version=version, release=this_chain()
        )
    for defect in found:
        _record(service.name, DEFECT_OPENED, defect, defect.id, actor=defect.found_by)
    return found


def tell_developers(service: Service, version: str, results: Sequence[CaseResult], state: Any) -> None:
    """Send what failed, with its reasons, to the development team.

    :param state: the task's state, so that a retry does not send the mail again.
    """
    failed = [result for result in results if result.result == "failed"]
    to = service.cases.defects_to if service.cases else ()
    if not failed or not to or state.get("sent:defects"):
        return
    defects = {(one.defect.case, one.defect.environment): one.defect for one in open_defects_of(service.name)}
    text = render(
        "defects.md.j2",
        service=service,
        version=version,
        results=[(result, defects.get((result.case, result.environment))) for result in failed],
        page=page_link(run_page(*this_run())),
    )
    with resources.mail_server() as smtp:
        subject = f"{service.title} {version}: {counted(len(failed), 'test case')} failed in {failed[0].environment}"
        name = mail.message_id(*this_run(), "defects", failed[0].environment)
        mail.send(smtp, to=to, subject=subject, text=text, message_id=name)
    state.set("sent:defects", True)


def lines(
    service: Service,
    in_force: PolicyInForce,
    plan: ReleasePlan,
    environment: str,
    goes: Collection[str],
    rows: Iterable[CaseRow],
) -> tuple[DefectLine, ...]:
    """Return what this release fixes in an environment, what it brings along, and what is open from before.

    :param goes: the environments before production that the release goes through.
    """
    later = (one for one in later_on_path(service.stations, environment) if one in goes)
    return lines_of(
        judged_in(environment, goes, open_defects_of(service.name)),
        {(row.case, environment): row for row in rows},
        release=this_chain(),
        limit=limit_of(in_force.flow.stopped_by, (environment, *later, plan.target)),
        now=datetime.now(UTC),
    )


def with_known(service: str, environment: str, rows: Iterable[CaseRow]) -> tuple[CaseRow, ...]:
    """Return the results of cases, where those that failed because of a defect that is accepted as known say so.

    A case that failed in another way says so.
    """
    opened, now = open_defects_of(service), datetime.now(UTC)

    def judged(row: CaseRow) -> CaseRow:
        if row.result != "failed":
            return row
        other = other_than_accepted(opened, row, environment, now)
        if other is None:
            return row.model_copy(update={"result": "known_defect"})
        return row.model_copy(update={"other": other})

    return tuple(map(judged, rows))


def accept_waived(service: str, report: QualityReport, waivers: Iterable[Waiver]) -> None:
    """Record that the defects behind waived failures are accepted as known, until the waiver ends."""
    known = {(failure.suite, failure.expected): failure for failure in report.failures}
    for waiver in waivers:
        failure = known[waiver.suite, waiver.expectation]
        for name in accepted_with(failure, report.defects or ()):
            accepted = AcceptedDefect(
                id=name, by=waiver.by, reason=waiver.reason, until=waiver.until, release=this_chain()
            )
            _record(service, DEFECT_ACCEPTED, accepted, f"{name}/{this_chain()}", actor=waiver.by)


def close_fixed(service: str, report: QualityReport, outcome: Outcome, artifact: str) -> None:
    """Close the defects that a deployed release proved to be fixed."""
    for line in report.defects or ():
        if line.state == "fixed" and outcome.outcome == "deployed":
            closed = ClosedDefect(id=line.id, version=outcome.version, release=this_chain(), artifact=artifact)
            _record(service, DEFECT_CLOSED, closed, line.id, actor=this_task())


def _record(service: str, kind: str, what: Record, name: str, *, actor: str) -> None:
    with resources.ledger() as ledger:
        key, chain = f"{kind}/{name}", chain_of_defects(service)
        entry = history.append_once(ledger, kind, what.to_xcom(), key=key, actor=actor, chain=chain)
        history.sign_if_possible(ledger, entry)
