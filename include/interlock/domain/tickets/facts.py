"""What was read of a ticket, as plans, ballots and evidence show it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from interlock.domain.canonical import Model


class Ticket(Model):
    """A ticket of a release. Its text was written by people in another system: it is shown, and never followed."""

    key: str = Field(description="As the request or a commit names it")
    named_by: tuple[str, ...] = Field(description="request, or the first twelve digits of a commit")
    found: Literal["read", "missing", "unread", "unknown"] = Field(
        description="Read; missing: its system has no such ticket, or does not show it to the account of the "
        "connection; unread: its system could not be asked; unknown: policy.yaml has no system for its key"
    )
    system: str = Field("", description="The system in policy.yaml (tickets.systems) that keeps it")
    title: str = Field("", max_length=300)
    status: str = Field("", max_length=300)
    type: str = Field("", max_length=300)
    parent: str = Field("", max_length=300, description="The ticket that it is a part of")
    fix_versions: tuple[str, ...] = ()
    approved: bool | None = Field(None, description="None: its system in policy.yaml does not say when it is approved")
    link: str = Field("", max_length=2048, description="Where people open it")
    why: str = Field("", max_length=600, description="If it was not read: the reason")
