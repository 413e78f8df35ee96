"""What Airflow's record has of some runs, in one answer: for the Dag that compares them with the ledger, and for waits.

Airflow's API has a route for each result and each try of a task: for a release, thirty requests. The values here are
those of its routes, read in the same way from the same database.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, status

MAX_ROWS = 20_000
"""Rows of the audit log about a Dag since a release began; with more of them, the release is not compared."""
MAX_RUNS = 50
ALL_OF_A_RUN = tuple(DagAccessEntity[name] for name in ("RUN", "TASK_LOGS", "HITL_DETAIL", "XCOM"))
"""What holds the logs, the answers and the records of a run."""
SHOWN = (*ALL_OF_A_RUN, DagAccessEntity.AUDIT_LOG)
"""What a reader has to be allowed to read of each Dag."""


def shown(
    user: GetUserDep,
    run: Annotated[list[str], Query(max_length=MAX_RUNS)],
    after: Annotated[list[datetime], Query(max_length=MAX_RUNS)],
) -> dict[str, Any]:
    """Return runs, their tasks with all tries, results and answers, and the rows of the audit log about their Dags.

    :param run: Dag and run, ``release_bike_shop/1.4.0``.
    :param after: for each run, from when on the audit log is read.
    """
    from airflow.utils.session import create_session

    if len(run) != len(after):
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, "Each run needs an instant, after.")
    wanted = [(*one.partition("/")[::2], since) for one, since in zip(run, after, strict=True)]
    refuse_reading({dag_id for dag_id, _, _ in wanted}, user)
    with create_session() as session:
        return {"runs": [_shown(session, *one) for one in wanted]}


def answered(user: GetUserDep, question: Annotated[list[str], Query(max_length=MAX_RUNS)]) -> dict[str, Any]:
    """Return the answers to questions of runs without their words, for what waits for them; one request for many.

    :param question: Dag, run and task, ``release_bike_shop/1.4.0/rollout.cast_ballot``.
    """
    from airflow.utils.session import create_session

    wanted = [_place(one) for one in question]
    refuse_reading({dag_id for dag_id, _, _ in wanted}, user, (DagAccessEntity.HITL_DETAIL,))
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {one: [] for one in wanted}
    with create_session() as session:
        for detail in session.scalars(_given(wanted)):
            task = detail.task_instance
            answer = {**_answer(detail), "subject": "", "body": ""}
            found[task.dag_id, task.run_id, task.task_id].append(answer)
    return {"answers": [found[one] for one in wanted]}


def _place(question: str) -> tuple[str, str, str]:
    dag_id, _, rest = question.partition("/")
    run_id, _, task_id = rest.rpartition("/")
    return dag_id, run_id, task_id


def refuse_reading(dags: Collection[str], user: Any, entities: Collection[DagAccessEntity] = SHOWN) -> None:
    """Refuse a reader who may not read something of one of the Dags."""
    from airflow.models.dag import DagModel

    teams = DagModel.get_dag_id_to_team_name_mapping(list(dags))
    for dag_id in dags:
        details = DagDetails(id=dag_id, team_name=teams.get(dag_id))
        asked = {"method": "GET", "details": details, "user": user}
        if not all(get_auth_manager().is_authorized_dag(access_entity=entity, **asked) for entity in entities):
            raise HTTPException(status.HTTP_403_FORBIDDEN, "Forbidden")


def _shown(session: Any, dag_id: str, run_id: str, after: datetime) -> dict[str, Any]:
    return {
        "run": _run(session, dag_id, run_id),
        "tasks": _tasks(session, dag_id, run_id),
        "answers": _answers(session, dag_id, run_id),  # after the tasks: it is there before its task ends
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


def _answers(session: Any, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Return the questions that are answered, as Airflow's API describes them."""
    return [_answer(one) for one in session.scalars(_given([(dag_id, run_id)]))]


def _given(wanted: Sequence[tuple[str, ...]]) -> Any:
    """Return the query for the answers in runs, or to the questions of some of their tasks.

    :param wanted: Dag and run, and the task of each if it matters.
    """
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select, tuple_
    from sqlalchemy.orm import contains_eager

    columns = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)[: len(wanted[0])]
    return (
        select(HITLDetail)
        .join(HITLDetail.task_instance)
        .options(contains_eager(HITLDetail.task_instance))
        .where(tuple_(*columns).in_(wanted), HITLDetail.responded_at.is_not(None))
    )


def _answer(detail: Any) -> dict[str, Any]:
    task = detail.task_instance
    as_it_is = ("subject", "body", "options", "assigned_users", "created_at")
    answer = ("response_received", "responded_by_user", "responded_at", "chosen_options", "params_input")
    return {
        "task_instance": {"task_id": task.task_id, "map_index": task.map_index, "state": task.state},
        **{name: getattr(detail, name) for name in (*as_it_is, *answer)},
    }


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
