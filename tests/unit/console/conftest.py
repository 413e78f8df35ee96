"""What the tests of the console share: which Dags Airflow has, and from where."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interlock.console.control import rules
from interlock.console.control.own_dags import OwnDags
from interlock.domain.dag_names import Place
from tests.memory_ledger import MemoryLedger

CATALOGUE = Path(__file__).parents[3] / "include" / "catalogue"

FREEZE = """\
title: Calendar
owner: the office
time_zone: UTC
entries:
  - name: trade
    title: Christmas trade
    kind: freeze
    from: {begin:%Y-%m-%dT%H:%M}
    until: {end:%Y-%m-%dT%H:%M}
    override_by: [operations]
"""


class Airflows:
    """The Dags that Airflow has, by name, and a ledger."""

    def __init__(self) -> None:
        self.places: dict[str, list[Place]] = {}
        self.ledger = MemoryLedger()
        self.asked: list[str] = []
        self.now = 0.0
        self.made = OwnDags(lambda: CATALOGUE, lambda: self.ledger, self._places, lambda: self.now)

    def has(self, dag_id: str, file: str | None, bundle: str | None = "dags-folder") -> None:
        """Have Airflow know a Dag."""
        self.places[dag_id.lower()] = [Place(bundle=bundle, file=file)]

    def _places(self, dag_id: str) -> list[Place]:
        self.asked.append(dag_id)
        return self.places.get(dag_id.lower(), [])


@pytest.fixture(autouse=True)
def airflows(monkeypatch: pytest.MonkeyPatch) -> Airflows:
    """Have release control ask an Airflow without Dags, and the project's own catalogue."""
    airflows = Airflows()
    monkeypatch.setattr(rules, "made", lambda: airflows.made)
    monkeypatch.delenv("INTERLOCK_DAGS", raising=False)
    return airflows


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """A catalogue whose calendar closes everything now."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    now = datetime.now(UTC)
    freeze = FREEZE.format(begin=now - timedelta(hours=1), end=now + timedelta(days=9))
    (copy / "calendars" / "office.yaml").write_text(freeze)
    return copy
