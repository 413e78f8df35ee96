"""Test cases that people run: plan them, ask the testers, and record each result.

The tasks are part of quality review, between the deployment to an environment before production and the judgement of
its quality. A service without test cases has none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg, chain, get_current_context

from interlock.adapters import mail
from interlock.adapters.chat.message import Line, Message
from interlock.adapters.signing.witness import only_witnessed
from interlock.adapters.templates import counted, instant, render
from interlock.adapters.testing.case_files import read_cases
from interlock.domain.board import decision as boards
from interlock.domain.board.questions import ask_testers
from interlock.domain.canonical import Sha256
from interlock.domain.catalogue import BoardBook, Service, ServiceCatalogue
from interlock.domain.catalogue.cases_file import CaseRules
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.change.environments import goes_through
from interlock.domain.change.tightening import place_of_service
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import CASE_ATTACHED, CASE_TESTED, CASES_RUN, TEST_PLANNED
from interlock.domain.paths import matrix_page, run_page
from interlock.domain.quality.rows import rows_as_json, rows_from_json
from interlock.domain.records import Artifact, CaseRuns, PolicyInForce, ReleasePlan, TestDeployment
from interlock.domain.testing.attachments import Attachment, answered_with
from interlock.domain.testing.defects import by_case
from interlock.domain.testing.planning import Change, PlannedCase, Testers, TestPlan, select, unproven
from interlock.domain.testing.results import BLOCKED, VERDICTS, result_of, rows_of, runs_of
from interlock.locations import catalogue_folder
from interlock.stages.approvals.in_force import before_asking
from interlock.stages.approvals.people import CASE_LABEL, CASE_PARAMS, ask, persons, question, votes_on_each
from interlock.stages.runtime import notices, resources
from interlock.stages.runtime.evidence import chain_entries, record, record_worded
from interlock.stages.runtime.notices import page_link
from interlock.stages.runtime.taskflow import stage_task, this_run

from . import defects

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook


def barred_testers(in_force: PolicyInForce, plan: ReleasePlan, book: BoardBook) -> dict[str, str]:
    """Return who does not run test cases of a release, each with the reason."""
    wrote = dict.fromkeys(boards.barred_authors(in_force.flow, plan, book), "wrote a commit of the release")
    return {**wrote, plan.requested_by: "requested the release"}


@stage_task(task_display_name="Plan the test cases", evidence=TEST_PLANNED)
def plan_cases(
    service: str, environment: str, in_force: PolicyInForce, plan: ReleasePlan, artifact: Artifact
) -> TestPlan:
    """Read the test cases at the released commit, and choose those that this release must run in an environment.

    A rehearsal asks nobody. If nobody may run a case in an environment that comes later, the release is refused now.
    """
    catalogue = resources.catalogue_of(service)
    described, rules = catalogue.service, _rules(catalogue.service)
    with resources.repository(described) as repository:
        found = read_cases(
            described, catalogue_folder(), lambda path: repository.read(plan.commit.sha, path), (FIRST, *described.path)
        )
        before = plan.previous_commit
        files = repository.changed_files(before, plan.commit.sha) if before else None
    opened = defects.open_defects_of(service)
    testers = Testers(rules.testers, barred_testers(in_force, plan, catalogue.board), place_of_service(service))
    everywhere = {
        name: select(
            found.cases,
            name,
            "none" if plan.rehearsal else in_force.flow.cases,
            Change(files=files, tickets=plan.tickets, defects=by_case(opened, name)),
            rules.components,
            testers,
        )
        for name in goes_through(catalogue, plan)
    }
    planned = everywhere[environment]
    demanded = sum(one.demanded for one in planned)
    return TestPlan(
        environment=environment,
        version=plan.version,
        artifact=artifact.bundle.sha256,
        cases=resources.store().put_bytes(rows_as_json(planned), f"cases-{environment}.json"),
        files=dict(found.digests),
        demanded=demanded,
        left_out=len(planned) - demanded,
        unproven=unproven((one for cases in everywhere.values() for one in cases), plan.tickets),
    )


@stage_task(task_display_name="Prepare the test cases")
def prepare_cases(
    service: str, plan: ReleasePlan, tests: TestPlan, deployment: TestDeployment | None = None
) -> list[dict[str, Any]]:
    """Write a question for each test case, and tell each tester by e-mail how many there are."""
    catalogue = resources.catalogue_of(service)
    planned = [one for one in planned_cases(tests) if one.demanded]
    opened = [one for one in defects.open_defects_of(service) if one.defect.environment == tests.environment]
    answer_by = datetime.now(UTC) + _rules(catalogue.service).within
    notice = before_asking(catalogue, plan) if planned else ""
    _tell_testers(catalogue, tests, planned, answer_by)
    questions = [
        question(
            f"{one.case.title} ({one.case.id}): {catalogue.service.title} {tests.version} in {tests.environment}",
            notice
            + render(
                "case.md.j2",
                service=catalogue.service,
                plan=tests,
                deployment=deployment or TestDeployment.nowhere(tests.environment),
                case=one.case,
                because=one.because,
                file=one.file,
                defects=[known for known in opened if known.defect.case == one.case.id],
                matrix_page=matrix_page(*this_run()),
                answer_by=answer_by,
            ),
            one.digest(tests.artifact),
            persons(catalogue.board, one.testers),
            answer_by=answer_by,
        )
        for one in planned
    ]
    record_worded(ask_testers(tests.environment), questions)
    return questions


@stage_task(task_display_name="Record the results of the test cases", evidence=CASES_RUN)
def record_cases(service: str, in_force: PolicyInForce, plan: ReleasePlan, tests: TestPlan) -> CaseRuns:
    """Read each result from Airflow, and record it: who found what, when, on which artifact.

    The first answer of a tester of the case counts. A case without one was not run. A case that failed opens a defect,
    which is sent to the development team.
    """
    _, book, described = resources.catalogue_of(service)
    planned = planned_cases(tests)
    digests = {one.case.id: one.digest(tests.artifact) for one in planned if one.demanded}
    known, task = chain_entries(), ask_testers(tests.environment)
    votes = votes_on_each(task, tuple(digests.values()), entries=known) if digests else {}
    attached = _attached(known, task, tuple(digests.values()))
    found = (result_of(tests, one, votes[digests[one.case.id]], attached) for one in planned if one.demanded)
    results = [result for result in found if result is not None]
    for result in results:
        record(CASE_TESTED, result, actor=result.by)
    defects.open_for(described, plan.version, results)
    defects.tell_developers(described, plan.version, results, get_current_context()["task_state_store"])
    rows = rows_of(planned, results, artifact=tests.artifact, barred=barred_testers(in_force, plan, book))
    table = resources.store().put_bytes(rows_as_json(rows), f"case-results-{tests.environment}.json")
    return runs_of(tests, rows, table)


def _attached(known: Sequence[Entry], task: str, asked: Sequence[Sha256]) -> tuple[Attachment, ...]:
    """Return the files that testers attached through Airflow's API server before they gave their results."""
    if not any(one.kind == CASE_ATTACHED for one in known):
        return ()
    return answered_with(only_witnessed(known, resources.witness_key()), task, asked)


