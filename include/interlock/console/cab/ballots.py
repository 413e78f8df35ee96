"""The ballots of boards as Airflow has them, of the runs that wait for votes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from interlock.console.control.own_dags import home
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.forms import COMMENT, CONDITIONS
from interlock.domain.cab.agenda import ASKING_BOARDS, BallotSeen
from interlock.domain.dag_names import Place, file_of, stranger
from interlock.domain.records import Vote

MAX_RUNS = 200
"""So many runs are on all agendas together at most: each is read from the ledger."""
Run = tuple[str, str]


def ballots_of_boards(readable: Collection[str], also: Collection[Run]) -> dict[Run, list[BallotSeen]]:
    """Return the ballots of each run with a ballot that is open, in the order of their seats.

    :param readable: the Dags that the reader may read; those of others are left out.
    :param also: runs whose ballots are returned although all of them are closed.
    """
    from airflow.models.dag import DagModel
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select, tuple_
    from sqlalchemy.orm import load_only

    task, asked = TaskInstance, HITLDetail
    joined = select(task.dag_id, task.run_id).join(asked, task.id == asked.ti_id)
    waiting = (
        joined.where(
            task.task_id.in_(ASKING_BOARDS),
            asked.responded_at.is_(None),
            task.state == TaskInstanceState.AWAITING_INPUT,
        )
        .distinct()
        .limit(MAX_RUNS)
    )
    found: dict[Run, list[BallotSeen]] = defaultdict(list)
    with create_session() as session:
        runs = {(dag_id, run_id) for dag_id, run_id in session.execute(waiting)} | {*also}
        runs = {one for one in runs if one[0] in readable and file_of(one[0]) is not None}
        if not runs:
            return {}
        wanted = (
            select(asked, task, DagModel.bundle_name, DagModel.relative_fileloc)
            .join(task, task.id == asked.ti_id)
            .join(DagModel, DagModel.dag_id == task.dag_id)
            .where(tuple_(task.dag_id, task.run_id).in_(runs), task.task_id.in_(ASKING_BOARDS))
            .order_by(task.dag_id, task.run_id, task.task_id, task.map_index)
            .options(
                load_only(
                    asked.assignees,
                    asked.responded_at,
                    asked.responded_by,
                    asked.chosen_options,
                    asked.params_input,
                )
            )
        )
        ours = home()
        for detail, one, bundle, file in session.execute(wanted):
            if not stranger(one.dag_id, Place(bundle=bundle, file=file), ours):
                is_open = detail.responded_at is None and one.state == TaskInstanceState.AWAITING_INPUT
                found[one.dag_id, one.run_id].append(_seen(detail, one, is_open=is_open))
    return dict(found)


def _seen(detail: Any, task: Any, *, is_open: bool) -> BallotSeen:
    people = tuple(str(each["id"]) for each in detail.assigned_users)
    return BallotSeen(
        task_id=task.task_id,
        map_index=task.map_index,
        people=tuple(one for one in people if one != CLERK),
        open=is_open,
        vote=_vote(detail, people),
    )


def _vote(detail: Any, people: tuple[str, ...]) -> Vote | None:
    """Return the vote on a ballot; None: it is open, or the clerk closed it."""
    by = str((detail.responded_by or {}).get("name") or "")
    if detail.responded_at is None or by in ("", CLERK):
        return None
    words = detail.params_input or {}
    return Vote(
        user=by,
        assigned=by if by in people else next(iter(people), "nobody"),
        choice=str(next(iter(detail.chosen_options or ()), "")),
        comment=str(words.get(COMMENT) or ""),
        conditions=str(words.get(CONDITIONS) or ""),
        at=detail.responded_at,
    )
