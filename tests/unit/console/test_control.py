from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.console.control.current_request import READING, CurrentRequest
from interlock.console.control.routes import RequestKind
from interlock.console.control.rules import (
    NEVER,
    goes_round,
    is_controlled,
    is_refused,
    is_release,
    refusal,
    service_of,
)

ENTITIES = ["RUN", "TASK_INSTANCE", "XCOM", "TASK", "TASK_LOGS", "AUDIT_LOG", "SOMETHING_NEW"]
RELEASE = "release_bike_shop"
CONTROLLED = [
    RELEASE,
    "rollback_bike_shop",
    "train_weekly",
    "accept_defect",
    "deliver_records",
    "emergency_stop",
    "mark_version",
    "override_freeze",
    "overtake_releases",
    "reconcile",
    "retry_deliveries",
    "return_hosts",
    "review_release",
    "withdraw_release",
]


def request(method: str, path: str, body: Any = None) -> CurrentRequest:
    return CurrentRequest(method, path, bytearray(json.dumps(body).encode()) if body is not None else bytearray())


@pytest.mark.parametrize("dag_id", CONTROLLED)
@pytest.mark.parametrize("entity", [None, "HITL_DETAIL", *ENTITIES])
def test_reading_is_never_in_the_way(entity: str | None, dag_id: str) -> None:
    assert not goes_round("GET", entity, dag_id)
    assert not is_refused("GET", entity, dag_id, READING)
    assert not is_refused("GET", entity, dag_id, None)
    listing = request("POST", f"/api/v2/dags/{dag_id}/dagRuns/list")
    assert not is_refused("GET", entity, dag_id, listing)


@pytest.mark.parametrize("dag_id", CONTROLLED)
@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_no_change_of_a_run_is_open_not_even_an_unknown_one(method: str, entity: str, dag_id: str) -> None:
    assert goes_round(method, entity, dag_id)
    for asked in (None, READING, request("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/r")):
        assert is_refused(method, entity, dag_id, asked)


def test_what_a_request_does_counts_and_not_only_what_airflow_asks_for() -> None:
    """A backfill and the form both ask for POST on RUN; deleting queued events asks for the right to edit the Dag."""
    form = request("POST", f"/api/v2/dags/{RELEASE}/dagRuns")
    assert not is_refused("POST", "RUN", RELEASE, form)
    for path in ("/api/v2/backfills", "/api/v2/assets/1/materialize", f"/api/v2/dags/{RELEASE}/restart"):
        assert is_refused("POST", "RUN", RELEASE, request("POST", path, {"dag_id": RELEASE}))
    assert is_refused("PUT", None, RELEASE, request("DELETE", f"/api/v2/dags/{RELEASE}/assets/queuedEvents"))
    assert is_refused("GET", "RUN", RELEASE, request("PATCH", f"/api/v2/dags/{RELEASE}/dagRuns/r"))
    assert is_refused("PUT", "TASK_INSTANCE", RELEASE, form)


def test_a_release_is_paused_and_what_watches_or_departs_is_not() -> None:
    for dag_id in CONTROLLED:
        pause = request("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})
        assert is_refused("PUT", None, dag_id, pause) == (dag_id != RELEASE)
        assert not is_refused("PUT", None, dag_id, request("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False}))
    for body in ({}, {"is_paused": "false"}, {"is_paused": 0}, None, {"is_paused": True}):
        assert is_refused("PUT", None, "reconcile", request("PATCH", "/api/v2/dags/reconcile", body))


def test_answering_and_reading_a_file_again_stay_open_for_all() -> None:
    ballot = f"/api/v2/dags/{RELEASE}/dagRuns/r/taskInstances/t/0/hitlDetails"
    assert not is_refused("PUT", "HITL_DETAIL", RELEASE, request("PATCH", ballot))
    assert not is_refused("PUT", None, "emergency_stop", request("PUT", "/api/v2/parseDagFile/token"))


def test_without_the_door_only_reading_and_answering_are_open() -> None:
    assert not is_refused("PUT", "HITL_DETAIL", RELEASE, None)
    for method, entity in (("POST", "RUN"), ("PUT", None), ("DELETE", None), ("PUT", "XCOM")):
        assert is_refused(method, entity, RELEASE, None)


@pytest.mark.parametrize("dag_id", CONTROLLED)
def test_deleting_the_dag_would_delete_its_runs(dag_id: str) -> None:
    assert is_refused("DELETE", None, dag_id, request("DELETE", f"/api/v2/dags/{dag_id}"))
    assert "the history" in refusal(None, dag_id)


@pytest.mark.parametrize("dag_id", [None, "nightly", "prerelease_x", "emergency_stop_2", "no_rollback_x"])
def test_other_dags_are_nobodys_business(dag_id: str | None) -> None:
    assert not is_controlled(dag_id)
    assert not goes_round("DELETE", "RUN", dag_id)
    assert dag_id is None or not is_refused("DELETE", "RUN", dag_id, None)


def test_no_way_of_writing_the_name_is_another_dag() -> None:
    assert is_controlled("RELEASE_bike_shop")
    assert is_controlled("Reconcile")
    assert is_controlled("ROLLBACK_bike_shop")
    assert not is_release("rollback_bike_shop")
    assert not is_release("reconcile")


def test_a_refusal_says_what_why_who_and_what_next() -> None:
    said = refusal("TASK_INSTANCE", RELEASE)
    assert RELEASE in said
    assert "the task instances of a release" in said
    for part in ("Rule:", "Who can:", "break_glass", "Next:"):
        assert part in said


@pytest.mark.parametrize("request_kind", sorted(NEVER))
def test_what_nothing_opens_says_what_to_do_in_its_place(request_kind: RequestKind) -> None:
    said = refusal("RUN", RELEASE, request_kind)
    assert "under release control" in said
    assert "Next:" in said
    assert "break_glass" not in said


def test_the_service_is_in_the_name_of_its_dag() -> None:
    assert service_of(RELEASE) == "bike-shop"
