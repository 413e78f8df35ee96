"""The tickets of a release: those of its request and of its commits, as their systems show them at planning."""

from __future__ import annotations

from collections.abc import Iterable

from interlock.adapters.tickets.reading import read_tickets
from interlock.domain.catalogue import Policy
from interlock.domain.change.request import ReleaseRequest
from interlock.domain.tickets.facts import Ticket
from interlock.domain.tickets.names import REQUEST, tickets_named
from interlock.stages.runtime import resources


def tickets_of(
    policy: Policy, request: ReleaseRequest, service: str, messages: Iterable[tuple[str, str]]
) -> tuple[tuple[str, ...], tuple[Ticket, ...] | None]:
    """Return the tickets of a release, and what was read of them; None: no system keeps tickets of the service.

    :param messages: of each commit, its id of 40 digits and its message.
    """
    rules = policy.tickets.concerning(service)
    if not rules.projects:
        return request.tickets, None
    named = tickets_named(request.tickets, messages, rules)
    return tuple(named), read_tickets(named, rules, resources.connection_or_none)


def unread(tickets: Iterable[str]) -> tuple[Ticket, ...]:
    """Return tickets of a service of which no system keeps any."""
    why = "tickets.projects in policy.yaml has no key of this service"
    return tuple(Ticket(key=key, named_by=(REQUEST,), found="unknown", why=why) for key in tickets)
