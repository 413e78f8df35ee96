from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.console.auth.roles import RELEASED_BY, ROLES, WATCHERS, WEBSITE, dag_access, roles_table, sync_roles
from interlock.console.control.rules import BREAK_GLASS
from interlock.domain.errors import ReleaseError

CHANGES = {"can_create", "can_edit", "can_delete"}
OWN_ACCOUNT = {("can_edit", "My Profile"), ("can_edit", "My Password")}


DOCS = Path(__file__).parents[3] / "docs" / "platform-engineer.md"


class Fab:
    """FAB's tables in memory: the four calls that the roles need, which real FAB answers in the integration tests."""

    def __init__(self, *, broken: bool = False) -> None:
        self.roles: dict[str, Any] = {}
        self.broken = broken
        self.writes = 0

    def add_role(self, name: str) -> Any:
        return self.roles.setdefault(name, SimpleNamespace(name=name, permissions=[]))

    def create_permission(self, action_name: str, resource_name: str) -> Any:
        return SimpleNamespace(action=SimpleNamespace(name=action_name), resource=SimpleNamespace(name=resource_name))

    def add_permission_to_role(self, role: Any, permission: Any) -> None:
        self.writes += 1
        if not self.broken:
            role.permissions.append(permission)

    def remove_permission_from_role(self, role: Any, permission: Any) -> None:
        self.writes += 1
        role.permissions.remove(permission)

    def held(self, role: str) -> set[tuple[str, str]]:
        return {(one.action.name, one.resource.name) for one in self.roles[role].permissions}


def test_the_roles_of_the_process_are_all_there() -> None:
    assert set(ROLES) == {
        "release_manager",
        "board_member",
        "functional_approver",
        "senior_management",
        "support",
        "tester",
        "auditor",
        "operator",
        "break_glass",
        "interlock_reader",
        "board_clerk",
        "interlock_conductor",
        "pipeline",
    }


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"break_glass"}))
def test_no_role_may_mark_clear_edit_or_delete(role: str) -> None:
    may_change = {(action, resource) for action, resource in ROLES[role] if action in CHANGES} - OWN_ACCOUNT
    assert may_change <= {("can_edit", "HITL Detail"), ("can_edit", "DAGs")}


def test_an_auditor_and_the_reader_change_nothing_at_all() -> None:
    for role in ("auditor", "interlock_reader"):
        assert not {(action, resource) for action, resource in ROLES[role] if action in CHANGES} - OWN_ACCOUNT


def test_the_clerk_may_only_answer() -> None:
    assert ROLES["board_clerk"] - WEBSITE == {("can_read", "HITL Detail"), ("can_edit", "HITL Detail")}


def test_whoever_logs_in_sees_the_pages() -> None:
    for role in set(ROLES) - {"interlock_reader", "board_clerk", "interlock_conductor", "pipeline"}:
        assert ("can_read", "Plugins") in ROLES[role], role


def test_only_release_managers_trigger_and_nobody_edits_a_release_dag() -> None:
    access = dag_access()
    assert set(access) == set(ROLES)
    assert {role for role, may in access.items() if "can_create" in may.get("DAG Runs", ())} == {"release_manager"}
    assert all(may["DAGs"] == {"can_read"} for may in access.values())


def test_the_conductor_may_ask_for_releases_and_nothing_else() -> None:
    assert ROLES["interlock_conductor"] == WEBSITE
    access = dag_access(RELEASED_BY)
    triggers = {role for role, may in access.items() if "can_create" in may.get("DAG Runs", ())}
    assert triggers == {"release_manager", "interlock_conductor", "pipeline"}


def test_a_pipeline_may_ask_for_releases_and_read_runs_and_nothing_else() -> None:
    assert ROLES["pipeline"] == WEBSITE | {("can_read", "DAG Runs")}
    assert "can_create" not in dag_access()["pipeline"].get("DAG Runs", ()), "of any other Dag"


def test_a_train_may_be_paused_by_those_who_are_named() -> None:
    access = dag_access(paused_by=("release_manager",))
    assert {role for role, may in access.items() if "can_edit" in may["DAGs"]} == {"release_manager"}


def test_another_dag_under_control_may_be_triggered_by_others() -> None:
    access = dag_access(triggered_by=("release_manager", "operator"))
    triggers = {role for role, may in access.items() if "can_create" in may.get("DAG Runs", ())}
    assert triggers == {"release_manager", "operator"}


def test_the_runs_of_a_dag_that_watches_are_counted_for_those_who_watch_it() -> None:
    """Airflow's Home counts the runs of every Dag that its reader may read."""
    access = dag_access(triggered_by=("operator",), read_by=WATCHERS)
    assert set(access) == {"operator", "auditor", BREAK_GLASS, "interlock_reader"}
    assert access["operator"] == {"DAGs": {"can_read"}, "DAG Runs": {"can_create"}}


def test_the_access_of_one_dag_is_its_own_copy() -> None:
    dag_access()["auditor"]["DAGs"].add("can_edit")
    assert dag_access()["auditor"]["DAGs"] == {"can_read"}


def test_syncing_makes_the_roles_what_the_table_says_and_again_changes_nothing() -> None:
    fab = Fab()
    sync_roles(fab)
    assert {name: fab.held(name) for name in fab.roles} == ROLES
    writes = fab.writes
    sync_roles(fab)
    assert fab.writes == writes


def test_syncing_takes_away_what_is_too_much_but_nothing_of_a_single_dag() -> None:
    fab = Fab()
    role = fab.add_role("auditor")
    for permission in (("can_edit", "Task Instances"), ("can_read", "DAG:release_bike_shop")):
        role.permissions.append(fab.create_permission(*permission))
    sync_roles(fab)
    assert fab.held("auditor") == ROLES["auditor"] | {("can_read", "DAG:release_bike_shop")}


def test_a_role_that_fab_could_not_store_is_not_passed_over() -> None:
    with pytest.raises(ReleaseError, match="The permissions of the role release_manager could not be updated"):
        sync_roles(Fab(broken=True))


def test_the_table_in_the_documentation_is_what_the_roles_are() -> None:
    assert roles_table() in DOCS.read_text(), "run: interlock roles"
    assert "| `board_clerk` | | | | yes | | | |" in roles_table()
