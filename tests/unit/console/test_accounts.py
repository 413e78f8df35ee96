"""Whose account answers: what is doubted about it, and who vouches for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.console.auth.accounts import is_vouched_for, objection
from interlock.console.control.current_request import CurrentRequest
from interlock.domain.board.accounts import Account, ConfirmationRequest, confirmed
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import PolicyViolation, TransientError
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import ACCOUNT_CONFIRMED, ACCOUNT_KNOWN
from interlock.locations import CATALOGUE
from tests.clock import NOW
from tests.memory_ledger import MemoryLedger

pytestmark = pytest.mark.usefixtures("clock")

BOARD = load_rules(CATALOGUE)[1]
MADE = NOW - timedelta(days=30)
BALLOT = "/api/v2/dags/release_bike_shop/dagRuns/r/taskInstances/rollout.cast_ballot/0/hitlDetails"
CONFIRM = "/api/v2/dags/confirm_account/dagRuns"


def account(user: str, password: str = "p", number: int = 1, since: datetime | None = MADE) -> Account:
    return Account(user=user, number=str(number), since=since, secret=sha256_of(password.encode()))


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def answers(ledger: MemoryLedger) -> Callable[..., str]:
    def answer(*accounts: Account, user: str = "ben", asked_at: datetime | None = NOW, confirms: bool = False) -> str:
        asked = (
            CurrentRequest("POST", CONFIRM)
            if confirms
            else CurrentRequest("PATCH", BALLOT, bytearray(json.dumps({}).encode()))
        )
        assert is_vouched_for(asked)
        return objection(user, asked, lambda: ledger, lambda: list(accounts), lambda names: asked_at)

    return answer


def kinds(ledger: MemoryLedger) -> list[str]:
    return [entry.payload.get("found") or entry.kind for entry in ledger.entries(INSTALLATION)]


def test_an_account_that_is_as_it_was_answers(answers: Callable[..., str], ledger: MemoryLedger) -> None:
    for _ in range(2):
        assert answers(account("ben"), account("cora", number=2)) == ""
    assert [entry.payload["user"] for entry in ledger.entries(INSTALLATION, kind=ACCOUNT_KNOWN)] == ["ben", "cora"]
    assert kinds(ledger) == [ACCOUNT_KNOWN, ACCOUNT_KNOWN]
    assert "p" not in {entry.payload.get("secret") for entry in ledger.entries(INSTALLATION)}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        pytest.param(account("ben", "other"), "reset. Interlock cannot tell whether ben did it", id="password"),
        pytest.param(account("ben", number=9), "deleted and created again", id="made-anew-before"),
        pytest.param(account("ben", number=9, since=NOW + timedelta(hours=1)), "after the question", id="made-anew"),
        pytest.param(account("ben", since=None), "at an unknown time", id="no-age"),
    ],
)
def test_an_account_that_changed_answers_nothing_and_is_a_finding(
    answers: Callable[..., str], ledger: MemoryLedger, changed: Account, why: str
) -> None:
    assert answers(account("ben")) == ""
    for _ in range(2):
        said = answers(changed)
        assert why in said
        assert all(part in said for part in ("not accepted", "Rule:", "Who can:", "confirm_account", "Next:"))
    assert kinds(ledger) == [ACCOUNT_KNOWN, "account_doubted"]
    assert answers(account("ben")) == "", "what it was is what it was"


def test_an_account_that_is_newer_than_the_question_answers_none_although_it_was_seen(
    answers: Callable[..., str],
) -> None:
    new = account("ben", since=NOW - timedelta(hours=1))
    assert answers(new, account("cora"), user="cora") == ""
    assert "after the question" in answers(new, asked_at=NOW - timedelta(hours=2))
    assert answers(new, asked_at=NOW) == ""


def test_a_second_person_vouches_for_an_account_as_it_was_doubted_and_for_no_other(
    answers: Callable[..., str], ledger: MemoryLedger
) -> None:
    answers(account("ben"), account("cora", number=2))
    changed = account("ben", "other")
    assert answers(changed, account("cora", number=2))
    assert answers(account("ben"), account("cora", number=2), user="cora", confirms=True) == ""
    findings = ledger.entries(INSTALLATION, kind="finding")
    said = confirmed(ConfirmationRequest(user="ben", reason="He called me"), "cora", BOARD, findings)
    ledger.append(INSTALLATION, ACCOUNT_CONFIRMED, said, actor="cora", key="1")
    assert answers(changed) == ""
    assert "was reset" in answers(account("ben", "third"))


def test_nobody_vouches_with_an_account_that_is_doubted_itself(
    answers: Callable[..., str], ledger: MemoryLedger
) -> None:
    answers(account("ben"), account("cora", number=2))
    answers(account("ben", "other"))
    assert "was reset" in answers(account("cora", "other", 2), user="cora", confirms=True)
    late = account("rita", number=3, since=NOW + timedelta(days=1))
    assert "after the question" in answers(late, user="rita", confirms=True)


@pytest.mark.parametrize(
    ("user", "by", "problem"),
    [
        ("ben", "ben", "cannot confirm their own"),
        ("ben", "admin", "not listed in board.yaml"),
        ("cora", "ben", "no answer of the account of cora was refused"),
    ],
)
def test_who_may_not_vouch_is_told_so(
    answers: Callable[..., str], ledger: MemoryLedger, user: str, by: str, problem: str
) -> None:
    answers(account("ben"))
    answers(account("ben", "other"))
    with pytest.raises(PolicyViolation, match=problem):
        confirmed(
            ConfirmationRequest(user=user, reason="He called me"),
            by,
            BOARD,
            ledger.entries(INSTALLATION, kind="finding"),
        )


def test_what_cannot_be_looked_at_is_doubted_and_the_clerk_is_let_alone(answers: Callable[..., str]) -> None:
    def nowhere() -> Any:
        raise TransientError("no ledger")

    said = objection("ben", CurrentRequest("PATCH", BALLOT), nowhere, list, lambda names: NOW)
    assert "cannot be checked: no ledger" in said
    assert objection("board_clerk", CurrentRequest("PATCH", BALLOT), nowhere, list, lambda names: NOW) == ""
    assert "does not have a role of Interlock" in answers(user="opal")


def test_only_answers_and_confirmations_are_vouched_for() -> None:
    assert not is_vouched_for(CurrentRequest("POST", "/api/v2/dags/emergency_stop/dagRuns"))
    assert not is_vouched_for(CurrentRequest("PATCH", BALLOT.replace("release_bike_shop", "nightly")))
