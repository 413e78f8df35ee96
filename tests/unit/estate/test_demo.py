from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.errors import AssetMissing, ReleaseError
from interlock.estate.commands import demo
from interlock.estate.commands.client import Person, Run
from interlock.estate.commands.release_view import stage_lines
from interlock.estate.settings import Settings
from interlock.locations import PROJECT
from tests.airflow_server import RUN, AirflowServer, airflow_server

LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
def airflow() -> Iterator[AirflowServer]:
    with airflow_server() as server:
        server.accounts |= dict.fromkeys(("rita", "cora", "ben"), "sesame")
        yield server


@pytest.fixture
def rita(airflow: AirflowServer) -> Iterator[Person]:
    with person(airflow, "rita") as opened:
        yield opened


def person(airflow: AirflowServer, user: str, password: str = "sesame") -> Person:
    return Person(f"http://127.0.0.1:{airflow.port}", user, password)


def ask(airflow: AirflowServer, user: str, *, created: str = LONG_AGO, **more: Any) -> dict[str, Any]:
    at = {"task_id": "rollout.cast_ballot", "map_index": len(airflow.questions), "state": "awaiting_input"}
    options = ["Approve", "Reject", "Abstain"]
    return airflow.ask("", user, **{"task_instance": at, "options": options, "created_at": created, **more})


def answers(airflow: AirflowServer, rita: Person, options: tuple[str, ...]) -> list[tuple[str | None, str | None]]:
    """Let cora and ben answer, and return who answered each question with what."""
    with person(airflow, "cora") as cora, person(airflow, "ben") as ben:
        run = Run(rita, *RUN)
        demo.Cast({"cora": cora, "ben": ben}).answer(run, run.questions(), options, demo.COMMENTS)
    return [(one.user, one.choice) for one in run.questions()]


def test_everybody_answers_their_own_questions(airflow: AirflowServer, rita: Person) -> None:
    for user in ("cora", "ben", "dan"):
        ask(airflow, user)
    assert answers(airflow, rita, demo.YES) == [("cora", "Approve"), ("ben", "Approve"), (None, None)]
    assert airflow.questions[0]["params_input"]["comment"] == demo.COMMENTS["cora"]


def test_what_is_answered_or_has_only_just_been_asked_is_left_alone(airflow: AirflowServer, rita: Person) -> None:
    airflow.answer(ask(airflow, "cora"), "cora", "Reject")
    ask(airflow, "cora", created=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    assert answers(airflow, rita, demo.YES) == [("cora", "Reject"), (None, None)]


def test_withdrawn_release_is_refused_by_those_whom_it_asks(airflow: AirflowServer, rita: Person) -> None:
    ask(airflow, "cora", options=["Acknowledge", "Not ready"])
    assert answers(airflow, rita, demo.NO) == [("cora", "Not ready")]


def test_answer_that_came_too_late_is_no_error(airflow: AirflowServer, rita: Person) -> None:
    question = ask(airflow, "rita")
    (seen,) = Run(rita, *RUN).questions()
    airflow.answer(question, "board_clerk", "Abstain")
    assert Run(rita, *RUN).answer(rita, seen, "Approve", "") is False


def test_release_is_triggered_with_the_form(airflow: AirflowServer, rita: Person) -> None:
    run = rita.start("release_bike_shop", demo.form("1.1.0"))
    started = airflow.runs["release_bike_shop", run.id]
    assert started["by"] == "rita"
    assert started["conf"]["ref"] == started["conf"]["version"] == "1.1.0"
    assert run.state == "running"


def test_wrong_password_and_refusals_are_told_with_what_airflow_says(airflow: AirflowServer, rita: Person) -> None:
    said = r"Could not log in .* as rita: Airflow answered 401 .*Invalid credentials"
    with pytest.raises(ReleaseError, match=said), person(airflow, "rita", "wrong"):
        pass
    with pytest.raises(AssetMissing, match="Could not read dags/none: Airflow answered 404"):
        rita.get("dags/none")
    airflow.troubles = [(403, b"Forbidden")]
    with pytest.raises(ReleaseError, match="Could not trigger d: Airflow answered 403: Forbidden"):
        rita.start("d", {})
    assert airflow.logins == 1, "a refusal is not tried again with another token"


def test_stages_are_told_once_in_a_log_and_drawn_in_a_terminal() -> None:
    at = "2026-05-04T12:00:00Z"
    tasks = [{"task_id": "build.a", "state": "failed", "start_date": at, "end_date": at}]
    lines = stage_lines(tasks, [], datetime.now(UTC))
    console, told = Console(file=io.StringIO(), width=100), set[str]()
    demo.tell(lines, told, console)
    demo.tell(lines, told, console)
    console.print(demo.stages_table(lines))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue().splitlines()
    assert printed[0] == "✗ Build and configure 0.0 s"
    assert sum("Build and configure" in line for line in printed) == 2
    assert sum("Quality review" in line for line in printed) == 1


def test_host_that_does_not_answer_is_shown_as_such() -> None:
    service = load_catalogue(PROJECT / "include/catalogue").services["bike-shop"]
    host = Settings(network="127.251.250").hosts()[0]
    assert demo.answered(host, service) == {}
    console = Console(file=io.StringIO(), width=100)
    console.print(demo.running_table({host: {}}, service))
    assert isinstance(console.file, io.StringIO)
    assert "no answer" in console.file.getvalue()
