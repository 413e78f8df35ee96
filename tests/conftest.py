"""What holds for all tests."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import time_machine
from hypothesis import HealthCheck, Phase, settings

from tests.clock import NOW

PACKAGE = str(Path(__file__).parents[1] / "include")
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys((PACKAGE, *os.environ.get("PYTHONPATH", PACKAGE).split(os.pathsep)))
)
"""Programs that tests start find the package, also where pytest is called without ``make``."""


class _Guarded(BaseHTTPRequestHandler):
    """An execution API as far as releases look whether it is guarded."""

    def do_GET(self) -> None:
        body = b'{"detail": "guarded"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture(scope="session", autouse=True)
def guarded_execution_api() -> Iterator[None]:
    """Have the tasks that run here find release control in front of the API that they talk to."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as server, pytest.MonkeyPatch.context() as patch:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        patch.setenv(
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"http://127.0.0.1:{server.server_address[1]}/execution/"
        )
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def clock() -> Iterator[None]:
    """Set this process's clock to ``NOW``; it goes on from there."""
    with time_machine.travel(NOW, tick=True):
        yield


LONGEST = Path(__file__).parent / "end_to_end"

# How property tests run. How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("interlock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For .ci/run: the same examples each time; what nobody has found yet should not fail a change that is not about it.
settings.register_profile("ci", settings.get_profile("interlock"), derandomize=True)
# For make mutation: as well, and no search for a smaller one, for nobody reads it.
settings.register_profile("mutation", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("INTERLOCK_HYPOTHESIS", "interlock"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: LONGEST not in item.path.parents)
