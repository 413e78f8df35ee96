"""How far a release has come in each environment and in its runbook, by its chain in the ledger.

The chain says what was done and decided, not which task of Airflow runs: an environment of which it says nothing may be
about to begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from pydantic import Field

from interlock.domain.board.questions import ask_testers
from interlock.domain.board.voting import book_on_record, signers
from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue import PRODUCTION
from interlock.domain.catalogue.environment_path import FIRST, earlier_on_path
from interlock.domain.catalogue.runbook_file import moment_in_words
from interlock.domain.change.environments import REHEARSED, left_out
from interlock.domain.ledger import kinds
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.reading import all_in, last_in, last_of_each, plan_in
from interlock.domain.quality.rows import SUITE_TITLES
from interlock.domain.records import (
    BackOutReport,
    CaseRuns,
    Decision,
    DefectLine,
    EnvironmentTested,
    FailedExpectation,
    HostResult,
    MigrationRehearsal,
    PathStep,
    PlannedStep,
    PolicyInForce,
    QualityReport,
    Record,
    ReleasePlan,
    RolloutPlan,
    SoakReport,
    StepDirection,
    TestDeployment,
    VerificationReport,
    Vote,
    WaveReport,
)
from interlock.domain.runbook.planning import describe_action, step_id
from interlock.domain.runbook.progress import known_of
from interlock.domain.testing.planning import TestPlan

R = TypeVar("R", bound=Record)
State = Literal[
    "pending", "left_out", "deployed", "judged", "not_met", "soaking", "asked", "rejected", "passed", "backed_out"
]
"""How far an environment is passed; ``not_met``: its report has failures that are not all waived (so far)."""


class HostCount(Model):
    """How many hosts of an environment run the release."""

    done: int
    of: int
    failed: tuple[str, ...] = Field((), description="Addresses of hosts that failed")


class SuiteCount(Model):
    """How the suites of an environment were judged."""

    passed: int
    of: int
    failed: tuple[str, ...] = Field((), description="Titles of those that failed")
    waived: int = Field(0, description="Number of failed expectations that people accepted")


class CaseCount(Model):
    """The test cases that people run in an environment."""

    demanded: int
    run: int
    results: dict[str, int] = Field({}, description="Result: number of cases; empty: not all results are in")


class Soak(Model):
    """For how long the release runs in an environment before it goes on."""

    since: datetime
    until: datetime
    over: bool


class Approval(Model):
    """The people who let a release pass an environment, and what they decided."""

    title: str = Field(description="What these people are called")
    people: tuple[str, ...] = Field((), description="User names; empty: they are not named by the policy in force")
    quorum: int | None = None
    until: datetime | None = None
    approved: bool | None = Field(None, description="None: it is not decided")
    required: bool = True
    reason: str = ""
    votes: tuple[Vote, ...] = ()


class EnvironmentProgress(Model):
    """How far a release has come in one environment."""

    environment: str
    after: tuple[str, ...] = ()
    beside: tuple[str, ...] = Field((), description="Environments that it may be in at the same time")
    state: State
    left_out: str = Field("", description="Why the release does not go there")
    deployed_at: datetime | None = None
    hosts: HostCount | None = None
    suites: SuiteCount | None = None
    cases: CaseCount | None = None
    soak: Soak | None = None
    approval: Approval | None = None
    report: Sha256 | None = Field(None, description="Digest of the quality report, as the frozen plan names it")
    failures: tuple[FailedExpectation, ...] = Field((), description="The expectations that failed, waived ones too")


class StepRun(Model):
    """How a step was done, or taken back."""

    direction: StepDirection
    outcome: Literal["running", "done", "failed", "left_out"]
    began_at: datetime | None
    ended_at: datetime | None
    until: datetime | None = Field(None, description="Of a manual step that nobody has answered for: until when")
    by: str = ""
    evidence: str = ""
    reason: str = ""


class StepProgress(Model):
    """A step of the runbook, planned against actual."""

    number: int
    title: str
    when: str
    needs: tuple[str, ...] = Field(description="Titles of the steps that it needs")
    kind: str
    does: str
    way_back: str
    irreversible: bool
    left_out: str
    estimate: timedelta
    runs: tuple[StepRun, ...]


class RehearsedOn(Model):
    """A version that ran on the changed copy."""

    version: str
    smoked: int = Field(description="Smoke requests that were answered as expected")
    tests: int = Field(description="Tests of its suites that passed")


class RehearsalProgress(Model):
    """How the database changes went on a restored copy."""

    at: datetime = Field(description="When the rehearsal was recorded, which is when it had succeeded")
    environment: str = Field(description="Whose hosts did it")
    databases: tuple[str, ...] = Field(description="The databases of which a copy was restored")
    tables: int
    rows: int = Field(description="Rows of the restored copy, in all tables")
    gone: tuple[str, ...] = Field((), description="Tables that the changes took away")
    before: tuple[RehearsedOn, ...] = Field(description="The versions of production that ran on the copy after it")
    notes: tuple[str, ...] = Field((), description="What was changed beyond adding something")
    took: timedelta


class Progress(Model):
    """How far a release has come, by its chain."""

    environments: tuple[EnvironmentProgress, ...]
    steps: tuple[StepProgress, ...]
    defects: tuple[DefectLine, ...]
    rehearsal: RehearsalProgress | None = Field(None, description="None: no database change, or not rehearsed (yet)")


def progress_of(entries: Sequence[Entry], names: Mapping[str, str]) -> Progress:
    """Return how far a release has come.

    :param entries: the verified chain of the release, or of a rollback.
    :param names: the name of each person, by user name.
    """
    plan = plan_in(entries)
    return Progress(
        environments=tuple(_environments(entries, plan)),
        steps=tuple(_step(entries, plan, step, names) for step in plan.steps) if plan else (),
        defects=defects_of(entries),
        rehearsal=_rehearsal(entries),
    )


def _rehearsal(entries: Sequence[Entry]) -> RehearsalProgress | None:
    entry = _entry(entries, kinds.MIGRATION_REHEARSED)
    if entry is None:
        return None
    done = MigrationRehearsal.model_validate(entry.payload, extra="ignore")
    return RehearsalProgress(
        at=entry.at,
        environment=done.environment,
        databases=tuple(dict.fromkeys(one.database for one in done.tables)),
        tables=len(done.tables),
        rows=sum(one.before for one in done.tables),
        gone=tuple(one.table for one in done.tables if one.after is None),
        before=tuple(RehearsedOn(version=one.version, smoked=one.smoked, tests=one.tests) for one in done.before),
        notes=done.notes,
        took=timedelta(seconds=sum(done.seconds.values())),
    )


def defects_of(entries: Iterable[Entry]) -> tuple[DefectLine, ...]:
    """Return the defects that a release fixes, brings along, or finds open.

    Each environment's report has all of them. What one environment proves to be fixed is fixed; of the rest, the latest
    report counts.
    """
    found: dict[str, DefectLine] = {}
    for entry in entries:
        if entry.kind in (kinds.QUALITY_JUDGED, kinds.PATH_JUDGED):
            report = QualityReport.model_validate(entry.payload, extra="ignore")
            for line in report.defects or ():
                if line.id not in found or found[line.id].state != "fixed":
                    found[line.id] = line
    return tuple(found.values())


def _environments(entries: Sequence[Entry], rollout: RolloutPlan | None) -> Iterator[EnvironmentProgress]:
    policy = last_in(entries, kinds.POLICY_RESOLVED, PolicyInForce)
    plan = last_in(entries, kinds.PLAN_MADE, ReleasePlan)
    requested = next((entry.payload for entry in entries if entry.kind == kinds.RELEASE_REQUESTED), {})
    if policy is None:
        return
    if not requested.get("rollback"):
        yield _first(entries)
        for step in policy.path or ():
            yield _between(entries, step, policy, plan)
    if plan is None or not plan.rehearsal:
        yield _last(entries, plan, rollout)


def _first(entries: Sequence[Entry]) -> EnvironmentProgress:
    """Return how far the first environment is passed, in which people accept the release."""
    deployed = last_in(entries, kinds.TEST_DEPLOYED, TestDeployment)
    report = last_in(entries, kinds.QUALITY_JUDGED, QualityReport)
    waived = [entry for entry in entries if entry.kind == kinds.QUALITY_WAIVED]
    passed = any(entry.kind == kinds.QUALITY_PASSED for entry in entries)
    accepted = last_in(entries, kinds.ACCEPTANCE_DECIDED, Decision)
    state: State = "passed" if passed else _judged(deployed, report)
    if accepted is not None and not accepted.approved:
        state = "rejected"
    return EnvironmentProgress(
        environment=FIRST,
        state=state,
        **_tested(entries, FIRST, kinds.TEST_DEPLOYED, deployed, report, len(waived)),
        approval=_decided("Acceptance", accepted) if accepted else None,
    )


def _between(
    entries: Sequence[Entry], step: PathStep, policy: PolicyInForce, plan: ReleasePlan | None
) -> EnvironmentProgress:
    name = step.environment
    about = {"environment": name, "after": step.after, "beside": _beside(step, policy.path or ())}
    path = [one.environment for one in policy.path or ()]
    rehearsal = plan is not None and plan.rehearsal
    if why := REHEARSED if rehearsal else left_out(policy.flow, policy.change_type, name, path):
        return EnvironmentProgress(**about, state="left_out", left_out=why)
    deployed = _of(entries, kinds.PATH_DEPLOYED, TestDeployment, name)
    report = _of(entries, kinds.PATH_JUDGED, QualityReport, name)
    waived = [one for one in entries if one.kind == kinds.PATH_WAIVED and one.payload.get("environment") == name]
    signed = _of(entries, kinds.SIGN_OFF_DECIDED, Decision, name)
    tested = _of(entries, kinds.PATH_TESTED, EnvironmentTested, name)
    tests = _tested(entries, name, kinds.PATH_DEPLOYED, deployed, report, len(waived))
    soak = _soak(entries, step, policy, plan, tests["deployed_at"])
    state = _judged(deployed, report)
    if _entry(entries, kinds.PATH_PASSED, name):
        state = "passed"
    elif signed is not None and not signed.approved:
        state = "rejected"
    elif tested is not None:
        state = "asked" if step.sign_off is not None and signed is None else "judged"
    elif _entry(entries, kinds.PATH_GATED, name):
        state = "soaking" if soak is not None and not soak.over else "judged"
    return EnvironmentProgress(
        **about, state=state, **tests, soak=soak, approval=_sign_off(step, policy, tested, signed)
    )


def _last(entries: Sequence[Entry], plan: ReleasePlan | None, rollout: RolloutPlan | None) -> EnvironmentProgress:
    """Return how far the rollout to production has come."""
    waves = {one.number: one for one in all_in(entries, kinds.WAVE_DEPLOYED, WaveReport)}
    results = [result for wave in waves.values() for result in wave.results]
    verified = last_in(entries, kinds.VERIFICATION_JUDGED, VerificationReport)
    decision = last_in(entries, kinds.BOARD_DECIDED, Decision)
    state: State = "pending"
    if last_in(entries, kinds.BACK_OUT_DONE, BackOutReport):
        state = "backed_out"
    elif verified is not None:
        state = "passed" if verified.success else "not_met"
    elif waves:
        state = "deployed"
    elif decision is not None and not decision.approved:
        state = "rejected"
    elif rollout is not None and rollout.decide_by is not None and decision is None:
        state = "asked"
    approval = None
    if decision is not None:
        approval = _decided("Board", decision, rollout.decide_by if rollout else None)
    elif rollout is not None and rollout.decide_by is not None:
        approval = Approval(title="Board", until=rollout.decide_by)
    deployed = next((entry.at for entry in entries if entry.kind == kinds.WAVE_DEPLOYED), None)
    return EnvironmentProgress(
        environment=rollout.environment if rollout else plan.target if plan else PRODUCTION,
        state=state,
        deployed_at=deployed,
        hosts=_hosts(results, len(rollout.hosts) if rollout else len(results)) if results else None,
        approval=approval,
    )


def _judged(deployed: TestDeployment | None, report: QualityReport | None) -> State:
    if report is not None:
        return "judged" if report.success else "not_met"
    return "deployed" if deployed is not None else "pending"


def _tested(
    entries: Sequence[Entry],
    environment: str,
    deploys: str,
    deployed: TestDeployment | None,
    report: QualityReport | None,
    waived: int,
) -> dict[str, object]:
    """Return what is known of an environment in which a release is tested."""
    at = _entry(entries, deploys, environment if kinds.KINDS[deploys].each else None)
    return {
        "deployed_at": at.at if at else None,
        "hosts": _hosts(deployed.results, len(deployed.results)) if deployed else None,
        "suites": _suites(report, waived) if report else None,
        "cases": _cases(entries, environment),
        "report": sha256_of(report) if report else None,
        "failures": report.failures if report else (),
    }


def _hosts(results: Sequence[HostResult], of: int) -> HostCount:
    done = sum(one.outcome in ("deployed", "unchanged") for one in results)
    failed = tuple(one.host for one in results if one.outcome in ("failed", "backed_out"))
    return HostCount(done=done, of=of, failed=failed)


def _suites(report: QualityReport, waived: int) -> SuiteCount:
    failed = tuple(SUITE_TITLES.get(one.suite, one.suite) for one in report.suites if not one.success)
    return SuiteCount(passed=len(report.suites) - len(failed), of=len(report.suites), failed=failed, waived=waived)


def _cases(entries: Sequence[Entry], environment: str) -> CaseCount | None:
    planned = [one for one in all_in(entries, kinds.TEST_PLANNED, TestPlan) if one.environment == environment]
    if not planned:
        return None
    closed = [one for one in all_in(entries, kinds.CASES_RUN, CaseRuns) if one.environment == environment]
    if closed:
        counts = closed[-1].counts
        demanded = closed[-1].demanded
        return CaseCount(demanded=demanded, run=demanded - counts.get("not_run", 0), results=counts)
    task = ask_testers(environment)
    answers = (one.payload for one in entries if one.kind == kinds.ANSWER_GIVEN)
    given = {answer["map_index"] for answer in answers if answer["task_id"] == task}
    return CaseCount(demanded=planned[-1].demanded, run=len(given))


def _soak(
    entries: Sequence[Entry], step: PathStep, policy: PolicyInForce, plan: ReleasePlan | None, deployed: object
) -> Soak | None:
    """Return how long the release soaks, from its deployment on; None: it does not, or is not deployed."""
    if ended := _of(entries, kinds.PATH_SOAKED, SoakReport, step.environment):
        return Soak(since=ended.since, until=ended.until, over=True)
    spared = plan is not None and plan.bump in policy.flow.without_soak
    if step.soak is None or spared or not isinstance(deployed, datetime):
        return None
    return Soak(since=deployed, until=deployed + step.soak, over=False)


def _sign_off(
    step: PathStep, policy: PolicyInForce, tested: EnvironmentTested | None, signed: Decision | None
) -> Approval | None:
    asked = step.sign_off
    if asked is None:
        return None
    people = signers(asked, book_on_record(policy.rules).people) if policy.rules and asked.roles else asked.people
    about = Approval(title=asked.title, people=people, quorum=asked.quorum, until=tested.decide_by if tested else None)
    return about.model_copy(update=_outcome(signed)) if signed else about


def _decided(title: str, decision: Decision, until: datetime | None = None) -> Approval:
    return Approval(title=title, until=until).model_copy(update=_outcome(decision))


def _outcome(decision: Decision) -> dict[str, object]:
    return {
        "approved": decision.approved,
        "required": decision.required,
        "reason": decision.reason,
        "votes": decision.votes,
    }


def _beside(step: PathStep, path: Sequence[PathStep]) -> tuple[str, ...]:
    """Return the environments that neither come before an environment nor after it."""
    own, after = step.environment, {one.environment: one.after for one in path}
    earlier = earlier_on_path(after)
    return tuple(one for one in after if one != own and own not in earlier[one] and one not in earlier[own])


def _entry(entries: Sequence[Entry], kind: str, environment: str | None = None) -> Entry | None:
    """Return the last entry of a kind, of one environment if the kind has one of each."""
    return next(
        (
            entry
            for entry in reversed(entries)
            if entry.kind == kind and (environment is None or entry.payload.get("environment") == environment)
        ),
        None,
    )


def _of(entries: Sequence[Entry], kind: str, model: type[R], environment: str) -> R | None:
    return last_of_each(entries, kind, model).get(environment)


def _step(entries: Sequence[Entry], plan: RolloutPlan, step: PlannedStep, names: Mapping[str, str]) -> StepProgress:
    titles = {one.name: one.title for one in plan.steps}
    return StepProgress(
        number=step.number,
        title=step.title,
        when=moment_in_words(step.when),
        needs=tuple(titles[name] for name in step.needs),
        kind=step.do.kind,
        does=describe_action(step, step.do, names),
        way_back=describe_action(step, step.way_back, names),
        irreversible=step.is_irreversible,
        left_out=step.left_out,
        estimate=step.estimate,
        runs=tuple(_runs(entries, plan, step)),
    )


def _runs(entries: Sequence[Entry], plan: RolloutPlan, step: PlannedStep) -> Iterator[StepRun]:
    directions: tuple[StepDirection, ...] = ("forward", "back")
    for direction in directions:
        known = known_of(entries, step_id(plan.digest, step, direction))
        if (report := known.report) is not None:
            yield StepRun(
                direction=direction,
                outcome=report.outcome,
                began_at=report.began_at,
                ended_at=report.ended_at,
                by=report.by,
                evidence=report.evidence,
                reason=report.reason,
            )
        elif known.began_at is not None:
            action = step.action(direction)
            within = action.manual.within if action is not None and action.manual is not None else None
            until = known.began_at + within if within else None
            yield StepRun(direction=direction, outcome="running", began_at=known.began_at, ended_at=None, until=until)
