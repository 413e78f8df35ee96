"""Airflow's execution API, served alone: what a task of another Dag may not do there, on a real Airflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from jwt.warnings import InsecureKeyLengthWarning

from interlock.adapters.airflow.execution_api import refuse_unguarded
from interlock.domain.errors import PolicyViolation
from interlock.estate.airflow import witness
from tests.integration.console_airflow import JWT_SECRET, RELEASE, ROOT, RUN_ID, settings_of
from tests.integration.console_server import Console
from tests.ports import free_port

RUN = quote(RUN_ID, safe="")
XCOM = f"xcoms/{RELEASE}/{RUN}/rollout.freeze_plan/return_value"


@contextmanager
def served(console: Console, plugins: Path) -> Iterator[str]:
    """Serve the execution API of an Airflow alone."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "INTERLOCK"))}
    settings = settings_of(console.home, port) | {"AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins)}
    command = [sys.executable, "-m", "airflow", "api-server", "--apps", "execution", "--host", "127.0.0.1"]
    log = console.home / f"execution-{port}.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env={
                **kept,
                **settings,
                **witness.of_the_api_server(console.postgres),
                "PYTHONPATH": str(ROOT / "include"),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}/execution/"
            _wait_for(server, url, log)
            yield url
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def _wait_for(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up = time.monotonic() + 180
    while time.monotonic() < give_up and server.poll() is None:
        try:
            httpx.get(f"{url}health/ping", timeout=10).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"The execution API did not start:\n{log.read_text()[-4000:]}")


def as_task(console: Console, url: str, name: str, method: str, path: str, content: Any = None) -> httpx.Response:
    """Send a request as a task does, by the name under which the tests know it."""
    now = int(time.time())
    claims = {"sub": console.known["tasks"][name], "aud": "urn:airflow.apache.org:task", "scope": "execution"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        token = jwt.encode({**claims, "iat": now, "nbf": now, "exp": now + 600}, JWT_SECRET, algorithm="HS512")
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, url + path, json=content, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def alone(console: Console) -> Iterator[str]:
    with served(console, ROOT / "plugins") as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"dag-runs/{RELEASE}/attack"),
        ("POST", f"dag-runs/{RELEASE}/{RUN}/clear"),
        ("POST", "dag-runs/rollback_bike_shop/attack"),
        ("POST", "dag-runs/train_weekly/attack"),
        ("POST", f"dag-runs/reconcile/{RUN}/clear"),
        ("POST", XCOM),
        ("POST", f"{XCOM}?map_index=0"),
        ("DELETE", XCOM),
        ("PUT", "store/asset/by-name/value?name=bike-shop%40production&key=k"),
        ("GET", "connections/interlock_ledger"),
    ],
)
def test_a_task_of_another_dag_does_nothing_to_a_release(console: Console, alone: str, method: str, path: str) -> None:
    before = console.ask("audrey", "GET", f"/api/v2/dags/{RELEASE}/dagRuns").json()["total_entries"]
    reply = as_task(console, alone, "nightly", method, path, {"conf": {}})
    assert reply.status_code == 403, reply.text
    assert "Rule:" in reply.text or "under release control" in reply.text
    assert console.ask("audrey", "GET", f"/api/v2/dags/{RELEASE}/dagRuns").json()["total_entries"] == before
    refuse_unguarded(alone)


def test_what_was_refused_there_is_on_record(console: Console, alone: str) -> None:
    as_task(console, alone, "nightly", "POST", XCOM, "forged")
    assert console.attempts(user="a task", dag_id=RELEASE, run_id=RUN_ID, entity="XCOM")


def test_another_task_of_the_same_release_does_not_write_it_either_and_the_task_itself_does(
    console: Console, alone: str
) -> None:
    assert as_task(console, alone, "rollout.await_board", "POST", XCOM, "forged").status_code == 403
    note = XCOM.replace("return_value", "note")
    assert as_task(console, alone, "rollout.freeze_plan", "POST", note, "mine").status_code == 201
    read = as_task(console, alone, "nightly", "GET", note)
    assert (read.status_code, read.json()["value"]) == (200, "mine")
    assert as_task(console, alone, "rollout.freeze_plan", "DELETE", note).status_code == 200
    ledger = as_task(console, alone, "rollout.freeze_plan", "GET", "connections/interlock_ledger")
    assert ledger.status_code == 200, ledger.text


def test_a_dag_of_others_is_started_and_cleared_by_others(console: Console, alone: str) -> None:
    assert as_task(console, alone, "nightly", "POST", "dag-runs/train_model/by-task", {}).status_code == 204
    assert as_task(console, alone, "nightly", "POST", "dag-runs/train_model/by-task/clear").status_code == 204
    sweep = f"xcoms/release_tables/{RUN}/sweep/k"
    assert as_task(console, alone, "nightly", "POST", sweep, "x").status_code == 201


def test_where_it_is_not_guarded_releases_are_refused(console: Console, tmp_path: Path) -> None:
    with served(console, tmp_path) as url, pytest.raises(PolicyViolation, match="is not protected"):
        refuse_unguarded(url)
