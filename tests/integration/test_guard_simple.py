"""The guard in front of Airflow's simple auth manager, in which whoever may answer may also mark, clear and edit."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from interlock.adapters.airflow.execution_api import served_by
from interlock.adapters.catalogue.catalogue import load_service
from interlock.console.control.routes import RequestKind, Route
from interlock.domain.change.effective import digests_by_type
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.permits.installation import BY_NAME
from tests.integration.console_airflow import OTHER, RELEASE, RUN_ID, WATCHMEN
from tests.integration.console_server import Console, console_server
from tests.integration.test_guard import CLOSED, CLOSING, DAG, RUN, TASKS, body_of, names_of

OTHER_TASKS = f"/api/v2/dags/{OTHER}/dagRuns/{RUN}/taskInstances"


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console_server(tmp_path_factory.mktemp("simple"), "simple") as running:
        yield running


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: f"{route.method} {route.template}")
def test_an_administrator_is_refused_on_every_route_that_changes_a_release(simple: Console, route: Route) -> None:
    path = re.sub(r"\{(\w+)(:path)?\}", lambda name: str(names_of(simple, RELEASE)[name[1]]), route.template)
    answer = simple.ask("admin", route.method, path, body_of(simple, route, RELEASE))
    assert answer.status_code == 403, answer.text
    assert f"{RELEASE} is under release control" in answer.json()["detail"]


def test_the_server_says_that_its_plugin_guards_it_and_which_rules_it_has(simple: Console) -> None:
    said = served_by(f"{simple.base}/execution", "bike-shop")
    assert said is not None
    assert (said.guard, said.people) == ("plugin", BY_NAME)
    assert said.rules == digests_by_type(load_service(simple.home / "catalogue", "bike-shop").of("bike-shop"))
    unknown = served_by(f"{simple.base}/execution", "no-such-service")
    assert unknown is not None
    assert unknown.rules == {}


def test_a_dag_that_is_named_in_the_body_alone_is_guarded_too(simple: Console) -> None:
    task = {"dag_id": RELEASE, "dag_run_id": RUN_ID, "task_id": "rollout.await_board", "new_state": "success"}
    body = {"actions": [{"action": "update", "entities": [task]}]}
    for path in (OTHER_TASKS, "/api/v2/dags/~/dagRuns/~/taskInstances"):
        assert simple.ask("opal", "PATCH", path, body).status_code == 403
    assert simple.ask("audrey", "GET", f"{TASKS}/rollout.await_board").json()["state"] is None
    assert simple.attempts(user="opal", task_id="rollout.await_board", run_id=RUN_ID)


def test_what_watches_is_neither_paused_nor_marked(simple: Console) -> None:
    for dag_id in WATCHMEN:
        assert simple.ask("admin", "PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True}).status_code == 403
        assert simple.ask("admin", "PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False}).status_code == 200
        run = f"/api/v2/dags/{dag_id}/dagRuns/{RUN}"
        assert simple.ask("admin", "PATCH", run, {"state": "failed"}).status_code == 403
    assert simple.ask("admin", "PATCH", "/api/v2/dags?dag_id_pattern=~", {"is_paused": True}).status_code == 403


def test_what_the_process_needs_stays_open(simple: Console) -> None:
    conf = {"ref": "1.1.0", "version": "1.1.0", "summary": "Sell bikes in the shop"}
    for user in ("rita", "admin"):
        answer = simple.ask(user, "POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": conf})
        assert answer.status_code == 200, answer.text
    wrong = simple.ask("rita", "POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": {**conf, "version": "x"}})
    assert wrong.status_code == 422
    assert simple.ask("audrey", "GET", f"/ui/grid/runs/{RELEASE}").status_code == 200
    assert simple.ask("admin", "POST", "/api/v2/dags/~/dagRuns/list", {}).status_code == 200
    assert simple.ask("opal", "PATCH", f"{OTHER_TASKS}/sweep", {"note": "x"}).status_code == 200
    answered = simple.ask(
        "rita", "PATCH", f"{TASKS}/rollout.cast_ballot/0/hitlDetails", {"chosen_options": ["Approve"]}
    )
    assert "not a respondent" in answered.json()["detail"]  # Airflow's own answer: the guard let it through


def test_strangers_are_told_so_and_a_grant_breaks_the_glass(simple: Console) -> None:
    assert simple.ask("gus", "PATCH", CLOSING, {"note": "seen"}).status_code == 403
    simple.grant("gus", RELEASE)
    assert simple.ask("gus", "PATCH", CLOSING, {"note": "seen"}).status_code == 200
    assert simple.ask("admin", "PATCH", CLOSING, {"note": "seen"}).status_code == 403
    (used,) = simple.entries(INSTALLATION, "break_glass.used")
    (finding,) = simple.entries(release_chain(RELEASE, RUN_ID), "finding")
    assert used.actor == finding.actor == "gus"
    assert finding.payload["task_id"] == "closure.close_release"
    simple.tokens["nobody"] = "not a token"
    assert simple.ask("nobody", "DELETE", DAG).status_code in (401, 403)
    assert {route.request_kind for route in CLOSED} <= {
        RequestKind.EDIT,
        RequestKind.PREVIEW,
        RequestKind.START,
        RequestKind.ASSET,
    }
