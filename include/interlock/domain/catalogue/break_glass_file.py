"""``break_glass.yaml``: who may edit a release for some hours, and for which reason."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from interlock.domain.canonical import Model

from .values import Instant, Line, UserName, named_twice

MAX_GRANT_DURATION = timedelta(hours=24)
"""Maximum duration of a grant; a longer need takes a second grant and a second review."""
DagId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,250}$"), Field(description="A Dag, such as release_bike_shop")
]


class Grant(Model):
    """A permission for one person, for a time; without it the role ``break_glass`` permits nothing."""

    model_config = ConfigDict(serialize_by_alias=True)

    user: UserName
    from_: Instant = Field(alias="from", description="Start of the grant, such as 2026-12-01T18:00:00Z")
    until: Instant = Field(description="End of the grant (exclusive); at most 24 hours after from")
    reason: Line = Field(description="The reason, which is recorded in the ledger")
    incident: Line | None = Field(None, description="The incident number, if there is one")
    dags: tuple[DagId, ...] = Field(
        (), description="The Dags that the grant covers; empty: all Dags under release control"
    )

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        if not timedelta() < self.until - self.from_ <= MAX_GRANT_DURATION:
            hours = int(MAX_GRANT_DURATION.total_seconds() // 3600)
            raise ValueError(f"the grant of {self.user} must be longer than zero and at most {hours} hours")
        if twice := named_twice(self.dags):
            raise ValueError(f"{twice} is named twice")
        return self

    def holds(self, user: str, dag_id: str, at: datetime) -> bool:
        """Tell whether it permits this user an action on this Dag at an instant."""
        return user == self.user and self.from_ <= at < self.until and (not self.dags or dag_id in self.dags)


class BreakGlassBook(Model):
    """Grants: ``break_glass.yaml``. Old ones may stay; the ledger has what was done with them."""

    grants: tuple[Grant, ...] = ()
