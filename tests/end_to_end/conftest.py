"""One stack for all end-to-end tests, whichever worker runs them, and on it a service of each file's own.

A file that names an engine (``ENGINE = "cluster"``) has the stack of that engine.

What a file leaves in the ledger is the record that its service's next release is judged by, so no two share a service.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from interlock.estate.settings import Settings

from .people import BIKE_SHOP
from .stack import NETWORK, Stack, settings_of_stack, start, stop

ENGINE = os.environ.get("INTERLOCK_ENGINE", "local")
NETWORKS = {"local": NETWORK, "cluster": "127.42.0"}
"""Both stacks run at the same time."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The running stack, as the tests of a file's service see it; the production of the bike shop runs 1.0.0."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (
        _shared_stack(shared, getattr(request.module, "ENGINE", ENGINE)) as settings,
        closing(Stack(settings, getattr(request.module, "SERVICE", BIKE_SHOP))) as running,
    ):
        if running.service != BIKE_SHOP:
            running.configure()
        yield running


@contextmanager
def _shared_stack(folder: Path, engine: str) -> Iterator[Settings]:
    """Start the stack of an engine unless it runs for another worker; stop it afterwards unless another worker uses it.

    Each that uses it has a shared lock, which ends with its process.
    """
    started = folder / f"{engine}.json"
    with (folder / f"{engine}.users").open("a") as users:
        with _alone(folder, engine):
            if started.exists():
                settings = Settings.from_environment(json.loads(started.read_text()))
            else:
                name = f"{engine}{len(list(folder.glob(f'{engine}[0-9]*')))}"
                settings = settings_of_stack(folder / name, engine=engine, network=NETWORKS[engine])
                start(settings)
                started.write_text(json.dumps(settings.to_environment()))
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield settings
        finally:
            with _alone(folder, engine):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # another worker uses it
                else:
                    started.unlink()
                    stop(settings)


@contextmanager
def _alone(folder: Path, engine: str) -> Iterator[None]:
    with (folder / f"{engine}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