def planned_cases(tests: TestPlan) -> tuple[PlannedCase, ...]:
    """Return the test cases of a plan, from the artifact store."""
    return rows_from_json(PlannedCase, resources.store().get_bytes(tests.cases))


def run_cases(
    service: Service,
    environment: str,
    in_force: XComArg,
    plan: XComArg,
    artifact: XComArg,
    *,
    after: XComArg | None = None,
    **deployed: XComArg,
) -> dict[str, XComArg]:
    """Have people run the test cases of an environment; return the results, for who judges. None: it has no cases.

    :param after: what they are planned after; skipped with it.
    :param deployed: the ``deployment``, if the environment has hosts.
    """
    if service.cases is None:
        return {}
    tests = plan_cases(service.name, environment, in_force, plan, artifact)
    if after is not None:
        chain(after, tests)
    prepared = prepare_cases(service.name, plan, tests, **deployed)
    asked = ask(
        prepared,
        task_id="run_case",
        title="Run a test case (tester)",
        options=list(VERDICTS),
        default=BLOCKED,
        within=service.cases.within,
        doc_md="A tester runs the case and says what came of it. The first answer stands. No answer: it was not run.",
        params=CASE_PARAMS,
        map_index_template=CASE_LABEL,
        mailed=False,
    )
    results: XComArg = record_cases(service.name, in_force, plan, tests)
    chain([prepared, asked], results)
    return {"cases": results}


def _rules(service: Service) -> CaseRules:
    if service.cases is None:
        raise ValueError(f"{service.name} has no test cases")
    return service.cases


def _tell_testers(
    catalogue: ServiceCatalogue, tests: TestPlan, planned: Sequence[PlannedCase], answer_by: datetime
) -> None:
    """Send one mail to each tester, however many cases they have; a retry sends only the missing ones."""
    of: dict[str, list[PlannedCase]] = {}
    for one in planned:
        for user in one.testers:
            of.setdefault(user, []).append(one)
    if not of:
        return
    lines = (Line(f"{catalogue.board.names[user]}: {counted(len(cases), 'test case')}") for user, cases in of.items())
    title = f"Test cases wait in {tests.environment}, until {instant(answer_by)}"
    notices.say(Message(title, tuple(lines)), about="questions", same=f"cases/{tests.environment}")
    done = get_current_context()["task_state_store"]
    with resources.mail_server() as smtp:
        for user, cases in of.items():
            if not done.get(f"sent:{user}"):
                _send(smtp, catalogue, tests, user, cases, answer_by)
                done.set(f"sent:{user}", True)


def _send(
    smtp: SmtpHook,
    catalogue: ServiceCatalogue,
    tests: TestPlan,
    user: str,
    cases: Sequence[PlannedCase],
    answer_by: datetime,
) -> None:
    person = catalogue.board.person(user)
    text = render(
        "cases_waiting.md.j2",
        person=person.name,
        service=catalogue.service,
        plan=tests,
        cases=cases,
        number=len(cases),
        answer_by=answer_by,
        page=page_link(run_page(*this_run())),
    )
    mail.send(
        smtp,
        to=[person.email],
        subject=f"Test cases for you: {catalogue.service.title} {tests.version} in {tests.environment}",
        text=text,
        message_id=mail.message_id(*this_run(), "cases", tests.environment, user),
    )
