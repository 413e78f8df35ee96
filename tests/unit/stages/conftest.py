"""What the stages' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interlock.stages.runtime import resources
from tests.airflow_server import ACCOUNTS, AirflowServer, airflow_server
from tests.mailbox import Mailbox, mail_server
from tests.running_task import RunningTask, running_task


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    """Airflow's REST API, and the connections that lead to it."""
    with airflow_server() as server:
        for connection, user in (
            (resources.AIRFLOW, "reader"),
            (resources.BOARD_CLERK, "board_clerk"),
            (resources.CONDUCTOR, "interlock_conductor"),
        ):
            url = f"http://{user}:{ACCOUNTS[user]}@127.0.0.1:{server.port}"
            monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", url)
        yield server


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[RunningTask]:
    """A task that is running, and what it leaves; the ledger has the answers that came in at Airflow's API."""
    with running_task("rollout.await_board", monkeypatch) as task:
        if "airflow" in request.fixturenames:
            task.answers = request.getfixturevalue("airflow").witnessed
        yield task


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server that keeps what it is given, and the connection that leads to it."""
    with mail_server(monkeypatch) as box:
        yield box
