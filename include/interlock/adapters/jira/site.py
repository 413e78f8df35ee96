"""A Jira: its address and account, from an Airflow connection, and the shapes of its answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field

from interlock.adapters.outbox.web import TIMEOUT, WebApi
from interlock.adapters.tickets.site import url_of
from interlock.domain.errors import AssetMissing

API = "/rest/api/2"
"""Version 2, which Data Center has, and Cloud, too: its texts are plain."""
COMMENTS = 100
"""Comments of an issue that are read: the last ones."""


def open_jira(connection: Any, calls_per_second: float | None = None) -> WebApi:
    """Return the API of the Jira that an Airflow connection names.

    :param connection: host; Cloud: an e-mail address as login and an API token as password; Data Center: a personal
        access token as password, without a login.
    :raises ReleaseError: it has no password, or would send it over a network unencrypted.
    """
    base, login, password = url_of(connection), connection.login or "", connection.password or ""
    if not password:
        raise AssetMissing(
            f"The connection {connection.conn_id} of Jira lacks a password: an API token or a personal access token.",
            who="the platform engineer",
            next_step="complete the connection that systems.yaml names",
        )
    headers = {"Accept": "application/json", **({} if login else {"Authorization": f"Bearer {password}"})}
    auth = httpx.BasicAuth(login, password) if login else None
    client = httpx.Client(base_url=base, auth=auth, headers=headers, timeout=TIMEOUT, trust_env=False)
    return WebApi("Jira", client, calls_per_second=calls_per_second)


def issue_path(key: str) -> str:
    """Return the path of an issue in the API."""
    return f"{API}/issue/{quote(key, safe='')}"


class Told(BaseModel):
    """Base of what a Jira answers: it has many more fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Named(Told):
    """Something with a name."""

    name: str = ""


class Account(Told):
    """An account: Cloud knows it by an id, Data Center by a name."""

    name: str = ""
    accountId: str = ""

    @property
    def id(self) -> str:
        """What identifies it."""
        return self.accountId or self.name


class Keyed(Told):
    """An issue by its key."""

    key: str


class Attached(Told):
    """An attachment."""

    filename: str


class Linked(Told):
    """The other issue of a link; one of both is there."""

    inwardIssue: Keyed | None = None
    outwardIssue: Keyed | None = None

    @property
    def key(self) -> str:
        """Its key; empty: it is not shown."""
        other = self.inwardIssue or self.outwardIssue
        return other.key if other else ""


class Fields(Told):
    """The fields of an issue that are read here."""

    status: Named = Named()
    labels: tuple[str, ...] = ()
    fixVersions: tuple[Named, ...] = ()
    attachment: tuple[Attached, ...] = ()
    issuelinks: tuple[Linked, ...] = ()


class Issue(Told):
    """An issue."""

    id: str
    key: str = Field(min_length=1, max_length=200)
    fields: Fields = Fields()


class Found(Told):
    """What a search found."""

    issues: tuple[Issue, ...] = ()


class Comment(Told):
    """A comment."""

    body: str = ""
    author: Account = Account()


class Comments(Told):
    """The comments of an issue."""

    total: int = 0
    comments: tuple[Comment, ...] = ()


class Transition(Told):
    """A transition that the account may make now."""

    id: str
    to: Named


class Transitions(Told):
    """The transitions of an issue."""

    transitions: tuple[Transition, ...] = ()


class Version(Told):
    """A version of a project."""

    id: str
    name: str
    released: bool = False


class Site:
    """What issues, tickets and versions have in common: an API, and the account that it is used by."""

    def __init__(self, api: WebApi, *, cloud: bool) -> None:
        self.api, self._cloud, self._own = api, cloud, ""

    def own(self) -> str:
        """Return the id of the account, which is asked once."""
        if not self._own:
            path = f"{API}/myself"
            self._own = self.api.parsed(Account, self.api.read(path), f"GET {path}").id
        return self._own

    def labelled(self, project: str, label: str, fields: str) -> list[Issue]:
        """Return the issues of a project with a label, the oldest first."""
        path = f"{API}/search/jql" if self._cloud else f"{API}/search"
        asked = {"jql": f'project = "{project}" AND labels = "{label}"', "fields": fields, "maxResults": "50"}
        found = self.api.parsed(Found, self.api.read(path, asked), f"GET {path}")
        own = (one for one in found.issues if label in one.fields.labels)
        return sorted(own, key=lambda one: int(one.key.rpartition("-")[2]))

    def create(self, fields: dict[str, Any]) -> str:
        """Make an issue; return its key."""
        path = f"{API}/issue"
        return self.api.parsed(Keyed, self.api.send("POST", path, json={"fields": fields}), f"POST {path}").key

    def issue(self, key: str, fields: str) -> Issue:
        """Return an issue with some fields; NotThere if there is none."""
        path = issue_path(key)
        return self.api.parsed(Issue, self.api.read(path, {"fields": fields}), f"GET {path}")

    def own_comments(self, key: str) -> tuple[str, ...]:
        """Return the texts of the account's own comments on an issue, of the last ones."""
        path = f"{issue_path(key)}/comment"
        asked = {"maxResults": str(COMMENTS)}
        found = self.api.parsed(Comments, self.api.read(path, asked), f"GET {path}")
        if found.total > COMMENTS:
            asked["startAt"] = str(found.total - COMMENTS)
            found = self.api.parsed(Comments, self.api.read(path, asked), f"GET {path}")
        return tuple(one.body for one in found.comments if one.author.id == self.own())

    def comment(self, key: str, text: str) -> None:
        """Comment on an issue."""
        self.api.send("POST", f"{issue_path(key)}/comment", json={"body": text})

    def transitions(self, key: str) -> dict[str, str]:
        """Return the statuses that an issue may be moved to now, with the id of a transition to each."""
        path = f"{issue_path(key)}/transitions"
        found = self.api.parsed(Transitions, self.api.read(path), f"GET {path}")
        return {one.to.name: one.id for one in reversed(found.transitions)}

    def move(self, key: str, transition: str, fields: dict[str, Any] | None = None) -> None:
        """Make a transition of an issue."""
        body = {"transition": {"id": transition}, **({"fields": fields} if fields else {})}
        self.api.send("POST", f"{issue_path(key)}/transitions", json=body)
