"""Do a step of the runbook once: a permit, then an entry before it, then the step, then an entry after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from interlock.adapters.permits.issuer import Admission
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Action, ServiceCatalogue
from interlock.domain.catalogue.runbook_file import CommandStep
from interlock.domain.errors import AlreadyRecorded, PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import STEP_BEGUN, STEP_ENDED, WAVE_DEPLOYED
from interlock.domain.records import Host, PlannedStep, Record, RolloutPlan, StepDirection, StepIntent, StepReport
from interlock.domain.runbook.planning import step_id
from interlock.domain.runbook.progress import (
    NOT_BEGUN,
    UNKNOWN,
    Ended,
    has_begun,
    known_of,
    left_out,
    refuse_failed,
    refuse_unmet,
    report_of,
)
from interlock.stages.release.rollout import count
from interlock.stages.runtime import bookings, permits, resources
from interlock.stages.runtime.calendars import put_off
from interlock.stages.runtime.evidence import chain_entries, this_chain, this_task
from interlock.stages.runtime.taskflow import keep_result
from interlock.stages.strategies import rolling

from .contract import refuse_contracts


def carry_out(service: str, rollout: RolloutPlan, step: PlannedStep, direction: StepDirection) -> StepReport:
    """Do a step that needs no people, or take it back; what the ledger has of it counts instead.

    :raises StepFailed: it was not done, now or in an earlier try. :raises HostUnreachable: another try may go on.
    """
    if (settled := settled_before(rollout, step, direction)) is not None:
        return settled
    action = step.action(direction)
    if action is None:
        raise ValueError("what has no way back is settled before")
    with begun(service, rollout, step, direction) as (catalogue, admission, began_at):
        ended = _act(action, catalogue, rollout, step, direction, admission)
        return finish(rollout, step, direction, ended, began_at, admission)


def settled_before(rollout: RolloutPlan, step: PlannedStep, direction: StepDirection) -> StepReport | None:
    """Return the report of a step that has ended, or that is left out; none: it is to be done.

    :raises StepFailed: it has failed.
    """
    id, entries = step_id(rollout.digest, step, direction), chain_entries()
    known = known_of(entries, id)
    if known.report is not None:
        keep_result(known.report)
        return refuse_failed(known.report)
    why = step.left_out
    if direction == "back" and not has_begun(rollout, step, entries):
        why = NOT_BEGUN
    return _recorded(left_out(step, direction, id, why)) if why else None


@contextmanager
def begun(
    service: str, rollout: RolloutPlan, step: PlannedStep, direction: StepDirection
) -> Iterator[tuple[ServiceCatalogue, Admission, datetime]]:
    """Get a permit for a step, and record that it begins; yield when its beginning was recorded first.

    :raises PolicyViolation: no permit is given. :raises StepFailed: a step that it needs is not done.
    """
    catalogue, entries = resources.catalogue_of(service), chain_entries()
    id = step_id(rollout.digest, step, direction)
    hosts = hosts_of(step, direction)
    with ExitStack() as stack:
        if direction == "forward":
            refuse_unmet(rollout, step, entries)
            refuse_contracts(catalogue, [step])
            admission = stack.enter_context(_permitted(catalogue, rollout, hosts, id, entries))
        else:
            admission = stack.enter_context(permits.admission_to_step_back(rollout, hosts, id))
        intent = StepIntent(
            number=step.number,
            name=step.name,
            direction=direction,
            id=id,
            plan=rollout.digest,
            action=sha256_of(step.action(direction) or {}),
            entered=admission.entered,
        )
        yield catalogue, admission, _once(STEP_BEGUN, id, intent).at


@contextmanager
def _permitted(
    catalogue: ServiceCatalogue, rollout: RolloutPlan, hosts: list[Host], id: str, entries: tuple[Entry, ...]
) -> Iterator[Admission]:
    """Get a permit to do a step; while a calendar keeps a rollout under way, the task waits without a worker."""
    bookings.hold(catalogue.policy, rollout)
    if any(entry.kind in (WAVE_DEPLOYED, STEP_BEGUN) for entry in entries):
        put_off(catalogue, rollout.environment)
    with ExitStack() as stack:
        try:
            admission = stack.enter_context(permits.admission_to_step(rollout, hosts, id, count))
        except PolicyViolation:
            put_off(catalogue, rollout.environment)
            raise
        yield admission


def hosts_of(step: PlannedStep, direction: StepDirection) -> list[Host]:
    """Return the hosts that a step connects to."""
    action = step.action(direction)
    return [step.host] if step.host is not None and action is not None and action.on_host is not None else []


def finish(
    rollout: RolloutPlan,
    step: PlannedStep,
    direction: StepDirection,
    ended: Ended,
    began_at: datetime | None,
    admission: Admission | None = None,
) -> StepReport:
    """Record how a step ended.

    :raises StepFailed: it failed.
    """
    id = step_id(rollout.digest, step, direction)
    report = report_of(step, direction, id, ended, began_at=began_at, now=datetime.now(UTC))
    if admission is not None:
        report = report.model_copy(update={"entered": admission.entered})
    return refuse_failed(_recorded(report))


def _recorded(report: StepReport) -> StepReport:
    """Record a report, unless there is one; return the one that is on record, which is the task's result, too."""
    known = StepReport.model_validate(_once(STEP_ENDED, report.id, report).payload, extra="ignore")
    keep_result(known)
    return known


def _once(kind: str, id: str, what: Record) -> Entry:
    """Record something of a step once; return what is on record."""
    with resources.ledger() as ledger:
        try:
            return ledger.append_once(this_chain(), kind, what.to_xcom(), actor=this_task(), key=f"{kind}/{id}")
        except AlreadyRecorded as error:
            return error.entry


def _act(
    action: Action,
    catalogue: ServiceCatalogue,
    rollout: RolloutPlan,
    step: PlannedStep,
    direction: StepDirection,
    admission: Admission,
) -> Ended:
    if action.command is None:
        raise ValueError(f"{step.name} is done by people")
    id = step_id(rollout.digest, step, direction)
    return _run(action.command, catalogue, rollout, step, id, admission)


def _run(
    command: CommandStep,
    catalogue: ServiceCatalogue,
    rollout: RolloutPlan,
    step: PlannedStep,
    id: str,
    admission: Admission,
) -> Ended:
    """Run a program of the bundle on its host, which knows whether it ran before."""
    from interlock.adapters.hosts import step_run  # not at the top: see rolling.py

    if step.host is None:
        raise ValueError(f"{step.name} has no host")
    described = catalogue.service.environments[rollout.environment]
    seconds = int(command.timeout.total_seconds())
    program = step_run.Program(id, command.script, seconds, command.runas)
    with rolling.deployment_of(catalogue.service, rollout.environment, rollout) as deployment:
        run = asyncio.run(
            step_run.run_step(step.host, program, deployment, login=resources.login(described), admission=admission)
        )
    if run.outcome is None:
        return Ended(f"{UNKNOWN}: {step.host.name} says that {run.why}", evidence=run.said)
    return Ended("" if run.outcome else f"{step.host.name}: {run.why}", evidence=run.said)
