"""The tasks of the steps before, between and after the waves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import XComArg, chain

from interlock.domain.board.questions import ASK_STEP
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.runbook_file import ManualStep, Step, wave_of
from interlock.domain.records import RolloutPlan, StepReport
from interlock.domain.runbook.progress import FAILED
from interlock.stages.approvals.people import ask
from interlock.stages.runtime.taskflow import WHILE_HOSTS_ARE_SILENT, stage_task

from . import questions
from .elsewhere import DoElsewhere
from .once import carry_out
from .planned import planned

LONGEST = timedelta(hours=3)
"""For a task that runs a command, which has a time limit of its own."""


@stage_task(execution_timeout=LONGEST, retries=WHILE_HOSTS_ARE_SILENT)
def run_step(service: str, number: int, rollout: RolloutPlan) -> StepReport:
    """Do a step of the runbook, once. Needs a permit of its own, for which everything is checked as for a wave.

    That it begins is recorded before, and how it ended after. A retry looks at both, and at what the place where it is
    done knows of it. If it is not known whether it was done, it is not done again: the release is backed out.
    """
    return carry_out(service, rollout, planned(rollout, number), "forward")


@stage_task()
def prepare_step(service: str, number: int, rollout: RolloutPlan) -> list[dict[str, Any]]:
    """Get a permit for a manual step, record that it begins, and prepare the question to the people who do it."""
    return questions.prepare(service, rollout, planned(rollout, number), "forward")


@stage_task()
def settle_step(number: int, rollout: RolloutPlan) -> StepReport:
    """End a manual step as it was answered. Without an answer in time, or without evidence, it has failed."""
    return questions.settle(rollout, planned(rollout, number), "forward")


def step_tasks(service: Service, rollout: XComArg, wave: int, last: XComArg) -> tuple[list[XComArg], XComArg]:
    """Make the tasks of the steps after a wave; 0: before the first one.

    :param last: the task before them.
    :returns: the tasks that change something, and the last task.
    """
    waves = len(service.environments["production"].waves)
    steps: list[XComArg] = []
    for number, step in enumerate(service.runbook, start=1):
        if wave_of(step.when, waves) == wave:
            made = _tasks_of(service, number, step, rollout, last)
            steps, last = [*steps, *made], made[-1]
    return steps, last


def _tasks_of(service: Service, number: int, step: Step, rollout: XComArg, last: XComArg) -> list[XComArg]:
    name = {"task_id": f"step_{number}", "task_display_name": step.title}
    first = name | ({} if step.do.question is None else prepares(f"step_{number}", step.title))
    done: XComArg
    if step.do.elsewhere is not None:
        options = {"execution_timeout": LONGEST, "retries": WHILE_HOSTS_ARE_SILENT}
        done = DoElsewhere(service=service.name, number=number, rollout=rollout, **options, **first).output
    else:
        makes = run_step if step.do.manual is None else prepare_step
        done = makes.override(**first)(service.name, number, rollout)
    chain(last, done)
    if step.do.question is None:
        return [done]
    over = ask_about(done, step.do.question, ASK_STEP.format(number=number), step.title)
    settled: XComArg = settle_step.override(**name)(number, rollout)
    chain(done, settled)
    chain(over, settled)
    return [done, settled]


def prepares(task_id: str, title: str) -> dict[str, str]:
    """Return the id and the title of the task before the question of another task."""
    return {"task_id": f"prepare_{task_id}", "task_display_name": f"{title}: prepare"}


def ask_about(prepared: XComArg, question: ManualStep, task_id: str, title: str) -> EmptyOperator:
    """Ask the people who answer for a step; return the task after the question."""
    return ask(
        prepared,
        task_id=task_id.partition(".")[2],
        title=f"{title}: ask who does it",
        default=FAILED,
        within=question.within,
        doc_md="Asks the people who answer for this step of the runbook. The answer is recorded in the ledger.",
    )
