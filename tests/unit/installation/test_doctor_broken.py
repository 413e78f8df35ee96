"""An installation that is broken in one way at a time: doctor names the right thing, and what fixes it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.catalogue.catalogue import dags_of_catalogue
from interlock.adapters.signing.witness import PUBLIC_KEY
from interlock.console.control.own_dags import home
from interlock.installation.doctor import outside, processes, proof, rules
from interlock.installation.doctor.inspection import Check, Finding, inspect
from interlock.locations import CATALOGUE
from tests.airflow_server import AirflowServer, airflow_server
from tests.clock import NOW

pytestmark = pytest.mark.usefixtures("clock")
LONG_AGO, JUST_NOW = ((NOW - timedelta(seconds=seconds)).isoformat() for seconds in (600, 20))
TASK = {"dag_id": "release_bike_shop", "dag_run_id": "1.1.0", "task_id": "rollout.cast_ballot"}


def found(check: Check) -> list[Finding]:
    """Run one check as doctor does."""
    return list(inspect([("the check", check)]))


def faults(check: Check) -> list[tuple[str, str]]:
    """Return of what is wrong the sentence and what fixes it."""
    return [(one.what, one.fix) for one in found(check) if one.state == "wrong"]


def connect(patch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    """Let Airflow have a connection."""
    patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(CATALOGUE))


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    """Airflow's API, with the three service accounts."""
    with airflow_server() as server:
        accounts = {"interlock_airflow": "reader", "interlock_board_clerk": "board_clerk"}
        for conn_id, user in {**accounts, "interlock_conductor": "interlock_conductor"}.items():
            where = {"host": "127.0.0.1", "port": server.port, "schema": "http"}
            connect(monkeypatch, conn_id, conn_type="http", login=user, password=server.accounts[user], **where)
        yield server


def health(airflow: AirflowServer, **changes: dict[str, Any]) -> None:
    """Let Airflow's health page say that all is well, but for what is given."""
    names = {"scheduler": "scheduler", "triggerer": "triggerer", "dag_processor": "dag_processor"}
    page = {one: {"status": "healthy", f"latest_{key}_heartbeat": JUST_NOW} for one, key in names.items()}
    airflow.troubles.append((200, json.dumps({**page, **changes}).encode()))


@pytest.mark.parametrize("component", ["scheduler", "triggerer", "dag_processor"])
def test_a_component_that_is_gone_is_named(component: str, airflow: AirflowServer) -> None:
    health(airflow)
    assert faults(processes.components) == []
    health(airflow, **{component: {"status": "unhealthy", f"latest_{component}_heartbeat": LONG_AGO}})
    command = processes.COMPONENTS[component]
    assert faults(processes.components) == [(f"It is not alive; last heard of: {LONG_AGO}.", command)]


def test_an_api_that_answers_nothing_is_named(airflow: AirflowServer) -> None:
    airflow.troubles.append((503, b"no server is available"))
    ((what, _),) = faults(processes.components)
    assert "503" in what


@pytest.mark.parametrize("user", ["reader", "board_clerk", "interlock_conductor"])
def test_a_service_account_with_another_password_is_named(user: str, airflow: AirflowServer) -> None:
    assert faults(processes.accounts) == []
    airflow.accounts[user] = "changed"
    ((what, _),) = faults(processes.accounts)
    assert f"as {user}" in what


def place_of(name: str) -> dict[str, str]:
    place = home().places_of(name)[0]
    return {"bundle_name": place.bundle, "relative_fileloc": place.file}


