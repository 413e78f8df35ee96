"""The ways back of the steps of a runbook, in reverse order, around the way back of the hosts."""

from __future__ import annotations

from typing import Any

from airflow.sdk import TriggerRule, XComArg, chain, get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from interlock.domain.board.questions import ASK_WAY_BACK
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.runbook_file import Action, Step, wave_of
from interlock.domain.records import StepReport
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.taskflow import REASON, WHILE_HOSTS_ARE_SILENT, stage_task
from interlock.stages.strategies import traffic

from . import questions
from .elsewhere import DoElsewhere, await_end
from .once import carry_out
from .planned import NOTHING_CHANGED, planned, planned_back
from .steps import LONGEST, ask_about, prepares

BEGINS = ".begin_back_out"
"""The end of the id of the task that begins a back-out, which keeps the reason for it."""


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
    rollout, step = planned_back(service, number)
    await_end(rollout, step)
    return carry_out(service, rollout, step, "back")


@stage_task(trigger_rule=TriggerRule.NONE_SKIPPED, retries=WHILE_HOSTS_ARE_SILENT, after_end="way_back")
def prepare_back_step(service: str, number: int) -> list[dict[str, Any]]:
    """Get a permit to take a manual step back, if it was begun, and prepare the question to the people who do it."""
    rollout, step = planned_back(service, number)
    await_end(rollout, step)
    return questions.prepare(service, rollout, step, "back")


@stage_task(trigger_rule=TriggerRule.NONE_SKIPPED, after_end="way_back")
def settle_back_step(number: int) -> StepReport:
    """End the way back of a manual step as it was answered."""
    rollout = permits.frozen_plan()
    if rollout is None:
        raise AirflowSkipException(NOTHING_CHANGED)
    return questions.settle(rollout, planned(rollout, number), "back")


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
    name = {"task_id": f"back_step_{number}", "task_display_name": title}
    first = name | ({} if back.question is None else prepares(f"back_step_{number}", title))
    taken: XComArg
    if back.elsewhere is not None:
        options: dict[str, Any] = {"execution_timeout": LONGEST, "retries": WHILE_HOSTS_ARE_SILENT}
        options["trigger_rule"] = TriggerRule.NONE_SKIPPED
        taken = DoElsewhere(service=service.name, number=number, **options, **first).output
    else:
        makes = take_back_step if back.manual is None else prepare_back_step
        taken = makes.override(**first)(service.name, number)
    chain(last, taken)
    if back.question is None:
        return taken
    over = ask_about(taken, back.question, ASK_WAY_BACK.format(number=number), title)
    settled: XComArg = settle_back_step.override(**name)(number)
    chain(taken, settled)
    chain(over, settled)
    return settled
