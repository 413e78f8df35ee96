"""Overrides: one service may change an environment although an entry closes it, if the entry names the person."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION, BoardBook, Person
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import FREEZE_OVERRIDDEN
from interlock.domain.trigger_form import Form, Reason, read_form, refuse_unknown_environment

from .calendar import Answer

MAX_OVERRIDE_DURATION = timedelta(hours=24)
"""Maximum duration of an override; a longer need takes a second override."""


class Override(Model):
    """An entry of a calendar does not apply to one service in one environment, for a time."""

    place: str = Field(description="The entry: its name and its file")
    service: str
    environment: str
    reason: Reason
    by: str = Field(description="User name of who overrode it")
    role: str = Field(description="The role by which they might")
    until: AwareDatetime

    def __str__(self) -> str:
        """Say who overrode what, until when and why."""
        until = f"{self.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return (
            f"{self.by} ({self.role}) overrode {self.place} for {self.service} in {self.environment} until {until}. "
            f"Reason: {self.reason}"
        )


class OverrideRequest(Form):
    """The form of an override."""

    service: str = Field(description="The service that gets the override.")
    environment: str = Field(
        PRODUCTION, description="The environment. The calendar entry that closes it now is overridden."
    )
    reason: Reason = Field(description="Why the change cannot wait. It is sent by e-mail and recorded in the ledger.")
    hours: int = Field(
        2,
        ge=1,
        le=round(MAX_OVERRIDE_DURATION.total_seconds() / 3600),
        description="The override expires after this time.",
    )

    @property
    def lasts(self) -> timedelta:
        """The time after which the override expires."""
        return timedelta(hours=self.hours)


def parse_override(form: Mapping[str, Any], environments: Mapping[str, Collection[str]]) -> OverrideRequest:
    """Read the form; RequestRefused with every field that is wrong.

    :param environments: each service, and its environments.
    """
    request = read_form(OverrideRequest, form, "the override")
    refuse_unknown_environment(request, environments)
    return request


def person_in(book: BoardBook, user: str) -> Person:
    """Return the person who asks for an override; PolicyViolation if the board book does not list them."""
    found = next((person for person in book.people if person.user == user), None)
    if found is None:
        raise PolicyViolation(
            f"{user} is not listed under people in board.yaml and cannot override a freeze.",
            rule="a calendar entry is overridden by a person whose role is in its override_by",
            who="the owner of board.yaml",
            next_step="ask a person whose role the entry names to trigger override_freeze",
        )
    return found


def override(
    answer: Answer, person: Person, *, reason: str, lasts: timedelta, requester: str = "", now: datetime
) -> Override:
    """Return the override of what closes an environment now.

    :param requester: requester of the release that waits, who cannot override.
    :raises PolicyViolation: it is open, or this person may not override what closes it.
    """
    if answer.by is None:
        said = "is open" if answer.open else "is closed because the calendars cannot be read"
        then = "release it: no calendar closes it now" if answer.open else "have the calendars corrected"
        raise _refused(f"{answer.environment} {said} for {answer.service}.", "the owner of the calendar", then)
    allowed = ", ".join(answer.by.override_by) or "no role"
    if person.role not in answer.by.override_by:
        raise _refused(f"{person.name} ({person.role}) may not override {answer.title} ({answer.place}).", allowed)
    if person.user == requester:
        raise _refused(f"{person.name} requested the release and cannot override a freeze for it.", allowed)
    if not timedelta() < lasts <= MAX_OVERRIDE_DURATION:
        raise _refused(f"An override lasts at most {MAX_OVERRIDE_DURATION.total_seconds() / 3600:.0f} hours.", allowed)
    return Override(
        place=answer.place,
        service=answer.service,
        environment=answer.environment,
        reason=reason,
        by=person.user,
        role=person.role,
        until=now + lasts,
    )


def _refused(
    what: str, who: str, next_step: str = "wait until the environment is open, or ask a person with such a role"
) -> PolicyViolation:
    return PolicyViolation(
        what,
        rule="only the roles in override_by of a calendar entry can override it, with a reason and a time limit",
        who=who,
        next_step=next_step,
    )


def in_force(
    entries: Iterable[Entry], service: str, environment: str, now: datetime, *, requester: str = ""
) -> tuple[Override, ...]:
    """Return the overrides that count for a service in an environment.

    :param entries: the installation's chain.
    :param requester: requester of the release; this person's overrides do not count for it.
    """
    each = (Override.model_validate(entry.payload) for entry in entries if entry.kind == FREEZE_OVERRIDDEN)
    mine = (one for one in each if (one.service, one.environment) == (service, environment))
    return tuple(one for one in mine if now < one.until and (not requester or one.by != requester))


def overridden(
    entries: Iterable[Entry], service: str, environment: str, now: datetime, *, requester: str = ""
) -> frozenset[str]:
    """Return the places of entries that are overridden for a service in an environment; as :func:`in_force`."""
    return frozenset(one.place for one in in_force(entries, service, environment, now, requester=requester))
