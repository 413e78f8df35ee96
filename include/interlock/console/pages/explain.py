"""Why a release does not move: what Airflow has of its run, and what the ledger has of it, put together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, status

from interlock.adapters.airflow.results import parsed_result
from interlock.domain.board.accounts import CLERK
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.findings import findings_about
from interlock.domain.ledger.kinds import FINDING, PLAN_MADE
from interlock.domain.ledger.reading import last_in
from interlock.domain.outcome.explain import Ahead, Explanation, QuestionSeen, Standing, TaskSeen, explain
from interlock.domain.outcome.progress import Progress, progress_of
from interlock.domain.permits.withdrawal import called_off
from interlock.domain.records import ReleasePlan
from interlock.locations import catalogue_folder

from .downloads import OpenLedger, or_refused
from .in_force import look
from .progress import names_known

ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")


def shown(dag_id: str, run_id: str, open_ledger: OpenLedger) -> dict[str, Any]:
    """Return why a release does not move, and what moves it."""
    return or_refused(lambda: explanation_of(dag_id, run_id, open_ledger).model_dump(mode="json"))


def explanation_of(dag_id: str, run_id: str, open_ledger: Callable[[], AbstractContextManager[Any]]) -> Explanation:
    """Explain why a release does not move.

    :raises ReleaseError: the ledger cannot be read.
    :raises HTTPException: 404: Airflow has no such run.
    """
    names, chain = names_known(), release_chain(dag_id, run_id)
    with open_ledger() as ledger:
        entries = ledger.entries(chain)
        about = findings_about(ledger.entries(INSTALLATION, kind=FINDING), chain)
        held = _held(ledger, dag_id)
    findings = (str(one.payload.get("what")) for one in (*entries, *about) if one.kind == FINDING)
    progress, plan = progress_of(entries, names), last_in(entries, PLAN_MADE, ReleasePlan)
    standing = _standing(dag_id, run_id, progress).model_copy(
        update={
            "called_off": ended.sentence if (ended := called_off(entries)) else "",
            "not_before": plan.not_before if plan else None,
            "refusals": (*held, *findings),
        }
    )
    return explain(standing, names)


def _held(ledger: Any, dag_id: str) -> tuple[str, ...]:
    """Return the stops and freezes in force; if they cannot be read, that: the rest is worth an answer."""
    try:
        found = look(catalogue_folder(), ledger, dag_id)
    except ReleaseError as error:
        return (f"Whether an emergency stop or a freeze is in force is not known: {error}",)
    return (*found.stops, *found.freezes)


def _standing(dag_id: str, run_id: str, progress: Progress) -> Standing:
    """Return what Airflow has of a run; HTTPException if it has no such run."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    this = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, f"Airflow has no run {run_id} of {dag_id}.")
        waits = select(XComModel.task_id, XComModel.value).where(
            XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == "waits_for"
        )
        why = {task_id: str(parsed_result(value)) for task_id, value in session.execute(waits)}
        tasks = session.scalars(select(TaskInstance).where(*this)).all()
        asked = select(HITLDetail, TaskInstance).join(TaskInstance, TaskInstance.id == HITLDetail.ti_id).where(*this)
        questions = [_question(detail, task, progress) for detail, task in session.execute(asked)]
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id))
        first = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.state == "running").order_by(DagRun.run_after)
        ahead = session.scalar(first.limit(1)) if str(run.state) == "queued" else None
        return Standing(
            now=datetime.now(UTC),
            state=str(run.state),
            paused=bool(paused),
            ahead=_ahead(ahead) if ahead is not None else None,
            tasks=tuple(_task(one, why) for one in tasks if one.state is not None and str(one.state) not in ENDED),
            questions=tuple(questions),
            progress=progress,
            quiet_since=max((one.end_date for one in tasks if one.end_date), default=run.start_date),
        )


def _ahead(run: Any) -> Ahead:
    version = (run.conf or {}).get("version") or ""
    return Ahead(run_id=run.run_id, version=str(version), requested_by=run.triggering_user_name or "")


def _task(one: Any, waits: dict[str, str]) -> TaskSeen:
    return TaskSeen(
        task_id=one.task_id,
        title=one.task_display_name or one.task_id,
        state=str(one.state),
        since=one.queued_dttm or one.scheduled_dttm,
        tries=one.try_number,
        max_tries=one.max_tries + 1,
        waits=waits.get(one.task_id, "") if str(one.state) in ("up_for_reschedule", "deferred") else "",
    )


def _question(detail: Any, task: Any, progress: Progress) -> QuestionSeen:
    """Return a question; the clerk closes ballots earlier than Airflow does, at the deadline of their decision."""
    stage, _, name = task.task_id.rpartition(".")
    decided_by = {
        "rollout" if one is progress.environments[-1] else f"quality.{one.environment}": one.approval.until
        for one in progress.environments
        if one.approval is not None
    }
    ballot = name in ("cast_ballot", "sign_off")
    return QuestionSeen(
        task_id=task.task_id,
        title=task.task_display_name or task.task_id,
        people=tuple(user["id"] for user in detail.assigned_users if user["id"] != CLERK),
        until=(decided_by.get(stage) if ballot else None) or task.trigger_timeout,
        answered=detail.responded_at is not None or str(task.state) in ENDED,
    )
