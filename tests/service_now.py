"""An instance of ServiceNow as far as its published API says: changes, models, tasks, approvals, attachments, quotas.

Sources: the Change Management API (``/api/sn_chg_rest``), the Table API and the Attachment API of the product's
documentation. What follows from them here:

- A change begins in the first state of its model. A transition is allowed if the model has it and all its conditions
  are met; ``nextstates`` lists them, with what is not met. Another state is refused with 400.
- The model of normal changes: New, Assess, Authorize, Scheduled, Implement, Review, Closed, Canceled. With approvals,
  Authorize is left for Scheduled when all that are asked have approved. Implement is left when all tasks are closed.
  Closing needs a close code and close notes. Review cannot be cancelled.
- ``correlation_id`` is not unique: a request that arrives twice makes two changes.
- ``work_notes`` of a PATCH are appended to the journal, each time.
- More requests than the quota in its window are answered with 429 and ``Retry-After``.
- What a change clashes with is in the table ``conflict``; the instance looks for it by itself.
- An approval has the person who is asked (``approver``) and who changed it (``sys_updated_by``).
"""

from __future__ import annotations

import base64
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid5

NEW, ASSESS, AUTHORIZE, SCHEDULED, IMPLEMENT, REVIEW, CLOSED, CANCELED = ["-5", "-4", "-3", "-2", "-1", "0", "3", "4"]
LABELS = {
    NEW: "New",
    ASSESS: "Assess",
    AUTHORIZE: "Authorize",
    SCHEDULED: "Scheduled",
    IMPLEMENT: "Implement",
    REVIEW: "Review",
    CLOSED: "Closed",
    CANCELED: "Canceled",
}
WAY = (NEW, ASSESS, AUTHORIZE, SCHEDULED, IMPLEMENT, REVIEW, CLOSED)
FORWARD = dict(pairwise(WAY))
CANCELLABLE = (NEW, ASSESS, AUTHORIZE, SCHEDULED, IMPLEMENT)
OPEN_TASK, CLOSED_TASK, CANCELED_TASK = "1", "3", "4"
USER, PASSWORD = "interlock", "correct horse"
CLIENT, SECRET = "client-of-interlock", "secret of the client"
TEMPLATE = "a" * 32
_IDS = UUID("6f1f2f43-9c39-4b5c-9d3a-6a2a1f5d2f10")

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Request:
    """A request as it arrives."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Instance:
    """The state of an instance.

    :param approvals: the model asks for approvals before Scheduled.
    :param approvers: user names who are asked.
    :param unreadable: tables that the account may not read.
    :param quota: requests in each window of ``window`` seconds; 0: no quota.
    """

    approvals: bool = False
    approvers: tuple[str, ...] = ("ben", "cora")
    quota: int = 0
    window: float = 1.0
    mandatory: tuple[str, ...] = ()
    legacy: bool = False
    unreadable: tuple[str, ...] = ()
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, dict[str, str]] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    files_of: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    conflicts: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    journal: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    history: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    requests: int = 0
    refused_by_quota: int = 0
    tokens: set[str] = field(default_factory=set)
    _by_correlation: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _tasks_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _window_began: float = 0.0
    _in_window: int = 0
    _made: int = 0
    _lock: Any = field(default_factory=RLock)

    def answer(self, request: Request) -> Answer:
        """Answer a request, one at a time, as a transaction."""
        with self._lock:
            self.requests += 1
            if request.path == "/oauth_token.do":
                return self._token(request)
            if not self._is_known(request.headers):
                return _error(401, "User Not Authenticated", "Required to provide Auth information")
            if (wait := self._over_quota()) is not None:
                return _json(429, {"error": {"message": "Rate limit exceeded"}}, {"Retry-After": str(max(1, wait))})
            return self._route(request)

    def live(self, correlation: str) -> list[dict[str, Any]]:
        """Return the changes with a correlation id."""
        return [self.changes[one] for one in self._by_correlation[correlation]]

    def decide(self, change: Mapping[str, Any], approver: str, state: str, *, by: str = "", at: str = "") -> None:
        """Have a person decide on a change; ``by``: who presses the button for them."""
        with self._lock:
            row = next(
                one
                for one in self.asked.values()
                if one["sysapproval"] == change["sys_id"] and one["approver.user_name"] == approver
            )
            row |= {"state": state, "sys_updated_by": by or approver, "sys_updated_on": at or _now()}
            stored = self.changes[change["sys_id"]]
            of_change = [one["state"] for one in self.asked.values() if one["sysapproval"] == change["sys_id"]]
            if "rejected" in of_change:
                stored["approval"] = "rejected"
            elif all(one == "approved" for one in of_change):
                stored["approval"] = "approved"
            else:
                stored["approval"] = "requested"

    # -- who asks, and how often

    def _token(self, request: Request) -> Answer:
        form = dict(parse_qsl(request.body.decode()))
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET):
            return _json(401, {"error": "access_denied"})
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return _json(200, {"access_token": token, "expires_in": 1799, "token_type": "Bearer"})

    def _is_known(self, headers: Mapping[str, str]) -> bool:
        kind, _, what = headers.get("authorization", "").partition(" ")
        if kind == "Bearer":
            return what in self.tokens
        return kind == "Basic" and base64.b64decode(what).decode() == f"{USER}:{PASSWORD}"

    def _over_quota(self) -> int | None:
        if not self.quota:
            return None
        now = time.monotonic()
        if now - self._window_began >= self.window:
            self._window_began, self._in_window = now, 0
        self._in_window += 1
        if self._in_window <= self.quota:
            return None
        self.refused_by_quota += 1
        return round(self.window - (now - self._window_began))

    # -- what is asked

    def _route(self, request: Request) -> Answer:
        parts = request.path.strip("/").split("/")
        if parts[:3] == ["api", "sn_chg_rest", "change"]:
            return self._changes(request, parts[3:])
        if parts[:3] == ["api", "now", "attachment"]:
            return self._attachments(request)
        if parts[:3] == ["api", "now", "table"]:
            return self._table(request, parts[3])
        return _error(400, "Requested URI does not represent any resource", request.path)

    def _changes(self, request: Request, rest: list[str]) -> Answer:  # noqa: C901 -- a route a line
        body = json.loads(request.body) if request.body else {}
        match request.method, rest:
            case "GET", []:
                wanted = _conditions(request.query.get("sysparm_query", ""))
                rows = self.live(wanted["correlation_id"]) if "correlation_id" in wanted else [*self.changes.values()]
                return _json(200, {"result": [_shown(one) for one in rows[: int(request.query["sysparm_limit"])]]})
            case "POST", []:
                return self._create("normal", body)
            case "POST", [("normal" | "emergency") as kind]:
                return self._create(kind, body)
            case "POST", ["standard", template]:
                if template != TEMPLATE:
                    return _error(404, "Template not found", template)
                return self._create("standard", body)
            case "GET", ["model"]:
                return _json(200, {"result": [{"sys_id": {"value": "b" * 32}, "name": {"value": "Normal"}}]})
            case _, [sys_id, *_] if sys_id not in self.changes:
                return _error(404, "No Record found", sys_id)
            case "GET", [sys_id]:
                return _json(200, {"result": _shown(self.changes[sys_id])})
            case "PATCH", [sys_id]:
                return self._patch(self.changes[sys_id], body)
            case "GET", [sys_id, "nextstates"]:
                return _json(200, {"result": self._next(self.changes[sys_id])})
            case "GET", [sys_id, "task"]:
                return _json(200, {"result": [_shown(self.tasks[one]) for one in self._tasks_of[sys_id]]})
            case "POST", [sys_id, "task"]:
                return self._create_task(sys_id, body)
            case "PATCH", [sys_id, "task", task] if task in self.tasks:
                self.tasks[task] |= {name: str(value) for name, value in body.items()}
                return _json(200, {"result": _shown(self.tasks[task])})
        return _error(404, "No Record found", request.path)

    def _create(self, kind: str, body: dict[str, Any]) -> Answer:
        for name in self.mandatory:
            if not body.get(name):
                return _error(400, "Operation Failed", f"Data Policy Exception: {name} is mandatory")
        self._made += 1
        change = {
            "sys_id": uuid5(_IDS, str(self._made)).hex,
            "number": f"CHG{30000 + self._made:07}",
            "type": kind,
            "state": SCHEDULED if kind == "standard" else NEW,
            "approval": "not requested",
            "correlation_id": "",
            "correlation_display": "",
        }
        self._store(change, body)
        self.changes[change["sys_id"]] = change
        self._by_correlation[change["correlation_id"]].append(change["sys_id"])
        self.history[change["sys_id"]].append(change["state"])
        return _json(200, {"result": _shown(change)})

    def _store(self, change: dict[str, Any], body: Mapping[str, Any]) -> None:
        for name, value in body.items():
            if name == "work_notes":
                self.journal[change["sys_id"]].append(str(value))
            elif name not in ("sys_id", "number"):
                change[name] = str(value)[:100] if name.startswith("correlation_") else str(value)

    def _patch(self, change: dict[str, Any], body: dict[str, Any]) -> Answer:
        state = str(body.get("state", change["state"]))
        wanted = {**change, **body}
        if state != change["state"]:
            if state not in self._possible(change):
                return _error(400, "Operation Failed", f"{LABELS.get(state, state)} cannot follow {change['state']}")
            if unmet := [name for name, passed in self._conditions_of(wanted, state) if not passed]:
                return _error(400, "Operation Failed", f"Conditions are not met: {', '.join(unmet)}")
        before = change["correlation_id"]
        self._store(change, {**body, "state": state})
        if change["correlation_id"] != before:
            self._by_correlation[before].remove(change["sys_id"])
            self._by_correlation[change["correlation_id"]].append(change["sys_id"])
        if self.history[change["sys_id"]][-1] != state:
            self.history[change["sys_id"]].append(state)
            if state == AUTHORIZE and self.approvals:
                self._ask(change)
        return _json(200, {"result": _shown(change)})

    def _ask(self, change: dict[str, Any]) -> None:
        change["approval"] = "requested"
        for user in self.approvers:
            sys_id = uuid5(_IDS, f"{change['sys_id']} {user}").hex
            row = {"sysapproval": change["sys_id"], "state": "requested", "approver.user_name": user}
            self.asked[sys_id] = {**row, "sys_id": sys_id, "sys_updated_by": USER, "sys_updated_on": _now()}

    def _possible(self, change: Mapping[str, Any]) -> list[str]:
        at = change["state"]
        forward = [FORWARD[at]] if at in FORWARD else []
        return [*forward, *([CANCELED] if at in CANCELLABLE else [])]

    def _conditions_of(self, change: Mapping[str, Any], state: str) -> list[tuple[str, bool]]:
        if state == SCHEDULED and self.approvals:
            return [("Approved", change["approval"] == "approved")]
        if state == REVIEW:
            tasks = (self.tasks[one] for one in self._tasks_of[change["sys_id"]])
            return [("All tasks are closed", all(one["state"] in (CLOSED_TASK, CANCELED_TASK) for one in tasks))]
        if state == CLOSED:
            return [("Closed information", bool(change.get("close_code") and change.get("close_notes")))]
        return []

    def _next(self, change: Mapping[str, Any]) -> dict[str, Any]:
        possible = self._possible(change)
        labels = {state: LABELS[state] for state in (change["state"], *possible)}
        if self.legacy:
            return {"available_states": [*labels], "state_label": labels, "state_transitions": []}
        transitions = []
        for state in possible:
            # What is filled in with the transition itself is not there yet.
            found = [] if state == CLOSED else self._conditions_of(change, state)
            told = [{"passed": passed, "condition": {"name": name, "sys_id": "c" * 32}} for name, passed in found]
            one = {"sys_id": "d" * 32, "from_state": change["state"], "to_state": state, "conditions": told}
            available = all(passed for _, passed in found)
            transitions.append([{**one, "display_value": LABELS[state], "transition_available": available}])
        return {"available_states": [*labels], "state_label": labels, "state_transitions": transitions}

    def _create_task(self, change: str, body: dict[str, Any]) -> Answer:
        number = len(self.tasks) + 1
        task = {"sys_id": uuid5(_IDS, f"task {number}").hex, "number": f"CTASK{10000 + number}", "state": OPEN_TASK}
        self.tasks[task["sys_id"]] = {**task, "correlation_id": "", **{name: str(one) for name, one in body.items()}}
        self._tasks_of[change].append(task["sys_id"])
        return _json(200, {"result": _shown(self.tasks[task["sys_id"]])})

    def _attachments(self, request: Request) -> Answer:
        if request.method == "GET":
            wanted = _conditions(request.query.get("sysparm_query", ""))
            rows = self.files_of[wanted.get("table_sys_id", "")]
            shown = [{name: value for name, value in one.items() if name != "content"} for one in rows]
            return _json(200, {"result": shown})
        if request.query.get("table_sys_id") not in self.changes:
            return _error(404, "Invalid table sys_id", str(request.query.get("table_sys_id")))
        number = len(self.files)
        about = {"sys_id": uuid5(_IDS, f"file {number}").hex, "size_bytes": str(len(request.body)), **request.query}
        self.files.append({**about, "content": request.body})
        self.files_of[about["table_sys_id"]].append(self.files[-1])
        return _json(201, {"result": about})

    def _table(self, request: Request, table: str) -> Answer:
        wanted = _conditions(request.query.get("sysparm_query", ""))
        if table in self.unreadable:
            return _error(403, "User Not Authorized", "Failed API level ACL Validation")
        if table == "sysapproval_approver":
            rows = [one for one in self.asked.values() if one["sysapproval"] == wanted.get("sysapproval")]
            return _json(200, {"result": rows})
        if table == "conflict":
            rows = self.conflicts.get(wanted.get("change", ""), [])
            return _json(200, {"result": rows[: int(request.query["sysparm_limit"])]})
        if table == "sys_choice":
            rows = [{"element": "close_code", "value": one, "label": one} for one in ("successful", "unsuccessful")]
            states = [{"element": "state", "value": value, "label": label} for value, label in LABELS.items()]
            tasks = {OPEN_TASK: "Open", "2": "In progress", CLOSED_TASK: "Closed", CANCELED_TASK: "Canceled"}
            of_tasks = [{"element": "state", "value": value, "label": label} for value, label in tasks.items()]
            found = {"change_request": [*states, *rows], "change_task": of_tasks}.get(wanted.get("name", ""), [])
            element = wanted.get("element")
            return _json(200, {"result": [one for one in found if element in (None, one["element"])]})
        if table == "sys_user":
            return _json(200, {"result": [{"user_name": USER, "sys_id": "e" * 32}]})
        return _error(403, "User Not Authorized", table)


def _conditions(query: str) -> dict[str, str]:
    parts = (part.partition("=") for part in query.split("^") if not part.startswith("ORDERBY"))
    return {name: value for name, _, value in parts}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the Change Management API does: numbers are numbers, and each field has two values."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        number = float(value) if name in ("state", "risk") and value.lstrip("-").isdecimal() else value
        shown[name] = {"value": number, "display_value": LABELS.get(value, value) if name == "state" else value}
    return shown


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())


def _json(code: int, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return code, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()


def _error(code: int, message: str, detail: str) -> Answer:
    return _json(code, {"error": {"message": message, "detail": detail}, "status": "failure"})


@contextmanager
def serving(answers: Any) -> Iterator[str]:
    """Serve something with a method ``handle(handler, request)``, or an instance; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, url.path, dict(parse_qsl(url.query)), headers, body)
            if hasattr(answers, "handle"):
                answers.handle(self, request)
            else:
                self.reply(answers.answer(request))

        do_POST = do_PATCH = do_DELETE = do_GET

        def reply(self, answer: Answer, *, cut: bool = False) -> None:
            """Send an answer; or only the beginning of it, and end the connection."""
            code, headers, body = answer
            lines = [f"HTTP/1.1 {code} X", *(f"{name}: {value}" for name, value in headers.items())]
            whole = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
            self.wfile.write(whole[: len(whole) // 2] if cut else whole)
            if cut:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            return  # clients that went away

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
