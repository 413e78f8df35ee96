"""Who may accept a defect as known at the form of ``accept_defect``, and what a release makes of it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import DEFECT_ACCEPTED, DEFECT_OPENED
from interlock.domain.testing.defects import chain_of_defects, new_defects
from interlock.domain.testing.results import CaseRow
from interlock.locations import CATALOGUE
from interlock.stages.controls import defects as control
from interlock.stages.runtime import requests, resources
from interlock.stages.testing import defects
from tests.clock import NOW
from tests.dag_run import dag_run
from tests.memory_ledger import MemoryLedger
from tests.unit.domain.test_test_matrix import result

pytestmark = pytest.mark.usefixtures("clock")

CHAIN = chain_of_defects("bike-shop")
FORM = {"service": "bike-shop", "defect": "basket-1", "reason": "Nobody empties it", "days": 7}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    """A ledger with an open defect, and a policy that lets operations accept it."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    policy = copy / "policy.yaml"
    rule = "\nwaivers:\n  defects: { roles: [operations], longest: P10D }\n"
    policy.write_text(policy.read_text().replace("\nwaivers:\n", rule))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(copy))
    kept = MemoryLedger()
    monkeypatch.setattr(resources, "ledger", lambda: kept)
    monkeypatch.setattr(resources, "signer", lambda: None)
    monkeypatch.setattr(requests, "WITNESS_TIMEOUT_SECONDS", 0.0)
    about = {"service": "bike-shop", "owner": "the team", "version": "1.0.0", "release": "r1"}
    for defect in new_defects([], [result(name, "failed", step="Open /.") for name in ("basket", "menu")], **about):
        kept.append(CHAIN, DEFECT_OPENED, defect.to_xcom(), actor="a task", key=defect.id)
    return kept


def accept(ledger: MemoryLedger, user: str | None = "ben", **changes: Any) -> Any:
    with dag_run("accept_defect/record_acceptance", user=user, params={**FORM, **changes}, ledger=ledger):
        return control.record_acceptance.function()


def test_whom_the_policy_names_accepts_a_defect_for_some_days_and_it_is_on_record(ledger: MemoryLedger) -> None:
    given = accept(ledger)
    (entry,) = ledger.entries(CHAIN, kind=DEFECT_ACCEPTED)
    assert (entry.actor, entry.payload["id"], entry.payload["by"]) == ("ben", "basket-1", "ben")
    (basket, menu) = defects.open_defects_of("bike-shop")
    assert basket.accepted is not None
    assert abs(basket.accepted - NOW - timedelta(days=7)) < timedelta(minutes=1)
    assert menu.accepted is None
    assert accept(ledger) == given, "a retry accepts it once"
    assert len(ledger.entries(CHAIN, kind=DEFECT_ACCEPTED)) == 1


@pytest.mark.parametrize(
    ("user", "changes", "why"),
    [
        ("cora", {}, r"cora \(security\) may not accept .* Who can change it: operations"),
        ("olga", {}, r"olga \(not in board.yaml\) may not accept"),
        (None, {}, "no request for it"),
        ("ben", {"defect": "basket-2"}, "bike-shop has no open defect basket-2. Open: basket-1, menu-1"),
        ("ben", {"days": 11}, "A defect is accepted for at most 10 days, not 11 days"),
        ("ben", {"days": 0}, "days: Input should be greater than or equal to 1"),
        ("ben", {"reason": " x "}, "reason: String should have at least 5"),
        ("ben", {"service": "till"}, "There is no service till"),
    ],
)
def test_nobody_else_and_nothing_else(ledger: MemoryLedger, user: str | None, changes: Any, why: str) -> None:
    with pytest.raises(AirflowFailException, match=why):
        accept(ledger, user, **changes)
    assert not ledger.entries(CHAIN, kind=DEFECT_ACCEPTED)


def test_nobody_accepts_a_defect_for_a_release_that_they_requested(ledger: MemoryLedger) -> None:
    chain = release_chain("release_bike_shop", "manual__7")
    ledger.append(chain, "release.requested", {"requested_by": "ben"}, actor="ben", key="1")
    with pytest.raises(AirflowFailException, match="ben requested a release of bike-shop that is under way"):
        accept(ledger)


def test_without_a_rule_nobody_may(ledger: MemoryLedger, tmp_path: Path) -> None:
    shutil.copy(CATALOGUE / "policy.yaml", tmp_path / "catalogue" / "policy.yaml")
    with pytest.raises(AirflowFailException, match="Who can change it: no role; the owner of policy"):
        accept(ledger)


def test_a_case_that_fails_because_of_a_known_defect_fails_no_release(ledger: MemoryLedger) -> None:
    rows = [
        CaseRow(
            case=name,
            title=name,
            role="tester",
            proves=(),
            result=found,
            expected_artifact="a" * 64,
            step="Open /.",
            defect=f"{name}-1",
        )
        for name, found in (("basket", "failed"), ("menu", "failed"), ("prices", "passed"))
    ]

    def known(environment: str = "test", **said: str) -> list[str]:
        told = [row.model_copy(update=said) for row in rows]
        return [row.result for row in defects.with_known("bike-shop", environment, told)]

    assert known() == ["failed", "failed", "passed"]
    accept(ledger)
    assert known() == ["known_defect", "failed", "passed"]
    assert known("staging") == ["failed", "failed", "passed"], "it was accepted where it was found"
    assert known(step="Open /menu.") == ["failed", "failed", "passed"]
    assert known(defect="") == ["failed", "failed", "passed"]
    other, menu, _ = defects.with_known("bike-shop", "test", [rows[0].model_copy(update={"defect": ""}), *rows[1:]])
    assert (other.other, menu.other) == ("basket-1 is accepted as known, but the tester did not see it again", "")


def test_the_team_and_the_notified_are_told(ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []

    def notify(subject: str, text: str, *, same: str, also: tuple[str, ...]) -> list[str]:
        sent.append((subject, text))
        return ["audrey@example.com", *also]

    monkeypatch.setattr(control, "notify", notify)
    given = accept(ledger)
    with dag_run("accept_defect/tell_of_acceptance"):
        assert control.tell_of_acceptance.function(given) == ["audrey@example.com"]
    ((subject, text),) = sent
    assert subject == "Bike shop: defect basket-1 accepted as known"
    assert "Nobody empties it" in text
