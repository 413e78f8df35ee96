from __future__ import annotations

from collections import Counter

import pytest

from interlock.console.control.routes import ROUTES, RequestKind, route_of
from interlock.console.control.rules import OPEN_KINDS, PAUSES


def test_the_table_has_each_route_once() -> None:
    assert [
        one for one, times in Counter((route.method, route.template) for route in ROUTES).items() if times > 1
    ] == []


@pytest.mark.parametrize(
    ("method", "path", "request_kind"),
    [
        # A key or a task that is called like the part of another route.
        ("PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/t/xcomEntries/hitlDetails", RequestKind.EDIT),
        ("PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/t/xcomEntries/dry_run", RequestKind.EDIT),
        ("PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/t/xcomEntries/0/hitlDetails", RequestKind.EDIT),
        ("PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/t/state-store/0/hitlDetails", RequestKind.EDIT),
        ("PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/t/-1/hitlDetails", RequestKind.ANSWER),
        ("PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/hitlDetails", RequestKind.EDIT),
        ("POST", "/api/v2/dags/d/dagRuns/list", RequestKind.LIST),
        ("DELETE", "/api/v2/dags/d/dagRuns/list", RequestKind.EDIT),
        # What only looks like a route is none.
        ("POST", "/api/v2/dags/d/dagRuns/", None),
        ("POST", "/api/v2/dags//dagRuns", None),
        ("POST", "/api/v2/dags/d/dagruns", None),
        ("POST", "/api/v2/dags/d/dagRuns\n", None),
        ("TRACE", "/api/v2/dags/d/dagRuns", None),
        ("PATCH", "/api/v3/dags/d", None),
    ],
)
def test_a_path_is_never_taken_for_a_more_open_one(method: str, path: str, request_kind: RequestKind | None) -> None:
    found, _ = route_of(method, path)
    assert (found.request_kind if found else None) is request_kind


def test_what_is_open_on_a_release_is_a_short_list() -> None:
    """Whoever makes it longer has to come by here."""
    found = {(route.method, route.template) for route in ROUTES if route.request_kind in OPEN_KINDS | PAUSES}
    assert found == {
        ("POST", "/api/v2/dags/{dag_id}/dagRuns"),
        ("POST", "/api/v2/dags/{dag_id}/dagRuns/list"),
        ("POST", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/list"),
        ("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/hitlDetails"),
        ("POST", "/interlock/api/v1/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/files"),
        ("PUT", "/interlock/api/v1/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/taker"),
        ("DELETE", "/interlock/api/v1/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/taker"),
        ("POST", "/api/v2/dags/{dag_id}/favorite"),
        ("POST", "/api/v2/dags/{dag_id}/unfavorite"),
        ("PUT", "/api/v2/parseDagFile/{file_token}"),
        ("PATCH", "/api/v2/dags/{dag_id}"),
        ("PATCH", "/api/v2/dags"),
    }


def test_whatever_names_no_dag_is_elsewhere() -> None:
    for route in ROUTES:
        if route.request_kind is RequestKind.ELSEWHERE:
            assert "dag" not in route.template
