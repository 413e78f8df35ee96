"""A run of another team's Dag as a step of a runbook: which run counts, by what Airflow has of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.runbook.dag_runs import DagRun
from interlock.domain.catalogue.runbook_file import DagRunStep
from interlock.domain.errors import AssetMissing, TransientError
from tests.airflow_server import ACCOUNTS, AirflowServer, airflow_server

DAG, ID, NOW = "close_the_books", "0123456789abcdef" * 2, datetime.now(UTC)
RUN = f"interlock__{ID}"
CONF = {"month": "2026-11", "again": False}
CONDUCTOR = "interlock_conductor"
OF_DAG = {"is_paused": False, "is_stale": False, "bundle_name": "books", "relative_fileloc": "books.py"}


@pytest.fixture
def airflow() -> Iterator[AirflowServer]:
    with airflow_server() as server:
        server.more[f"/api/v2/dags/{DAG}"] = {**OF_DAG, "bundle_version": "abc123"}
        server.more[f"/api/v2/dagSources/{DAG}"] = {"content": "books = 1\n", "version_number": 4}
        yield server


def account(airflow: AirflowServer, user: str) -> Callable[[], AirflowApi]:
    return partial(AirflowApi, f"http://127.0.0.1:{airflow.port}", user, ACCOUNTS[user], trust_env=False)


@pytest.fixture
def place(airflow: AirflowServer) -> DagRun:
    step = DagRunStep.model_validate({"dag": DAG, "conf": CONF})
    return DagRun(step, account(airflow, "reader"), account(airflow, CONDUCTOR), CONDUCTOR)


def ended(airflow: AirflowServer, state: str = "success", **more: Any) -> None:
    run = airflow.runs[DAG, RUN]
    run |= {"state": state, "bundle_version": "abc123", "dag_versions": [{"version_number": 4}], **more}
    failed = {"task_id": "write_down", "map_index": -1, "state": "failed", "start_date": None, "end_date": None}
    airflow.more[f"/api/v2/dags/{DAG}/dagRuns/{RUN}/taskInstances"] = {
        "task_instances": [failed] if state == "failed" else [],
        "total_entries": 1 if state == "failed" else 0,
    }


def test_a_run_is_started_once_and_counts_when_it_has_succeeded(airflow: AirflowServer, place: DagRun) -> None:
    pinned = place.pin()
    assert {key: pinned[key] for key in ("bundle", "file", "bundle version")} == {
        "bundle": "books",
        "file": "books.py",
        "bundle version": "abc123",
    }
    assert place.look(ID, pinned, NOW) is None
    for _ in range(2):
        begun = place.begin(ID, pinned)
        assert begun is not None
        assert not begun.ended
    assert list(airflow.runs) == [(DAG, RUN)]
    assert airflow.runs[DAG, RUN]["conf"] == CONF
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert not seen.ended
    ended(airflow)
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert (seen.ended, seen.reason, seen.said) == (True, "", f"{DAG}, run {RUN}: success")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"state": "failed"}, "the run of close_the_books ended as failed: write_down failed"),
        ({"triggering_user_name": "mallory"}, "mallory started its run, and not interlock_conductor"),
        ({"triggering_user_name": None}, "nobody started its run"),
        ({"conf": {"month": "2026-10"}}, "its run has another configuration than the plan"),
        ({"bundle_version": "def456"}, "its run used the version def456 of the bundle"),
        ({"dag_versions": []}, "Airflow does not say which version of the Dag ran"),
    ],
)
def test_a_run_that_is_not_the_frozen_one_or_failed_does_not_count(
    airflow: AirflowServer, place: DagRun, how: dict[str, Any], why: str
) -> None:
    pinned = place.pin()
    place.begin(ID, pinned)
    ended(airflow, **how)
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert seen.ended
    assert why in seen.reason


def test_a_run_with_another_file_does_not_count(airflow: AirflowServer, place: DagRun) -> None:
    pinned = place.pin()
    place.begin(ID, pinned)
    ended(airflow)
    airflow.more[f"/api/v2/dagSources/{DAG}"]["content"] = "books = 2\n"
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert seen.reason == "its run used another version of the Dag's file than the plan"
    assert place.pin()["source"] != pinned["source"]


def test_a_run_that_somebody_marked_does_not_count(airflow: AirflowServer, place: DagRun) -> None:
    pinned = place.pin()
    place.begin(ID, pinned)
    ended(airflow)
    airflow.audit.append(
        {
            "event_log_id": 1,
            "when": "2026-11-29T08:00:00+00:00",
            "event": "patch_dag_run",
            "owner": "opal",
            "dag_id": DAG,
            "run_id": RUN,
            "task_id": None,
            "extra": '{"method": "PATCH"}',
        }
    )
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert "its run was changed by hand: opal marked the run" in seen.reason


def test_a_run_that_goes_on_over_its_time_is_left_alone_and_named(airflow: AirflowServer, place: DagRun) -> None:
    pinned = place.pin()
    place.begin(ID, pinned)
    asked = len(airflow.asked)
    assert place.stop(ID, NOW) == (
        f"The run {RUN} of close_the_books goes on; people who may end runs of this Dag can end it"
    )
    assert len(airflow.asked) == asked
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert not seen.ended


@pytest.mark.parametrize(
    ("dag", "source", "why"),
    [
        ({**OF_DAG, "is_paused": True}, "x", "it is paused"),
        ({**OF_DAG, "is_stale": True}, "x", "its file is gone"),
        (OF_DAG, "REDACTED - you do not have read permission on all Dags in the file", "may not read every Dag"),
    ],
)
def test_a_dag_that_cannot_be_run_or_read_is_not_planned(
    airflow: AirflowServer, place: DagRun, dag: dict[str, Any], source: str, why: str
) -> None:
    airflow.more |= {f"/api/v2/dags/{DAG}": dag, f"/api/v2/dagSources/{DAG}": {"content": source}}
    with pytest.raises(AssetMissing, match=why):
        place.pin()


def test_what_airflow_refuses_was_not_begun_and_what_it_does_not_answer_may_be_tried_again(
    airflow: AirflowServer, place: DagRun
) -> None:
    pinned = place.pin()
    token = (201, b'{"access_token": "x"}')
    airflow.troubles = [token, (400, b'{"detail": "Invalid input for param month"}')]
    refused = place.begin(ID, pinned)
    assert refused is not None
    assert (refused.ended, "Invalid input for param month" in refused.reason) == (True, True)
    airflow.troubles = [(503, b"")]
    with pytest.raises(TransientError):
        place.begin(ID, pinned)
    assert airflow.runs == {}
