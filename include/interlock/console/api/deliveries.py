"""What other systems were told of releases, and what they refused: the outbox, for those who may read the releases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Query, Request
from pydantic import Field

from interlock.adapters.ledger.deliveries import Outbox
from interlock.domain.canonical import Model
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.runs import run_of
from interlock.domain.outbox.delivery import Delivery

from .questions import readable_dags

DeliveryState = Literal["told", "waiting", "failing", "refused"]


class DeliveryRow(Model):
    """A release, and a system that is told of it."""

    system: str = Field(description="Its name in systems.yaml")
    dag_id: str
    run_id: str
    state: DeliveryState = Field(description="refused: people have to correct something; failing: it did not answer")
    number: str = Field(description="Of the record there; empty: it was not made yet")
    url: str = Field(description="Its page there; empty: not known")
    reason: str = Field(description="Of the last failure; empty: everything was told")
    attempts: int = Field(description="Without success, since the last success")
    next_at: datetime | None = Field(description="When it is tried again; null: there is nothing to tell")


class DeliveryCollection(Model):
    """What other systems were told; what was refused or failed is first."""

    deliveries: tuple[DeliveryRow, ...]
    total_entries: int = Field(description="On all pages")
    at: datetime = Field(description="The time of this answer")


def deliveries(
    request: Request,
    user: GetUserDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    state: Annotated[list[DeliveryState], Query(max_length=4)] = [],  # noqa: B006 (FastAPI copies it)
    dag_id: Annotated[str, Query(max_length=250, description="With dag_run_id: of this release only")] = "",
    dag_run_id: Annotated[str, Query(max_length=600)] = "",
) -> DeliveryCollection:
    """Return what other systems were told of the releases that the user may read, and what they refused."""
    chain = release_chain(dag_id, dag_run_id) if dag_id else ""
    with request.app.state.open_ledger() as ledger:
        found, total = Outbox(ledger).page(readable_dags(user), states=state, chain=chain, limit=limit, offset=offset)
    rows = tuple(row for one in found if (row := _row(one)))
    return DeliveryCollection(deliveries=rows, total_entries=total, at=datetime.now(UTC))


def _row(one: Delivery) -> DeliveryRow | None:
    run = run_of(one.chain)
    if run is None:
        return None
    return DeliveryRow(
        system=one.system,
        dag_id=run[0],
        run_id=run[1],
        state=one.state,
        number=one.number if one.number != one.correlation else "",
        url=one.url,
        reason=one.error,
        attempts=one.attempts,
        next_at=one.next_at,
    )
