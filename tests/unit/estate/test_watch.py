from __future__ import annotations

import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from supervisor.states import ProcessStates

from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import cluster, watch

HEALTHY = {
    "scheduler": {"status": "healthy"},
    "dag_processor": {"status": "healthy"},
    "triggerer": {"status": "healthy"},
}


NAMES = ("api-server", "scheduler", "dag-processor", "triggerer", "postgres")


class Supervisor:
    """Knows components that have been running for a while, and notes what it is told to do."""

    def __init__(self, names: Sequence[str] = NAMES, *, seconds: float = 1000) -> None:
        self.names, self.start = names, time.time() - seconds
        self.told: list[str] = []

    def getAllProcessInfo(self) -> list[dict[str, Any]]:
        return [{"name": name, "state": ProcessStates.RUNNING, "start": self.start} for name in self.names]

    def stopProcess(self, name: str) -> None:
        self.told.append(f"stop {name}")

    def startProcess(self, name: str, wait: bool) -> None:
        self.told.append(f"start {name}")


def looked(
    page: dict[str, Any] | None, times: int, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    monkeypatch.setattr(watch, "health", lambda url: page)
    strikes: dict[str, int] = {}
    for _ in range(times):
        watch.check(Settings(), supervisor, strikes, {})
    return supervisor.told


def test_healthy_components_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(HEALTHY, 50, Supervisor(), monkeypatch) == []


def test_scheduler_that_gives_no_sign_of_life_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    page = {**HEALTHY, "scheduler": {"status": "unhealthy"}}
    assert looked(page, watch.STRIKES - 1, Supervisor(), monkeypatch) == []
    assert looked(page, watch.STRIKES, Supervisor(), monkeypatch) == ["stop scheduler", "start scheduler"]


@pytest.mark.parametrize("page", [None, {**HEALTHY, "scheduler": {"status": "unhealthy"}}])
def test_component_that_has_just_started_has_time(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the API server takes minutes; killing it then starts it anew, for ever."""
    assert looked(page, 50, Supervisor(seconds=watch.STARTING / 2), monkeypatch) == []


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (None, ["stop api-server", "start api-server"]),
        ({**HEALTHY, "scheduler": {"status": "unhealthy"}}, ["stop scheduler", "start scheduler"]),
    ],
)
def test_component_that_was_well_has_less_time(page: Any, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, strikes, well = Supervisor(seconds=watch.STARTING / 2), dict[str, int](), dict[str, float]()
    for one in [HEALTHY, *[page] * watch.STRIKES]:
        monkeypatch.setattr(watch, "health", lambda url, one=one: one)
        watch.check(Settings(), supervisor, strikes, well)
    assert supervisor.told == told


def test_api_server_that_does_not_answer_is_restarted_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(None, watch.STRIKES, Supervisor(), monkeypatch) == ["stop api-server", "start api-server"]


def test_of_two_api_servers_only_the_silent_one_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy before them answers nothing while both are busy, and says nothing of either."""
    settings, supervisor, strikes = Settings(engine="cluster"), Supervisor(cluster.names()), dict[str, int]()
    silent = f"http://{LOOPBACK}:{settings.api_2_port}"
    monkeypatch.setattr(watch, "health", lambda url: None if url == silent else HEALTHY)
    for _ in range(watch.STRIKES):
        watch.check(settings, supervisor, strikes, {})
    assert supervisor.told == ["stop api-server-2", "start api-server-2"]


def test_strikes_are_forgotten_when_the_component_is_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, strikes = Supervisor(), dict[str, int]()
    ill = {**HEALTHY, "triggerer": {"status": "unhealthy"}}
    almost = [ill] * (watch.STRIKES - 1)
    for page in [*almost, HEALTHY, *almost]:
        monkeypatch.setattr(watch, "health", lambda url, page=page: page)
        watch.check(Settings(), supervisor, strikes, {})
    assert supervisor.told == []


def test_health_page_is_read_from_airflow(tmp_path: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ok = self.path == "/api/v2/monitor/health"
            self.send_response(200 if ok else 404)
            self.end_headers()
            self.wfile.write(b'{"scheduler": {"status": "healthy"}}')

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert watch.health(url) == {"scheduler": {"status": "healthy"}}
        assert watch.health(f"{url}/elsewhere") is None
        server.shutdown()
    assert watch.health(url) is None


def test_what_the_supervisor_has_given_up_is_started_again() -> None:
    class GivenUp(Supervisor):
        def getAllProcessInfo(self) -> list[dict[str, Any]]:
            states = {
                "postgres": ProcessStates.FATAL,
                "estate": ProcessStates.STOPPED,
                "scheduler": ProcessStates.BACKOFF,
            }
            return [{"name": name, "state": state, "start": 0.0} for name, state in states.items()]

    supervisor = GivenUp()
    watch.start_given_up(supervisor)
    assert supervisor.told == ["start postgres"]
