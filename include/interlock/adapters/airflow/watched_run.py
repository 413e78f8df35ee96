"""What Airflow's record has of a run, read at once from a page of Interlock's plugin (``console/pages/watched.py``)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from interlock.domain.canonical import Model
from interlock.domain.errors import TransientError
from interlock.domain.ledger.interventions import AuditRow, audit_row

from .rest_api import AirflowApi, run_path


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
    audit: tuple[AuditRow, ...] = ()


def watched_run(api: AirflowApi, dag_id: str, run_id: str, after: datetime) -> WatchedRun:
    """Read a run, its tasks, and the audit log about its Dag.

    :param after: the audit log is read from then on.
    :raises ReleaseError: a name has a special meaning in a URL.
    :raises TransientError: the answer is not one of Interlock's plugin.
    """
    run_path(dag_id, run_id)  # refuses names that Airflow's routes cannot be called with: its answers are read there
    found = api.page("watched", dag_id=dag_id, run_id=run_id, after=after.isoformat())
    try:
        run = found["run"] or {"state": None, "bundles": ()}
        return WatchedRun(
            **run,
            tasks=tuple(WatchedTask(**{**row, "result": api.followed(row["result"])}) for row in found["tasks"]),
            audit=tuple(map(audit_row, found["audit"])),
        )
    except (ValidationError, KeyError, TypeError) as error:
        raise TransientError(f"The record of {dag_id}, run {run_id}, cannot be read: {error}"[:1000]) from error
