"""Issues of Jira as records of releases: found by a label, made, and told each statement once.

Each statement is a comment. Its last line says up to where the issue was told, so a comment whose answer was lost is
not written again. Only comments of the account itself count. The statuses are those that the catalogue names, and an
issue only goes where its workflow says that it may go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from interlock.adapters.outbox.web import WebApi
from interlock.domain.errors import DeliveryRefused
from interlock.domain.outbox.delivery import Cursor, Remote
from interlock.domain.outbox.facts import Change, Document, Statement
from interlock.domain.outbox.systems_file import Jira
from interlock.domain.outbox.way import next_state, states_ahead

from .defects import Defects
from .site import Issue, Site, issue_path
from .tickets import Tickets

MAX_SUMMARY = 250
MAX_TEXT = 32_000
"""Characters of a summary, and of a text, that every Jira takes."""
MARK = "Interlock "
"""The beginning of the last line of a comment, before the cursor."""
_FIELDS = "status,labels"
_DUPLICATE = "interlock-duplicate"


class Issues:
    """The issues of changes in a Jira."""

    gathers = False  # each fact is a comment, and moves tickets

    def __init__(self, api: WebApi, described: Jira) -> None:
        self.api, self._described, self._site = api, described, Site(api, cloud=described.cloud)
        self._tickets = Tickets(self._site, described.tickets) if described.tickets else None
        self._defects = Defects(self._site, described.defects) if described.defects else None

    def close(self) -> None:
        """Close its connections."""
        self.api.close()

    def find(self, correlation: str) -> Sequence[Remote]:
        """Return the issues with a label, the oldest first."""
        return tuple(map(self._remote, self._site.labelled(self._described.project, correlation, _FIELDS)))

    def create(self, correlation: str, statement: Statement) -> Remote:
        """Make an issue of the type of the release's change type."""
        change, described = statement.change, self._described
        if change.change_type not in described.issue_types:
            raise DeliveryRefused(
                f"systems.yaml names no type of issue for a {change.change_type} change.",
                rule="issue_types of the system in systems.yaml",
                who="the owner of systems.yaml",
                next_step="add it, then trigger the Dag retry_deliveries",
            )
        fields = {
            **described.fields,
            "project": {"key": described.project},
            "issuetype": {"name": described.issue_types[change.change_type]},
            "summary": change.title[:MAX_SUMMARY],
            "description": change.description[:MAX_TEXT],
            "labels": [correlation],
            **self._sets(change),
        }
        return self._named(self._site.create(fields))

    def change(self, remote: Remote, statement: Statement) -> Remote:
        """Bring fields, status, tickets and versions to what a statement says, then write it as a comment."""
        change, key = statement.change, remote.reference
        self._attach(key, statement.documents)
        if statement.event in ("frozen", "begun", "closed") and (fields := self._sets(change)):
            self.api.send("PUT", issue_path(key), json={"fields": fields})
        state = remote.state
        for state, transition in self._way(remote, statement):
            self._site.move(key, transition, self._described.transition_fields.get(state))
        left = self._tickets.bring(statement, remote.number) if self._tickets else ()
        if self._defects and statement.event in ("frozen", "closed"):
            self._defects.bring(change, key)
        text = "\n".join([statement.text, *left])[: MAX_TEXT - 100]
        self._site.comment(key, f"{text}\n{MARK}{statement.told}")
        return remote.model_copy(update={"told": statement.told, "state": state})

    def withdraw(self, duplicate: Remote, original: Remote) -> None:
        """Take the label from a duplicate, so that it is not found again; say why it is there, and cancel it."""
        key = duplicate.reference
        self.api.send("PUT", issue_path(key), json={"fields": {"labels": [_DUPLICATE]}})
        self._site.comment(key, f"Made twice by a repeated request. The record of the release is {original.number}.")
        cancelled = self._described.states.cancelled[-1]
        if (transition := self._site.transitions(key).get(cancelled)) is not None:
            self._site.move(key, transition, self._described.transition_fields.get(cancelled))

    def _sets(self, change: Change) -> dict[str, Any]:
        """Return the fields that the catalogue names, with what they say now."""
        known: dict[str, Any] = {
            "start": jira_time(change.planned_start),
            "end": jira_time(change.planned_start + self._described.expected),
            "began": jira_time(change.began),
            "ended": jira_time(change.ended),
            "plan": change.plan,
            "risk": change.risk,
            "outcome": change.outcome,
            "service": change.service,
        }
        return {field: known[name] for name, field in self._described.sets.items() if known[name] is not None}

    def _way(self, remote: Remote, statement: Statement) -> Iterator[tuple[str, str]]:
        """Yield the statuses that an issue goes through, each with the transition to it."""
        at = remote.state or self._site.issue(remote.reference, _FIELDS).fields.status.name
        seen = {at}
        while ahead := states_ahead(self._described.states, statement.change.phase, at):
            possible = self._site.transitions(remote.reference)
            at = next_state(ahead, possible.__contains__, seen)
            if not at and statement.is_late:
                return
            if not at:
                raise self._kept(remote, ahead[-1], possible)
            yield at, possible[at]
            seen.add(at)

    def _kept(self, remote: Remote, wanted: str, possible: dict[str, str]) -> DeliveryRefused:
        return DeliveryRefused(
            f"{remote.number} cannot go to {wanted} in Jira: there is no transition that the account may make now. "
            f"Possible: {', '.join(possible) or 'none'}.",
            rule="the workflow of its project, and states of the system in systems.yaml",
            who="the administrator of Jira, and the owner of systems.yaml",
            next_step="correct one of them, or move the issue there; then trigger the Dag retry_deliveries",
        )

    def _attach(self, key: str, documents: Sequence[Document]) -> None:
        if not documents:
            return
        there = {one.filename for one in self._site.issue(key, "attachment").fields.attachment}
        for document in documents:
            if document.name not in there:
                file = (document.name, document.content, document.media_type)
                form = httpx.Request("POST", self.api.base_url, files={"file": file})
                headers = {"Content-Type": form.headers["Content-Type"], "X-Atlassian-Token": "no-check"}
                self.api.send("POST", f"{issue_path(key)}/attachments", content=form.read(), headers=headers)

    def _remote(self, issue: Issue) -> Remote:
        told = Cursor()
        for body in self._site.own_comments(issue.key):
            last = body.rstrip().rpartition("\n")[2]
            if last.startswith(MARK):
                told = told.with_all_of(Cursor.read(last))
        return self._named(issue.key).model_copy(update={"told": told, "state": issue.fields.status.name})

    def _named(self, key: str) -> Remote:
        return Remote(reference=key, number=key, url=f"{self.api.base_url}/browse/{key}")


def jira_time(at: datetime | None) -> str | None:
    """Return an instant as fields of the type date and time have it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000+0000" if at else None
