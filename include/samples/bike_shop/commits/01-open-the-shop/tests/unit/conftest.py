import json
from pathlib import Path

import pytest

from shop import config

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
