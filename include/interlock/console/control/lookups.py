"""Look-ups in Airflow: the user of a request, the Dags that it names by a number, the runs that have not ended."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from interlock.adapters.airflow.connections import ARTIFACTS, stored_connection
from interlock.adapters.source.git import has_ref, tags_of
from interlock.domain.canonical import Sha256
from interlock.domain.catalogue import Service
from interlock.domain.dag_names import Place
from interlock.domain.ledger.witness import question_digest

from .current_request import CurrentRequest, Scope

if TYPE_CHECKING:
    from interlock.adapters.artifacts.store import ArtifactStore

_NUMBER = TypeAdapter(int)  # as Airflow reads it: "7" and 7.0 are the asset 7, too


async def user_of(scope: Scope) -> str:
    """Return the name of the requesting user, as Airflow's own routes do; HTTPException if there is no such user."""
    return str((await _requesting(scope)).get_name())


async def roles_of(scope: Scope) -> frozenset[str] | None:
    """Return the roles of the requesting user, as :func:`user_of`; None if the auth manager knows no roles."""
    roles = getattr(await _requesting(scope), "roles", None)
    return None if roles is None else frozenset(str(getattr(role, "name", role)) for role in roles)


async def _requesting(scope: Scope) -> Any:
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from fastapi import Request

    request = Request(scope)
    return await get_user(request, None, await bearer_scheme(request))


async def name_of(scope: Scope, user: Callable[[Scope], Awaitable[str]] = user_of) -> str:
    """Return the name of the requesting user; empty if there is no such user: Airflow refuses the request next."""
    from fastapi import HTTPException

    try:
        return await user(scope)
    except HTTPException:
        return ""


def dags_of_asset(asset_id: Any) -> set[str]:
    """Return the Dags that an asset comes from, and those that wait for it; none for what is no asset's number."""
    from airflow.models.asset import DagScheduleAssetReference, TaskOutletAssetReference
    from airflow.utils.session import create_session
    from sqlalchemy import select

    number = _number(asset_id)
    if number is None:
        return set()
    tables = (TaskOutletAssetReference, DagScheduleAssetReference)
    with create_session() as session:
        found = [session.scalars(select(one.dag_id).where(one.asset_id == number)).all() for one in tables]
    return {dag_id for dag_ids in found for dag_id in dag_ids}


def dags_of_backfill(backfill_id: Any) -> set[str]:
    """Return the Dag of a backfill; none if there is no such backfill."""
    from airflow.models.backfill import Backfill
    from airflow.utils.session import create_session
    from sqlalchemy import select

    number = _number(backfill_id)
    if number is None:
        return set()
    with create_session() as session:
        return set(session.scalars(select(Backfill.dag_id).where(Backfill.id == number)))


def dags_of_named_asset(by: str, value: str) -> set[str]:
    """Return the Dags of the assets of a name, or of a URI.

    :param by: ``name`` or ``uri``.
    """
    from airflow.models.asset import AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    column = AssetModel.name if by == "name" else AssetModel.uri
    with create_session() as session:
        numbers = session.scalars(select(AssetModel.id).where(column == value)).all()
    return {dag_id for number in numbers for dag_id in dags_of_asset(number)}


@dataclass(frozen=True, slots=True)
class RequestSource:
    """The task that sends a request, or that a request names."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None


def source_of(scope: Scope) -> RequestSource | None:
    """Return the task that a token of the execution API is for; none if there is no such task, or not any more.

    The token is not verified here: the request is passed on to Airflow, which verifies it.
    """
    import jwt
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from starlette.requests import Request

    _, _, token = Request(scope).headers.get("authorization", "").partition(" ")
    try:
        number = uuid.UUID(str(jwt.decode(token.strip(), options={"verify_signature": False}).get("sub")))
    except (jwt.InvalidTokenError, ValueError):
        return None
    one = TaskInstance
    with create_session() as session:
        row = session.execute(
            select(one.dag_id, one.run_id, one.task_id, one.map_index).where(one.id == number)
        ).first()
    return RequestSource(*row) if row else None


def places_of(dag_id: str) -> tuple[Place, ...]:
    """Return where Airflow has a Dag from, also a Dag that is gone; several, if case alone tells them apart.

    :param dag_id: in any case of letters.
    """
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    where = func.lower(DagModel.dag_id) == dag_id.lower()
    with create_session() as session:
        rows = session.execute(select(DagModel.bundle_name, DagModel.relative_fileloc).where(where)).all()
    return tuple(Place(bundle=bundle, file=file) for bundle, file in rows)


def configured_store() -> ArtifactStore:
    """Open the artifact store of Airflow's connection, from inside the API server."""
    from interlock.adapters.artifacts.store import open_store  # not at the top: brings boto3

    return open_store(stored_connection(ARTIFACTS))


