"""The tickets of a release, read where they are kept; what cannot be read is on record as such."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from interlock.domain.catalogue.outside.tickets import TicketKind, TicketRules, TicketSystem
from interlock.domain.errors import ReleaseError, TransientError
from interlock.domain.tickets.facts import Ticket
from interlock.domain.tickets.names import project_of

from .azure_devops import AzureDevOps
from .github import GitHub
from .gitlab import GitLab
from .jira import Jira
from .reader import TicketReader
from .site import Scheme, Site

READERS: dict[TicketKind, Callable[[Site, TicketSystem], TicketReader]] = {
    "jira": Jira,
    "github": GitHub,
    "gitlab": GitLab,
    "azure_devops": AzureDevOps,
}
"""What reads the tickets of each kind of system, made of its API and what policy.yaml says of it."""
_SCHEMES: dict[TicketKind, Scheme] = {"azure_devops": "basic"}
"""How each system takes a token; default: as a bearer token."""
MAX_READ = 200
"""Tickets of one release that are read; more are on record as unread."""
_MAX_WHY = 600


def read_tickets(
    named: Mapping[str, tuple[str, ...]], rules: TicketRules, connect: Callable[[str], Any]
) -> tuple[Ticket, ...]:
    """Read the tickets of a release, in their order.

    :param named: each ticket, and what names it.
    :param rules: those that concern the service.
    :param connect: returns an Airflow connection by its name, or None.
    """
    with ExitStack() as sites:
        desk = _Desk(rules, connect, sites)
        return tuple(
            desk.read(key, by)
            if count < MAX_READ
            else Ticket(key=key, named_by=by, found="unread", why=f"only {MAX_READ} tickets of a release are read")
            for count, (key, by) in enumerate(named.items())
        )


class _Desk:
    """Reads tickets of several systems."""

    def __init__(self, rules: TicketRules, connect: Callable[[str], Any], sites: ExitStack) -> None:
        self._rules, self._connect, self._sites = rules, connect, sites
        self._readers: dict[str, TicketReader] = {}
        self._silent: dict[str, str] = {}

    def read(self, key: str, by: tuple[str, ...]) -> Ticket:
        place = project_of(key, self._rules)
        if place is None:
            why = "tickets.projects in policy.yaml lacks its key"
            return Ticket(key=key, named_by=by, found="unknown", why=why)
        name = place.system
        if name in self._silent:  # it is asked once, and not for every ticket
            return Ticket(key=key, named_by=by, system=name, found="unread", why=self._silent[name])
        try:
            found = self._reader(name).read(key, place.project)
        except ReleaseError as error:
            why = _why(error)
            if isinstance(error, TransientError) or name not in self._readers:
                self._silent[name] = why
            return Ticket(key=key, named_by=by, system=name, found="unread", why=why)
        if found is None:
            account = f"the account of the connection {self._rules.systems[name].connection}"
            why = f"{name} has no ticket {key}, or does not show it to {account}"
            return Ticket(key=key, named_by=by, system=name, found="missing", why=why)
        said = found.model_dump(exclude={"labels", "fix_versions"})
        return Ticket(key=key, named_by=by, system=name, found="read", fix_versions=found.fix_versions[:100], **said)

    def _reader(self, name: str) -> TicketReader:
        if name not in self._readers:
            system = self._rules.systems[name]
            connection = self._connect(system.connection)
            if connection is None:
                raise ReleaseError(
                    f"Airflow has no connection {system.connection}",
                    who="the platform engineer",
                    next_step="make it, or correct tickets.systems in policy.yaml",
                )
            site = self._sites.enter_context(Site(connection, _SCHEMES.get(system.kind, "bearer")))
            self._readers[name] = READERS[system.kind](site, system)
        return self._readers[name]


def _why(error: ReleaseError) -> str:
    parts = [error.what.rstrip("."), error.next_step]
    return "; ".join(filter(None, parts))[:_MAX_WHY]
