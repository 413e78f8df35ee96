"""Tickets of Jira: Data Center, and Cloud, which has version 2 of the API, too."""

from __future__ import annotations

from interlock.domain.catalogue.outside.tickets import TicketSystem

from .reader import Found, Named, Said, Text, by_state
from .site import Site, quoted

_FIELDS = "summary,status,issuetype,parent,fixVersions,labels"


class _Parent(Said):
    key: Text


class _Fields(Said):
    summary: Text
    status: Named
    issuetype: Named
    parent: _Parent | None = None
    fixVersions: tuple[Named, ...] = ()
    labels: tuple[Text, ...] = ()


class _Issue(Said):
    key: Text
    fields: _Fields


class _Approval(Said):
    finalDecision: str


class _Approvals(Said):
    values: tuple[_Approval, ...] = ()
    isLastPage: bool = True


class Jira:
    """A Jira. The account needs *Browse projects*, and for approvals of requests an agent's licence.

    :param site: of a connection with host: the address of the Jira; Cloud: login is an e-mail address and password an
        API token; Data Center: a personal access token as password, without a login.
    """

    def __init__(self, site: Site, system: TicketSystem) -> None:
        self._site, self._system = site, system

    def read(self, key: str, project: str) -> Found | None:
        """Return an issue; one that was moved is found under its new key, which the link has."""
        issue = self._site.get(_Issue, f"/rest/api/2/issue/{quoted(key)}", query={"fields": _FIELDS})
        if issue is None:
            return None
        approved = by_state(self._system.approved, issue.fields.status.name, issue.fields.labels)
        if not approved and self._system.approved.service_desk:
            approved = self._approved_in_service_desk(issue.key)
        return Found(
            title=issue.fields.summary,
            status=issue.fields.status.name,
            type=issue.fields.issuetype.name,
            parent=issue.fields.parent.key if issue.fields.parent else "",
            fix_versions=tuple(one.name for one in issue.fields.fixVersions),
            labels=issue.fields.labels,
            approved=approved,
            link=f"{self._system.site or self._site.url}/browse/{quoted(issue.key)}",
        )

    def _approved_in_service_desk(self, key: str) -> bool:
        """Tell whether every approval of a request is given, and there is one."""
        found = self._site.get(
            _Approvals,
            f"/rest/servicedeskapi/request/{quoted(key)}/approval",
            query={"limit": "50"},
            headers={"X-ExperimentalApi": "opt-in"},  # Data Center before 4.20 asks for it
        )
        return bool(
            found and found.isLastPage and found.values and all(one.finalDecision == "approved" for one in found.values)
        )
