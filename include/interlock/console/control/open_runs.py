"""What Airflow has under way, by its own tables: which Dags make runs, and which runs have not ended."""

from __future__ import annotations

from collections.abc import Collection


def unpaused(dag_ids: Collection[str]) -> frozenset[str]:
    """Return which of some Dags make runs; one that Airflow has not read yet makes none, as one that is paused."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    makes_runs = DagModel.is_paused.is_(False) & DagModel.is_stale.is_(False)
    with create_session() as session:
        return frozenset(session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(dag_ids), makes_runs)))


def runs_under_way() -> frozenset[str]:
    """Return Dag and run of each run that has not ended."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from sqlalchemy import select

    unfinished = select(DagRun.dag_id, DagRun.run_id).where(DagRun.state.in_([DagRunState.QUEUED, DagRunState.RUNNING]))
    with create_session() as session:
        return frozenset(f"{dag_id}/{run_id}" for dag_id, run_id in session.execute(unfinished))
