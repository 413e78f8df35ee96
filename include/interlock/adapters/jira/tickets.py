"""The tickets of a release in Jira, and the versions of their projects: commented, moved, made, released, un-released.

Each effect is compared with what is there first, so it happens once, however often it is tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from interlock.adapters.outbox.web import NotThere
from interlock.domain.errors import DeliveryRefused
from interlock.domain.outbox.facts import Change, Statement
from interlock.domain.outbox.systems_file import JiraTickets, Outcome

from .site import API, Site, Version, issue_path

_SAID: dict[Outcome, str] = {
    "deployed": "{title}: deployed. It is in production.",
    "backed_out": "{title}: backed out. It is not in production.",
}


class Tickets:
    """The tickets of releases, and the versions that they belong to."""

    def __init__(self, site: Site, described: JiraTickets) -> None:
        self._site, self._described = site, described

    def bring(self, statement: Statement, number: str) -> tuple[str, ...]:
        """Bring tickets and versions to what a statement says; return in sentences what could not be done.

        :param number: of the record of the release, which comments name.
        """
        return tuple(self._bring(statement, number))

    def _bring(self, statement: Statement, number: str) -> Iterator[str]:
        change, about = statement.change, _about(statement)
        if about is None:
            return
        name = self._described.versions.get(change.service, "")
        for project in self._described.projects if name else ():
            yield from self._versions(project, name, change, about)
        for key in dict.fromkeys(change.tickets):
            if key.partition("-")[0] in self._described.projects:
                yield from self._ticket(key, change, about, number, name.replace("{version}", change.version))

    def _versions(self, project: str, name: str, change: Change, about: Outcome) -> Iterator[str]:
        wanted = name.replace("{version}", change.version)
        try:
            known = self._known(project)
        except NotThere:
            yield f"Jira has no project {project} that the account may see, so it has no version {wanted}."
            return
        if wanted not in known and about != "backed_out":
            body = {"name": wanted, "project": project, "description": change.title, "released": False}
            path = f"{API}/version"
            known[wanted] = self._site.api.parsed(Version, self._site.api.send("POST", path, json=body), f"POST {path}")
        if about == "deployed":
            on = {"releaseDate": f"{change.ended:%Y-%m-%d}"} if change.ended else {}
            self._set(known[wanted], {"released": True, **on})
        taken_back = wanted if about == "backed_out" else name.replace("{version}", change.previous)
        if (about == "backed_out" or (about == "deployed" and change.rolls_back)) and taken_back in known:
            self._set(known[taken_back], {"released": False})

    def _known(self, project: str) -> dict[str, Version]:
        path = f"{API}/project/{quote(project, safe='')}/versions"
        rows = self._site.api.read(path)
        versions = (self._site.api.parsed(Version, row, f"GET {path}") for row in rows or ())
        return {one.name: one for one in versions}

    def _set(self, version: Version, fields: dict[str, object]) -> None:
        if version.released is not fields["released"]:
            self._site.api.send("PUT", f"{API}/version/{quote(version.id, safe='')}", json=fields)

    def _ticket(self, key: str, change: Change, about: Outcome, number: str, version: str) -> Iterator[str]:
        try:
            issue = self._site.issue(key, "status,fixVersions")
            if version and about == "planned" and version not in {one.name for one in issue.fields.fixVersions}:
                added = {"update": {"fixVersions": [{"add": {"name": version}}]}}
                self._site.api.send("PUT", issue_path(key), json=added)
            if self._described.comment and about in _SAID:
                self._comment(key, _SAID[about].format(title=change.title), f"[Interlock {number}, {about}]")
            status = self._described.moves.get(about)
            if status is None or issue.fields.status.name == status:
                return
            transition = self._site.transitions(key).get(status)
            if transition is None:
                at = issue.fields.status.name
                yield f"{key} was not moved to {status}: its workflow has no transition from {at}."
                return
            self._site.move(key, transition)
        except NotThere:
            yield f"{key} is not there, or the account may not see it."
        except DeliveryRefused as error:  # a ticket that refuses does not keep the record of the release back
            yield f"{key} was not changed: {error.what}"

    def _comment(self, key: str, text: str, mark: str) -> None:
        if not any(body.rstrip().endswith(mark) for body in self._site.own_comments(key)):
            self._site.comment(key, f"{text}\n{mark}")


def _about(statement: Statement) -> Outcome | None:
    """Return what a statement means for tickets; none: nothing."""
    if statement.event == "planned":
        return "planned"
    if statement.event == "closed" and statement.change.outcome == "deployed":
        return "deployed"
    if statement.event == "closed" and statement.change.outcome == "backed_out":
        return "backed_out"
    return None
