"""What Airflow's record has of one run, in one answer, for the Dag that compares it with the ledger.

Airflow's API has a route for each result and each try of a task: for a release, thirty requests. The values here are
those of its routes, read in the same way from the same database.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import HTTPException, status

MAX_ROWS = 20_000
"""Rows of the audit log about a Dag since a release began; with more of them, the release is not compared."""


def shown(dag_id: str, run_id: str, after: datetime) -> dict[str, Any]:
    """Return the run, its tasks with all their tries and results, and the rows of the audit log about its Dag.

    :param after: the audit log is read from then on.
    """
    from airflow.utils.session import create_session

    with create_session() as session:
        return {
            "run": _run(session, dag_id, run_id),
            "tasks": _tasks(session, dag_id, run_id),
            "audit": _audit(session, dag_id, after),
        }


def _run(session: Any, dag_id: str, run_id: str) -> dict[str, Any] | None:
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        return None
    return {"state": str(run.state), "bundles": [one.bundle_name for one in run.dag_versions if one.bundle_name]}


def _tasks(session: Any, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Return each task instance, with the states of its tries and its result as Airflow's database has it."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    one, before, left = TaskInstance, TaskInstanceHistory, XComModel
    now = session.execute(
        select(one.task_id, one.map_index, one.try_number, one.state).where(one.dag_id == dag_id, one.run_id == run_id)
    ).all()
    earlier = session.execute(
        select(before.task_id, before.map_index, before.try_number, before.state).where(
            before.dag_id == dag_id, before.run_id == run_id
        )
    ).all()
    results = session.execute(
        select(left.task_id, left.map_index, left.value).where(
            left.dag_id == dag_id, left.run_id == run_id, left.key == "return_value"
        )
    ).all()
    tries: dict[tuple[str, int], dict[int, str | None]] = {}
    for task_id, map_index, number, state in earlier:
        tries.setdefault((task_id, map_index), {})[number] = state
    for task_id, map_index, number, state in now:
        if state != "up_for_retry":  # Airflow has the try that failed in its history already
            tries.setdefault((task_id, map_index), {})[number] = state
    values = {(task_id, map_index): value for task_id, map_index, value in results}
    return [
        {
            "task_id": task_id,
            "map_index": map_index,
            "state": state,
            "tries": [tried for _, tried in sorted(tries.get((task_id, map_index), {}).items())],
            "result": values.get((task_id, map_index)),
        }
        for task_id, map_index, _, state in sorted(now, key=lambda row: (row[0], row[1]))
    ]


def _audit(session: Any, dag_id: str, after: datetime) -> list[dict[str, Any]]:
    """Return rows of the audit log as Airflow's API names their columns, the oldest first."""
    from airflow.models.log import Log
    from sqlalchemy import select

    rows = session.execute(
        select(Log.id, Log.dttm, Log.event, Log.owner, Log.dag_id, Log.run_id, Log.task_id, Log.extra)
        .where(Log.dag_id == dag_id, Log.dttm > after)
        .order_by(Log.id)
        .limit(MAX_ROWS + 1)
    ).all()
    if len(rows) > MAX_ROWS:
        why = f"The audit log has more than {MAX_ROWS} rows about {dag_id} since {after.isoformat()}."
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, why)
    names = ("event_log_id", "when", "event", "owner", "dag_id", "run_id", "task_id", "extra")
    return [dict(zip(names, row, strict=True)) for row in rows]
