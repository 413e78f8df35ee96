"""Chat rooms in ``policy.yaml``: where Interlock says what is asked of whom, and how releases end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import not_
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from interlock.domain.canonical import Model
from interlock.domain.catalogue.values import ConnectionId, Identifier, each_once

Subject = Literal["questions", "outcomes", "findings"]
"""What is said: what people are asked, and reminded of; how releases end; findings, stops and overrides."""


class ChatRoom(Model):
    """A place where people talk. Interlock writes there and reads nothing: what is said there decides nothing."""

    kind: Literal["slack", "apprise"] = Field(
        description="slack: a thread for each release; apprise: Microsoft Teams, PagerDuty, Opsgenie, and what else "
        "Apprise knows"
    )
    connection: ConnectionId = Field(description="An Airflow connection of the type slack or apprise")
    channel: Annotated[str, StringConstraints(pattern=r"^(#?[A-Za-z0-9_.-]{1,80})?$")] = Field(
        "", description="Slack: the channel, by its name or id, such as #releases"
    )
    services: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] = Field(
        (), exclude_if=not_, description="Services of which is spoken; empty: all, and what concerns no service"
    )
    about: Annotated[tuple[Subject, ...], Field(min_length=1), AfterValidator(each_once)] = Field(
        ("questions", "outcomes", "findings"),
        description="questions: what people are asked, and reminders; outcomes: how releases end; findings: findings, "
        "stops, overrides and accepted defects",
    )

    @model_validator(mode="after")
    def _slack_has_channels(self) -> Self:
        if (self.kind == "slack") != bool(self.channel):
            raise ValueError("channel: goes with kind: slack, which needs one")
        return self


def rooms_for(rooms: Mapping[str, ChatRoom], about: Subject, service: str | None) -> Iterator[tuple[str, ChatRoom]]:
    """Yield the rooms in which something is said, by name.

    :param service: which it concerns; None: none, or several.
    """
    for name, room in rooms.items():
        if about in room.about and (not room.services or service in room.services):
            yield name, room
