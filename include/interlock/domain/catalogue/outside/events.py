"""Events of other systems in ``policy.yaml``: what may come in as a webhook, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from operator import not_
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from interlock.domain.canonical import Model
from interlock.domain.catalogue.values import ConnectionId, Duration, Identifier, each_once

LONGEST = timedelta(days=14)
"""As for stops that people declare (calendars/stops.py)."""


Types = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,200}$")], ...], AfterValidator(each_once)
]


class EventSource(Model):
    """A system whose signed events may stop rollouts, show incidents, or approve releases for an authority.

    They may lift no stop.
    """

    kind: Literal["cloudevents", "pagerduty", "opsgenie"] = Field(
        "cloudevents", exclude_if=lambda one: one == "cloudevents", description="Whose webhooks they are"
    )
    connection: ConnectionId = Field(
        description="Airflow connection whose password is the secret of its webhooks: whsec_ and base64; of PagerDuty "
        "and Opsgenie, any text of 16 characters or more"
    )
    types: Types = Field(
        (), description="Types of events that stop rollouts, such as com.example.incident.opened or incident.triggered"
    )
    shows: Types = Field(
        (), exclude_if=not_, description="Types of events that open an incident, which those who decide are shown"
    )
    ends: Types = Field((), exclude_if=not_, description="Types of events that end such an incident")
    system: Identifier = Field(
        "", exclude_if=not_, description="The authority that its approvals count for: a webhook of systems.yaml"
    )
    approves: Types = Field(
        (), exclude_if=not_, description="Types of events by which a person there approves the frozen plan of a release"
    )
    rejects: Types = Field((), exclude_if=not_, description="Types of events by which a person there rejects it")
    withdraws: Types = Field(
        (), exclude_if=not_, description="Types of events by which a person there takes their answer back"
    )
    services: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], Identifier] = Field(
        {},
        exclude_if=not_,
        description="PagerDuty: id or name of a service there; Opsgenie: entity or tag of an alert. Each with the "
        "service or business unit here",
    )
    stops: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] = Field(
        (), description="What its incidents may be about: services, business units, or everything"
    )
    lasts: Duration = Field(
        timedelta(hours=4), description="How long a stop lasts, and an incident is shown, if nobody ends it"
    )

    @model_validator(mode="after")
    def _of_some_use(self) -> Self:
        if not (self.types or self.shows or self.approves):
            raise ValueError("types, shows or approves: must name a type of events")
        every = (*self.types, *self.shows, *self.ends, *self.approves, *self.rejects, *self.withdraws)
        if twice := {one for one in every if every.count(one) > 1}:
            raise ValueError(
                f"{sorted(twice)[0]} must be in one of types, shows, ends, approves, rejects and withdraws"
            )
        if (self.types or self.shows) and not self.stops:
            raise ValueError("stops: must say what its incidents may be about")
        if self.kind != "cloudevents" and not self.services:
            raise ValueError(f"services: must say what the services of {self.kind} are here")
        return self

    @model_validator(mode="after")
    def _approves_for_a_system(self) -> Self:
        if not (self.approves or self.rejects or self.withdraws or self.system):
            return self
        if not (self.approves and self.withdraws and self.system):
            raise ValueError("system, approves and withdraws: must be there together; who can approve can take it back")
        if self.kind != "cloudevents":
            raise ValueError(f"approves: events of {self.kind} approve nothing")
        return self

    def state_of(self, type: str) -> Literal["approved", "rejected", "withdrawn"] | None:
        """Return what an event of a type says of the approval of a release; None: nothing."""
        if type in self.approves:
            return "approved"
        return "rejected" if type in self.rejects else "withdrawn" if type in self.withdraws else None

    @model_validator(mode="after")
    def _not_for_long(self) -> Self:
        if not timedelta(hours=1) <= self.lasts <= LONGEST or self.lasts % timedelta(hours=1):
            raise ValueError("lasts: must be full hours, from an hour to two weeks")
        return self


def approving(sources: Mapping[str, EventSource], system: str) -> tuple[str, ...]:
    """Return the sources whose approvals count for a system."""
    return tuple(sorted(name for name, one in sources.items() if one.approves and one.system == system))
