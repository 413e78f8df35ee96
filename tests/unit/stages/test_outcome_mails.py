"""Mail about the end of a release: the closing task, and a small real mail server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from interlock.domain.errors import TransientError
from interlock.domain.ledger.kinds import (
    PERMIT_ISSUED,
    PLAN_MADE,
    RELEASE_ANNOUNCED,
    RELEASE_CLOSED,
    RELEASE_REQUESTED,
    RUN_ASKED,
)
from interlock.domain.records import Communication
from interlock.stages.release.outcome_mails import send_outcome
from tests.airflow_server import RUN
from tests.factories import releases
from tests.mailbox import Mailbox
from tests.running_task import RunningTask

FORM = {
    "ref": "1.1.0",
    "version": "1.1.0",
    "change_type": "normal",
    "summary": "Sell *bikes*",
    "tickets": ["SHOP-1", "SHOP-2"],
    "risk_customer_data": True,
    "risk_peak_hours": False,
    "not_before": None,
}
ANNOUNCED = {"customers": ("customers@example.com",), "staff": ("staff@example.com",)}


@pytest.fixture(autouse=True)
def _state(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the task's state in memory."""
    kept: dict[str, Any] = {}
    store = SimpleNamespace(get=kept.get, set=kept.__setitem__)
    monkeypatch.setattr(
        "interlock.stages.release.outcome_mails.get_current_context",
        lambda: {"task_state_store": store, "params": FORM},
    )


def end(
    running: RunningTask, outcome: str, *, by: str = "rita", announced: bool = True, touched: bool = False
) -> dict[str, Any]:
    """Leave what a release leaves that ends so, and send what is to be sent."""
    running.recorded.append((RELEASE_REQUESTED, {"service": "bike-shop", "requested_by": by}))
    running.knows(PLAN_MADE, releases.plan())
    if announced:
        notes = releases.artifact().bundle
        running.knows(RELEASE_ANNOUNCED, Communication(notes=notes, sent=ANNOUNCED, acknowledged={}))
    if touched:
        running.recorded.append((PERMIT_ISSUED, {}))
    running.knows(RELEASE_CLOSED, releases.outcome(outcome=outcome, stage="rollout", reason="ben: not *today*"))
    return dict(send_outcome.function("bike-shop"))


@pytest.mark.parametrize("outcome", ["deployed", "rehearsed"])
def test_who_requested_a_release_is_told_that_it_ended_as_requested_and_nobody_else_is(
    running: RunningTask, mailbox: Mailbox, outcome: str
) -> None:
    assert end(running, outcome) == {"rita": ["rita@example.com"]}
    ((recipient, message),) = mailbox.messages
    assert (recipient, message["Subject"]) == ("rita@example.com", f"Bike shop 1.1.0: {outcome}")
    run = RUN[1].replace(":", "%3A").replace("+", "%2B")
    assert f'<a href="https://airflow.example/dags/{RUN[0]}/runs/{run}/plugin/release">' in mailbox.words(0)
    assert "Decided in" not in mailbox.words(0)


@pytest.mark.parametrize(
    ("outcome", "touched", "subject", "said"),
    [
        ("rejected", False, "cancelled", "You continue to use Bike shop 1.0.0."),
        ("failed", False, "cancelled", "You continue to use Bike shop 1.0.0."),
        ("withdrawn", False, "cancelled", "You continue to use Bike shop 1.0.0."),
        ("overtaken", False, "cancelled", "1.1.0 has to be requested again, and is then announced again."),
        ("backed_out", True, "taken back", "You continue to use Bike shop 1.0.0."),
        ("failed", True, "not completed", "We are working on it."),
    ],
)
def test_audiences_are_told_if_what_was_announced_did_not_happen(
    running: RunningTask, mailbox: Mailbox, outcome: str, touched: bool, subject: str, said: str
) -> None:
    assert list(end(running, outcome, touched=touched)) == ["rita", "audience customers", "audience staff"]
    assert mailbox.to == ["rita", "customers", "staff"]
    assert mailbox.messages[1][1]["Subject"] == f"Bike shop 1.1.0: {subject}"
    assert said in mailbox.words(1)
    assert "ben" not in mailbox.words(1), "reasons are not for audiences"
    assert "Rollout plan and CAB" in mailbox.words(0)
    assert "ben: not <em>today</em>" in mailbox.words(0)


def test_audiences_that_were_not_told_of_a_release_are_not_told_of_its_end(
    running: RunningTask, mailbox: Mailbox
) -> None:
    assert list(end(running, "rejected", announced=False)) == ["rita"]


def test_who_is_not_in_the_board_book_gets_no_mail(running: RunningTask, mailbox: Mailbox) -> None:
    assert end(running, "deployed", by="interlock_conductor") == {}
    assert mailbox.to == []


def test_who_requested_a_release_that_was_withdrawn_in_the_queue_is_told(
    running: RunningTask, mailbox: Mailbox
) -> None:
    running.recorded.append((RUN_ASKED, {"user": "rita"}))
    running.knows(RELEASE_CLOSED, releases.outcome(outcome="withdrawn", stage="policy", reason="olga withdrew it."))
    assert send_outcome.function("bike-shop") == {"rita": ["rita@example.com"]}
    assert "olga withdrew it." in mailbox.words(0)


def test_who_requested_a_release_that_was_overtaken_is_told_what_to_request_again(
    running: RunningTask, mailbox: Mailbox
) -> None:
    end(running, "overtaken", announced=False)
    said = mailbox.words(0)
    assert "To release it, request it again." in said
    for line in ("Version: 1.1.0", "Summary: Sell *bikes*", "Change tickets: SHOP-1, SHOP-2", "stored or read?: yes"):
        assert line in said
    assert "shopping" not in said, "what was not switched on"
    end(running, "rejected", announced=False)
    assert "request it again" not in mailbox.words(1)


def test_a_rollback_is_called_one(running: RunningTask, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.stages.release.outcome_mails.this_run", lambda: ("rollback_bike_shop", "manual__1"))
    end(running, "rejected")
    assert "the rollback that you requested" in mailbox.words(0)
    assert mailbox.messages[1][1]["Subject"] == "Rollback of Bike shop to 1.1.0: cancelled"


def test_a_retry_sends_only_what_was_not_sent_and_another_outcome_is_told_again(
    running: RunningTask, mailbox: Mailbox
) -> None:
    mailbox.closed_for = {"customers@example.com"}
    with pytest.raises(TransientError):
        end(running, "failed", touched=True)
    assert mailbox.to == ["rita"]
    mailbox.closed_for = set()
    for _ in range(2):
        send_outcome.function("bike-shop")
    assert mailbox.to == ["rita", "customers", "staff"]
    running.knows(RELEASE_CLOSED, releases.outcome(outcome="backed_out"))
    send_outcome.function("bike-shop")
    assert mailbox.to == ["rita", "customers", "staff"] * 2


def test_a_release_without_an_outcome_tells_nobody(running: RunningTask, mailbox: Mailbox) -> None:
    assert send_outcome.function("bike-shop") == {}
    assert mailbox.to == []
