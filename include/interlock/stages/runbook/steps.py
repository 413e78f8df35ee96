"""The tasks of the steps before, between and after the waves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import XComArg, chain

from interlock.domain.board.questions import ASK_STEP
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.runbook_file import Step, wave_of
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PlannedStep, RolloutPlan, StepReport
from interlock.domain.runbook.progress import FAILED
from interlock.stages.approvals.people import ask
from interlock.stages.runtime.taskflow import WHILE_HOSTS_ARE_SILENT, stage_task

from . import questions
from .once import carry_out

LONGEST = timedelta(hours=3)
"""For a task that runs a command, which has a time limit of its own."""


def planned(rollout: RolloutPlan, number: int) -> PlannedStep:
    """Return a step of a frozen plan.

    :raises PolicyViolation: the plan does not have it, because the file of the service changed.
    """
    found = next((step for step in rollout.steps if step.number == number), None)
    if found is None:
        raise PolicyViolation(
            f"The frozen plan has no step {number}.",
            rule="only the frozen plan is carried out",
            who="the person who changed the file of the service",
            next_step="trigger the release again",
        )
    return found


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
            last = _tasks_of(service, number, step, rollout, last)
            steps.append(last)
    return steps, last


def _tasks_of(service: Service, number: int, step: Step, rollout: XComArg, last: XComArg) -> XComArg:
    if step.do.manual is None:
        made = run_step.override(task_id=f"step_{number}", task_display_name=step.title)
        done: XComArg = made(service.name, number, rollout)
        chain(last, done)
        return done
    prepared = prepare_step.override(task_id=f"prepare_step_{number}", task_display_name=f"{step.title}: prepare")(
        service.name, number, rollout
    )
    over = ask(
        prepared,
        task_id=ASK_STEP.format(number=number).partition(".")[2],
        title=f"{step.title}: ask who does it",
        default=FAILED,
        within=step.do.manual.within,
        doc_md="Asks the people who do this step of the runbook. The answer is recorded in the ledger.",
    )
    settled: XComArg = settle_step.override(task_id=f"step_{number}", task_display_name=step.title)(number, rollout)
    chain(last, prepared, settled)
    chain(over, settled)
    return settled
