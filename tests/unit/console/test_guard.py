from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest
from fastapi import HTTPException

from interlock.console.control import guard as guards
from interlock.console.control.current_request import MAX_KEPT_BYTES, CurrentRequest
from interlock.console.control.guard import ReleaseGuard, is_needed
from interlock.console.record.attempts import Attempt

RELEASE, RUN = "release_bike_shop", "manual__2026"
DAG = f"/api/v2/dags/{RELEASE}"
TASKS = f"{DAG}/dagRuns/{RUN}/taskInstances"
DAGS_OF_ASSETS = {1: {RELEASE}, 2: {"nightly"}}


class Judge:
    """A bench that lets one person break the glass."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str]] = []
        self.noted: list[Attempt] = []

    def objection(self, user: str, asked: CurrentRequest, entity: str | None, dag_id: str, *, may_break: bool) -> str:
        self.asked.append((user, entity, dag_id))
        return "" if user == "gus" and may_break else f"{dag_id} is under release control"


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def came() -> list[bytes]:
    return []


@pytest.fixture
def client(judge: Judge, came: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        came.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def user(scope: Any) -> str:
        name = dict(scope["headers"]).get(b"user", b"").decode()
        if not name:
            raise HTTPException(401, "Not authenticated")
        return name

    monkeypatch.setattr(guards, "user_of", user)
    monkeypatch.setattr(guards, "dags_of_asset", lambda number: DAGS_OF_ASSETS.get(number and int(number), set()))
    monkeypatch.setattr(guards, "dags_of_backfill", lambda number: {RELEASE} if number == "7" else {"nightly"})

    def ask(method: str, path: str, body: Any = None, user: str = "admin") -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=ReleaseGuard(app, lambda: judge))  # type: ignore[arg-type,return-value]
            async with httpx.AsyncClient(transport=transport) as session:
                headers = {"user": user} if user else {}
                return await session.request(method, f"http://airflow{path}", content=content, headers=headers)

        return anyio.run(send)

    return ask


def bulk(*entities: Any) -> dict[str, Any]:
    return {"actions": [{"action": "update", "entities": list(entities)}]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("PATCH", f"{TASKS}/a", {"new_state": "success"}, id="mark"),
        pytest.param("DELETE", DAG, None, id="delete the Dag"),
        pytest.param(
            "PATCH",
            "/api/v2/dags/nightly/dagRuns",
            bulk({"dag_id": RELEASE, "dag_run_id": RUN}),
            id="another's path",
        ),
        pytest.param(
            "PATCH", "/api/v2/dags/~/dagRuns/~/taskInstances", bulk({"dag_id": RELEASE, "task_id": "a"}), id="any Dag"
        ),
        pytest.param("POST", "/api/v2/dags/~/clearDagRuns", {"dag_runs": [{"dag_id": RELEASE}]}, id="clear"),
        pytest.param("POST", "/api/v2/backfills", {"dag_id": RELEASE}, id="backfill"),
        pytest.param("PUT", "/api/v2/backfills/7/cancel", None, id="a backfill's number"),
        pytest.param("POST", "/api/v2/assets/events", {"asset_id": 1}, id="asset event"),
        pytest.param("POST", "/api/v2/assets/1/materialize", {}, id="materialise"),
        pytest.param("PUT", "/api/v2/assets/1/state-store/k", {}, id="state of an asset"),
        pytest.param("PATCH", "/api/v2/dags/reconcile", {"is_paused": True}, id="pause what watches"),
        pytest.param("PATCH", "/api/v2/dags?dag_id_pattern=~", {"is_paused": True}, id="pause by pattern"),
        pytest.param("POST", f"{DAG}/restart", None, id="a route that nobody knows"),
        pytest.param("POST", "/api/v3/restart", {"dags": [RELEASE]}, id="one that names the Dag in its body"),
        pytest.param("POST", f"//api/v2/dags/{RELEASE}/dagRuns/", {}, id="what only looks like the form"),
        pytest.param("PATCH", f"{TASKS}/a/xcomEntries/hitlDetails", {}, id="what only looks like an answer"),
    ],
)
def test_nobody_does_to_a_release_what_nobody_may(
    client: Any, judge: Judge, came: list[bytes], method: str, path: str, body: Any
) -> None:
    answer = client(method, path, body)
    assert answer.status_code == 403
    assert "under release control" in answer.json()["detail"]
    assert came == []
    assert client(method, path, body, user="gus").status_code == 200
    assert came == [json.dumps(body).encode()]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", f"{TASKS}/a", None, id="read"),
        pytest.param("POST", f"{DAG}/dagRuns", {"conf": {}}, id="trigger"),
        pytest.param("POST", f"{DAG}/dagRuns/list", {}, id="list"),
        pytest.param("PATCH", f"{TASKS}/a/0/hitlDetails", {}, id="answer"),
        pytest.param("PATCH", DAG, {"is_paused": True}, id="pause a release"),
        pytest.param("PATCH", "/api/v2/dags/reconcile", {"is_paused": False}, id="unpause what watches"),
        pytest.param("PATCH", "/api/v2/dags?dag_id_pattern=~", {"is_paused": False}, id="unpause by pattern"),
        pytest.param("PATCH", "/api/v2/dags/nightly/dagRuns", bulk({"dag_run_id": RELEASE}), id="a run's name"),
        pytest.param("POST", "/api/v2/dags/nightly/dagRuns", {"conf": {"dag_id": RELEASE}}, id="somebody's conf"),
        pytest.param("POST", "/api/v2/backfills", {"dag_id": "nightly"}, id="backfill another"),
        pytest.param("PUT", "/api/v2/backfills/8/cancel", None, id="another's backfill"),
        pytest.param("POST", "/api/v2/assets/events", {"asset_id": 2}, id="another's asset"),
        pytest.param("POST", "/api/v2/variables", {"key": "a", "value": RELEASE}, id="variable"),
        pytest.param("PATCH", f"/api/v2/connections/{RELEASE}", {}, id="connection"),
        pytest.param("POST", "/auth/token", {"username": RELEASE}, id="log in"),
        pytest.param("POST", "/interlock/something", {"dag_id": RELEASE}, id="a plugin's"),
    ],
)
def test_everything_else_passes_byte_for_byte(
    client: Any, judge: Judge, came: list[bytes], method: str, path: str, body: Any
) -> None:
    assert client(method, path, body).status_code == 200
    assert came == [json.dumps(body).encode()]
    assert judge.asked == []


def test_who_asks_is_told_apart_from_nobody(client: Any, judge: Judge, came: list[bytes]) -> None:
    answer = client("DELETE", DAG, user="")
    assert answer.status_code == 401
    assert client("DELETE", f"{DAG}/dagRuns/{RUN}", user="opal").status_code == 403
    assert judge.asked == [("opal", "RUN", RELEASE)]
    assert came == []


def test_each_dag_that_is_named_needs_its_own_leave(client: Any, judge: Judge) -> None:
    body = bulk({"dag_id": RELEASE, "dag_run_id": "a"}, {"dag_id": "reconcile", "dag_run_id": "b"}, {"dag_id": "x"})
    assert client("PATCH", "/api/v2/dags/~/dagRuns", body, user="gus").status_code == 200
    assert judge.asked == [("gus", "RUN", "reconcile"), ("gus", "RUN", RELEASE)]


def test_what_is_too_large_to_be_read_goes_no_further(client: Any, came: list[bytes]) -> None:
    large = b'{"actions": "' + b"x" * MAX_KEPT_BYTES + b'"}'
    assert client("PATCH", "/api/v2/dags/nightly/dagRuns", large).status_code == 413
    assert came == []
    assert client("POST", "/api/v2/dags/nightly/dagRuns/r/taskInstances/t/xcomEntries", large).status_code == 200


def test_a_body_in_pieces_is_read_whole_and_a_client_that_goes_is_let_go(judge: Judge) -> None:
    sent: list[Any] = []

    def run(messages: list[dict[str, Any]]) -> None:
        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        async def app(*_: Any) -> None:
            raise AssertionError("it came through")

        scope = {"type": "http", "method": "PATCH", "path": "/api/v2/dags/~/dagRuns", "headers": [(b"user", b"opal")]}
        anyio.run(ReleaseGuard(app, lambda: judge), scope, receive, send)  # type: ignore[arg-type,return-value]

    run([{"type": "http.request", "body": b'{"actions"', "more_body": True}, {"type": "http.disconnect"}])
    assert sent == []


def test_it_is_needed_beside_every_auth_manager_but_ours() -> None:
    ours = type("InterlockFabAuthManager", (), {"__module__": "interlock.console.auth.manager"})
    assert not is_needed(ours)
    assert not is_needed(type("Theirs", (ours,), {}))
    assert is_needed(type("SimpleAuthManager", (), {}))
