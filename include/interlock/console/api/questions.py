"""The open questions that are for the reader: ballots, acceptances, sign-offs, acknowledgements, waivers, guidance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Query
from pydantic import Field

from interlock.console.control.own_dags import home
from interlock.domain.board.questions import title_of
from interlock.domain.canonical import Model
from interlock.domain.dag_names import Place, file_of, stranger
from interlock.domain.paths import question_page, run_page

MAX_OPEN = 20_000
"""So many open questions of all people are looked through at most."""


class Question(Model):
    """A question that the reader can answer."""

    subject: str
    kind: str = Field(description="What is asked, in general: Shall this release be rolled out?")
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = Field(description="-1: the task asks once")
    asked_at: datetime | None
    until: datetime | None = Field(description="The end of the time for an answer; null: it has none")
    path: str = Field(description="Its page, below Airflow's address")


class QuestionCollection(Model):
    """The open questions that are for the reader; what ends first is first."""

    questions: tuple[Question, ...]
    total_entries: int
    at: datetime = Field(description="The time of this answer")


def questions(
    user: GetUserDep,
    dag_id: Annotated[str, Query(max_length=250, description="Of this Dag only")] = "",
    run_id: Annotated[str, Query(max_length=250, description="Of runs of this name only")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> QuestionCollection:
    """Return the open questions that are for the reader, of the Dags that they may read."""
    every = questions_for(user, readable_dags(user))
    found = [one for one in every if dag_id in ("", one.dag_id) and run_id in ("", one.run_id)]
    return QuestionCollection(
        questions=tuple(found[offset : offset + limit]), total_entries=len(found), at=datetime.now(UTC)
    )


def readable_dags(user: Any) -> frozenset[str]:
    """Return the Dags that a user may read."""
    return frozenset(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def questions_for(user: Any, readable: Collection[str]) -> list[Question]:
    """Return the open questions for a user; what ends first is first, and what has no end is last."""
    mine = [one for one, people in _open_questions() if one.dag_id in readable and is_for(user, people)]
    never = datetime.max.replace(tzinfo=UTC)
    return sorted(mine, key=lambda one: (one.until or never, one.asked_at or never, one.path))


def is_for(user: Any, people: Iterable[str]) -> bool:
    """Tell whether a question is for a user: they are named by user name, or by FAB's number of it."""
    own = {str(user.get_name()), str(user.get_id())}
    number, names = {one for one in own if one.isdigit()}, {one for one in own if not one.isdigit()}
    return any(one in (number if one.isdigit() else names) for one in people)


def _open_questions() -> Iterator[tuple[Question, tuple[str, ...]]]:
    """Yield each open question of Interlock's Dags, and who may answer it."""
    from airflow.models.dag import DagModel
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select
    from sqlalchemy.orm import load_only

    task, asked = TaskInstance, HITLDetail
    wanted = (
        select(
            asked,
            task.dag_id,
            task.run_id,
            task.task_id,
            task.map_index,
            task.trigger_timeout,
            DagModel.bundle_name,
            DagModel.relative_fileloc,
        )
        .join(task, task.id == asked.ti_id)
        .join(DagModel, DagModel.dag_id == task.dag_id)
        .where(asked.responded_at.is_(None), task.state == TaskInstanceState.AWAITING_INPUT)
        .options(load_only(asked.subject, asked.assignees, asked.created_at))
        .limit(MAX_OPEN)
    )
    ours = home()
    with create_session() as session:
        for one, dag_id, run_id, task_id, map_index, until, bundle, file in session.execute(wanted):
            if file_of(dag_id) is None or stranger(dag_id, Place(bundle=bundle, file=file), ours):
                continue
            question = Question(
                subject=one.subject,
                kind=title_of(task_id),
                dag_id=dag_id,
                run_id=run_id,
                task_id=task_id,
                map_index=map_index,
                asked_at=one.created_at,
                until=until,
                path=_path(dag_id, run_id, task_id, map_index),
            )
            yield question, tuple(str(each["id"]) for each in one.assigned_users)


def _path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    if map_index >= 0:
        return question_page(dag_id, run_id, task_id, map_index)
    return f"{run_page(dag_id, run_id)}/tasks/{quote(task_id, safe='')}/required_actions"
