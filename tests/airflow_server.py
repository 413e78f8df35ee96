"""A small server with the part of Airflow's REST API that a release reads its answers from.

It does what Airflow does where that matters: tokens that stop being valid, pages, one answer for each question, and
only by those who were asked.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import ANSWER_GIVEN, QUESTION_WORDED
from interlock.domain.ledger.witness import GivenAnswer
from tests.witness import digest_of, given_payload, worded_payload

RUN = ("release_bike_shop", "manual__2026-11-23T06:17:00+00:00")
CHAIN = release_chain(*RUN)
LONG_AGO = "2000-01-01T00:00:00+00:00"
ACCOUNTS = {"reader": "r3ader", "board_clerk": "cl3rk", "interlock_conductor": "c0nductor"}
_QUESTION = re.compile(r"/taskInstances/([^/]+)/(-?\d+)/hitlDetails$")
_RUN = re.compile(r"/api/v2/dags/([^/]+)/dagRuns(?:/([^/]+)(/hitlDetails)?)?")
_LOG = re.compile(r"/taskInstances/([^/]+)/logs/(\d+)$")


class AirflowServer(ThreadingHTTPServer):
    """Questions and task instances of one run, and how the next requests are to go wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accounts = dict(ACCOUNTS)
        self.tokens: dict[str, str] = {}
        self.questions: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.run: dict[str, Any] | None = None
        """The run itself, if it is there to be read; a test that deletes it clears :attr:`knows_run`."""
        self.knows_run = True
        self.logs: dict[tuple[str, int], str] = {}
        self.audit: list[dict[str, Any]] = []
        """The rows of the audit log."""
        self.more: dict[str, Any] = {}
        """Path: what else is answered there."""
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        """Further runs, by Dag and run: state, conf, and who asked for it; their questions are :attr:`questions`."""
        self.page_limit = 100
        self.troubles: list[tuple[int, bytes]] = []
        """Status and body of the next answers, before the server does its work again."""
        self.asked: list[tuple[str, str]] = []
        self.logins = 0
        self.lock = threading.RLock()

    @property
    def port(self) -> int:
        """Return where the server listens."""
        return int(self.server_address[1])

    def ask(self, task_id: str, user: str, *, body: str = "", map_index: int = 0, **more: Any) -> dict[str, Any]:
        """Add a question that nobody has answered."""
        question = {
            "task_instance": {"task_id": task_id, "map_index": map_index},
            "subject": f"A question to {user}",
            "body": body,
            "assigned_users": [{"id": name, "name": name.title()} for name in (user, "board_clerk")],
            "response_received": False,
            "responded_by_user": None,
            "responded_at": None,
            "chosen_options": None,
            "params_input": {},
            **more,
        }
        with self.lock:
            self.questions.append(question)
        return question

    def answer(self, question: dict[str, Any], user: str | None, choice: str, comment: str = "", **more: Any) -> None:
        """Answer a question as somebody, or as nobody when the time is up."""
        with self.lock:
            question.update(
                response_received=True,
                responded_by_user={"id": "7", "name": user} if user else None,
                responded_at=datetime.now(UTC).isoformat(),
                chosen_options=[choice],
                params_input={"comment": comment},
            )
            question.update(more)

    def wipe(self, task_id: str) -> None:
        """Forget every answer to the questions of a task, as somebody with the database can."""
        nothing = {"responded_by_user": None, "responded_at": None, "chosen_options": None, "params_input": {}}
        with self.lock:
            for question in self.questions:
                if question["task_instance"]["task_id"] == task_id:
                    question.update(response_received=False, **nothing)

    def witnessed(self) -> list[SimpleNamespace]:
        """Return what the ledger has of the answers: all of them came in at the API, but for those written past it."""
        with self.lock:
            given = [one for one in self.questions if one["responded_by_user"] and not one.get("written_past_the_api")]
            return [*map(self._worded, self.questions), *map(self._given, given)]

    def _worded(self, question: dict[str, Any]) -> SimpleNamespace:
        """Return the entry that says that a question was worded so."""
        payload = worded_payload(CHAIN, question["task_instance"]["task_id"], question)
        return SimpleNamespace(kind=QUESTION_WORDED, chain=CHAIN, actor="a task", payload=payload)

    def _given(self, question: dict[str, Any]) -> SimpleNamespace:
        user = question["responded_by_user"]["name"]
        at = datetime.fromisoformat(question["responded_at"] or datetime.now(UTC).isoformat())
        given = GivenAnswer(
            user=user,
            **question["task_instance"],
            choice=question["chosen_options"][0],
            comment=question["params_input"].get("comment", ""),
            conditions=question["params_input"].get("conditions", ""),
            evidence=question["params_input"].get("evidence", ""),
            step=question["params_input"].get("step", ""),
            defect=question["params_input"].get("defect", ""),
            question=digest_of(question),
        )
        payload = given_payload(CHAIN, given, at)
        return SimpleNamespace(kind=ANSWER_GIVEN, chain=CHAIN, actor=user, at=at, payload=payload)

    def forget_tokens(self) -> None:
        """Let every token be of the past."""
        with self.lock:
            self.tokens.clear()

    def reply(self, method: str, path: str, token: str, content: Any) -> tuple[int, Any]:
        """Return status and body for a request."""
        url = urlsplit(path)
        self.asked.append((method, url.path))
        if self.troubles:
            return self.troubles.pop(0)
        if url.path == "/auth/token":
            return self._log_in(content)
        if token not in self.tokens:
            return 401, {"detail": "Token Expired"}
        if (beside := self._beside(unquote(url.path), parse_qs(url.query))) is not None:
            return 200, beside
        if (of_run := self._of_runs(method, url.path, parse_qs(url.query), self.tokens[token], content)) is not None:
            return of_run
        return self._of_the_run(method, url.path, parse_qs(url.query), self.tokens[token], content)

    def _of_the_run(
        self, method: str, path: str, query: dict[str, list[str]], user: str, content: Any
    ) -> tuple[int, Any]:
        """Return what is answered about the run :data:`RUN`."""
        run = "/api/v2/dags/{}/dagRuns/{}/".format(*RUN)
        if not self.knows_run or not f"{unquote(path)}/".startswith(run):
            return 404, {"detail": "The DagRun was not found"}
        if f"{unquote(path)}/" == run:
            return (200, self.run) if self.run else (404, {"detail": "The DagRun was not found"})
        if found := _LOG.search(path):
            text = self.logs.get((unquote(found[1]), int(found[2])))
            return (200, text.encode()) if text else (404, {"detail": "The log was not found"})
        if method == "PATCH" and (found := _QUESTION.search(path)):
            return self._answered(unquote(found[1]), int(found[2]), user, content)
        key, rows = {
            "hitlDetails": ("hitl_details", self._wanted(query)),
            "taskInstances": ("task_instances", self.tasks),
        }.get(path.rpartition("/")[2], ("", None))
        if rows is None:
            return 404, {"detail": "Not found"}
        return 200, self._page(rows, query, key)

    def _of_runs(
        self, method: str, path: str, query: dict[str, list[str]], user: str, content: Any
    ) -> tuple[int, Any] | None:
        """Return what is answered about further runs; None: it is about something else."""
        found = _RUN.fullmatch(path)
        dag_id, run_id, rest = (unquote(part or "") for part in found.groups()) if found else ("", "", "")
        if found and method == "POST" and not run_id:
            return self._started(dag_id, user, content)
        if (dag_id, run_id) not in self.runs:
            return None
        return 200, self._page(self._wanted(query), query, "hitl_details") if rest else self.runs[dag_id, run_id]

    def _started(self, dag_id: str, user: str, content: dict[str, Any]) -> tuple[int, Any]:
        asked = (dag_id, content.get("dag_run_id") or f"manual__{len(self.runs)}")
        if asked in self.runs:
            return 409, {"detail": "DagRun already exists"}
        run = {"state": "running", "conf": content["conf"], "by": user, "dag_id": dag_id, "dag_run_id": asked[1]}
        self.runs[asked] = {**run, "triggering_user_name": user}
        return 200, self.runs[asked]

    def _log_in(self, content: dict[str, str]) -> tuple[int, Any]:
        if self.accounts.get(content["username"]) != content["password"]:
            return 401, {"detail": "Invalid credentials"}
        self.logins += 1
        self.tokens[f"token-{self.logins}"] = content["username"]
        return 201, {"access_token": f"token-{self.logins}"}

    def _beside(self, path: str, query: dict[str, list[str]]) -> Any:
        """Return what is answered beside the run's own rows."""
        if path == "/interlock/watched":
            asked = zip(query["run"], query["after"], strict=True)
            return {"runs": [self._watched(*run.partition("/")[::2], after) for run, after in asked]}
        if path == "/interlock/answered":
            return {"answers": [self._given_to(one) for one in query["question"]]}
        if path == "/api/v2/eventLogs":
            return self._page(self._audited(query), query, "event_logs")
        return self.more.get(path)

    def _watched(self, dag_id: str, run_id: str, after: str) -> dict[str, Any]:
        """Return what Interlock's plugin says of a run."""
        asked = (dag_id, run_id)
        run = self.run if asked == RUN and self.knows_run else self.runs.get(asked)
        path = "/api/v2/dags/{}/dagRuns/{}/taskInstances".format(*asked)
        tasks = [
            {
                "task_id": one["task_id"],
                "map_index": one["map_index"],
                "state": one["state"],
                "tries": [
                    row["state"]
                    for row in self.more.get(f"{path}/{one['task_id']}/tries", {}).get("task_instances", ())
                ],
                "result": self.more.get(f"{path}/{one['task_id']}/xcomEntries/return_value", {}).get("value"),
            }
            for one in (self.tasks if asked == RUN else ())
        ]
        bundles = [one["bundle_name"] for one in (run or {}).get("dag_versions") or () if one.get("bundle_name")]
        return {
            "run": run and {**{key: run[key] for key in ("state",) if key in run}, "bundles": bundles},
            "tasks": tasks if run else [],
            "answers": [one for one in self.questions if one["response_received"]] if asked == RUN and run else [],
            "audit": self._audited({"dag_id": [dag_id], "after": [after]}),
        }

    def _given_to(self, question: str) -> list[dict[str, Any]]:
        run, _, task_id = question.rpartition("/")
        asked = self._wanted({"task_id": [task_id], "response_received": ["true"]})
        return asked if run == "/".join(RUN) and self.knows_run else []

    def _audited(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        wanted = {name: query[name][0] for name in ("dag_id", "run_id", "event") if name in query}
        part, after = query.get("event_pattern", [""])[0], datetime.fromisoformat(query.get("after", [LONG_AGO])[0])
        return [
            row
            for row in self.audit
            if wanted.items() <= row.items() and part in row["event"] and datetime.fromisoformat(row["when"]) > after
        ]

    def _wanted(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Return the questions that a query names by task and by whether they are answered."""
        tasks, answered = query.get("task_id"), query.get("response_received")
        return [
            one
            for one in self.questions
            if tasks in (None, [one["task_instance"]["task_id"]])
            and answered in (None, [str(one["response_received"]).lower()])
        ]

    def _page(self, rows: list[dict[str, Any]], query: dict[str, list[str]], key: str) -> dict[str, Any]:
        first, limit = int(query["offset"][0]), min(int(query["limit"][0]), self.page_limit)
        return {key: rows[first : first + limit], "total_entries": len(rows)}

    def _answered(self, task_id: str, map_index: int, user: str, content: dict[str, Any]) -> tuple[int, Any]:
        wanted = {"task_id": task_id, "map_index": map_index}.items()
        found = [question for question in self.questions if wanted <= question["task_instance"].items()]
        if not found:
            return 404, {"detail": "The Task Instance was not found"}
        if user not in {one["id"] for one in found[0]["assigned_users"]}:
            return 403, {"detail": f"User={user} is not a respondent for the task."}
        if found[0]["response_received"]:
            return 409, {"detail": "Human-in-the-loop detail has already been updated"}
        self.answer(found[0], user, content["chosen_options"][0], **{"params_input": content["params_input"]})
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    server: AirflowServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with self.server.lock:
            status, body = self.server.reply(self.command, self.path, token, json.loads(content or b"{}"))
        if status == 0:  # hang up without a word
            self.close_connection = True
            return
        answer = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = _serve

    def log_message(self, *args: object) -> None:
        return


@contextmanager
def airflow_server() -> Iterator[AirflowServer]:
    """Run a server for as long as a test needs it."""
    with AirflowServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