def result_of(dag_id: str, run_id: str, task_id: str, map_index: int, key: str) -> Any:
    """Return what a task left under a key, as Airflow's database has it; None: it left nothing."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    one = XComModel
    named = (one.dag_id == dag_id, one.run_id == run_id, one.task_id == task_id, one.map_index == map_index)
    with create_session() as session:
        return session.scalar(select(one.value).where(*named, one.key == key))


def question_of(asked: CurrentRequest) -> Sha256 | None:
    """Return the digest of the question that an answer is about, as Airflow has it; None if there is none."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalar(select(HITLDetail).join(TaskInstance).where(*_is_named(asked)))
        if found is None:
            return None
        return question_digest(found.subject, found.body or "", [user["id"] for user in found.assigned_users])


def deadline_of(asked: CurrentRequest) -> datetime | None:
    """Return the end of the time for an answer to a question; None: it has no end, or there is no such question."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found: datetime | None = session.scalar(select(TaskInstance.trigger_timeout).where(*_is_named(asked)))
    return found


def asked_at_of(asked: CurrentRequest) -> datetime | None:
    """Return when the question was asked that an answer is about; None: there is no such question."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found: datetime | None = session.scalar(
            select(HITLDetail.created_at).join(TaskInstance).where(*_is_named(asked))
        )
    return found


def paused_at_of(asked: CurrentRequest) -> datetime | None:
    """Return since when the task of a question waits for its answer; None: it does not wait."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    waits = TaskInstance.state == TaskInstanceState.AWAITING_INPUT
    with create_session() as session:
        found: datetime | None = session.scalar(select(TaskInstance.updated_at).where(*_is_named(asked), waits))
    return found


@dataclass(frozen=True, slots=True)
class GivenBefore:
    """The answer that a question has."""

    by: str
    at: datetime
    choice: str


def given_before(asked: CurrentRequest) -> GivenBefore | None:
    """Return the answer that a question has; None: it has none."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalar(select(HITLDetail).join(TaskInstance).where(*_is_named(asked)))
        if found is None or found.responded_at is None:
            return None
        by = (found.responded_by or {}).get("name") or "nobody"
        return GivenBefore(by, found.responded_at, ", ".join(found.chosen_options or ()))


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question of a run that is not answered.

    :param assigned: the people who may answer it: user name, or FAB's number of it, and name.
    """

    subject: str
    task_id: str
    map_index: int
    assigned: Mapping[str, str]


def open_questions(dag_id: str, run_id: str) -> tuple[OpenQuestion, ...]:
    """Return the open questions of a run, in the order of task and map index."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    one = TaskInstance
    wanted = (
        select(HITLDetail, one.task_id, one.map_index)
        .join(one, one.id == HITLDetail.ti_id)
        .where(one.dag_id == dag_id, one.run_id == run_id, HITLDetail.responded_at.is_(None))
        .where(one.state == TaskInstanceState.AWAITING_INPUT)
        .order_by(one.task_id, one.map_index)
    )
    with create_session() as session:
        return tuple(
            OpenQuestion(asked.subject, task_id, map_index, {user["id"]: user["name"] for user in asked.assigned_users})
            for asked, task_id, map_index in session.execute(wanted)
        )


def _is_named(asked: CurrentRequest) -> tuple[Any, ...]:
    from airflow.models.taskinstance import TaskInstance

    return (
        TaskInstance.dag_id == asked.names["dag_id"],
        TaskInstance.run_id == asked.names["dag_run_id"],
        TaskInstance.task_id == asked.names["task_id"],
        TaskInstance.map_index == int(asked.names["map_index"]),
    )


def _number(value: Any) -> int | None:
    try:
        return _NUMBER.validate_python(value)
    except ValidationError:
        return None


def unpaused(dag_ids: Collection[str]) -> frozenset[str]:
    """Return which of some Dags make runs; a Dag that is paused, or that Airflow has not read yet, makes none."""
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


def tags_of_service(service: Service) -> tuple[str, ...]:
    """Return the tags of the repository of a service, the highest version first."""
    source = stored_connection(service.source.connection)
    return tags_of(str(source.host), login=source.login or None, password=source.password or None)


def knows_ref(service: Service, ref: str) -> bool:
    """Tell whether the repository of a service has a tag or a branch; what can be a commit id is not looked for."""
    source = stored_connection(service.source.connection)
    return has_ref(str(source.host), ref, login=source.login or None, password=source.password or None)
