"""Events that other systems sent, and that policy lets count: who sent what, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from interlock.domain.canonical import Model, Sha256

Said = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class CloudEvent(Model):
    """A CloudEvent 1.0 in its JSON format; attributes that it has beside these are left aside."""

    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"]
    id: Said
    source: Said
    type: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    time: AwareDatetime | None = None
    data: dict[str, Any]


class Incident(Model):
    """The data of an event that stops rollouts; what it has beside these is left aside."""

    model_config = ConfigDict(extra="ignore")

    scope: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(
        description="everything, or the name of a business unit or a service"
    )
    reason: Said
    incident: Annotated[str, StringConstraints(max_length=100)] = ""


class CountedEvent(Model):
    """An event that counts, as the ledger has it."""

    what: str = Field(description="What came of it, for people")
    source: str = Field(description="The source in policy.yaml (events), whose secret signed it")
    webhook: str = Field(description="The id of the webhook")
    event: str = Field(description="The id of the CloudEvent")
    type: str
    sender: str = Field(description="The source of the CloudEvent, in its own words")
    body: Sha256 = Field(description="Digest of the body that was signed")
    stop: str = Field(description="The emergency stop that it declared")
