"""Who reaches each route of the API: each role, an account without a role, and who is logged out.

What FAB makes of its permissions, and who of those that reach a route may do what it does, is tested on a real Airflow:
``tests/integration/test_api.py``, ``test_cab.py`` and ``test_environments_page.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.console.auth.roles import CREATE, EDIT, READ, ROLES
from interlock.console.control.rules import BREAK_GLASS
from interlock.domain.change.pipelines import PIPELINE
from interlock.domain.trains.manifest import CONDUCTOR

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with `starlette.testclient`", "ignore:starlette.middleware.wsgi is deprecated"
)
REACHED = 418
NO_ROLE = "no role"
RUN = "/dags/{dag_id}/dagRuns/{dag_run_id}"
CASE = RUN + "/taskInstances/{task_id}/{map_index}"
NAMES = {
    **{"dag_id": "release_bike_shop", "dag_run_id": "r1", "task_id": "rollout.cast_ballot", "map_index": "0"},
    **{"board": "cab", "key": "releases", "id": "0123", "sha256": "0" * 64},
}
EVERYBODY = frozenset((*ROLES, NO_ROLE))
READ_RUNS = EVERYBODY - {NO_ROLE, "board_clerk", CONDUCTOR}
READ_ALL = READ_RUNS - {PIPELINE}
ANSWER = READ_ALL - {"auditor", "operator", BREAK_GLASS, "interlock_reader"}
SPAN = ("2026-11-01T00:00:00Z", "2027-01-31T00:00:00Z")
MINUTES = {"began_at": SPAN[0], "present": ["ben"], "items": [{"dag_id": "release_bike_shop", "run_id": "r1"}]}
Allowed = tuple[frozenset[str], dict[str, Any]]
ROUTES: dict[tuple[str, str], Allowed] = {
    ("GET", "/board"): (READ_RUNS, {}),
    ("GET", "/measures"): (READ_RUNS, {}),
    ("GET", "/measures/{key}/releases"): (READ_RUNS, {}),
    ("GET", "/measures.csv"): (READ_RUNS, {}),
    ("GET", "/metrics"): (READ_RUNS, {}),
    ("GET", "/timeline"): (READ_RUNS, {"params": {"since": SPAN[0], "until": SPAN[1]}}),
    ("GET", "/deliveries"): (READ_RUNS, {}),
    ("GET", f"{RUN}/findings"): (READ_RUNS, {}),
    ("GET", f"{RUN}/files"): (READ_RUNS, {}),
    ("GET", f"{RUN}/reports"): (READ_RUNS, {}),
    ("GET", f"{RUN}/records"): (READ_ALL, {}),
    ("GET", f"{RUN}/progress"): (READ_ALL, {}),
    ("GET", f"{RUN}/matrix"): (READ_ALL, {}),
    ("GET", f"{RUN}/explanation"): (READ_ALL, {}),
    ("GET", f"{RUN}/cases"): (READ_ALL, {}),
    ("GET", f"{RUN}/files/{{sha256}}"): (READ_ALL, {}),
    ("GET", "/forecast"): (READ_ALL, {"params": {"dag_id": "release_bike_shop", "run_id": "r1"}}),
    ("GET", "/questions"): (READ_ALL, {}),
    ("GET", "/needs-me"): (READ_ALL, {}),
    ("GET", "/agenda"): (READ_ALL, {}),
    ("POST", "/remarks"): (READ_ALL, {"json": {"dag_id": "release_bike_shop", "run_id": "r1", "text": "Why?"}}),
    ("GET", "/boards/{board}/minutes"): (READ_ALL, {}),
    ("POST", "/boards/{board}/minutes"): (READ_ALL, {"json": MINUTES}),
    ("GET", "/minutes/{id}.md"): (READ_ALL, {}),
    ("POST", f"{CASE}/files"): (ANSWER, {"params": {"name": "till.png"}}),
    ("PUT", f"{CASE}/taker"): (ANSWER, {"json": {"instead_of": None}}),
    ("DELETE", f"{CASE}/taker"): (ANSWER, {}),
    ("GET", "/names"): (EVERYBODY, {}),
    ("GET", "/in-force"): (EVERYBODY, {}),
    ("GET", "/schedule"): (EVERYBODY, {"params": {"start": SPAN[0], "end": SPAN[1]}}),
}
"""Method and path: who reaches the route, and what is sent."""


class Gate:
    """Lets a role do to the Dags of releases what its permissions in the table of roles say."""

    def is_authorized_dag(self, *, method: str, access_entity: Any, details: Any, user: Any) -> bool:
        from airflow.providers.fab.auth_manager import fab_auth_manager

        resources = fab_auth_manager._MAP_DAG_ACCESS_ENTITY_TO_FAB_RESOURCE_TYPE[access_entity]
        action = {"GET": READ, "POST": CREATE, "PUT": EDIT}[method]
        return {(action, one) for one in resources} <= ROLES.get(user.role, frozenset())


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The API whose functions answer that they were reached."""
    # Not at the top: what Airflow's API imports warns.
    from airflow.api_fastapi.core_api import security
    from airflow.models.dag import DagModel
    from fastapi import HTTPException

    from interlock.console.api.app import create_api

    def reached(**_: Any) -> None:
        raise HTTPException(REACHED, "It was reached.")

    store: Any = None
    app = create_api(open_artifacts=lambda: store)
    for route in app.routes:
        if hasattr(route, "dependant"):
            route.dependant.call = reached
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(security, "get_auth_manager", Gate)
        patch.setattr(DagModel, "get_team_name", lambda _: None)
        yield app


def test_the_table_has_each_route_of_the_document(api: Any) -> None:
    paths = api.openapi()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == {*ROUTES}


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[" ".join(route) for route in ROUTES])
def test_each_route_is_reached_by_those_roles_only(api: Any, method: str, path: str) -> None:
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    client, place = TestClient(api), path.format(**NAMES)
    who, sent = ROUTES[method, path]
    answers = {}
    for role in EVERYBODY:
        api.dependency_overrides[get_user] = lambda role=role: SimpleNamespace(role=role)
        answers[role] = client.request(method, place, **sent)
    del api.dependency_overrides[get_user]
    logged_out = client.request(method, place, **sent)
    assert {role: one.status_code for role, one in answers.items()} == {
        role: REACHED if role in who else 403 for role in EVERYBODY
    }
    assert logged_out.status_code == 401
    assert {one.headers["content-type"] for one in (*answers.values(), logged_out)} == {"application/problem+json"}
