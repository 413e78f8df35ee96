"""A release as the demo shows it: a line for each stage, decisions, and times; computed from Airflow's REST API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from interlock.adapters.airflow.rest_api import Answer
from interlock.domain.canonical import Model
from interlock.domain.outcome.outcome import STAGE_TITLES, STAGES
from interlock.installation.accounts import CLERK

Row = Mapping[str, Any]

DONE = {"success", "failed", "skipped", "upstream_failed", "removed"}
AT_WORK = {
    "running",
    "awaiting_input",
    "deferred",
    "up_for_retry",
    "up_for_reschedule",
    "queued",
    "scheduled",
    "restarting",
}


class StageLine(Model):
    """One stage: how it stands, how long it took, what happens in it."""

    stage: str
    title: str
    state: str
    seconds: float | None
    steps: tuple[str, ...]
    decisions: tuple[str, ...]


def stage_lines(tasks: Sequence[Row], questions: Sequence[Answer], now: datetime) -> tuple[StageLine, ...]:
    """Return a line for each stage, in their order."""
    return tuple(stage_line(stage, tasks, questions, now) for stage in STAGES)


def stage_line(stage: str, tasks: Sequence[Row], questions: Sequence[Answer], now: datetime) -> StageLine:
    """Return the line of one stage."""
    own = [task for task in tasks if task["task_id"].partition(".")[0] == stage]
    state = stage_state([task["state"] for task in own])
    return StageLine(
        stage=stage,
        title=STAGE_TITLES.get(stage, stage),
        state=state,
        seconds=None if state == "skipped" else seconds_of(own, now if state == "running" else None),
        steps=tuple(dict.fromkeys(step_of(task) for task in own if task["state"] in AT_WORK and task["start_date"])),
        decisions=tuple(decision for question in questions if (decision := decision_in(question, stage))),
    )


def stage_state(states: Sequence[str | None]) -> str:
    """Return how a stage stands: waiting, running, success, failed or skipped."""
    if "failed" in states:
        return "failed"
    if states and all(state in DONE for state in states):
        return "success" if "success" in states else "skipped"
    begun = any(state in DONE | AT_WORK for state in states)
    return "running" if begun else "waiting"


def seconds_of(tasks: Iterable[Row], now: datetime | None) -> float | None:
    """Return the seconds from the first start to the last end; while something runs, to now."""
    spans = [(moment(task["start_date"]), moment(task["end_date"])) for task in tasks]
    starts = [start for start, _ in spans if start]
    ends = [end for start, end in spans if start and end]
    last = now or max(ends, default=None)
    return max(0.0, (last - min(starts)).total_seconds()) if starts and last else None


def step_of(task: Row) -> str:
    """Name the step that a task instance is, as people see it."""
    name = task.get("task_display_name") or task["task_id"]
    which = task.get("rendered_map_index")
    return f"{name}: {which}" if which else str(name)


def decision_in(question: Answer, stage: str) -> str:
    """Return who answered what to a question of a stage; nothing if it is open, or the board clerk closed it."""
    if question.task_id.partition(".")[0] != stage or not question.answered or question.user == CLERK:
        return ""
    comment = f" ({question.comment})" if question.comment else ""
    return f"{question.user or 'no answer in time'}: {question.choice}{comment}"


def scheduling_seconds(tasks: Sequence[Row], downstream: Mapping[str, Sequence[str]], asked: Iterable[str]) -> float:
    """Return the sum over all tasks of the time between the end of the last predecessor and the start.

    :param downstream: task: its direct successors.
    :param asked: the tasks that wait for people, which are left out.
    """
    ended: dict[str, datetime] = {}
    for task in tasks:
        if task["start_date"] and (end := moment(task["end_date"])):
            ended[task["task_id"]] = max(end, ended.get(task["task_id"], end))
    before: dict[str, list[datetime]] = {}
    for task_id, successors in downstream.items():
        for successor in successors:
            if task_id in ended:
                before.setdefault(successor, []).append(ended[task_id])
    waiting_for_people = set(asked)
    total = 0.0
    for task in tasks:
        start, ends = moment(task["start_date"]), before.get(task["task_id"])
        if start and ends and task["task_id"] not in waiting_for_people:
            total += max(0.0, (start - max(ends)).total_seconds())
    return total


def moment(text: str | None) -> datetime | None:
    """Read an instant of the API."""
    return datetime.fromisoformat(text) if text else None
