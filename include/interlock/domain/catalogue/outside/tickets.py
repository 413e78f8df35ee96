"""Tickets in ``policy.yaml``: the systems that keep them, and which keys belong to which system."""

from __future__ import annotations

from collections.abc import Iterable
from operator import not_
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from interlock.domain.canonical import Later, Model
from interlock.domain.catalogue.values import ConnectionId, Identifier, Line, each_once

TicketKind = Literal["jira", "github", "gitlab", "azure_devops"]
"""What keeps tickets: Jira of either kind, GitHub, GitLab, Azure DevOps."""
TicketDemand = Literal["named", "exist", "approved", "in_version"]
"""What is demanded of the tickets of a release."""
TicketDemands = Annotated[tuple[TicketDemand, ...], AfterValidator(each_once)]
TicketStates = Annotated[tuple[Line, ...], Field(max_length=50), AfterValidator(each_once)]
UnreadTickets = Literal["mark", "refuse"]
"""What becomes of a release whose tickets cannot be read, if policy demands something of them."""
NUMBERS = "#"
"""The key of tickets that have a number only, such as #12."""


class TicketApproval(Model):
    """What makes a ticket an approved one; a ticket is approved if one of these holds."""

    states: TicketStates = Field((), description="States in which a ticket is approved, such as Approved")
    labels: TicketStates = Field((), description="Labels (in Azure DevOps: tags) of approved tickets")
    service_desk: bool = Field(
        False, description="Of Jira Service Management: all approvals of the request are given, and there is one"
    )


class TicketSystem(Model):
    """A system that keeps tickets. Interlock reads there, with an account that needs no other right."""

    kind: TicketKind
    connection: ConnectionId = Field(description="The Airflow connection: address of the API, login, password or token")
    site: Later[
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$", max_length=500),
        ]
    ] = Field(None, description="The address at which people open tickets; default: that of the connection")
    approved: TicketApproval = Field(TicketApproval(), description="What makes a ticket an approved one")

    @model_validator(mode="after")
    def _has_a_service_desk(self) -> Self:
        if self.approved.service_desk and self.kind != "jira":
            raise ValueError(f"approved: service_desk is for kind: jira, and this is {self.kind}")
        return self


class TicketProject(Model):
    """Tickets with one key, such as SHOP-12 or #12, and where they are kept."""

    key: Annotated[str, StringConstraints(pattern=r"^([A-Z][A-Z0-9_]{0,31}|#)$")] = Field(
        description="What stands before the number: SHOP of SHOP-12, or # of #12"
    )
    system: Identifier
    project: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9._ -]+(/[A-Za-z0-9._ -]+)*)?$", max_length=200)] = (
        Field("", description="GitHub: owner/name; GitLab: the path of the project; Azure DevOps: the project")
    )
    services: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] = Field(
        (), description="Services whose tickets these are; empty: all"
    )

    @model_validator(mode="after")
    def _no_way_up(self) -> Self:
        if {".", ".."} & set(self.project.split("/")):
            raise ValueError("project: . and .. are no names of projects")
        return self


class TicketRules(Model):
    """The systems that keep tickets, and the keys of each."""

    systems: dict[Identifier, TicketSystem] = Field({}, exclude_if=not_)
    projects: tuple[TicketProject, ...] = Field((), max_length=1000, exclude_if=not_)

    @model_validator(mode="after")
    def _each_key_leads_to_one_place(self) -> Self:
        for project in self.projects:
            if project.system not in self.systems:
                raise ValueError(f"projects: {project.key} is in the system {project.system}, which systems lacks")
            kind = self.systems[project.system].kind
            if not project.project and kind != "jira":
                raise ValueError(f"projects: {project.key} needs project, for {project.system} is of kind {kind}")
            if kind == "jira" and project.key == NUMBERS:
                raise ValueError("projects: tickets of Jira have a key, and # is none")
        for key in {project.key for project in self.projects}:
            refuse_two_places(key, (project for project in self.projects if project.key == key))
        return self

    def concerning(self, service: str) -> TicketRules:
        """Return what concerns one service: its keys, and their systems."""
        projects = tuple(one for one in self.projects if not one.services or service in one.services)
        names = {one.system for one in projects}
        return TicketRules(
            systems={name: one for name, one in self.systems.items() if name in names}, projects=projects
        )


def refuse_two_places(key: str, projects: Iterable[TicketProject]) -> None:
    """Refuse a key that means two places for one service."""
    seen: set[str] = set()
    for count, project in enumerate(projects):
        services = set(project.services)
        if count and (not services or not seen or services & seen):
            raise ValueError(f"projects: {key} is there twice for the same services")
        seen |= services
