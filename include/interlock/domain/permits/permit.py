"""The permit: permission to open connections to some production hosts, for one purpose, once, and for a short time.

An approval can be days old when a wave begins. So everything is checked again immediately before the wave
(:mod:`.objections`). Only what is true then is written into a permit, signed, and used once. Without a permit, no
connection is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from interlock.domain.calendars.bookings import Entered
from interlock.domain.calendars.calendar import Answer
from interlock.domain.canonical import Later, Model, Sha256
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation

SANDBOXES = frozenset({"test"})
"""Environments that rehearsals change. No user depends on them, so their hosts are accessed without a permit, as are
those of the environments between test and production (``Service.is_sandbox``)."""
MAX_PERMIT_AGE = timedelta(minutes=15)
"""A permit is never older when it is used."""
PERMIT_TYPE = "application/vnd.interlock.permit+json"
"""Payload type of a signed permit."""

Purpose = Literal["inspect", "deploy", "back_out", "restart", "traffic", "return", "step"]
"""To ask hosts what they run; to bring them to the approved release; to take them back to what they had; to restart
what they run; to let the load balancer send them another share of the traffic; to bring them to a release that came
while they were down; to do a step of the runbook, or to take it back."""
BEGINS: frozenset[Purpose] = frozenset({"deploy", "step"})
"""With a permit for one of these a release begins to change its target: then there is something to back out."""

RELEASE_MANAGER = "the release manager"


class Permit(Model):
    """Leave to connect to hosts."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$", description="Random; it is used once")
    purpose: Purpose
    chain: str = Field(description="The chain of the release in the ledger: its Dag and run")
    environment: str
    wave: int | None = Field(None, ge=1, description="Counted from 1; none: not for a wave")
    hosts: tuple[str, ...] = Field(description="Addresses; only of a step that changes no host there may be none")
    plan: Sha256 | None = Field(None, description="Digest of the frozen rollout plan; none: not frozen yet")
    bundle: Sha256 | None = Field(None, description="Digest of what is deployed")
    catalogue: Sha256 = Field(description="Digest of the policy, board and service that held when it was given")
    calendar: Answer | None = Field(None, description="What the calendars answered then; none: they were not asked")
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    entered: Later[Entered] = Field(None, description="Where it may change something; none: it changes nothing")
    step: Later[str] = Field(None, description="Of a step: its id, which names plan, step and direction")

    @model_validator(mode="after")
    def _names_what_it_is_for(self) -> Self:
        if (self.step is not None) != (self.purpose == "step"):
            raise ValueError("a permit for a step names it, and no other permit does")
        if not self.hosts and self.step is None:
            raise ValueError("hosts: a permit names at least one")
        return self


def refuse_unusable(permit: Permit, *, purposes: Sequence[Purpose], environment: str, now: datetime) -> None:
    """Raise a PolicyViolation unless a permit is for this, and is neither too old nor from later."""
    if permit.purpose not in purposes:
        problem = f"it was issued to {permit.purpose.replace('_', ' ')}"
    elif permit.environment != environment:
        problem = f"it was issued for {permit.environment}"
    elif permit.expires_at - permit.issued_at > MAX_PERMIT_AGE:
        problem = f"its validity exceeds {in_words(MAX_PERMIT_AGE)}"
    elif permit.entered is None and permit.purpose != "inspect":
        problem = "it allows changes, but its holder has not entered an environment"
    elif now >= permit.expires_at:
        problem = f"it expired at {utc_text(permit.expires_at)}"
    elif now < permit.issued_at:
        problem = f"it was issued at {utc_text(permit.issued_at)}, which is in the future"
    else:
        return
    raise _unusable(permit, problem)


def refuse_other_host(permit: Permit, address: str) -> None:
    """Raise a PolicyViolation unless the permit names a host."""
    if address not in permit.hosts:
        raise _unusable(permit, f"it does not name {address}")


def utc_text(at: datetime) -> str:
    """Return an instant as messages have it, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _unusable(permit: Permit, problem: str) -> PolicyViolation:
    return PolicyViolation(
        f"The permit {permit.id[:8]} of {permit.chain} is not valid for this connection: {problem}.",
        rule="a permit is valid for the hosts, the purpose and the time that it names",
        who=RELEASE_MANAGER,
        next_step="trigger the release again: its tasks request new permits",
    )
