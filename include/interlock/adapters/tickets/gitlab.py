"""Issues of GitLab."""

from __future__ import annotations

from interlock.domain.catalogue.outside.tickets import TicketSystem

from .reader import Found, Said, Text, by_state, number_of
from .site import Site, quoted


class _Titled(Said):
    title: Text


class _Issue(Said):
    iid: int
    title: Text
    state: Text
    issue_type: Text = "issue"
    milestone: _Titled | None = None
    epic: _Titled | None = None
    labels: tuple[Text, ...] = ()


class GitLab:
    """GitLab. The token needs the scope ``read_api``, and the role Reporter in the project if that is private.

    :param site: of a connection with host: the address of the GitLab; password: a personal, project or group access
        token.
    """

    def __init__(self, site: Site, system: TicketSystem) -> None:
        self._site, self._system = site, system

    def read(self, key: str, project: str) -> Found | None:
        """Return an issue of a project."""
        issue = self._site.get(_Issue, f"/api/v4/projects/{quoted(project)}/issues/{number_of(key)}")
        if issue is None:
            return None
        path = "/".join(map(quoted, project.split("/")))
        return Found(
            title=issue.title,
            status=issue.state,
            type=issue.issue_type,
            parent=issue.epic.title if issue.epic else "",
            fix_versions=(issue.milestone.title,) if issue.milestone else (),
            labels=issue.labels,
            approved=by_state(self._system.approved, issue.state, issue.labels),
            link=f"{self._system.site or self._site.url}/{path}/-/issues/{issue.iid}",
        )
