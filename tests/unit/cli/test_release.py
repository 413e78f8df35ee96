"""Requesting a release from a pipeline: one call, and the same key always means the same release."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interlock.cli.app import main
from tests.airflow_server import AirflowServer, airflow_server

ASK = ["release", "bike-shop", "--version", "1.4.0", "--key", "build-17", "--artifact", f"sha256:{'a' * 64}"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    with airflow_server() as running:
        running.accounts["jenkins-shop"] = "s3cret"
        host, port = running.server_address[:2]
        monkeypatch.setenv("INTERLOCK_URL", f"http://{host!s}:{port}")
        monkeypatch.setenv("INTERLOCK_USER", "jenkins-shop")
        monkeypatch.setenv("INTERLOCK_PASSWORD", "s3cret")
        yield running


def test_a_release_is_requested_by_one_call(server: AirflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASK, "--ticket", "SHOP-12"]) == 0
    [(dag_id, run_id)] = server.runs
    assert dag_id == "release_bike_shop"
    assert run_id.startswith("1.4.0__key-")
    run = server.runs[dag_id, run_id]
    assert run["by"] == "jenkins-shop"
    assert run["conf"] == {
        "ref": "1.4.0",
        "version": "1.4.0",
        "change_type": "normal",
        "summary": "Release 1.4.0, by build-17",
        "artifact": f"sha256:{'a' * 64}",
        "tickets": ["SHOP-12"],
    }
    said = capsys.readouterr().out
    assert f"Requested: {dag_id}/{run_id}, running" in said
    assert f"/dags/{dag_id}/runs/{run_id}" in said


def test_the_same_key_is_the_same_release(server: AirflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(ASK) for _ in range(3)] == [0, 0, 0]
    assert len(server.runs) == 1
    assert "Was requested before" in capsys.readouterr().out
    assert main(["release", "bike-shop", "--version", "1.4.0", "--key", "build-18"]) == 0
    assert len(server.runs) == 2


def test_a_key_that_stands_for_another_request_is_refused(
    server: AirflowServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ASK) == 0
    assert main([*ASK[:-1], f"sha256:{'b' * 64}"]) == 1
    assert "The key 'build-17' stands for another request of bike-shop" in capsys.readouterr().err
    assert len(server.runs) == 1


def test_what_airflow_refuses_is_told_with_its_reason(
    server: AirflowServer, capsys: pytest.CaptureFixture[str]
) -> None:
    why = b"jenkins-shop is the account of a pipeline and may request releases of till"
    with server.lock:
        server.troubles += [(403, why), (403, why)]
    assert main(ASK) == 1
    assert not server.runs


def test_the_account_is_never_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("INTERLOCK_URL", "INTERLOCK_USER", "INTERLOCK_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert main(ASK) == 1
    assert "INTERLOCK_URL, INTERLOCK_USER and INTERLOCK_PASSWORD are not all set" in capsys.readouterr().err
