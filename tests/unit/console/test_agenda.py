"""The agenda of a board reads what it shows of the ledger at once, however many items it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.domain.cab.agenda import BallotSeen
from interlock.domain.ledger.chain import Break, Entry, release_chain
from interlock.domain.ledger.kinds import PLAN_MADE, ROLLOUT_FROZEN
from interlock.domain.measures.facts import MeasuredRelease
from tests.factories import releases
from tests.memory_ledger import MemoryLedger

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with `starlette.testclient`"
)  # Airflow's routes import it
RUNS = [("release_bike_shop", f"r{number}") for number in range(20)]
BROKEN = Break(chain=release_chain(*RUNS[7]), sequence=2, what="changed", sentence="Somebody changed the entry 2.")


class Counting(MemoryLedger):
    """A ledger that counts how often it is read, and of which one chain is not intact."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def entries(self, *args: Any, **more: Any) -> tuple[Entry, ...]:
        self.reads["entries"] += 1
        return super().entries(*args, **more)

    def among(self, *args: Any) -> tuple[Entry, ...]:
        self.reads["among"] += 1
        return super().among(*args)

    def whole(self, chains: Collection[str]) -> dict[str, Any]:
        self.reads["whole"] += 1
        return {**super().whole(chains), BROKEN.chain: BROKEN}


def test_twenty_items_are_read_at_once_and_one_that_is_not_intact_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.console.cab import agenda

    ledger = Counting()
    runs_now = {"run": "release_bike_shop/earlier", "version": "1.0.0", "outcome": "deployed"}
    for run in RUNS:
        ledger.append(release_chain(*run), PLAN_MADE, releases.plan().to_xcom(), actor="task", key="plan")
        ledger.append(release_chain(*run), ROLLOUT_FROZEN, releases.rollout().to_xcom(), actor="task", key="frozen")
    frozen = releases.rollout(version="1.0.0", risk=40).to_xcom()
    ledger.append(release_chain("release_bike_shop", "earlier"), ROLLOUT_FROZEN, frozen, actor="task", key="frozen")
    ended = {"ended_at": releases.AT, "last_wave_at": releases.AT, "rollback": False}
    earlier = MeasuredRelease(service="bike-shop", change_type="normal", **runs_now, **ended)
    ballot = BallotSeen(task_id="rollout.cast_ballot", map_index=0, people=("ben",), open=True, vote=None)
    monkeypatch.setattr(agenda, "readable_dags", lambda user: frozenset({"release_bike_shop"}))
    monkeypatch.setattr(agenda, "ballots_of_boards", lambda readable, also: {run: [ballot] for run in RUNS})
    monkeypatch.setattr(agenda, "_rule", lambda entries, plan: None)
    ben = SimpleNamespace(get_name=lambda: "ben", get_id=lambda: "2")
    found = agenda.Agendas(lambda: ledger, lambda readable: [earlier]).items(ben)
    assert ledger.reads == {"whole": 1, "among": 1}
    assert [one.run_id for one in found if one.fault] == ["r7"]
    assert "Somebody changed the entry 2." in next(one.fault for one in found if one.fault)
    assert all("Its risk is 12; that of 1.0.0 was 40." in one.change.differences for one in found if not one.fault)
