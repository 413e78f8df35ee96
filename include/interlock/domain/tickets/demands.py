"""What policy demands of the tickets of a release, and what of it does not hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from interlock.domain.catalogue import Flow, Service
from interlock.domain.errors import PolicyViolation, TransientError
from interlock.domain.records import PolicyInForce

from .facts import Ticket

_SHOWN = 10
"""How many tickets a refusal names; the log of the task has all."""


def unmet(flow: Flow, tickets: Sequence[Ticket], *, version: str, service: Service) -> Iterator[tuple[str, str]]:
    """Yield what is demanded and does not hold: the key of the flow, and a sentence.

    :param tickets: of the release.
    :param version: of the release, which tickets may have to belong to.
    """
    if "named" in flow.tickets and not tickets:
        yield "tickets", "The release names no ticket, neither in its request nor in its commits"
    if not flow.ticket_states and not set(flow.tickets) - {"named"}:
        return
    for ticket in tickets:
        if ticket.found == "unread":
            if flow.tickets_unread == "refuse":
                yield "tickets_unread", f"{ticket.key} could not be read in {ticket.system}: {ticket.why}"
        elif ticket.found != "read":
            yield "tickets", f"{ticket.key} is not there: {ticket.why}"
        else:
            yield from _of_a_ticket(flow, ticket, _names_of(version, service))


def refuse_unmet(in_force: PolicyInForce, tickets: Sequence[Ticket], *, version: str, service: Service) -> None:
    """Refuse a release whose tickets are not as the policy demands.

    :raises PolicyViolation: so it is; it names each ticket and each key of the policy.
    :raises TransientError: the only reason is that systems do not answer; they may do so at the next try.
    """
    found = list(unmet(in_force.flow, tickets, version=version, service=service))
    if not found:
        return
    said = [sentence for _, sentence in found]
    more = [f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
    silent = {key for key, _ in found} == {"tickets_unread"}
    raise (TransientError if silent else PolicyViolation)(
        f"The tickets of {service.name} {version} are not as demanded. {'; '.join([*said[:_SHOWN], *more])}.",
        rule=", ".join(dict.fromkeys(_place(in_force, key) for key, _ in found)),
        who="those who keep the tickets for their states, approvals and versions; "
        f"{service.owner} for the request and the commits; the owner of the file for the rule",
        next_step="correct the tickets where they are kept, and trigger the release again",
    )


def _place(in_force: PolicyInForce, key: str) -> str:
    path = f"change_types.{in_force.change_type.value}.{key}"
    return f"{path}, in {in_force.further_sources.get(path, 'policy.yaml')}"


def _of_a_ticket(flow: Flow, ticket: Ticket, versions: Mapping[str, None]) -> Iterator[tuple[str, str]]:
    allowed = {state.casefold() for state in flow.ticket_states}
    if allowed and ticket.status.casefold() not in allowed:
        yield "ticket_states", f"{ticket.key} is in the state {ticket.status}, not in {_or(flow.ticket_states)}"
    if "approved" in flow.tickets and not ticket.approved:
        said = "is not approved" if ticket.approved is False else (
            f"may be approved or not: tickets.systems.{ticket.system}.approved in policy.yaml does not say when"
        )  # fmt: skip
        yield "tickets", f"{ticket.key} {said}"
    if "in_version" in flow.tickets and not any(_plain(one) in versions for one in ticket.fix_versions):
        said = f"belongs to {', '.join(ticket.fix_versions)}" if ticket.fix_versions else "belongs to no version"
        yield "tickets", f"{ticket.key} {said}, not to {next(iter(versions))}"


def _names_of(version: str, service: Service) -> dict[str, None]:
    """Return how a version may be called where tickets are kept, the plain one first: 1.4.0, bike-shop v1.4.0."""
    names = ("", service.name, service.title)
    return dict.fromkeys(_plain(f"{name} {mark}{version}") for name in names for mark in ("", "v"))


def _plain(name: str) -> str:
    # A version is not taken apart: 1.4.0-rc.1 is another one than 1.4.0.
    return re.sub(r"^(.*?)[ _/-]*(v?[0-9]+\.)", r"\1 \2", " ".join(name.split()).casefold(), count=1).strip()


def _or(states: Iterable[str]) -> str:
    *others, last = states
    return f"{', '.join(others)} or {last}" if others else last
