"""The guard on a real Airflow with our auth manager: what is refused, what is recorded, and how the glass is broken."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from interlock.adapters.private_files import write_private
from interlock.adapters.signing.signing import generate_key
from interlock.console.control.routes import ROUTES, RequestKind, Route, route_of
from interlock.console.control.rules import OPEN_KINDS, PAUSES
from interlock.domain.board.accounts import DOUBTED
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ACCOUNT_CONFIRMED,
    EMERGENCY_STOP_DECLARED,
    EMERGENCY_STOP_LIFTED,
    RUN_ASKED,
)
from interlock.estate.airflow import witness
from interlock.estate.stack.postgres import LEDGER_WITNESS, ledger_url
from interlock.installation.doctor import processes
from interlock.installation.doctor.inspection import Finding, inspect
from tests.integration.console_airflow import (
    BACKED_OUT_ID,
    OTHER,
    OTHERS,
    PATH_RELEASE,
    RELEASE,
    RUN_ID,
    STRANGER,
    WATCHMEN,
)
from tests.integration.console_server import Console

RUN = quote(RUN_ID, safe="")
DAG = f"/api/v2/dags/{RELEASE}"
TASKS = f"{DAG}/dagRuns/{RUN}/taskInstances"
CLOSING = f"{TASKS}/closure.close_release"
OLD_CLOSING = f"{DAG}/dagRuns/{quote(BACKED_OUT_ID, safe='')}/taskInstances/closure.close_release"
CONTROLLED = (RELEASE, *WATCHMEN)
CHAIN = release_chain(RELEASE, RUN_ID)


@pytest.fixture
def glass(console: Console) -> Iterator[Console]:
    console.grant("gus", RELEASE)
    yield console
    console.take_grants()


# --- routes ----------------------------------------------------------------------------------------------------------


def test_of_every_route_of_this_airflow_that_changes_something_the_table_says_what_it_does(console: Console) -> None:
    airflows = {(method, path) for method, path in console.known["routes"]}
    assert len(airflows) > 50
    known = {(one.method, one.template) for one in ROUTES if not one.template.startswith("/interlock/")}
    assert not airflows - known, "say in interlock/console/control/routes.py what these do to a Dag under control"
    assert not known - airflows, "Airflow has these no more"


def test_a_path_is_taken_for_the_route_that_airflow_takes(console: Console) -> None:
    """Airflow takes the first that fits; for each of its routes, that is the one whose template we find."""
    for method, template in console.known["routes"]:
        path = re.sub(r"\{(\w+)(:path)?\}", lambda name: "0" if name[1] == "map_index" else f"a-{name[1]}", template)
        found, names = route_of(method, path)
        assert found is not None
        assert found.template == template
        assert all(value in ("0", f"a-{name}") for name, value in names.items())


def names_of(console: Console, dag_id: str) -> dict[str, Any]:
    assets = console.known["assets"]
    return {
        "dag_id": dag_id,
        "dag_run_id": RUN,
        "task_id": "watch" if dag_id in WATCHMEN else "rollout.await_board",
        "map_index": -1,
        "group_id": "rollout",
        "asset_id": assets["nightly" if dag_id in WATCHMEN else "bike-shop@production"],
        "backfill_id": console.known["backfill"],
        "key": "k",
        "xcom_key": "return_value",
    }


def body_of(console: Console, route: Route, dag_id: str) -> dict[str, Any]:
    run = {"dag_id": dag_id, "dag_run_id": RUN_ID}
    task = {**run, "task_id": "rollout.await_board", "new_state": "success"}
    day = "2026-11-01T00:00:00Z"
    return {
        "/api/v2/dags/{dag_id}/dagRuns": {"actions": [{"action": "update", "entities": [{**run, "state": "failed"}]}]},
        "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances": {
            "actions": [{"action": "update", "entities": [task]}]
        },
        "/api/v2/dags/{dag_id}/clearDagRuns": {"dag_runs": [run], "dry_run": False},
        "/api/v2/backfills": {"dag_id": dag_id, "from_date": day, "to_date": day},
        "/api/v2/backfills/dry_run": {"dag_id": dag_id, "from_date": day, "to_date": day},
        "/api/v2/assets/events": {"asset_id": console.known["assets"]["bike-shop@production"]},
    }.get(route.template, {})


CLOSED = [route for route in ROUTES if route.request_kind not in OPEN_KINDS | PAUSES | {RequestKind.ELSEWHERE}]


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: f"{route.method} {route.template}")
def test_an_administrator_is_refused_on_every_route_that_changes_a_release(console: Console, route: Route) -> None:
    path = re.sub(r"\{(\w+)(:path)?\}", lambda name: str(names_of(console, RELEASE)[name[1]]), route.template)
    answer = console.ask("admin", route.method, path, body_of(console, route, RELEASE))
    assert answer.status_code == 403, answer.text
    assert f"{RELEASE} is under release control" in answer.json()["detail"]


@pytest.mark.parametrize("dag_id", WATCHMEN)
def test_what_watches_over_releases_is_as_much_under_control(console: Console, dag_id: str) -> None:
    for route in CLOSED:
        if "{dag_id}" not in route.template:
            continue
        path = re.sub(r"\{(\w+)(:path)?\}", lambda name: str(names_of(console, dag_id)[name[1]]), route.template)
        answer = console.ask("admin", route.method, path, body_of(console, route, dag_id))
        assert answer.status_code == 403, (route, answer.text)
        assert f"{dag_id} is under release control" in answer.json()["detail"]


def test_what_watches_over_releases_is_not_paused_alone_or_with_others(console: Console) -> None:
    for dag_id in WATCHMEN:
        answer = console.ask("admin", "PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})
        assert answer.status_code == 403
        assert "cannot be paused" in answer.json()["detail"]
        assert console.ask("olga", "PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False}).status_code == 200
    paused = console.ask("admin", "PATCH", "/api/v2/dags?dag_id_pattern=~", {"is_paused": True})
    assert paused.status_code == 200
    assert {dag["dag_id"] for dag in paused.json()["dags"]} == {RELEASE, PATH_RELEASE, STRANGER, *OTHERS}
    resumed = console.ask("admin", "PATCH", "/api/v2/dags?dag_id_pattern=~", {"is_paused": False})
    assert {dag["dag_id"] for dag in resumed.json()["dags"]} == {RELEASE, PATH_RELEASE, STRANGER, *OTHERS, *WATCHMEN}


def test_what_watches_over_releases_is_triggered_by_whom_its_dag_names(console: Console) -> None:
    for user, status in (("olga", 200), ("rita", 200), ("ben", 403)):
        form = {"logical_date": None, "conf": {"scope": "bike-shop", "reason": "Payments fail", "lift": "", "hours": 1}}
        answer = console.ask(user, "POST", "/api/v2/dags/emergency_stop/dagRuns", form)
        assert answer.status_code == status, answer.text
    with console.ledger() as ledger:  # the API server has declared them; other tests ask for releases
        for one in ledger.entries(INSTALLATION, kind=EMERGENCY_STOP_DECLARED):
            lifted = {**one.payload, "reason": "It is over"}
            key = f"{EMERGENCY_STOP_LIFTED}/{one.payload['id']}"
            ledger.append(INSTALLATION, EMERGENCY_STOP_LIFTED, lifted, actor="olga", key=key)


def test_the_assets_of_other_dags_are_left_to_airflows_own_rules(console: Console) -> None:
    event = {"asset_id": console.known["assets"]["nightly"]}
    assert console.ask("admin", "POST", "/api/v2/assets/events", event).status_code == 200
    assert console.ask("admin", "POST", f"/api/v2/assets/{event['asset_id']}/materialize", {}).status_code == 200


# --- refused attempts ------------------------------------------------------------------------------------------------


def test_a_refused_attempt_is_on_record_with_who_and_what(console: Console) -> None:
    console.ask("gus", "PATCH", f"{TASKS}/rollout.await_board", {"new_state": "success"})
    (found,) = console.attempts(user="gus", task_id="rollout.await_board")
    assert {name: found[name] for name in ("method", "entity", "dag_id", "run_id", "by", "count")} == {
        "method": "PATCH",
        "entity": "TASK_INSTANCE",
        "dag_id": RELEASE,
        "run_id": RUN_ID,
        "by": "release control",
        "count": 1,
    }


def test_one_that_names_its_target_in_the_body_is_too(console: Console) -> None:
    run = {"dag_id": RELEASE, "dag_run_id": RUN_ID}
    body = {"actions": [{"action": "delete", "entities": [run]}]}
    assert console.ask("gus", "PATCH", f"/api/v2/dags/{OTHER}/dagRuns", body).status_code == 403
    assert console.attempts(user="gus", entity="RUN", run_id=RUN_ID, path=f"/api/v2/dags/{OTHER}/dagRuns")


def test_so_is_one_that_the_role_forbids_and_a_vote_for_somebody_else(console: Console) -> None:
    assert console.ask("fay", "DELETE", f"{DAG}/dagRuns/{RUN}").status_code == 403
    assert console.attempts(user="fay", entity="RUN", method="DELETE", by="role")
    ballot = f"{TASKS}/rollout.cast_ballot/1/hitlDetails"
    assert console.ask("fay", "PATCH", ballot, {"chosen_options": ["Approve"]}).status_code == 403
    assert console.attempts(user="fay", entity="HITL_DETAIL", by="assignment", task_id="rollout.cast_ballot")


def test_a_dag_of_the_catalogue_that_airflow_has_not_read_yet_is_no_refusal(console: Console) -> None:
    for user in ("rita", "ben"):
        answer = console.ask(user, "POST", "/api/v2/dags/train_weekly/dagRuns", {"conf": {}, "logical_date": None})
        assert answer.status_code == 404, answer.text
        assert "Airflow has not loaded the Dag train_weekly yet" in answer.json()["detail"]
    console.ask("olga", "DELETE", f"{DAG}/dagRuns/{RUN}")
    console.attempts(user="olga", entity="RUN", method="DELETE")  # it came later, so the others would be there, too
    refused = console.entries(INSTALLATION, "attempt.refused")
    of_people = [one for one in refused if one.payload["user"] in ("rita", "ben")]
    assert not [one for one in of_people if one.payload["dag_id"] == "train_weekly"]


def test_reading_and_previews_are_no_attempts_and_repetitions_make_one_entry(console: Console) -> None:
    for _ in range(3):
        console.ask("gil", "GET", "/ui/dags?limit=10")
        console.ask("gil", "GET", f"{DAG}/details")
        console.ask("gil", "POST", "/api/v2/dags/~/dagRuns/list", {})
        console.ask("gil", "PATCH", f"{CLOSING}/dry_run", {"new_state": "success"})
        console.ask("gil", "POST", f"{DAG}/clearTaskInstances", {"dry_run": True})
    for _ in range(5):
        assert console.ask("gil", "DELETE", DAG).status_code == 403
    (found,) = console.attempts(user="gil", entity="DAG")
    assert (found["method"], found["count"]) == ("DELETE", 1)
    recorded = [entry.payload for entry in console.entries(INSTALLATION, "attempt.refused")]
    assert not [one for one in recorded if one["user"] == "gil" and one["entity"] == "TASK_INSTANCE"]


# --- breaking the glass ----------------------------------------------------------------------------------------------


def test_a_role_alone_breaks_no_glass_and_neither_does_a_grant(console: Console) -> None:
    console.take_grants()
    answer = console.ask("gus", "PATCH", CLOSING, {"note": "seen"})
    assert answer.status_code == 403
    assert "No grant covers gus" in answer.json()["detail"]
    console.grant("admin", RELEASE)
    assert console.ask("admin", "PATCH", CLOSING, {"note": "seen"}).status_code == 403
    console.take_grants()


def test_who_has_both_repairs_a_release_and_each_use_is_a_finding_in_it(glass: Console) -> None:
    assert glass.ask("gus", "PATCH", CLOSING, {"note": "seen"}).status_code == 200
    assert glass.ask("gus", "POST", f"{CLOSING}/xcomEntries", {"key": "k", "value": 1}).status_code == 201
    assert glass.ask("gus", "DELETE", f"{CLOSING}/xcomEntries/k").status_code == 204
    uses = glass.entries(INSTALLATION, "break_glass.used")[-3:]
    assert [(use.payload["method"], use.payload["entity"]) for use in uses] == [
        ("PATCH", "TASK_INSTANCE"),
        ("POST", "XCOM"),
        ("DELETE", "XCOM"),
    ]
    for use, finding in zip(uses, glass.entries(CHAIN, "finding")[-3:], strict=True):
        assert use.actor == finding.actor == "gus"
        assert finding.payload["reason"] == use.payload["reason"] == "Its task hangs after the network failure"
        assert (finding.payload["dag_id"], finding.payload["run_id"]) == (RELEASE, RUN_ID)
        assert "gus used break-glass access" in finding.payload["what"]
        assert use.payload["grant"]["incident"] == "INC-4711"


def test_what_names_several_runs_leaves_a_finding_in_each(glass: Console) -> None:
    old = release_chain(RELEASE, BACKED_OUT_ID)
    before = {chain: len(glass.entries(chain, "finding")) for chain in (CHAIN, old)}
    tasks = [
        {
            "dag_id": RELEASE,
            "dag_run_id": run_id,
            "task_id": "closure.close_release",
            "new_state": "failed",
            "note": "x",
        }
        for run_id in (RUN_ID, BACKED_OUT_ID)
    ]
    body = {"actions": [{"action": "update", "entities": tasks}]}
    answer = glass.ask("gus", "PATCH", "/api/v2/dags/~/dagRuns/~/taskInstances", body)
    assert answer.status_code == 200, answer.text
    assert {chain: len(glass.entries(chain, "finding")) for chain in (CHAIN, old)} == {
        chain: number + 1 for chain, number in before.items()
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("PATCH", CLOSING, {"new_state": "success", "include_past": True}, "include_past"),
        (
            "POST",
            f"{DAG}/clearTaskInstances",
            {"dry_run": False, "task_ids": ["closure.close_release"]},
            "name the run to change",
        ),
        ("PATCH", "/api/v2/dags/reconcile/dagRuns/r", {"state": "failed"}, "No grant covers gus and reconcile"),
        ("PATCH", "/api/v2/dags/reconcile", {"is_paused": True}, "cannot be paused"),
    ],
)
def test_a_broken_glass_opens_no_more_than_the_grant_says(
    glass: Console, method: str, path: str, body: dict[str, Any], said: str
) -> None:
    before = len(glass.entries(INSTALLATION, "break_glass.used"))
    answer = glass.ask("gus", method, path, body)
    assert answer.status_code == 403
    assert said in answer.json()["detail"]
    assert len(glass.entries(INSTALLATION, "break_glass.used")) == before


def test_a_preview_is_shown_and_is_no_use(glass: Console) -> None:
    before = len(glass.entries(INSTALLATION, "break_glass.used"))
    assert glass.ask("gus", "PATCH", f"{CLOSING}/dry_run", {"new_state": "success"}).status_code == 200
    assert len(glass.entries(INSTALLATION, "break_glass.used")) == before


def test_a_file_of_grants_that_is_wrong_opens_nothing(glass: Console) -> None:
    glass.grants.write_text(glass.grants.read_text().replace('"reason"', '"raison"'))
    answer = glass.ask("gus", "PATCH", CLOSING, {"note": "seen"})
    assert answer.status_code == 403
    assert "raison" in answer.json()["detail"]


def test_the_grant_is_read_when_it_is_used(glass: Console) -> None:
    assert glass.ask("gus", "PATCH", CLOSING, {"note": "seen"}).status_code == 200
    glass.take_grants()
    assert glass.ask("gus", "PATCH", CLOSING, {"note": "seen"}).status_code == 403


def test_what_cannot_be_recorded_is_not_done_and_comes_on_record_when_it_can(glass: Console) -> None:
    _ledger_is_at(glass, 1)
    started = time.monotonic()
    answer = glass.ask("gus", "PATCH", CLOSING, {"note": "unseen"})
    assert answer.status_code == 403
    assert "cannot be recorded" in answer.json()["detail"]
    assert glass.ask("cora", "DELETE", f"{DAG}/dagRuns/{RUN}").status_code == 403
    assert time.monotonic() - started < 15
    _ledger_is_at(glass, glass.postgres.postgres_port)
    assert glass.attempts(user="cora", entity="RUN", method="DELETE")
    assert glass.ask("audrey", "GET", CLOSING).json()["note"] != "unseen"


def _ledger_is_at(glass: Console, port: int) -> None:
    """Change where the ledger is for the API server."""
    elsewhere = glass.postgres.model_copy(update={"postgres_port": port})
    write_private(witness.folder(glass.postgres) / "ledger_url", ledger_url(elsewhere, LEDGER_WITNESS))


# --- Airflow's own audit log -----------------------------------------------------------------------------------------


def test_the_reader_finds_in_the_audit_log_who_tried_what_in_a_run(glass: Console) -> None:
    conf = {"ref": "1.1.0", "version": "1.1.0", "summary": "Sell bikes in the shop"}
    asked = glass.ask("rita", "POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": conf})
    assert asked.status_code == 200, asked.text
    run_id = asked.json()["dag_run_id"]
    assert re.fullmatch(r"1\.1\.0__20\d\d-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z", run_id)
    (known,) = glass.entries(release_chain(RELEASE, run_id), RUN_ASKED)
    assert (known.payload["run_id"], known.payload["user"]) == (run_id, "rita")
    glass.ask("gus", "PATCH", OLD_CLOSING, {"new_state": "failed"})
    answer = glass.ask("interlock_reader", "GET", f"/api/v2/eventLogs?dag_id={RELEASE}&order_by=-when")
    assert answer.status_code == 200
    rows = answer.json()["event_logs"]
    marked = [row for row in rows if row["event"] == "patch_task_instance" and row["run_id"] == BACKED_OUT_ID]
    assert [(row["owner"], row["task_id"], row["dag_id"]) for row in marked[:1]] == [
        ("gus", "closure.close_release", RELEASE)
    ]
    trigger = next(row for row in rows if row["event"] == "trigger_dag_run" and row["owner"] == "rita")
    assert trigger["run_id"] == run_id
    one_run = glass.ask("interlock_reader", "GET", f"/api/v2/eventLogs?dag_id={RELEASE}&run_id={RUN}").json()
    assert {row["run_id"] for row in one_run["event_logs"]} == {RUN_ID}


# --- others' Dags, and Dags that only bear a name ---------------------------------------------------------------------


@pytest.mark.parametrize("dag_id", ["train_model", "release_tables"])
def test_a_dag_of_another_team_is_theirs_whatever_it_is_called(console: Console, dag_id: str) -> None:
    dag = f"/api/v2/dags/{dag_id}"
    started = console.ask("admin", "POST", f"{dag}/dagRuns", {"logical_date": None, "conf": {"any": "thing"}})
    assert started.status_code == 200, started.text
    task = f"{dag}/dagRuns/{RUN}/taskInstances/sweep"
    assert console.ask("admin", "PATCH", task, {"new_state": "success"}).status_code == 200
    cleared = console.ask("admin", "POST", f"{dag}/clearTaskInstances", {"dag_run_id": RUN_ID, "dry_run": False})
    assert cleared.status_code == 200, cleared.text
    assert console.ask("admin", "PATCH", f"{dag}/dagRuns/{RUN}", {"state": "failed"}).status_code == 200
    assert console.ask("admin", "DELETE", f"{dag}/dagRuns/{RUN}").status_code == 204


def test_a_dag_that_only_bears_the_name_is_trusted_with_nothing_and_stays_under_control(console: Console) -> None:
    dag = f"/api/v2/dags/{STRANGER}"
    for user, method, path, body in (
        ("rita", "POST", f"{dag}/dagRuns", {"logical_date": None, "conf": {"reason": "x"}}),
        ("rita", "PATCH", f"{dag}/dagRuns/{RUN}/taskInstances/t/0/hitlDetails", {"chosen_options": ["Approve"]}),
    ):
        answer = console.ask(user, method, path, body)
        assert answer.status_code == 403, answer.text
        assert "not Interlock's" in answer.json()["detail"]
        assert "others.py" in answer.json()["detail"]
    assert console.ask("admin", "DELETE", f"{dag}/dagRuns/{RUN}").status_code == 403
    assert console.ask("admin", "DELETE", dag).status_code == 403
    assert console.ask("olga", "PATCH", dag, {"is_paused": False}).status_code == 200


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_an_account_whose_password_an_administrator_set_answers_when_a_second_person_vouches_for_it(
    console: Console,
) -> None:
    ballot = f"{TASKS}/rollout.cast_ballot/3/hitlDetails"  # fay's
    unknown = {"chosen_options": ["No such option"]}
    assert console.ask("fay", "PATCH", ballot, unknown).status_code == 400, "Airflow's own answer: nothing doubts fay"
    users = "/auth/fab/v1/users"
    changed = console.ask("admin", "PATCH", f"{users}/fay?update_mask=password", {"password": "the administrators"})
    assert changed.status_code == 200, changed.text
    answer = console.ask("fay", "PATCH", ballot, {"chosen_options": ["Approve"]})
    assert answer.status_code == 403
    assert "The password of fay was reset" in answer.json()["detail"]
    (found,) = [one for one in console.entries(INSTALLATION, "finding") if one.payload.get("found") == DOUBTED]
    assert console.attempts(user="fay", by="account")
    with console.ledger() as ledger:
        said = {"user": "fay", "account": found.payload["evidence"]["account"], "by": "ben", "reason": "She called me"}
        ledger.append(INSTALLATION, ACCOUNT_CONFIRMED, said, actor="ben", key="confirmed/fay")
    assert console.ask("fay", "PATCH", ballot, unknown).status_code == 400


def test_an_account_is_read_again_before_fab_would(console: Console) -> None:
    """FAB keeps what an account may do for 30 seconds: so long a new Dag answered 403 to those who may release it."""
    assert console.ask("nora", "GET", DAG).status_code == 403
    role = {"roles": [{"name": "auditor"}]}
    assert console.ask("admin", "PATCH", "/auth/fab/v1/users/nora?update_mask=roles", role).status_code == 200
    try:
        give_up = time.monotonic() + 15
        while console.ask("nora", "GET", DAG).status_code == 403 and time.monotonic() < give_up:
            time.sleep(0.2)
        assert console.ask("nora", "GET", DAG).status_code == 200
    finally:
        console.ask("admin", "PATCH", "/auth/fab/v1/users/nora?update_mask=roles", {"roles": []})


# --- interlock doctor ------------------------------------------------------------------------------------------------


@contextmanager
def without_components(console: Console) -> Iterator[None]:
    """Have no scheduler and no triggerer be alive."""
    with closing(sqlite3.connect(console.home / "airflow.db", timeout=60)) as database:
        with database:
            assert database.execute("UPDATE job SET state = 'failed'").rowcount
        try:
            yield
        finally:
            with database:
                database.execute("UPDATE job SET state = 'running'")


@pytest.fixture
def engineer(console: Console, monkeypatch: pytest.MonkeyPatch) -> Console:
    """This Airflow, as a platform engineer sees it from a machine that is set up rightly."""
    place = urlsplit(console.base)

    def connection(conn_id: str) -> SimpleNamespace:
        user = {"interlock_airflow": "interlock_reader", "interlock_board_clerk": "board_clerk"}.get(conn_id, "gil")
        return SimpleNamespace(host=place.hostname, port=place.port, schema="http", login=user, password=user)

    monkeypatch.setattr(processes, "stored_connection", connection)
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(console.home / "catalogue"))
    monkeypatch.setenv("INTERLOCK_WITNESS_PUBLIC_KEY", str(witness.public_key(console.postgres)))
    return console


def found_wrong(check: Iterable[Finding]) -> list[str]:
    return [found.what for found in check if found.state == "wrong"]


def test_an_api_server_that_is_set_up_rightly_is_well(engineer: Console) -> None:
    (found,) = processes.api_server(engineer.base)
    assert found.state == "well"


def test_an_api_server_with_another_catalogue_is_named(
    engineer: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path))
    (what,) = found_wrong(processes.api_server(engineer.base))
    assert re.fullmatch(r"Its catalogue has the version [0-9a-f]{12}, and the one here [0-9a-f]{12}\.", what)


def test_an_api_server_whose_signatures_would_not_count_is_named(
    engineer: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_key(tmp_path / "other.pem")
    monkeypatch.setenv("INTERLOCK_WITNESS_PUBLIC_KEY", str(tmp_path / "other.pem.pub"))
    (what,) = found_wrong(processes.api_server(engineer.base))
    assert what.startswith("It signs answers with another key than INTERLOCK_WITNESS_PUBLIC_KEY names here")


def test_components_that_do_not_run_are_named_with_the_command_that_starts_them(engineer: Console) -> None:
    with without_components(engineer):
        fixes = [found.fix for found in processes.components() if found.state == "wrong"]
    assert fixes == ["airflow scheduler", "airflow triggerer", "airflow dag-processor"]


def test_a_service_account_that_cannot_log_in_is_named(engineer: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_wrong(inspect([("accounts", processes.accounts)])) == []
    there = processes.stored_connection("interlock_airflow")
    there.password = "another"
    monkeypatch.setattr(processes, "stored_connection", lambda _: there)
    (what,) = found_wrong(inspect([("accounts", processes.accounts)]))
    assert "interlock_reader" in what


def test_dags_that_airflow_lacks_or_has_from_elsewhere_are_named(
    engineer: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = found_wrong(processes.dags())
    assert "Airflow does not have the Dag confirm_account." in here
    assert not any(RELEASE in what for what in here)
    monkeypatch.setenv("INTERLOCK_DAGS", "elsewhere")
    assert any(f"The Dag {RELEASE} is not Interlock's" in what for what in found_wrong(processes.dags()))


def test_no_question_is_held_up_while_none_is_answered(engineer: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "HELD_UP", timedelta(days=1))  # other tests answered some; no scheduler goes on
    assert found_wrong(inspect([("questions", processes.questions)])) == []
