"""What the bypass detector reads of Airflow, from a real one, as the service account that may only read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.airflow.watched_runs import given_answers, watched_runs
from interlock.domain.ledger import interventions
from interlock.domain.ledger.interventions import AuditRow
from interlock.stages.runtime.triggers import digest_of_answers
from tests.integration.console_airflow import BACKED_OUT_ID, PATH_RELEASE, RELEASE, RUN_ID
from tests.integration.console_server import Console

RUN = f"/api/v2/dags/{RELEASE}/dagRuns/{quote(BACKED_OUT_ID, safe='')}"
TASK = f"{RUN}/taskInstances/design.check_assets"


@pytest.fixture
def api(console: Console) -> Iterator[AirflowApi]:
    with AirflowApi(console.base, "interlock_reader", "interlock_reader") as opened:
        yield opened


@pytest.fixture
def began() -> datetime:
    return datetime.now(UTC) - interventions.MAX_CLOCK_SKEW


def by_hand(api: AirflowApi, console: Console, began: datetime) -> list[AuditRow]:
    refused = [interventions.refusal(one.payload) for one in console.entries("installation", "attempt.refused")]
    rows = api.audit_log(began, dag_id=RELEASE)
    return list(interventions.done_by_hand(rows, refused, dag_id=RELEASE, run_id=BACKED_OUT_ID))


def test_the_reader_sees_runs_tasks_and_whether_a_dag_is_paused(console: Console, api: AirflowApi) -> None:
    runs = api.runs("release_", datetime(2026, 1, 1, tzinfo=UTC))
    assert {(RELEASE, RUN_ID), (RELEASE, BACKED_OUT_ID)} <= set(runs)
    assert {dag_id for dag_id, _ in runs} - {PATH_RELEASE} == {RELEASE}, "PATH_RELEASE: if its pages were looked at"
    assert api.runs("release_", datetime.now(UTC) + timedelta(days=3650)) == ()
    assert (api.run_state(RELEASE, RUN_ID), api.run_state(RELEASE, "manual__gone")) == ("running", None)
    said = console.ask("audrey", "GET", f"/api/v2/dags/{RELEASE}").json()
    assert api.is_paused(RELEASE) == said["is_paused"]
    assert not api.is_paused("nowhere")
    rows = api.task_instances(RELEASE, BACKED_OUT_ID)
    assert all({"task_id", "map_index", "state", "try_number"} <= row.keys() for row in rows)
    assert len(api.tries(RELEASE, BACKED_OUT_ID, rows[0]["task_id"], rows[0]["map_index"])) == 1


def test_the_plugin_says_at_once_what_airflows_routes_say_one_by_one(
    console: Console, api: AirflowApi, began: datetime
) -> None:
    console.ask("opal", "PATCH", TASK, {"new_state": "skipped"})
    since = began - timedelta(days=1)
    gone = (RELEASE, "manual__gone")
    records = watched_runs(api, {(RELEASE, BACKED_OUT_ID): since, gone: began, (RELEASE, RUN_ID): since})
    assert records.pop(gone).state is None
    for (_, run_id), record in records.items():
        run = api.run(RELEASE, run_id)
        bundles = [one["bundle_name"] for one in run["dag_versions"] if one.get("bundle_name")]
        assert (record.state, list(record.bundles)) == (run["state"], bundles)
        rows = api.task_instances(RELEASE, run_id)
        assert [(one.task_id, one.map_index, one.state) for one in record.tasks] == [
            (row["task_id"], row["map_index"], row["state"]) for row in rows
        ]
        for one in record.tasks:
            assert one.result == api.result(RELEASE, run_id, one.task_id, one.map_index), one.task_id
            assert one.tries == api.tries(RELEASE, run_id, one.task_id, one.map_index), one.task_id
        assert record.audit == api.audit_log(since, dag_id=RELEASE)
        assert record.answers == api.answers(RELEASE, run_id, answered=True)
    assert any(record.answers for record in records.values())


def test_answers_are_read_for_many_that_wait_without_their_words(console: Console, api: AirflowApi) -> None:
    questions = [(RELEASE, run_id, "rollout.cast_ballot") for run_id in (BACKED_OUT_ID, "manual__gone", RUN_ID)]
    found = given_answers(api, questions)
    assert [*found] == questions
    for dag_id, run_id, task_id in questions:
        there = () if run_id == "manual__gone" else api.answers(dag_id, run_id, task_id, answered=True)
        assert digest_of_answers(found[dag_id, run_id, task_id]) == digest_of_answers(there)
    assert any(found.values())
    assert not any(one.body or one.subject for answers in found.values() for one in answers)
    path = f"/interlock/answered?question={RELEASE}/{quote(RUN_ID)}/rollout.cast_ballot"
    assert console.ask("audrey", "GET", path).status_code == 200
    assert httpx.get(f"{console.base}{path}", timeout=30).status_code == 401


def test_the_record_is_for_those_who_may_read_all_of_it(console: Console) -> None:
    since = "2026-01-01T00:00:00Z"
    path = f"/interlock/watched?run={RELEASE}/{quote(RUN_ID)}&after={since}"
    allowed = {user: console.ask(user, "GET", path).status_code for user in ("audrey", "rita", "opal", "ben")}
    assert allowed == {"audrey": 200, "rita": 403, "opal": 403, "ben": 403}
    assert httpx.get(f"{console.base}{path}", timeout=30).status_code == 401
    for wrong in (path.replace(since, "yesterday"), f"{path}&after={since}", path + path[19:].replace("?", "&") * 50):
        assert console.ask("audrey", "GET", wrong).status_code == 422


def test_what_was_refused_is_told_from_what_was_done(console: Console, api: AirflowApi, began: datetime) -> None:
    marked: dict[str, Any] = {"new_state": "skipped"}
    assert console.ask("opal", "PATCH", TASK, marked).status_code == 403
    assert {row.user for row in api.audit_log(began, dag_id=RELEASE) if row.event == "patch_task_instance"} == {"opal"}
    console.attempts(user="opal", task_id="design.check_assets")
    assert by_hand(api, console, began) == []

    console.grant("gus", RELEASE)
    try:
        assert console.ask("gus", "PATCH", TASK, marked).status_code == 200
        was = api.result(RELEASE, BACKED_OUT_ID, "design.check_assets", -1)
        xcom = f"{TASK}/xcomEntries/return_value"
        assert console.ask("gus", "PATCH", xcom, {"value": {"forged": True}}).status_code == 200
        assert api.result(RELEASE, BACKED_OUT_ID, "design.check_assets", -1) == {"forged": True}
        assert console.ask("gus", "PATCH", xcom, {"value": was}).status_code == 200
        assert console.ask("gus", "PATCH", TASK, {"new_state": "success"}).status_code == 200
    finally:
        console.take_grants()
    assert [str(row).partition(" at ")[0] for row in by_hand(api, console, began)] == [
        "gus marked design.check_assets",
        "gus edited an XCom of design.check_assets",
        "gus edited an XCom of design.check_assets",
        "gus marked design.check_assets",
    ]
    assert isinstance(was, dict)
    assert "schema_version" in was
    assert api.result(RELEASE, BACKED_OUT_ID, "rollout.cast_ballot", -1) is None


def test_an_edited_connection_is_seen_and_a_refused_edit_leaves_no_row(
    console: Console, api: AirflowApi, began: datetime
) -> None:
    edited = {"connection_id": "interlock_hosts", "conn_type": "ssh", "host": "evil", "password": "s3cret"}
    assert console.ask("rita", "POST", "/api/v2/connections", edited).status_code == 403
    assert api.audit_log(began, event_pattern="connection") == ()
    assert console.ask("admin", "POST", "/api/v2/connections", edited).status_code == 201
    assert console.ask("admin", "DELETE", "/api/v2/connections/interlock_hosts").status_code == 204
    rows = interventions.connections_edited(api.audit_log(began, event_pattern="connection"), {"interlock_hosts"})
    assert [str(row).partition(" at ")[0] for row in rows] == [
        "admin wrote the connection interlock_hosts",
        "admin deleted the connection interlock_hosts",
    ]
    assert "s3cret" not in rows[0].model_dump_json(), "Airflow masks it, and so what becomes evidence"


def test_an_edit_that_the_audit_log_would_not_name_is_refused_and_defaults_are_no_edit(
    console: Console, api: AirflowApi, began: datetime
) -> None:
    one = {"connection_id": "interlock_aws", "conn_type": "aws", "host": "evil"}
    everything = {"actions": [{"action": "create", "entities": [one], "action_on_existence": "overwrite"}]}
    for kind in ("application/x+json", None):
        headers = {"Authorization": f"Bearer {console.token('admin')}"} | ({"Content-Type": kind} if kind else {})
        hidden = httpx.patch(
            f"{console.base}/api/v2/connections?connection_id=smtp_default",
            content=json.dumps(everything),
            headers=headers,
            timeout=30,
        )
        assert hidden.status_code == 422, hidden.text
        assert "audit log" in hidden.json()["detail"]
    assert console.ask("admin", "GET", "/api/v2/connections/interlock_aws").status_code == 404
    assert console.ask("admin", "POST", "/api/v2/connections/defaults").status_code == 204
    rows = api.audit_log(began, event_pattern="connection")
    assert "create_default_connections" in {row.event for row in rows}
    ours = {"interlock_aws", "smtp_default"}
    assert [row for row in interventions.connections_edited(rows, ours) if row.event != "post_connection"] == []
