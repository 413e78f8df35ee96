"""The ways back of the steps of a runbook, in reverse order, around the way back of the hosts."""

from __future__ import annotations

from typing import Any

from airflow.sdk import TriggerRule, XComArg, chain, get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from interlock.domain.board.questions import ASK_WAY_BACK
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.runbook_file import Action, Step, wave_of
from interlock.domain.ledger.kinds import BACK_OUT_DONE
from interlock.domain.records import BackOutReport, PlannedStep, RolloutPlan, StepReport
from interlock.domain.runbook.progress import FAILED, has_begun
from interlock.stages.approvals.people import ask
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.taskflow import REASON, WHILE_HOSTS_ARE_SILENT, stage_task
from interlock.stages.strategies import rolling, traffic

from . import questions
from .once import carry_out
from .steps import LONGEST, planned

BEGINS = ".begin_back_out"
"""The end of the id of the task that begins a back-out, which keeps the reason for it."""
NOTHING_CHANGED = "The release did not change its target, so there is nothing to back out."


def reason_of_back_out(ti: Any) -> str:
    """Return why a release is backed out: the first reason that a task before this one left."""
    before = get_current_context()["task"].upstream_task_ids
    # A way back that failed has a reason, too, but the release was not backed out for it.
    first = sorted(before, key=lambda task: (not task.endswith(BEGINS), task))
    reasons = (ti.xcom_pull(task_ids=task, key=REASON) for task in first)
    return next((reason for reason in reasons if reason), "A task of the implementation failed.")


@stage_task(
    task_display_name="Begin the back-out",
    trigger_rule=TriggerRule.ONE_FAILED,
    retries=WHILE_HOSTS_ARE_SILENT,
    after_end="way_back",
)
def begin_back_out(service: str) -> None:
    """Give users the previous version at once, if the traffic was moved. The ways back of the steps follow.

    Skipped if the release never got a permit to begin.
    """
    ti: Any = get_current_context()["ti"]
    rollout = permits.frozen_plan()
    if rollout is None or not permits.came_to_its_target(rollout):
        raise AirflowSkipException(NOTHING_CHANGED)
    ti.xcom_push(key=REASON, value=reason_of_back_out(ti))
    traffic.restore(rollout, resources.catalogue_of(service).service)


def _planned(number: int) -> tuple[RolloutPlan, PlannedStep]:
    rollout = permits.frozen_plan()
    if rollout is None:
        raise AirflowSkipException(NOTHING_CHANGED)
    return rollout, planned(rollout, number)


def _hosts_first(service: str, rollout: RolloutPlan, step: PlannedStep) -> None:
    """Take back the hosts of the waves after a step, before the step: what ran before the step needs it undone last."""
    waves = len(rollout.waves)
    after = wave_of(step.when, waves)
    if not 0 < after < waves or not has_begun(rollout, step, chain_entries()):
        return
    described = resources.catalogue_of(service).service
    hosts = [host for wave in rollout.waves[after:] for host in wave]
    results = rolling.back_out(rollout, described, hosts)
    because = f"The hosts after wave {after}, before “{step.title}” is taken back."
    record(BACK_OUT_DONE, BackOutReport(because=because, results=results, verified=False))


@stage_task(
    trigger_rule=TriggerRule.NONE_SKIPPED,
    execution_timeout=LONGEST,
    retries=WHILE_HOSTS_ARE_SILENT,
    after_end="way_back",
)
def take_back_step(service: str, number: int) -> StepReport:
    """Take a step of the runbook back, once, if it was begun. Needs a permit, which stops and freezes do not prevent.

    A step that was done only in part, or of which it is not known, is taken back, too: its way back has to cope with
    that. If it fails, the other ways back follow all the same.
    """
    rollout, step = _planned(number)
    _hosts_first(service, rollout, step)
    return carry_out(service, rollout, step, "back")


@stage_task(trigger_rule=TriggerRule.NONE_SKIPPED, retries=WHILE_HOSTS_ARE_SILENT, after_end="way_back")
def prepare_back_step(service: str, number: int) -> list[dict[str, Any]]:
    """Get a permit to take a manual step back, if it was begun, and prepare the question to the people who do it."""
    rollout, step = _planned(number)
    _hosts_first(service, rollout, step)
    return questions.prepare(service, rollout, step, "back")


@stage_task(trigger_rule=TriggerRule.NONE_SKIPPED, after_end="way_back")
def settle_back_step(number: int) -> StepReport:
    """End the way back of a manual step as it was answered."""
    rollout, step = _planned(number)
    return questions.settle(rollout, step, "back")


def ways_back(service: Service, first: XComArg, hosts: XComArg) -> XComArg:
    """Put the ways back of the steps around the one of the hosts, in reverse order; return the last task.

    :param first: the task that begins the back-out; ``hosts``: that takes the hosts back.
    """
    waves, last, hosts_are_back = len(service.environments["production"].waves), first, False
    for number, step in reversed([*enumerate(service.runbook, start=1)]):
        if not hosts_are_back and wave_of(step.when, waves) == 0:
            chain(last, hosts)
            last, hosts_are_back = hosts, True
        if isinstance(step.way_back, Action):
            last = _tasks_of(service, number, step, step.way_back, last)
    if not hosts_are_back:
        chain(last, hosts)
        last = hosts
    # Not only by way of the others: when a task is skipped, so is everything after it.
    chain(first, hosts)
    return last


def _tasks_of(service: Service, number: int, step: Step, back: Action, last: XComArg) -> XComArg:
    title = f"Take back: {step.title}"
    if back.manual is None:
        taken: XComArg = take_back_step.override(task_id=f"back_step_{number}", task_display_name=title)(
            service.name, number
        )
        chain(last, taken)
        return taken
    prepared = prepare_back_step.override(task_id=f"prepare_back_step_{number}", task_display_name=f"{title}: prepare")(
        service.name, number
    )
    over = ask(
        prepared,
        task_id=ASK_WAY_BACK.format(number=number).partition(".")[2],
        title=f"{title}: ask who does it",
        default=FAILED,
        within=back.manual.within,
        doc_md="Asks the people who take this step of the runbook back. The answer is recorded in the ledger.",
    )
    settled: XComArg = settle_back_step.override(task_id=f"back_step_{number}", task_display_name=title)(number)
    chain(last, prepared, settled)
    chain(over, settled)
    return settled
