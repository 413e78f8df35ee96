"""The reminder before the board's deadline: the waiting task, a small real API and a small real mail server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from interlock.domain.board.questions import ASK_BOARD
from interlock.domain.catalogue import BoardBook
from interlock.domain.catalogue.service_file import SignOff
from interlock.domain.records import EnvironmentTested, RolloutPlan
from interlock.stages.approvals import reminders
from interlock.stages.approvals.people import question
from interlock.stages.approvals.sign_offs import AwaitSignOff
from interlock.stages.release import rollout as stage
from interlock.stages.runtime import resources
from tests.airflow_server import RUN, AirflowServer
from tests.factories import releases
from tests.mailbox import Mailbox
from tests.running_task import RunningTask

CAB = ("ben", "cora", "dan")


@pytest.fixture(autouse=True)
def _running(running: RunningTask) -> None:
    """Run in a task, with its ledger."""


def cast(airflow: AirflowServer, plan: RolloutPlan) -> list[dict[str, Any]]:
    text = str(question("Release?", "The plan.", plan.digest, [])["body"])
    return [airflow.ask(ASK_BOARD, user, body=text, map_index=number) for number, user in enumerate(CAB)]


def woken_at(plan: RolloutPlan) -> datetime:
    """Let the task count, and return until when it waits."""
    resources.ledger().knows("rollout.frozen", plan)  # type: ignore[attr-defined]  # it is a RunningTask
    task = stage.AwaitBoard(task_id="await_board", service=plan.service, rollout=plan.to_xcom(), ballots=[{}] * 3)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    until: datetime = deferred.value.trigger.until
    return until


def due_in(time: timedelta) -> RolloutPlan:
    """Return a plan whose board, with two days, is to be reminded after this time."""
    return releases.rollout(decide_by=datetime.now(UTC) + timedelta(hours=12) + time)


def test_before_it_is_time_nobody_is_reminded_and_the_task_sleeps_until_then(
    airflow: AirflowServer, mailbox: Mailbox, running: RunningTask
) -> None:
    plan = due_in(timedelta(minutes=1))
    cast(airflow, plan)
    assert plan.decide_by is not None
    assert woken_at(plan) == plan.decide_by - timedelta(hours=12)
    assert mailbox.to == []
    assert [kind for kind, _ in running.recorded] == ["rollout.frozen"]


def test_when_it_is_time_those_who_have_not_voted_are_reminded_once_and_on_record(
    airflow: AirflowServer, mailbox: Mailbox, running: RunningTask
) -> None:
    plan = due_in(timedelta(seconds=-1))
    airflow.answer(cast(airflow, plan)[0], "ben", "Approve")
    assert woken_at(plan) == plan.decide_by, "after it, there is only the deadline to wait for"
    assert mailbox.to == ["cora", "dan"]
    told = [payload for kind, payload in running.recorded if kind == "board.reminded"]
    assert [(one["user"], one["digest"], one["ballot"]) for one in told] == [
        ("cora", plan.digest, 1),
        ("dan", plan.digest, 2),
    ]
    assert woken_at(plan) == plan.decide_by
    assert mailbox.to == ["cora", "dan"], "woken again, it does not remind again"


def test_a_reminder_leads_to_the_ballot_and_names_the_deadline(airflow: AirflowServer, mailbox: Mailbox) -> None:
    plan = due_in(timedelta(seconds=-1))
    cast(airflow, plan)
    woken_at(plan)
    _, message = mailbox.messages[1]
    assert message["Subject"] == "Reminder to vote: Bike shop 1.1.0 to production"
    words = mailbox.words(1)
    run = RUN[1].replace(":", "%3A").replace("+", "%2B")
    page = f"https://airflow.example/dags/{RUN[0]}/runs/{run}/tasks/rollout.cast_ballot/mapped/1/required_actions"
    assert f'<a href="{page}">' in words
    assert plan.decide_by is not None
    for said in ("Cora Lindqvist", "Rita Reyes (rita)", f"{plan.decide_by:%Y-%m-%d %H:%M} UTC", plan.digest):
        assert said in words
    assert len({one["Message-ID"] for _, one in mailbox.messages}) == 3


def test_what_was_not_sent_is_tried_again_and_holds_nobody_up(
    airflow: AirflowServer, mailbox: Mailbox, running: RunningTask
) -> None:
    plan = due_in(timedelta(seconds=-1))
    ballots = cast(airflow, plan)
    mailbox.closed_for = {"cora@example.com"}
    before = datetime.now(UTC)
    assert before < woken_at(plan) <= datetime.now(UTC) + reminders.RETRY_INTERVAL
    assert mailbox.to == ["ben"]
    mailbox.closed_for = set()
    assert woken_at(plan) == plan.decide_by
    assert mailbox.to == ["ben", "cora", "dan"]
    for ballot, user in zip(ballots[:2], CAB, strict=False):
        airflow.answer(ballot, user, "Approve")
    resources.ledger().knows("rollout.frozen", plan)  # type: ignore[attr-defined]  # it is a RunningTask
    task = stage.AwaitBoard(task_id="await_board", service=plan.service, rollout=plan.to_xcom(), ballots=[{}] * 3)
    assert task.execute({})["approved"]


def test_who_has_not_signed_an_environment_off_is_reminded_too(
    airflow: AirflowServer, mailbox: Mailbox, running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = resources.catalogue_of("bike-shop")
    usual = catalogue.service.environments["test"]
    sign_off = SignOff(title="Testers", people=("fay", "sam"), quorum=2, within=timedelta(hours=4))
    between = usual.model_copy(update={"after": ("test",), "sign_off": sign_off})
    environments = {**catalogue.service.environments, "staging": between}
    service = catalogue.service.model_copy(update={"environments": environments})
    monkeypatch.setattr(resources, "catalogue_of", lambda _: catalogue._replace(service=service))
    tested = EnvironmentTested(
        environment="staging",
        service="bike-shop",
        version="1.1.0",
        release="r",
        bundle="a" * 64,
        quality="2" * 64,
        requested_by="rita",
        decide_by=datetime.now(UTC) + timedelta(minutes=59),  # a quarter of the time is an hour
    )
    running.knows("path.tested", tested)
    text = str(question("Sign it off?", "It runs.", tested.digest, [])["body"])
    asks = "quality.staging.sign_off"
    ballots = [airflow.ask(asks, user, body=text, map_index=number) for number, user in enumerate(("fay", "sam"))]
    airflow.answer(ballots[0], "fay", "Approve")
    about = {"service": "bike-shop", "environment": "staging", "tested": tested.to_xcom(), "ballots": [{}] * 2}
    task = AwaitSignOff(task_id="await_sign_off", **about)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    assert deferred.value.trigger.until == tested.decide_by
    assert mailbox.to == ["sam"]
    assert mailbox.messages[0][1]["Subject"] == "Reminder to vote: Bike shop 1.1.0 in staging"
    assert "you have not voted yet on the sign-off of" in mailbox.words(0)
    (told,) = [payload for kind, payload in running.recorded if kind == "board.reminded"]
    assert told == {"user": "sam", "digest": tested.digest, "ballot": 1}


def test_without_a_mail_server_the_board_decides_all_the_same(
    airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{resources.SMTP.upper()}", raising=False)
    plan = due_in(timedelta(seconds=-1))
    ballots = cast(airflow, plan)
    assert plan.decide_by is not None
    assert woken_at(plan) < plan.decide_by
    airflow.answer(ballots[1], "cora", "Reject", "no")
    resources.ledger().knows("rollout.frozen", plan)  # type: ignore[attr-defined]  # it is a RunningTask
    task = stage.AwaitBoard(task_id="await_board", service=plan.service, rollout=plan.to_xcom(), ballots=[{}] * 3)
    with pytest.raises(Exception, match="no"):
        task.execute({})


def test_a_delegate_is_reminded_on_their_days_only(
    airflow: AirflowServer, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = resources.catalogue_of("bike-shop")
    today, tomorrow = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (0, 1))
    away = [
        {"for": "dan", "to": "audrey", "from": today, "until": tomorrow},
        {"for": "cora", "to": "maya", "from": "2090-01-01", "until": "2090-01-02"},
    ]
    changed = BoardBook.model_validate({**catalogue.board.model_dump(mode="json"), "delegates": away})
    monkeypatch.setattr(resources, "catalogue_of", lambda _: catalogue._replace(board=changed))
    plan = due_in(timedelta(seconds=-1))
    ballots = cast(airflow, plan)
    for ballot, user in ((ballots[1], "maya"), (ballots[2], "audrey")):
        ballot["assigned_users"].append({"id": user, "name": user.title()})
    woken_at(plan)
    assert mailbox.to == ["ben", "cora", "dan", "audrey"]
