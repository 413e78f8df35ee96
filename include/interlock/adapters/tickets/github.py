"""Issues of GitHub, and of GitHub Enterprise Server."""

from __future__ import annotations

from typing import Any

from interlock.domain.catalogue.outside.tickets import TicketSystem

from .reader import Found, Named, Said, Text, by_state, number_of
from .site import Site, quoted


class _Milestone(Said):
    title: Text


class _Issue(Said):
    number: int
    title: Text
    state: Text
    state_reason: Text | None = None
    type: Named | None = None
    milestone: _Milestone | None = None
    labels: tuple[Named | str, ...] = ()
    pull_request: dict[str, Any] | None = None
    parent_issue_url: Text | None = None


class GitHub:
    """GitHub. The token needs to read issues, and nothing else.

    :param site: of a connection with host: ``https://api.github.com``, or ``https://<host>/api/v3``; password: a token.
    """

    def __init__(self, site: Site, system: TicketSystem) -> None:
        self._site, self._system = site, system

    def read(self, key: str, project: str) -> Found | None:
        """Return an issue of a repository; a pull request is one, too, and its type says so."""
        owner, _, name = project.partition("/")
        issue = self._site.get(
            _Issue,
            f"/repos/{quoted(owner)}/{quoted(name)}/issues/{number_of(key)}",
            headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
        )
        if issue is None:
            return None
        labels = tuple(one if isinstance(one, str) else one.name for one in issue.labels)
        kind = "pull request" if issue.pull_request is not None else issue.type.name if issue.type else "issue"
        web = self._system.site or _pages(self._site.url)
        return Found(
            title=issue.title,
            status=issue.state,
            type=kind,
            parent=f"#{issue.parent_issue_url.rpartition('/')[2]}" if issue.parent_issue_url else "",
            fix_versions=(issue.milestone.title,) if issue.milestone else (),
            labels=labels,
            approved=by_state(self._system.approved, issue.state, labels),
            link=f"{web}/{quoted(owner)}/{quoted(name)}/issues/{issue.number}",
        )


def _pages(api: str) -> str:
    return "https://github.com" if api == "https://api.github.com" else api.removesuffix("/api/v3")