def listed(airflow: AirflowServer, **changes: dict[str, Any]) -> None:
    """Let Airflow have all Dags of the catalogue, one of them as it is given; none: without it."""
    rows = [
        {"dag_id": name, "is_paused": False, "is_stale": False, **place_of(name), **changes.get(name, {})}
        for name in sorted(dags_of_catalogue(CATALOGUE))
        if changes.get(name, {"there": True})
    ]
    airflow.more["/api/v2/dags"] = {"dags": rows, "total_entries": len(rows)}


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        pytest.param({}, "Airflow does not have the Dag", "airflow dags list-import-errors", id="missing"),
        pytest.param(
            {"is_stale": True}, "Airflow does not have the Dag", "airflow dags list-import-errors", id="stale"
        ),
        pytest.param({"is_paused": True}, "is paused", "airflow dags unpause release_bike_shop", id="paused"),
        pytest.param({"bundle_name": "another team"}, "another team", "set INTERLOCK_DAGS", id="another file"),
    ],
)
def test_a_dag_that_is_not_as_it_must_be_is_named(
    change: dict[str, Any], what: str, fix: str, airflow: AirflowServer
) -> None:
    listed(airflow)
    assert faults(processes.dags) == []
    listed(airflow, release_bike_shop=change)
    ((said, fixed),) = faults(processes.dags)
    assert what in said
    assert "release_bike_shop" in said
    assert fix in fixed


def answered(at: str, state: str) -> dict[str, Any]:
    return {"responded_at": at, "response_received": True, "task_instance": {**TASK, "state": state}}


@pytest.mark.parametrize("state", list(processes.GOES_ON))
def test_an_answer_that_leads_nowhere_is_named_with_what_is_down(state: str, airflow: AirflowServer) -> None:
    """A question of Airflow 3.3 waits in no triggerer: its answer puts the task into the scheduler's hands."""
    rows = airflow.more["/api/v2/dags/~/dagRuns/~/hitlDetails"] = {"hitl_details": [answered(JUST_NOW, state)]}
    assert faults(processes.questions) == []
    rows["hitl_details"].append(answered(LONG_AGO, state))
    ((what, fix),) = faults(processes.questions)
    assert what.startswith("release_bike_shop, 1.1.0: rollout.cast_ballot was answered at")
    assert fix == processes.GOES_ON[state]


def waiting(heard: str | None, *, dag_id: str = "release_bike_shop", since: str = LONG_AGO) -> dict[str, Any]:
    job = {"hostname": "triggerer-2", "latest_heartbeat": heard}
    return {**TASK, "dag_id": dag_id, "trigger": {"created_date": since}, "triggerer_job": job if heard else None}


def test_a_task_that_waits_at_a_dead_triggerer_is_named(airflow: AirflowServer) -> None:
    well = [waiting(JUST_NOW), waiting(None, since=JUST_NOW), waiting(LONG_AGO, dag_id="etl_of_another_team")]
    rows = airflow.more["/api/v2/dags/~/dagRuns/~/taskInstances"] = {"task_instances": well}
    assert faults(processes.waits) == []
    rows["task_instances"] = [*well, waiting(LONG_AGO), waiting(None)]
    dead, nobody = faults(processes.waits)
    assert f"and its triggerer on triggerer-2 was last heard of at {LONG_AGO}." in dead[0]
    assert "and no triggerer has taken it over." in nobody[0]
    assert dead[1].startswith("airflow triggerer")


def test_an_execution_api_without_guard_is_named(airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{airflow.port}/execution/"
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", url)
    airflow.troubles.append((200, json.dumps({"detail": "guarded"}).encode()))
    assert faults(processes.execution_api) == []
    airflow.troubles.append((404, b'{"detail": "Not Found"}'))
    ((what, fix),) = faults(processes.execution_api)
    assert f"Airflow's execution API at {url} is not protected" in what
    assert "interlock.airflow_settings" in fix


@pytest.mark.parametrize(
    ("executor", "timeout", "wrong"),
    [
        pytest.param("LocalExecutor", "60", False, id="no broker"),
        pytest.param("CeleryExecutor", None, False, id="Airflow's own"),
        pytest.param("CeleryExecutor", "86400", False, id="a day"),
        pytest.param("CeleryExecutor", "3600", True, id="an hour"),
    ],
)
def test_a_broker_that_delivers_running_tasks_again_is_named(
    executor: str, timeout: str | None, wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    if timeout:
        monkeypatch.setenv("AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT", timeout)
    said = faults(rules.queue)
    assert [what.startswith("The broker gives a task that runs for more than 1:00:00") for what, _ in said] == (
        [True] if wrong else []
    )


@pytest.mark.filterwarnings(
    "ignore::starlette.exceptions.StarletteDeprecationWarning"
)  # of what Airflow's managers load
def test_an_auth_manager_that_knows_people_by_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fab = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "interlock.console.auth.manager.InterlockFabAuthManager")
    assert faults(rules.auth_manager) == []
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", fab)
    ((what, fix),) = faults(rules.auth_manager)
    assert what.startswith("FabAuthManager is in force: it knows people by number")
    assert "InterlockFabAuthManager" in fix


@pytest.fixture
def dag_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rules, "_folder_of_dags", lambda: tmp_path)
    return tmp_path


