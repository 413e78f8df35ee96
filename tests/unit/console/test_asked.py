from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.console.control.current_request import (
    MAX_KEPT_BYTES,
    READING,
    CurrentRequest,
    Target,
    asked_of,
    says,
    under_way,
)
from interlock.console.control.rules import is_controlled

RELEASE, RUN = "release_bike_shop", "manual__2026"
DAG = f"/api/v2/dags/{RELEASE}"
TASKS = f"{DAG}/dagRuns/{RUN}/taskInstances"


def request(method: str, path: str, body: Any = None) -> CurrentRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    return CurrentRequest(method, path, bytearray(raw))


def bulk(*entities: Any) -> dict[str, Any]:
    return {"actions": [{"action": "update", "entities": list(entities)}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "targets"),
    [
        pytest.param("PATCH", f"{TASKS}/a.b/0", {}, [(RELEASE, RUN, "a.b")], id="task"),
        pytest.param("DELETE", f"{DAG}/dagRuns/{RUN}", None, [(RELEASE, RUN, None)], id="run"),
        pytest.param("DELETE", DAG, None, [(RELEASE, None, None)], id="Dag"),
        pytest.param(
            "PATCH", TASKS, bulk("a", {"task_id": "b"}), [(RELEASE, RUN, "a"), (RELEASE, RUN, "b")], id="bulk"
        ),
        pytest.param(
            "PATCH",
            "/api/v2/dags/~/dagRuns/~/taskInstances",
            bulk({"dag_id": RELEASE, "dag_run_id": "r", "task_id": "a"}, {"dag_id": "nightly", "task_id": "b"}),
            [(RELEASE, "r", "a"), ("nightly", None, "b")],
            id="bulk of any Dag",
        ),
        pytest.param(
            "PATCH",
            "/api/v2/dags/nightly/dagRuns",
            bulk("r1", {"dag_id": RELEASE, "dag_run_id": "r2"}),
            [("nightly", "r1", None), (RELEASE, "r2", None)],
            id="runs of another Dag's path",
        ),
        pytest.param(
            "POST",
            "/api/v2/dags/~/clearDagRuns",
            {"dag_runs": [{"dag_id": RELEASE, "dag_run_id": "r"}]},
            [(RELEASE, "r", None)],
            id="clear runs",
        ),
        pytest.param(
            "POST",
            f"{DAG}/clearTaskInstances",
            {"dag_run_id": "r", "task_ids": ["a", ["b", 1]]},
            [(RELEASE, "r", "a"), (RELEASE, "r", "b")],
            id="clear tasks",
        ),
        pytest.param("POST", "/api/v2/backfills", {"dag_id": RELEASE}, [(RELEASE, None, None)], id="backfill"),
        pytest.param("POST", f"{DAG}/dagRuns", {"dag_id": "nightly"}, [(RELEASE, None, None)], id="no bulk route"),
        pytest.param("PATCH", TASKS, b"not json", [(RELEASE, RUN, None)], id="no JSON"),
        pytest.param("PATCH", TASKS, {"actions": [1, {"entities": 2}, None]}, [(RELEASE, RUN, None)], id="odd JSON"),
    ],
)
def test_what_a_request_names_is_found_in_its_path_and_its_body(
    method: str, path: str, body: Any, targets: list[tuple[Any, ...]]
) -> None:
    assert request(method, path, body).targets == tuple(Target(*one) for one in targets)


def test_of_a_dag_that_it_does_not_name_it_names_the_dag() -> None:
    assert request("POST", "/api/v2/assets/1/materialize").targets_of(RELEASE) == (Target(RELEASE),)


def test_a_preview_has_to_say_that_it_is_one() -> None:
    clear = f"{DAG}/clearTaskInstances"
    assert request("POST", clear, {"dry_run": True}).previews
    assert request("PATCH", f"{TASKS}/a/dry_run").previews
    for body in ({}, {"dry_run": "true"}, {"dry_run": 1}, {"dry_run": False}, b'{"dry_run": true, "dry_run": false}'):
        assert not request("POST", clear, body).previews
    assert not request("POST", "/api/v2/backfills", {"dry_run": True}).previews


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", DAG), ("DELETE", f"{TASKS}/a"), ("PATCH", f"{TASKS}/a/xcomEntries/k"), ("PATCH", TASKS), ("POST", DAG)],
)
def test_where_airflow_does_not_read_it_saying_so_makes_no_preview(method: str, path: str) -> None:
    assert not request(method, path, {"dry_run": True}).previews


@pytest.mark.parametrize("name", ["include_past", "include_future"])
def test_what_it_does_not_name_is_told(name: str) -> None:
    path = f"{TASKS}/a"
    assert not request("PATCH", path, {"new_state": "success", name: False}).reaches_further
    assert not request("DELETE", path).reaches_further
    for value in (True, "yes", 1, "false"):
        assert request("PATCH", path, {name: value}).reaches_further
        assert request("PATCH", TASKS, bulk({"task_id": "a", name: value})).reaches_further


def test_a_body_that_cannot_be_read_may_say_anything() -> None:
    for body in (b"{", b"[]", b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000, b" " * (MAX_KEPT_BYTES + 1)):
        asked = request("PATCH", TASKS, body)
        assert asked.reaches_further
        assert not asked.unpauses
        assert not asked.previews


@pytest.mark.parametrize(
    ("root", "path"), [("", DAG), ("/airflow", f"/airflow{DAG}"), ("/air", DAG), ("/api", f"/api{DAG}")]
)
def test_where_airflow_is_served_does_not_matter(root: str, path: str) -> None:
    asked = asked_of({"method": "PATCH", "path": path, "root_path": root})
    assert isinstance(asked, CurrentRequest)
    assert asked.names == {"dag_id": RELEASE}


def test_reading_changes_nothing_and_outside_of_a_request_there_is_none() -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert asked_of({"method": method, "path": DAG}) is READING
    assert isinstance(asked_of({"method": "PURGE", "path": DAG}), CurrentRequest)
    assert under_way() is None


def test_a_name_is_found_wherever_it_stands() -> None:
    content = {"a": [{"b": RELEASE}], "reconcile": 1, "c": "nightly"}
    assert sorted(says(content, is_controlled)) == ["reconcile", RELEASE]
    assert list(says(None, is_controlled)) == []
