"""The mail to those who are asked: the asking task, and a small real mail server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import TaskAwaitingInput

from interlock.domain.board.questions import ASK_APPROVERS
from interlock.domain.ledger.kinds import ANSWER_GIVEN, QUESTION_MAILED, QUESTION_WORDED
from interlock.stages.approvals.people import Question, persons, question
from interlock.stages.runtime import resources
from tests.airflow_server import CHAIN, RUN, AirflowServer
from tests.mailbox import Mailbox
from tests.running_task import RunningTask
from tests.witness import worded_payload

DIGEST = "0" * 64
DEADLINE = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _asking(running: RunningTask, airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask in a task, whose request Airflow keeps."""
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **_: None)


def described(*users: str, **more: Any) -> dict[str, Any]:
    _, book, _ = resources.catalogue_of("bike-shop")
    return question("Accept <b>Bike shop</b> 1.1.0?", "The results.", DIGEST, persons(book, users), **more)


def ask(about: dict[str, Any], *, running: RunningTask, try_number: int = 1) -> None:
    """Run the task that asks, until it waits."""
    running.recorded.append((QUESTION_WORDED, worded_payload(CHAIN, ASK_APPROVERS, about)))
    asked = Question(
        task_id=ASK_APPROVERS,
        **about,
        **({} if "options" in about else {"options": ["Approve", "Reject"]}),
        silence="Reject",
        response_timeout=timedelta(hours=1),
    )
    ti = SimpleNamespace(id="0190", try_number=try_number, map_index=2)
    with pytest.raises(TaskAwaitingInput):
        asked.execute({"ti": ti, "task_instance": ti, "task": asked})  # type: ignore[typeddict-item]


def mailed(running: RunningTask) -> list[list[str]]:
    return [payload["users"] for kind, payload in running.recorded if kind == QUESTION_MAILED]


def test_who_is_asked_gets_a_mail_with_the_deadline_and_a_link_to_the_question(
    mailbox: Mailbox, running: RunningTask
) -> None:
    ask(described("fay", answer_by=DEADLINE), running=running)
    ((recipient, message),) = mailbox.messages
    assert recipient == "fay@example.com"
    assert message["Subject"] == "Your answer is needed: Accept <b>Bike shop</b> 1.1.0?"
    words = mailbox.words(0)
    run = RUN[1].replace(":", "%3A").replace("+", "%2B")
    page = f"https://airflow.example/dags/{RUN[0]}/runs/{run}/tasks/{ASK_APPROVERS}/mapped/2/required_actions"
    assert f'<a href="{page}">' in words
    for said in ("Fay Tanaka", "2026-12-01 09:30 UTC", "the result is: Reject", "Approve, Reject", "&lt;b&gt;"):
        assert said in words
    assert "Also asked" not in words
    assert mailed(running) == [["fay"]]


def test_a_mail_is_readable_in_dark_mode_and_on_a_narrow_screen(mailbox: Mailbox, running: RunningTask) -> None:
    ask(described("fay"), running=running)
    assert '<meta name="color-scheme" content="light dark">' in mailbox.words(0)
    assert "overflow-wrap: anywhere" in mailbox.words(0), "the address of a question is longer than a line"


def test_without_a_deadline_of_its_own_it_is_the_end_of_the_time_for_an_answer(
    mailbox: Mailbox, running: RunningTask
) -> None:
    before = datetime.now(UTC) + timedelta(hours=1)
    ask(described("fay"), running=running)
    after = datetime.now(UTC) + timedelta(hours=1)
    assert any(f"{time:%Y-%m-%d %H:%M} UTC" in mailbox.words(0) for time in (before, after))


def test_of_several_each_gets_a_mail_that_names_the_others_and_the_clerk_gets_none(
    mailbox: Mailbox, running: RunningTask
) -> None:
    ask(described("ben", "cora", options=["90 days", "Reject"]), running=running)
    assert mailbox.to == ["ben", "cora"]
    assert "Also asked: Cora Lindqvist. One answer is enough." in mailbox.words(0)
    assert "90 days, Reject" in mailbox.words(0)
    assert len({message["Message-ID"] for _, message in mailbox.messages}) == 2
    assert mailed(running) == [["ben", "cora"]]


def test_a_later_try_sends_only_what_was_not_sent(
    mailbox: Mailbox, running: RunningTask, airflow: AirflowServer
) -> None:
    mailbox.closed_for = {"cora@example.com"}
    about = described("ben", "cora")
    ask(about, running=running)
    assert mailbox.to == ["ben"], "the question is asked all the same"
    assert mailed(running) == [["ben"]]
    mailbox.closed_for = set()
    airflow.ask(ASK_APPROVERS, "ben", map_index=2)
    for _ in range(2):
        ask(about, running=running, try_number=2)
    assert mailbox.to == ["ben", "cora"]
    assert mailed(running) == [["ben"], ["cora"]]


def test_what_is_asked_again_after_an_answer_is_mailed_again_once_and_says_why(
    mailbox: Mailbox, running: RunningTask
) -> None:
    about = described("ben", "cora")
    ask(about, running=running)
    (mail,) = [payload for kind, payload in running.recorded if kind == QUESTION_MAILED]
    running.recorded.append((ANSWER_GIVEN, {**mail, "user": "ben", "choice": "Approve"}))
    running.recorded.append((ANSWER_GIVEN, {**mail, "map_index": 1, "user": "fay", "choice": "Approve"}))
    for _ in range(2):
        ask(about, running=running, try_number=3)
    assert mailbox.to == ["ben", "cora"] * 2
    assert mailed(running) == [["ben", "cora"]] * 2
    assert "lost" not in mailbox.words(0)
    assert "An answer to this question was lost in Airflow and does not count." in mailbox.words(2)
    assert len({message["Message-ID"] for _, message in mailbox.messages}) == 4, (
        "or a mail program shows the first only"
    )


def test_without_a_mail_server_the_question_is_asked_all_the_same(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{resources.SMTP.upper()}", raising=False)
    ask(described("fay"), running=running)
    assert mailed(running) == []
    assert "The mail about this question could not be sent" in caplog.text
