"""The releases and rollbacks under way, as Airflow has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any

from interlock.console.control.own_dags import home
from interlock.domain.dag_names import RELEASES, ROLLBACKS, Place, is_rollback, stranger
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import PLAN_MADE
from interlock.domain.overview.board import Flight, Seen, flight_of

MAX_FLIGHTS = 2000
"""So many runs are shown as under way at most; each of them is a row in Airflow's database."""


def flights_under_way() -> dict[str, list[Flight]]:
    """Return the releases and rollbacks that have not ended, by Dag, the first one first."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from sqlalchemy import and_, or_, select

    run, task = DagRun, TaskInstance
    ours = or_(*(run.dag_id.startswith(beginning, autoescape=True) for beginning in (RELEASES, ROLLBACKS)))
    unfinished = and_(run.state.in_([DagRunState.QUEUED, DagRunState.RUNNING]), ours)
    runs = (
        select(run, DagModel.is_paused, DagModel.bundle_name, DagModel.relative_fileloc)
        .join(DagModel, DagModel.dag_id == run.dag_id)
        .where(unfinished)
        .order_by(run.run_after, run.run_id)
        .limit(MAX_FLIGHTS)
    )
    tasks = (
        select(task.dag_id, task.run_id, task.task_id, task.state)
        .join(run, and_(run.dag_id == task.dag_id, run.run_id == task.run_id))
        .where(unfinished, task.state.in_(_GOING_ON))
    )
    with create_session() as session:
        seen: dict[tuple[str, str], list[Seen]] = defaultdict(list)
        for dag_id, run_id, task_id, state in session.execute(tasks):
            seen[dag_id, run_id].append(Seen(task_id=task_id, state=str(state)))
        found: dict[str, list[Flight]] = defaultdict(list)
        ours_are = home()
        for one, paused, bundle, file in session.execute(runs):
            if stranger(one.dag_id, Place(bundle=bundle, file=file), ours_are):
                continue  # another team's Dag of this name
            found[one.dag_id].append(_flight(one, bool(paused), seen[one.dag_id, one.run_id]))
    return found


_GOING_ON = (
    "scheduled",
    "queued",
    "running",
    "restarting",
    "deferred",
    "awaiting_input",
    "up_for_retry",
    "up_for_reschedule",
)


def _flight(run: Any, paused: bool, tasks: list[Seen]) -> Flight:
    return flight_of(
        dag_id=run.dag_id,
        run_id=run.run_id,
        state=str(run.state),
        version=str((run.conf or {}).get("version") or "")[:100],
        requested_by=run.triggering_user_name or "",
        since=run.start_date or run.queued_at,
        paused=paused,
        tasks=tasks,
        rollback=is_rollback(run.dag_id),
    )


def service_of_flight(one: Flight) -> str:
    """Return the name of the service that a release or a rollback under way is of."""
    return one.dag_id.removeprefix(ROLLBACKS if one.rollback else RELEASES).replace("_", "-")


def planned_starts(ledger: Any, runs: Collection[tuple[str, str]]) -> dict[tuple[str, str], datetime]:
    """Return the times before which releases are not to start, by the plans in the ledger; others have none.

    :param runs: Dag and run of each release; the first 2,000 are asked.
    """
    chains = {release_chain(*run): run for run in [*runs][:MAX_FLIGHTS]}
    found: dict[tuple[str, str], datetime] = {}
    for entry in ledger.among([*chains], (PLAN_MADE,)) if chains else ():
        if start := entry.payload.get("not_before"):
            found[chains[entry.chain]] = datetime.fromisoformat(str(start))
    return found