def test_a_dag_file_that_cannot_be_imported_is_named(dag_folder: Path) -> None:
    (dag_folder / "release.py").write_text("from airflow.sdk import DAG\nraise ValueError('no such service')\n")
    ((what, _),) = faults(rules.dag_files)
    assert what == "release.py cannot be imported: ValueError: no such service"


def test_a_dag_file_that_takes_too_long_is_named(dag_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (dag_folder / "release.py").write_text("import time\n# airflow dag\ntime.sleep(1)\n")
    assert faults(rules.dag_files) == []
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "1.9")
    ((what, fix),) = faults(rules.dag_files)
    assert "more than half of the time-out of 1.9 s" in what
    assert fix.startswith("set AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT=")


def test_a_machine_that_cannot_isolate_builds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules.makers, "find_maker", lambda _: (None, "there is no bubblewrap"))
    (said,) = found(rules.builds)
    assert (said.state, said.fix[:18]) == ("unknown", "install bubblewrap")
    assert "there is no bubblewrap" in said.what


def test_keys_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "interlock_signing_key", conn_type="generic", host=(tmp_path / "signing.pem").as_uri())
    monkeypatch.setenv(PUBLIC_KEY, str(tmp_path / "witness.pem.pub"))
    for check, named in ((proof.signing_key, "signing.pem"), (proof.public_key_of_answers, PUBLIC_KEY)):
        ((what, fix),) = faults(check)
        assert named in what
        assert fix


def test_a_ledger_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(
        monkeypatch, "interlock_ledger", conn_type="postgres", host="127.0.0.1", port=1, login="writer", password="x"
    )
    ((what, fix),) = faults(proof.ledger)
    assert "ledger" in what
    assert fix


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    connect(monkeypatch, "interlock_artifacts", conn_type="fs", extra={"path": str(tmp_path / "file" / "store")})
    assert len(faults(outside.artifacts)) == 1


@pytest.mark.parametrize(("executor", "states"), [("LocalExecutor", ["well"]), ("CeleryExecutor", ["well", "unknown"])])
def test_a_store_in_a_folder_is_doubted_if_tasks_run_elsewhere(
    executor: str, states: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    connect(monkeypatch, "interlock_artifacts", conn_type="fs", extra={"path": str(tmp_path)})
    assert [one.state for one in found(outside.artifacts)] == states


def test_a_place_for_results_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.state for one in found(outside.results)] == ["well"]
    backend = "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", backend)
    (tmp_path / "file").touch()
    for place, wrong in ((tmp_path / "results", 0), (tmp_path / "file" / "results", 1)):
        monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", place.as_uri())
        assert len(faults(outside.results)) == wrong


def test_a_mail_server_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"disable_ssl": True, "disable_tls": True, "timeout": 2, "retry_limit": 1, "from_email": "a@example.com"}
    connect(monkeypatch, "interlock_smtp", conn_type="smtp", host="127.0.0.1", port=1, extra=extra)
    ((what, _),) = faults(outside.mail)
    assert "refused" in what.lower()


def test_connections_of_hosts_that_are_missing_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(outside, "has_connection", lambda _: False)
    assert {one.state for one in found(outside.hosts)} == {"unknown"}
