"""Events that other systems sent, and that policy lets count: who sent what, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from interlock.domain.canonical import Model, Sha256

from .chain import Entry, instant
from .kinds import INCIDENT_SEEN

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


Account = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


class AnswerSent(Model):
    """The data of an event about the approval of a release; what it has beside these is left aside."""

    model_config = ConfigDict(extra="ignore")

    release: Said = Field(description="The release, as webhooks about it have it in data.release.chain")
    plan: Sha256 = Field(description="Digest of the frozen plan that was decided on: data.release.plan")
    user: Account = Field(description="User name there of the person who decided")
    set_by: Account | None = Field(None, description="User name there of the account that did it for them")


class EventRead(Model):
    """An event of another system, as the ledger has it."""

    what: str = Field(description="What came of it, for people")
    source: str = Field(description="The source in policy.yaml (events), whose secret signed it")
    webhook: str = Field(description="The id of the webhook")
    event: str = Field(description="The id of the CloudEvent")
    type: str
    sender: str = Field(description="The source of the CloudEvent, in its own words")
    body: Sha256 = Field(description="Digest of the body that was signed")


class CountedEvent(EventRead):
    """An event that counts."""

    stop: str = Field(description="The emergency stop that it declared")


class IncidentSeen(EventRead):
    """An event that opened an incident, or ended one."""

    scope: str = Field(description="everything, or the name of a business unit or a service")
    incident: str = Field(description="Its number there")
    ended: bool
    until: AwareDatetime = Field(description="So long the incident is shown, if no event ends it")


class AnswerElsewhere(EventRead):
    """An event by which a person approved or rejected a release in another system, or took that back."""

    system: str = Field(description="In systems.yaml")
    plan: Sha256
    user: str = Field(description="User name there")
    set_by: str = Field(description="User name there of the account that did it")
    state: Literal["approved", "rejected", "withdrawn"]
    at: AwareDatetime = Field(description="When, by the other system")


class OpenIncident(Model):
    """An incident of another system that is open."""

    key: str = Field(description="Source, number, and when it opened")
    what: str
    scope: str
    opened: AwareDatetime


def which_are_open(entries: Iterable[Entry], now: datetime) -> tuple[OpenIncident, ...]:
    """Return the incidents that are open.

    :param entries: those about incidents, of the installation's chain.
    """
    last: dict[tuple[str, str], tuple[IncidentSeen, datetime]] = {}
    for entry in entries:
        if entry.kind == INCIDENT_SEEN:
            seen = IncidentSeen.model_validate(entry.payload)
            before = last.get((seen.source, seen.incident))
            goes_on = before is not None and not before[0].ended and entry.at < before[0].until
            last[seen.source, seen.incident] = seen, before[1] if before is not None and goes_on else entry.at
    return tuple(
        OpenIncident(
            key=f"{seen.source}/{seen.incident}/{instant(opened)}", what=seen.what, scope=seen.scope, opened=opened
        )
        for seen, opened in last.values()
        if not seen.ended and now < seen.until
    )


def open_incidents(entries: Iterable[Entry], scopes: Collection[str], now: datetime) -> tuple[str, ...]:
    """Return the incidents that are open, in words.

    :param entries: those about incidents, of the installation's chain.
    :param scopes: what they may be about; empty: anything.
    """
    return tuple(one.what for one in which_are_open(entries, now) if not scopes or one.scope in scopes)
