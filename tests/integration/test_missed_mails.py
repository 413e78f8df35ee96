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
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.events import IncidentSeen, OpenIncident
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    INCIDENT_SEEN,
    INCIDENT_TOLD,
    PLAN_MADE,
    QUESTION_MAILED,
    QUESTION_WORDED,
    RELEASE_CLOSED,
)
from interlock.domain.ledger.witness import GivenAnswer
from interlock.locations import CATALOGUE
from interlock.stages.reconcile.missed_mails import mail_questions
from interlock.stages.reconcile.told_incidents import asked_before, tell_of_incidents
from interlock.stages.runtime import resources
from tests.airflow_server import ACCOUNTS, CHAIN, RUN, AirflowServer, airflow_server
from tests.factories.told_releases import chained
from tests.integration.ledger_server import ledger_connection
from tests.mailbox import Mailbox, mail_server
from tests.task_instance import task_instance
from tests.unit.domain import samples
from tests.witness import digest_of, worded_payload

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


def opens(ledger: Ledger, number: str, *, scope: str = "bike-shop", ended: bool = False) -> None:
    """Let an incident of another system open, or end."""
    about = {**dict.fromkeys(("webhook", "event", "type", "sender"), number), "source": "pager", "body": "0" * 64}
    until = datetime.now(UTC) + timedelta(hours=1)
    words = {"what": f"{number} of pager", "scope": scope, "incident": number, "ended": ended, "until": until}
    seen = IncidentSeen.model_validate({**about, **words}).model_dump(mode="json")
    ledger.append(INSTALLATION, INCIDENT_SEEN, seen, actor="event.pager", key=f"{INCIDENT_SEEN}/{number}/{ended}")


def tell(ledger: Ledger, *chains: str) -> list[str]:
    """Tell people of incidents as the task of the Dag does."""
    context: Any = {"ti": task_instance("reconcile", "tell_people"), "dag_run": SimpleNamespace(dag_id="reconcile")}
    with set_current_context(context):
        return tell_of_incidents(ledger, chains)


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


def test_who_decides_is_told_once_of_an_incident_that_opens_after_they_were_asked(
    ledger: Ledger, airflow: AirflowServer, mailbox: Mailbox
) -> None:
    ballots = [question("ben", "1.4.0"), question("cora", "1.4.0", index=1)]
    chain = on_record(ledger, "1.4.0", *ballots)
    ledger.append(chain, PLAN_MADE, samples.plan("Sell bikes").to_xcom(), actor="a task", key="plan")
    waits(airflow, *ballots)
    look()
    mailbox.messages.clear()
    opens(ledger, "INC-0", scope="another-service")
    assert tell(ledger, chain) == []
    opens(ledger, "INC-1")
    mailbox.closed_for = {"cora@example.com"}
    assert tell(ledger, chain) == ["ben@example.com"]
    mailbox.closed_for = set()
    assert [tell(ledger, chain), tell(ledger, chain)] == [["cora@example.com"], []]
    assert mailbox.to == ["ben", "cora"]
    assert "INC-1 of pager" in mailbox.words(1)
    assert "/runs/1.4.0" in mailbox.words(1)
    told = [one.payload["users"] for one in ledger.entries(chain, kind=INCIDENT_TOLD)]
    assert told == [["ben"], ["cora"]]
    opens(ledger, "INC-2")
    opens(ledger, "INC-2", ended=True)
    later = on_record(ledger, "1.5.0", question("ben", "1.5.0"))
    ledger.append(later, PLAN_MADE, samples.plan("Sell more").to_xcom(), actor="a task", key="plan")
    waits(airflow, question("ben", "1.5.0"))
    look()
    assert tell(ledger, chain, later) == [], "an ended incident, and one that the question itself shows"
    opens(ledger, "INC-3")
    ledger.append(chain, RELEASE_CLOSED, {"outcome": "rejected"}, actor="a task", key="closed")
    assert tell(ledger, chain) == []


def test_who_has_answered_is_told_too_and_who_only_did_something_else_is_not() -> None:
    ballot, training = question("ben", "1.4.0"), question("sue", "1.4.0")
    answer = GivenAnswer(user="ben", task_id=TASK, map_index=0, choice="Approve", question=digest_of(ballot))
    mail = {"task_id": "communication.acknowledge_training", "question": digest_of(training), "users": ["sue"]}
    entries = chained(
        CHAIN,
        [
            (QUESTION_WORDED, worded_payload(CHAIN, TASK, ballot)),
            (QUESTION_WORDED, worded_payload(CHAIN, "communication.acknowledge_training", training)),
            (QUESTION_MAILED, mail),
            (ANSWER_GIVEN, answer.model_dump(mode="json")),
        ],
    )
    opened = OpenIncident(key="pager/INC-1", what="INC-1", scope="everything", opened=entries[-1].at)
    assert asked_before(entries, opened) == ("ben",)
    assert asked_before(entries, opened.model_copy(update={"opened": entries[0].at})) == ()
