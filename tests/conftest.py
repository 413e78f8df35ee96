"""What holds for all tests."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, Phase, settings

from tests import spread
from tests.clock import NOW
from tests.examples import examples
from tests.spread import is_for_others

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


# How property tests run. How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("interlock", examples(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
# For make thorough: tests/examples.py says how many more.
settings.register_profile("thorough", settings.get_profile("interlock"))
# For .ci/run: the same examples each time; what nobody has found yet should not fail a change that is not about it.
settings.register_profile("ci", settings.get_profile("interlock"), derandomize=True)
# For make mutation: as well, and no search for a smaller one, for nobody reads it.
settings.register_profile("mutation", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("INTERLOCK_HYPOTHESIS", "interlock"))


ORDER = "INTERLOCK_TEST_ORDER"


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed before workers start, for each of them has to come to the same order."""
    if os.environ.get(ORDER) == "random":
        os.environ[ORDER] = str(random.randrange(10**6))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say how to have this order again."""
    return f"shuffled; again with make test ORDER={os.environ[ORDER]}" if ORDER in os.environ else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what other workers collect."""
    return (collection_path.is_file() and is_for_others(config, collection_path)) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what other workers collect, files that are named too; and shuffle, if it is asked for.

    The files are shuffled, and the tests in each.

    End-to-end files come first, for they take minutes. Their tests stay in order: each finds the production that the
    one before left, as the releases of a service do.
    """
    items[:] = [item for item in items if not is_for_others(config, item.path)]
    if seed := os.environ.get(ORDER):
        drawn = random.Random(seed)
        files = {item.path: drawn.random() for item in items}
        items.sort(key=lambda item: (files[item.path], str(item.path), 0 if end_to_end(item) else drawn.random()))
    items.sort(key=lambda item: not end_to_end(item))


def end_to_end(item: pytest.Item) -> bool:
    """Say whether a test runs on the stack."""
    return "end_to_end" in item.path.parts


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers of ``-n auto``."""
    return spread.workers(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the scheduler count what was collected."""
    session.config.stash[spread.SESSION] = session


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker what to collect."""
    spread.tell(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what spreads the files over workers."""
    if config.getvalue("dist") != "loadfile":
        return None
    return spread.Spread(config, log)
