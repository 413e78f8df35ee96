"""What tasks ask the execution API for, and may not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from interlock.console.control.current_request import Scope
from interlock.console.control.lookups import RequestSource
from interlock.console.control.task_requests import Lookups, is_of_a_task, refused

RELEASE = "release_bike_shop"
OWN = RequestSource(RELEASE, "r1", "rollout.prepare_ballots", -1)
XCOM = f"/execution/xcoms/{RELEASE}/r1/rollout.prepare_ballots/return_value"


def lookups(source: RequestSource | None, stranger: str = "") -> Lookups:
    of_asset: dict[str, list[str]] = {"bike-shop@production": [RELEASE, "warehouse"], "table": ["warehouse"]}
    return Lookups(lambda scope: source, lambda by, name: of_asset.get(name, []), lambda dag_id: stranger)


def said(method: str, path: str, source: RequestSource | None, query: str = "", **more: Any) -> str | None:
    scope: Scope = {"type": "http", "query_string": query.encode(), "headers": []}
    found = refused(method, path, scope, lookups(source, **more))
    return None if found is None else found.entity


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(None, id="nobody"),
        pytest.param(RequestSource("nightly", "r1", "rollout.prepare_ballots", -1), id="another-dag"),
        pytest.param(replace(OWN, run_id="r2"), id="another-run"),
        pytest.param(replace(OWN, task_id="rollout.freeze_plan"), id="another-task"),
        pytest.param(replace(OWN, map_index=0), id="another-index"),
    ],
)
def test_nobody_writes_or_deletes_a_result_of_a_releases_task_but_the_task(
    method: str, source: RequestSource | None
) -> None:
    assert said(method, XCOM, source) == "XCOM"
    assert said(method, XCOM.replace("return_value", "a/b/execution/xcoms/nightly/r/t/k"), source) == "XCOM"
    assert said(method, XCOM.upper().replace("R1", "r1"), source) == "XCOM"
    assert said("GET", XCOM, source) is None
    assert said("HEAD", XCOM, source) is None


def test_a_task_writes_its_own_results_and_those_of_others_dags_as_airflow_lets_it() -> None:
    assert said("POST", XCOM, OWN) is None
    assert said("POST", XCOM, replace(OWN, map_index=3), "map_index=3") is None
    assert said("POST", XCOM, OWN, "mapped_length=4") is None
    for query in ("map_index=3", "map_index=-1&map_index=3", "map_index=", "map_index=x"):
        assert said("POST", XCOM, OWN, query) == "XCOM"
    for dag_id in ("nightly", "release_tables"):
        assert said("POST", XCOM.replace(RELEASE, dag_id), None) is None


@pytest.mark.parametrize("name", ["interlock_ledger", "INTERLOCK_LEDGER", "interlock_signing_key", "interlock_airflow"])
def test_the_connections_that_proof_rests_on_are_read_by_interlocks_tasks_alone(name: str) -> None:
    path = f"/execution/connections/{name}"
    assert said("GET", path, OWN) is None
    assert said("GET", path, RequestSource("reconcile", "r", "check_ledger", -1)) is None
    assert said("GET", path, OWN, stranger="not Interlock's") == "CONNECTION"
    for source in (None, RequestSource("nightly", "r", "t", -1), RequestSource("release_tables", "r", "t", -1)):
        assert said("GET", path, source) == "CONNECTION"
    assert said("GET", "/execution/connections/warehouse", None) is None


def test_the_state_of_a_releases_asset_is_the_releases() -> None:
    path, asset = "/execution/store/asset/by-name/value", "name=bike-shop@production&key=k"
    for method in ("PUT", "DELETE"):
        assert said(method, path, RequestSource("nightly", "r", "t", -1), asset) == "ASSET"
        assert said(method, path, None, asset) == "ASSET"
        assert said(method, path, OWN, asset) is None
        assert said(method, path, None, "name=table&key=k") is None
    assert said("GET", path, None, asset) is None


def test_only_the_execution_api_is_for_tasks() -> None:
    assert is_of_a_task("/execution/dag-runs/a/b")
    assert is_of_a_task("//EXECUTION/xcoms/a")
    assert not is_of_a_task("/api/v2/dags/execution/dagRuns")
    assert said("POST", f"/api/v2/execution/dag-runs/{RELEASE}/r", None) is None
