import json
import socket
from pathlib import Path

import pytest

from shop import config, control

EXAMPLE = Path(__file__).parents[2] / "example"


@pytest.fixture
def shared():
    """Return the settings that a host has, as its shared folder has them."""
    return json.loads((EXAMPLE / "shop.json").read_text())


@pytest.fixture
def settings(monkeypatch):
    """Return the settings of the example host."""
    monkeypatch.setenv("INTERLOCK_SHARED", str(EXAMPLE))
    return config.load()


@pytest.fixture
def host(tmp_path, monkeypatch, shared):
    """Return the shared folder of a host with a free port; no shop is left running on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "shop.json").write_text(json.dumps({**shared, "port": port}))
    monkeypatch.setenv("INTERLOCK_SHARED", str(tmp_path))
    yield tmp_path
    control.stop()
