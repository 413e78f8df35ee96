"""Emergency stops in the ledger: they stop releases at once. Planned stops are in the calendars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from pydantic import AwareDatetime, ConfigDict, Field

from interlock.domain.canonical import Model
from interlock.domain.catalogue import Catalogue, Service
from interlock.domain.errors import HeldBack, PolicyViolation, RequestRefused
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, EMERGENCY_STOP_LIFTED, family
from interlock.domain.trigger_form import Form, Incident, Reason, read_form

STOPS = family(EMERGENCY_STOP_DECLARED)
"""The kinds of entries about emergency stops in the installation's chain."""
EVERYTHING = "everything"
MAX_STOP_HOURS = 24 * 14
"""An emergency stop lifts itself after two weeks at the latest: what has to last longer is a freeze."""


class EmergencyStop(Model):
    """All rollouts in its scope are halted while it lasts."""

    id: str
    scope: str = Field(description="everything, or the name of a business unit or of a service")
    reason: Reason
    incident: Incident = ""
    by: str = Field(description="User name of who declared it")
    until: AwareDatetime

    def __str__(self) -> str:
        """Describe the stop: its scope, author, reason and end."""
        incident = f" ({self.incident})" if self.incident else ""
        return (
            f"{self.scope}, by {self.by}: {self.reason}{incident}; until {self.until:%Y-%m-%d %H:%M} UTC; id {self.id}."
        )


class StopRequest(Form):
    """The form: an emergency stop, or the end of an emergency stop."""

    model_config = ConfigDict(extra="ignore")  # a stop does not fail because of a field that it does not know

    scope: str = Field(
        EVERYTHING,
        title="What to stop",
        description="Everything, a business unit, or a service. Ignored when you lift a stop.",
    )
    reason: Reason = Field(
        description="Why you stop the rollouts. The reason appears in each refusal and is recorded in the ledger."
    )
    incident: Incident = ""
    hours: int = Field(24, ge=1, le=MAX_STOP_HOURS, description="The stop expires after this time.")
    lift: str = Field(
        "",
        max_length=64,
        title="Lift a stop",
        description="To lift a stop, enter its id or its scope. Leave empty to declare a stop.",
    )

    def declared(self, id: str, by: str, now: datetime) -> EmergencyStop:
        """Return the requested stop."""
        return EmergencyStop(
            id=id,
            scope=self.scope,
            reason=self.reason,
            incident=self.incident,
            by=by,
            until=now + timedelta(hours=self.hours),
        )


def id_of(dag_id: str, run_id: str) -> str:
    """Return the id of the stop that a run declares."""
    return sha256(f"{dag_id}/{run_id}".encode()).hexdigest()[:8]


def parse_stop(form: Mapping[str, Any], scopes: Sequence[str]) -> StopRequest:
    """Read the form; RequestRefused with every field that is wrong.

    :param scopes: what can be stopped.
    """
    request = read_form(StopRequest, form, "the emergency stop")
    if not request.lift and request.scope not in scopes:
        raise RequestRefused(
            f"The scope {request.scope!r} does not exist. Available: {', '.join(scopes)}.",
            next_step="correct the scope",
        )
    return request


def scopes_of(catalogue: Catalogue) -> tuple[str, ...]:
    """Return what can be stopped: everything, a business unit, a service."""
    names = (EVERYTHING, *sorted(catalogue.policy.business_units), *sorted(catalogue.services))
    return tuple(dict.fromkeys(names))


def stop_to_lift(entries: Iterable[Entry], named: str, now: datetime) -> EmergencyStop:
    """Return the stop with an id, or the only one in force of a scope.

    :param entries: the installation's chain.
    :param named: the id, or the scope.
    :raises PolicyViolation: there is none, or several of the scope, or it was lifted.
    """
    found = list(entries)
    lifted = {entry.payload.get("id"): entry for entry in found if entry.kind == EMERGENCY_STOP_LIFTED}
    stops = {entry.payload["id"]: EmergencyStop.model_validate(entry.payload) for entry in found if _declares(entry)}
    if named in stops and named not in lifted:
        return stops[named]
    in_force = list(all_in_force(found, now))
    of_scope = [stop for stop in in_force if stop.scope == named]
    if len(of_scope) == 1:
        return of_scope[0]
    known = ", ".join(f"{one.id} ({one.scope})" for one in in_force) or "none"
    what = f"was already lifted by {lifted[named].payload.get('by')}" if named in lifted else "is not known"
    what = f"cannot be chosen, because {len(of_scope)} stops have this scope" if of_scope else what
    raise PolicyViolation(
        f"The emergency stop {named} {what}. In force: {known}.",
        rule="a stop is lifted by its id, or by its scope if it is the only one of it",
        who="a person who may trigger emergency_stop",
        next_step="enter one of the ids that are in force",
    )


def refuse_halted(stops: Iterable[EmergencyStop], closed: Iterable[str]) -> None:
    """Raise HeldBack if something stops a wave that is in progress: no further host is changed.

    :param closed: what the calendars say, in words.
    """
    reasons = [*(f"emergency stop of {stop}" for stop in stops), *(f"calendar: {reason}" for reason in closed)]
    if reasons:
        raise HeldBack(
            f"The wave is halted: {' '.join(reasons)}",
            rule="an emergency stop or a freeze halts a rollout before its next host",
            who="a person who may lift the stop, or the owner of the calendar in include/catalogue/calendars",
            next_step="the release is backed out, or waits if the calendar says so; trigger it again after the stop "
            "or freeze",
        )


def refuse_stopped_release(stops: Iterable[EmergencyStop], not_before: datetime | None) -> None:
    """Raise PolicyViolation if a release cannot go to production because of an emergency stop.

    :param stops: those in force for its service.
    :param not_before: when its implementation starts at the earliest; none: as soon as it is approved.
    """
    if found := [stop for stop in stops if not_before is None or not_before < stop.until]:
        raise PolicyViolation(
            f"An emergency stop is in force: {' '.join(map(str, found))}",
            rule="an emergency stop halts every rollout in its scope",
            who="users who may trigger emergency_stop can lift it",
            next_step="wait until the stop is lifted or over, then trigger the Dag again",
        )


def _declares(entry: Entry) -> bool:
    return entry.kind == EMERGENCY_STOP_DECLARED


def all_in_force(entries: Iterable[Entry], now: datetime) -> Iterator[EmergencyStop]:
    """Yield the emergency stops that are in force: declared, not lifted, not over.

    :param entries: the installation's chain.
    """
    found = list(entries)
    lifted = {entry.payload.get("id") for entry in found if entry.kind == EMERGENCY_STOP_LIFTED}
    for entry in filter(_declares, found):
        stop = EmergencyStop.model_validate(entry.payload)
        if stop.id not in lifted and now < stop.until:
            yield stop


def stops_in_force(entries: Iterable[Entry], service: Service, now: datetime) -> Iterator[EmergencyStop]:
    """Yield the emergency stops in force that hold a service back.

    :param entries: the installation's chain.
    """
    scopes = scopes_about(service)
    return (stop for stop in all_in_force(entries, now) if stop.scope in scopes)


def scopes_about(service: Service) -> frozenset[str]:
    """Return the scopes of stops and incidents that concern a service."""
    return frozenset(filter(None, (EVERYTHING, service.business_unit, service.name)))
