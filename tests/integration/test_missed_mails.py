"""People who got no mail about a question that waits: by the ledger, a small Airflow and a real mail server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.domain.errors import TransientError
from interlock.domain.ledger.kinds import QUESTION_MAILED, QUESTION_WORDED
from interlock.locations import CATALOGUE
from interlock.stages.reconcile.missed_mails import mail_questions
from interlock.stages.runtime import resources
from tests.airflow_server import ACCOUNTS, CHAIN, RUN, AirflowServer, airflow_server
from tests.integration.ledger_server import ledger_connection
from tests.mailbox import Mailbox, mail_server
from tests.task_instance import task_instance
from tests.witness import worded_payload

TASK = "rollout.cast_ballot"
LONG_AGO = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()


@pytest.fixture
def ledger(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    with open_ledger(ledger_connection(server)) as opened:
        monkeypatch.setattr(resources, "ledger", lambda: open_ledger(ledger_connection(server)))
        yield opened


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with mail_server(monkeypatch) as box:
        yield box


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    with airflow_server() as server:
        url = f"http://reader:{ACCOUNTS['reader']}@127.0.0.1:{server.port}"
        monkeypatch.setenv("AIRFLOW_CONN_INTERLOCK_AIRFLOW", url)
        monkeypatch.setenv("INTERLOCK_CATALOGUE", str(CATALOGUE))
        yield server


def waits(airflow: AirflowServer, *questions: dict[str, Any]) -> None:
    """Let questions wait in Airflow."""
    rows = {"hitl_details": list(questions), "total_entries": len(questions)}
    airflow.more["/api/v2/dags/~/dagRuns/~/hitlDetails"] = rows


def question(user: str, run_id: str, *, index: int = 0, asked: str = LONG_AGO) -> dict[str, Any]:
    return {
        "task_instance": {
            "dag_id": RUN[0],
            "dag_run_id": run_id,
            "task_id": TASK,
            "map_index": index,
            "state": "awaiting_input",
        },
        "subject": f"Shall {run_id} be rolled out?",
        "body": "The results.",
        "assigned_users": [{"id": one, "name": one.title()} for one in (user, "board_clerk")],
        "options": ["Approve", "Reject"],
        "response_received": False,
        "created_at": asked,
    }


def look() -> int:
    """Run the task as Airflow does."""
    context: Any = {"ti": task_instance("reconcile", "mail_questions"), "dag_run": SimpleNamespace(dag_id="reconcile")}
    with set_current_context(context):
        return int(mail_questions.function())


def on_record(ledger: Ledger, run_id: str, *questions: dict[str, Any]) -> str:
    """Let a release have worded questions; return its chain."""
    chain = CHAIN.replace(RUN[1], run_id)
    for number, one in enumerate(questions):
        ledger.append(chain, QUESTION_WORDED, worded_payload(chain, TASK, one), actor="a task", key=f"worded/{number}")
    return chain


def mailed(ledger: Ledger, chain: str) -> list[list[str]]:
    return [one.payload["users"] for one in ledger.entries(chain, kind=QUESTION_MAILED)]


def test_who_was_not_mailed_is_mailed_once_when_the_mail_server_is_back(
    ledger: Ledger, airflow: AirflowServer, mailbox: Mailbox
) -> None:
    asked = [question("ben", "1.1.0"), question("cora", "1.1.0", index=1)]
    chain = on_record(ledger, "1.1.0", *asked)
    waits(airflow, *asked)
    mailbox.closed_for = {"cora@example.com"}
    with pytest.raises(TransientError):
        look()
    assert mailbox.to == ["ben"], "one who cannot be mailed keeps no other from being asked"
    mailbox.closed_for = set()
    assert [look(), look()] == [2, 2]
    assert mailbox.to == ["ben", "cora"]
    assert mailed(ledger, chain) == [["ben"], ["cora"]]
    assert f"/runs/1.1.0/tasks/{TASK}/mapped/1/required_actions" in mailbox.words(1)


def test_a_question_that_is_being_asked_is_left_to_its_task(
    ledger: Ledger, airflow: AirflowServer, mailbox: Mailbox
) -> None:
    asked = question("ben", "1.2.0", asked=datetime.now(UTC).isoformat())
    on_record(ledger, "1.2.0", asked)
    waits(airflow, asked)
    assert (look(), mailbox.to) == (0, [])


def test_what_was_only_written_into_airflows_database_is_mailed_to_nobody(
    ledger: Ledger, airflow: AirflowServer, mailbox: Mailbox
) -> None:
    worded = question("ben", "1.3.0")
    on_record(ledger, "1.3.0", worded)
    forged = {**worded, "subject": "Click here"}
    of_another_team = {**worded, "task_instance": {**worded["task_instance"], "dag_id": "etl"}}
    waits(airflow, forged, of_another_team)
    assert (look(), mailbox.to) == (2, [])
