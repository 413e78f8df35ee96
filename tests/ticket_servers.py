"""Systems that keep tickets, on the loopback interface: Jira, GitHub, GitLab and Azure DevOps, each with its own state.

Jira is jira820, with what it leaves out: logins, and the approvals of Jira Service Management. The others are written
from the published REST APIs: paths, fields and statuses of reading an issue, and what a wrong token gets.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from jira820.config import Config
from jira820.server import make_app
from jira820.store import Store
from starlette.responses import Response

from tests.asgi_server import asgi_server
from tests.http_server import Handler, http_server
from tests.ports import free_port

TOKEN = "t0ken-of-a-reader"
Reply = tuple[int, Any]


@dataclass
class Tickets:
    """A system: its tickets by project and number, and what was asked.

    :param faults: statuses and headers of the next answers, whatever is asked.
    """

    url: str = ""
    issues: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def github(tickets: Tickets, path: str, login: str, _: dict[str, list[str]]) -> Reply:
    if login != f"Bearer {TOKEN}":
        return 401, {"message": "Bad credentials"}
    found = re.fullmatch(r"/repos/([^/]+)/([^/]+)/issues/(\d+)", path)
    issue = tickets.issues.get((f"{found[1]}/{found[2]}", int(found[3]))) if found else None
    return (404, {"message": "Not Found"}) if issue is None else (200, issue)


def gitlab(tickets: Tickets, path: str, login: str, _: dict[str, list[str]]) -> Reply:
    if login != f"Bearer {TOKEN}":
        return 401, {"message": "401 Unauthorized"}
    found = re.fullmatch(r"/api/v4/projects/([^/]+)/issues/(\d+)", path)
    issue = tickets.issues.get((unquote(found[1]), int(found[2]))) if found else None
    return (404, {"message": "404 Not found"}) if issue is None else (200, issue)


def azure_devops(tickets: Tickets, path: str, login: str, query: dict[str, list[str]]) -> Reply:
    if login != f"Basic {base64.b64encode(f':{TOKEN}'.encode()).decode()}":
        return 203, "<html>Azure DevOps Services | Sign In</html>"
    found = re.fullmatch(r"/acme/([^/]+)/_apis/wit/workitems/(\d+)", path)
    item = tickets.issues.get((unquote(found[1]), int(found[2]))) if found else None
    if item is None:
        return 404, {"typeKey": "WorkItemUnauthorizedAccessException", "message": "TF401232: does not exist"}
    wanted = query["fields"][0].split(",")
    return 200, {**item, "fields": {name: item["fields"][name] for name in wanted if name in item["fields"]}}


@contextmanager
def serving(system: Callable[[Tickets, str, str, dict[str, list[str]]], Reply]) -> Iterator[Tickets]:
    """Serve a system for a block."""
    tickets = Tickets()

    class Answers(Handler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            tickets.asked.append(parts.path)
            headers: dict[str, str] = {}
            if tickets.faults:
                status, headers = tickets.faults.pop(0)
                said: Any = {"message": "not now"}
            else:
                status, said = system(tickets, parts.path, self.headers.get("Authorization", ""), parse_qs(parts.query))
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.answer(status, body, headers)

    with http_server(Answers) as port:
        tickets.url = f"http://127.0.0.1:{port}"
        yield tickets


@dataclass
class JiraServer:
    """A Jira Data Center with the project SHOP.

    :param approvals: of requests of Jira Service Management: the decisions of each.
    """

    url: str
    store: Store
    approvals: dict[str, list[str]] = field(default_factory=dict)

    def issue(self, summary: str, *, kind: str = "Story", parent: str = "", version: str = "") -> str:
        """Create an issue as a person does, and return its key."""
        fields: dict[str, Any] = {"project": {"key": "SHOP"}, "issuetype": {"name": kind}, "summary": summary}
        if parent:
            fields["parent"] = {"key": parent}
        key = str(self.store.create_issue(fields)["key"])
        if version:
            self.store.issues[key]["fixVersions"] = [{"id": 1, "name": version}]
        return key

    def move(self, key: str, status: str) -> None:
        """Take an issue into another state."""
        self.store.issues[key]["statusName"] = status


def _with_what_changes_write(app: FastAPI, store: Store) -> None:
    """Add what jira820 leaves out: writing versions, and ``update`` of an issue; as the published REST API has it."""

    @app.post("/rest/api/2/version", status_code=201)
    async def make_version(request: Request) -> Response:
        body = await request.json()
        if any(one["name"] == body["name"] for one in store.versions):
            said = {"errorMessages": [], "errors": {"name": "A version with this name already exists in this project."}}
            return JSONResponse(said, status_code=400)
        store.versions.append({"id": 10000 + len(store.versions), **body})
        return JSONResponse(store.serializer.version_obj(store.versions[-1]), status_code=201)

    @app.put("/rest/api/2/version/{id}")
    async def change_version(id: str, request: Request) -> Response:
        version = next(one for one in store.versions if str(one["id"]) == id)
        version |= await request.json()
        return JSONResponse(store.serializer.version_obj(version))

    async def update_issue(key: str, request: Request) -> Response:
        body = await request.json()
        issue = store.get_issue(key)
        for change in body.get("update", {}).get("fixVersions", ()):
            found = [one for one in store.versions if one["name"] == change["add"]["name"]]
            if not found:
                return JSONResponse({"errors": {"fixVersions": "Version name is not valid"}}, status_code=400)
            issue["fixVersions"] = [*issue["fixVersions"], *found]
        store.update_issue(key, body.get("fields", {}))
        issue["custom"] = {**issue.get("custom", {}), **body.get("fields", {})}
        return Response(status_code=204)

    app.router.routes.insert(0, APIRoute("/rest/api/2/issue/{key}", update_issue, methods=["PUT"]))


@contextmanager
def jira() -> Iterator[JiraServer]:
    """Serve a Jira for a block."""
    store = Store(Config(project_key="SHOP", project_name="Shop"))
    server = JiraServer(f"http://127.0.0.1:{(port := free_port())}", store)
    app: FastAPI = make_app(store)

    @app.get("/rest/servicedeskapi/request/{key}/approval")
    def approval(key: str) -> Response:
        if key not in server.approvals:
            return JSONResponse({"errorMessage": "No request exists for the given key"}, status_code=404)
        found = [{"id": str(n), "finalDecision": one} for n, one in enumerate(server.approvals[key])]
        return JSONResponse({"size": len(found), "start": 0, "limit": 50, "isLastPage": True, "values": found})

    _with_what_changes_write(app, store)

    @app.middleware("http")
    async def login(request: Request, follow: Any) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"message": "Client must be authenticated"}, status_code=401)
        return await follow(request)  # type: ignore[no-any-return]

    with asgi_server(app, port):
        yield server
