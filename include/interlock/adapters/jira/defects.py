"""The defects that test cases found, as issues of Jira: each is made once, and linked to each release once."""

from __future__ import annotations

import re

from interlock.domain.outbox.facts import Change
from interlock.domain.outbox.systems_file import JiraDefects
from interlock.domain.records import DefectLine

from .site import API, Site

_DUPLICATE = "interlock-duplicate"


class Defects:
    """The issues of defects."""

    def __init__(self, site: Site, described: JiraDefects) -> None:
        self._site, self._described = site, described

    def bring(self, change: Change, release: str) -> None:
        """Have an issue for each defect of a release, linked to the release's; say there which release fixed it.

        :param release: key of the release's issue.
        """
        if not change.defects:
            return
        linked = {one.key for one in self._site.issue(release, "issuelinks").fields.issuelinks}
        for defect in change.defects:
            key = self._issue_of(defect, change)
            if key and key not in linked:
                ends = {"inwardIssue": {"key": release}, "outwardIssue": {"key": key}}
                self._site.api.send("POST", f"{API}/issueLink", json={"type": {"name": self._described.link}, **ends})
            if key and defect.state == "fixed" and change.outcome == "deployed":
                said = f"Fixed in {change.service} {change.version}, by {release}."
                if said not in self._site.own_comments(key):
                    self._site.comment(key, said)

    def _issue_of(self, defect: DefectLine, change: Change) -> str:
        """Return the key of a defect's issue, which is made if it has none; empty: it is fixed, and never had one."""
        label = label_of(defect.id)
        found = self._site.labelled(self._described.project, label, "labels")
        for other in found[1:]:  # of a repeated request
            path = f"{API}/issue/{other.key}"
            self._site.api.send("PUT", path, json={"fields": {"labels": [_DUPLICATE]}})
        if found or defect.state == "fixed":
            return found[0].key if found else ""
        return self._site.create(
            {
                **self._described.fields,
                "project": {"key": self._described.project},
                "issuetype": {"name": self._described.issue_type},
                "summary": f"{change.service}: {defect.title}"[:250],
                "description": f"Defect {defect.id} ({defect.severity}), found in {defect.environment} in "
                f"{change.service} {defect.version}.",
                "labels": [label],
            }
        )


def label_of(defect: str) -> str:
    """Return the label of the issue of a defect: labels have no spaces."""
    return f"interlock-defect-{re.sub(r'[^A-Za-z0-9._-]', '-', defect)}"[:200]
