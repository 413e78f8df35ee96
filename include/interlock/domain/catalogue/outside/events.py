"""Events of other systems in ``policy.yaml``: what may come in as a webhook, and what it may do."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from interlock.domain.canonical import Model
from interlock.domain.catalogue.values import ConnectionId, Duration, Identifier, each_once

LONGEST = timedelta(days=14)
"""As for stops that people declare (calendars/stops.py)."""


class EventSource(Model):
    """A system whose signed events may stop rollouts. They may lift nothing, and approve nothing."""

    connection: ConnectionId = Field(
        description="Airflow connection whose password is the secret of its webhooks: whsec_ and base64"
    )
    types: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,200}$")], ...],
        Field(min_length=1),
        AfterValidator(each_once),
    ] = Field(description="Types of CloudEvents that stop rollouts, such as com.example.incident.opened")
    stops: Annotated[tuple[Identifier, ...], Field(min_length=1), AfterValidator(each_once)] = Field(
        description="What it may stop: services, business units, or everything"
    )
    lasts: Duration = Field(timedelta(hours=4), description="How long a stop lasts, if nobody lifts it")

    @model_validator(mode="after")
    def _not_for_long(self) -> Self:
        if not timedelta(hours=1) <= self.lasts <= LONGEST or self.lasts % timedelta(hours=1):
            raise ValueError("lasts: must be full hours, from an hour to two weeks")
        return self
