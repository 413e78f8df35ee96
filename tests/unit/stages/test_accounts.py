"""The Dag ``confirm_account``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from interlock.domain.board.accounts import DOUBTED
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import ACCOUNT_CONFIRMED
from interlock.locations import CATALOGUE
from interlock.stages.controls import accounts
from interlock.stages.runtime import requests, resources
from tests.dag_run import dag_run
from tests.memory_ledger import MemoryLedger

FORM = {"user": "ben", "reason": "He called me"}


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    kept = MemoryLedger()
    for number in ("1", "2"):
        evidence = {"user": "ben", "number": "1", "since": None, "account": number * 64}
        kept.append(
            INSTALLATION, "finding", {"what": "x", "found": DOUBTED, "evidence": evidence}, actor="ben", key=number
        )
    monkeypatch.setattr(resources, "ledger", lambda: kept)
    monkeypatch.setattr(resources, "signer", lambda: None)
    monkeypatch.setattr(requests, "WITNESS_TIMEOUT_SECONDS", 0.0)
    return kept


def confirm(ledger: MemoryLedger, by: str | None = "cora", **changes: Any) -> Any:
    with dag_run("confirm_account/record_confirmation", user=by, params={**FORM, **changes}, ledger=ledger):
        return accounts.record_confirmation.function()


def test_what_was_doubted_last_is_confirmed_once_and_signed(ledger: MemoryLedger) -> None:
    for _ in range(2):
        assert confirm(ledger) == {"user": "ben", "account": "2" * 64, "by": "cora", "reason": "He called me"}
    (entry,) = ledger.entries(INSTALLATION, kind=ACCOUNT_CONFIRMED)
    assert entry.actor == "cora"
    assert INSTALLATION in ledger.signed


@pytest.mark.parametrize(
    ("by", "changes", "problem"),
    [
        pytest.param("ben", {}, "their own account", id="oneself"),
        pytest.param("admin", {}, "not listed in board.yaml", id="an-administrator"),
        pytest.param(None, {}, "no request for it", id="past-the-form"),
        pytest.param("cora", {"reason": "   x  "}, "reason: ", id="no-reason"),
        pytest.param("cora", {"user": 7}, "user: ", id="no-user"),
        pytest.param("cora", {"user": "dan"}, "no answer of the account", id="not-doubted"),
    ],
)
def test_everything_else_is_refused_with_its_reason(
    ledger: MemoryLedger, by: str | None, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(AirflowFailException, match=problem):
        confirm(ledger, by, **changes)
    assert ledger.entries(INSTALLATION, kind=ACCOUNT_CONFIRMED) == ()


def test_the_form_offers_the_people_of_the_board_book_and_takes_any_name_without_it(tmp_path: Path) -> None:
    assert "ben" in accounts.confirm_params(CATALOGUE)["user"].schema["enum"]
    assert "enum" not in accounts.confirm_params(tmp_path)["user"].schema
