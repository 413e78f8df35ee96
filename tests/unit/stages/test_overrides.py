"""Who may override what closes an environment, at the form of ``override_freeze``."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.locations import CATALOGUE, catalogue_folder
from interlock.stages.controls import overrides
from interlock.stages.runtime import calendars, requests, resources
from tests.clock import NOW
from tests.dag_run import dag_run
from tests.memory_ledger import MemoryLedger

pytestmark = pytest.mark.usefixtures("clock")

CALENDAR = f"""\
title: Calendar
owner: the office
time_zone: UTC
entries:
  - name: trade
    title: Christmas trade
    kind: freeze
    from: {NOW - timedelta(hours=1):%Y-%m-%dT%H:%M}
    until: {NOW + timedelta(days=9):%Y-%m-%dT%H:%M}
    override_by: [operations]
"""
FORM = {"service": "bike-shop", "environment": "production", "reason": "The till is broken", "hours": 2}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    """A ledger, and a catalogue with a freeze."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    shutil.rmtree(copy / "calendars")
    (copy / "calendars").mkdir()
    (copy / "calendars" / "office.yaml").write_text(CALENDAR)
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(copy))
    kept = MemoryLedger()
    monkeypatch.setattr(resources, "ledger", lambda: kept)
    monkeypatch.setattr(resources, "signer", lambda: None)
    monkeypatch.setattr(requests, "WITNESS_TIMEOUT_SECONDS", 0.0)
    return kept


def ask(ledger: MemoryLedger, user: str | None = "ben", run_id: str = "manual__1", **changes: Any) -> Any:
    with dag_run(
        "override_freeze/record_override", run_id=run_id, user=user, params={**FORM, **changes}, ledger=ledger
    ):
        return overrides.record_override.function()


def is_open(run_id: str = "another") -> bool:
    """Ask as a wave of a release."""
    with dag_run("release_bike_shop/implementation.wave_1", run_id=run_id):
        return calendars.answer_now(resources.catalogue_of("bike-shop"), "production").open


def test_who_has_the_role_overrides_for_some_hours_and_it_is_on_record(ledger: MemoryLedger) -> None:
    assert not is_open()
    given = ask(ledger)
    assert (given["by"], given["role"], given["place"]) == ("ben", "operations", "trade in calendars/office.yaml")
    assert is_open()
    (entry,) = ledger.entries(INSTALLATION, kind="freeze.overridden")
    assert (entry.kind, entry.actor) == ("freeze.overridden", "ben")
    assert ledger.signed == [INSTALLATION]


def test_a_task_that_runs_again_overrides_once(ledger: MemoryLedger) -> None:
    assert ask(ledger) == ask(ledger)
    assert len(ledger.entries(INSTALLATION, kind="freeze.overridden")) == 1


@pytest.mark.parametrize(
    ("user", "changes", "why"),
    [
        ("cora", {}, r"Cora Lindqvist \(security\) may not override .* Who can change it: operations"),
        ("olga", {}, "olga is not listed under people in board.yaml"),
        (None, {}, "no request for it"),
        ("ben", {"hours": 25}, "hours: Input should be less than or equal to 24"),
        ("ben", {"reason": "  x  "}, "reason: String should have at least 5"),
        ("ben", {"environment": "test2"}, "bike-shop has no environment test2. Available: bike-shop: production"),
        ("ben", {"service": "till"}, "till has no environment production"),
    ],
)
def test_nobody_else_and_nothing_else(ledger: MemoryLedger, user: str | None, changes: Any, why: str) -> None:
    with pytest.raises(AirflowFailException, match=why):
        ask(ledger, user, **changes)
    assert not ledger.entries(INSTALLATION, kind="freeze.overridden")
    assert not is_open()


def test_nobody_overrides_for_a_release_that_they_asked_for(ledger: MemoryLedger) -> None:
    chain = release_chain("release_bike_shop", "manual__7")
    ledger.append(chain, "release.requested", {"requested_by": "ben"}, actor="ben", key="1")
    with pytest.raises(AirflowFailException, match="requested the release"):
        ask(ledger)
    told = {"run": "release_bike_shop/manual__7"}
    ledger.append(INSTALLATION, "release.ended", told, actor="release_bike_shop/closure", key="2")
    ask(ledger)
    assert is_open()


def test_what_is_open_is_not_overridden(ledger: MemoryLedger) -> None:
    ask(ledger)
    with pytest.raises(AirflowFailException, match="production is open for bike-shop"):
        ask(ledger, run_id="manual__2")


def test_the_mail_says_what_else_closes_it(ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []

    def notify(subject: str, text: str, *, same: str) -> list[str]:
        sent.append((subject, text))
        return ["audrey@example.com"]

    monkeypatch.setattr(overrides, "notify", notify)
    folder = catalogue_folder() / "calendars"
    (folder / "payroll.yaml").write_text(CALENDAR.replace("trade", "payroll").replace("Christmas trade", "Payroll"))
    given = ask(ledger)
    with dag_run("override_freeze/tell_of_override"):
        assert overrides.tell_of_override.function(given) == ["audrey@example.com"]
    ((subject, text),) = sent
    assert subject.startswith("Freeze overridden for bike-shop: ")
    assert "The till is broken" in text
    assert "Current state of the calendars: bike-shop in production may not be changed: closed by" in text


def test_an_override_does_not_count_for_its_authors_own_release(ledger: MemoryLedger) -> None:
    for run_id, user in (("bens", "ben"), ("ritas", "rita")):
        asked = {"service": "bike-shop", "requested_by": user}
        ledger.append(f"release/release_bike_shop/{run_id}", "release.requested", asked, actor=user, key="asked")
        ledger.append(f"release/release_bike_shop/{run_id}", "release.closed", {}, actor="x", key="closed")
    ledger.append(INSTALLATION, "release.ended", {"run": "release_bike_shop/bens"}, actor="x", key="ended")
    ask(ledger)
    assert is_open("ritas")
    assert not is_open("bens")
