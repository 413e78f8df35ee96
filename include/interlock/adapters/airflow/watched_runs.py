"""What Airflow's record has of runs, read at once from a page of Interlock's plugin (``console/pages/watched.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field, ValidationError

from interlock.domain.canonical import Model
from interlock.domain.errors import TransientError
from interlock.domain.ledger.interventions import AuditRow, audit_row

from .rest_api import AirflowApi, Answer, read_answers, run_path

Question = tuple[str, str, str]
"""Dag, run and task."""


class WatchedTask(Model):
    """A task instance, the states in which its tries ended, and its result; none: it left none."""

    task_id: str
    map_index: int
    state: str | None
    tries: tuple[str | None, ...]
    result: Any = None


class WatchedRun(Model):
    """What Airflow's record has of a run at one moment; its state is none if Airflow has no such run."""

    state: str | None
    bundles: tuple[str, ...] = ()
    tasks: tuple[WatchedTask, ...] = ()
    answers: tuple[Answer, ...] = Field((), description="To its questions, in the order of task and map index")
    audit: tuple[AuditRow, ...] = ()


def watched_runs(api: AirflowApi, wanted: Mapping[tuple[str, str], datetime]) -> dict[tuple[str, str], WatchedRun]:
    """Read runs, their tasks and answers, and the audit log about their Dags.

    :param wanted: Dag and run, and from when on the audit log is read; at most fifty.
    :raises ReleaseError: a name has a special meaning in a URL.
    :raises TransientError: the answer is not one of Interlock's plugin.
    """
    for run in wanted:
        run_path(*run)  # refuses names that Airflow's routes cannot be called with: its answers are read there
    after = [at.isoformat() for at in wanted.values()]
    found = api.page("watched", run=["/".join(run) for run in wanted], after=after)
    try:
        return {run: _watched_run(api, one) for run, one in zip(wanted, found["runs"], strict=True)}
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        named = ", ".join("/".join(run) for run in wanted)
        raise TransientError(f"The record of {named} cannot be read: {error}"[:1000]) from error


def given_answers(api: AirflowApi, questions: Sequence[Question]) -> dict[Question, tuple[Answer, ...]]:
    """Return the answers to questions of runs, without the questions' words; at most fifty in a request.

    :raises ReleaseError: a name has a special meaning in a URL.
    :raises TransientError: the answer is not one of Interlock's plugin.
    """
    for dag_id, run_id, _ in questions:
        run_path(dag_id, run_id)
    found = api.page("answered", question=["/".join(one) for one in questions])
    try:
        return {one: read_answers(given) for one, given in zip(questions, found["answers"], strict=True)}
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise TransientError(f"The answers to {len(questions)} questions cannot be read: {error}"[:1000]) from error


def _watched_run(api: AirflowApi, found: dict[str, Any]) -> WatchedRun:
    run = found["run"] or {"state": None, "bundles": ()}
    return WatchedRun(
        **run,
        tasks=tuple(WatchedTask(**{**row, "result": api.followed(row["result"])}) for row in found["tasks"]),
        answers=read_answers(found["answers"]),
        audit=tuple(map(audit_row, found["audit"])),
    )
