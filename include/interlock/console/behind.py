"""What is behind a request, as Airflow knows it: who sends it, and which Dags it names by a number."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from .asked import Scope

_NUMBER = TypeAdapter(int)  # as Airflow reads it: "7" and 7.0 are the asset 7, too


async def user_of(scope: Scope) -> str:
    """Return the name of who asks, as Airflow's own routes find it out; HTTPException if nobody is known."""
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from fastapi import Request

    request = Request(scope)
    user = await get_user(request, None, await bearer_scheme(request))
    return str(user.get_name())


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


def _number(value: Any) -> int | None:
    try:
        return _NUMBER.validate_python(value)
    except ValidationError:
        return None
