from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.errors import ReleaseError, TransientError
from interlock.estate.commands import demo
from interlock.estate.commands.client import NotThere, Person, Run
from interlock.estate.commands.release_view import stage_lines
from interlock.estate.settings import Settings
from interlock.locations import PROJECT

LONG_AGO = "2026-01-01T00:00:00Z"


class Airflow:
    """A small API server: serves what it is given, and keeps what it is told."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.statuses: dict[str, int] = {}
        self.told: list[tuple[str, str, str, Any]] = []
        airflow = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                page = airflow.pages.get(url.path.removeprefix("/api/v2/"), {"detail": "nothing here"})
                if callable(page):
                    page = page({key: values[0] for key, values in parse_qs(url.query).items()})
                self.answer(page, 404 if "detail" in page else 200)

            def do_POST(self) -> None:
                self.write()

            def do_PATCH(self) -> None:
                self.write()

            def write(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/auth/token":
                    right = body["password"] == "sesame"
                    self.answer(
                        {"access_token": body["username"]} if right else {"detail": "no"}, 201 if right else 401
                    )
                    return
                who = self.headers["Authorization"].removeprefix("Bearer ")
                airflow.told.append((self.command, self.path.removeprefix("/api/v2/"), who, body))
                self.answer({"dag_run_id": "run 1"}, airflow.statuses.get(self.command, 200))

            def answer(self, page: Any, status: int) -> None:
                data = json.dumps(page).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    served = Airflow()
    thread = Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


@pytest.fixture
def rita(airflow: Airflow) -> Iterator[Person]:
    with Person(airflow.url, "rita", "sesame") as person:
        yield person


def asked(who: str, *, task: str = "rollout.cast_ballot", created: str = LONG_AGO, **more: Any) -> dict[str, Any]:
    return {
        "task_instance": {
            "task_id": task,
            "dag_id": "d",
            "dag_run_id": "run 1",
            "map_index": 2,
            "state": "awaiting_input",
        },
        "assigned_users": [{"id": who, "name": who.title()}, {"id": "board_clerk", "name": "Clerk"}],
        "options": ["Approve", "Reject", "Abstain"],
        "response_received": False,
        "created_at": created,
        **more,
    }


def answer_with(airflow: Airflow, rita: Person, questions: list[dict[str, Any]], options: tuple[str, ...]) -> list[Any]:
    airflow.pages["dags/d/dagRuns/run%201/hitlDetails"] = {"hitl_details": questions, "total_entries": len(questions)}
    with Person(airflow.url, "cora", "sesame") as cora, Person(airflow.url, "ben", "sesame") as ben:
        demo.Cast({"cora": cora, "ben": ben}).answer(Run(rita, "d", "run 1"), options, demo.COMMENTS)
    return airflow.told


def test_everybody_answers_their_own_questions(airflow: Airflow, rita: Person) -> None:
    told = answer_with(airflow, rita, [asked("cora"), asked("ben"), asked("dan")], demo.YES)
    assert [(method, who, body["chosen_options"]) for method, _, who, body in told] == [
        ("PATCH", "cora", ["Approve"]),
        ("PATCH", "ben", ["Approve"]),
    ]
    assert told[0][1] == "dags/d/dagRuns/run%201/taskInstances/rollout.cast_ballot/2/hitlDetails"
    assert told[0][3]["params_input"]["comment"] == demo.COMMENTS["cora"]


def test_what_is_answered_or_has_only_just_been_asked_is_left_alone(airflow: Airflow, rita: Person) -> None:
    just_now = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    questions = [asked("cora", response_received=True), asked("cora", created=just_now)]
    assert answer_with(airflow, rita, questions, demo.YES) == []


def test_withdrawn_release_is_refused_by_those_whom_it_asks(airflow: Airflow, rita: Person) -> None:
    told = answer_with(airflow, rita, [asked("cora", options=["Acknowledge", "Not ready"])], demo.NO)
    assert told[0][3]["chosen_options"] == ["Not ready"]


def test_answer_that_came_too_late_is_no_error(airflow: Airflow, rita: Person) -> None:
    airflow.statuses["PATCH"] = 409
    assert rita.answer(asked("rita"), "Approve", "") is False


def test_release_is_triggered_with_the_form(airflow: Airflow, rita: Person) -> None:
    run = rita.trigger("release_bike_shop", demo.form("1.1.0"))
    method, path, who, body = airflow.told[0]
    assert (method, path, who) == ("POST", "dags/release_bike_shop/dagRuns", "rita")
    assert body["conf"]["ref"] == body["conf"]["version"] == "1.1.0"
    assert run.id == "run 1"


def test_wrong_password_and_refusals_are_told_with_what_airflow_says(airflow: Airflow, rita: Person) -> None:
    with pytest.raises(ReleaseError, match=r"Could not log in as rita: Airflow answered 401: no"):
        Person(airflow.url, "rita", "wrong")
    with pytest.raises(NotThere, match="nothing here"):
        rita.get("dags/none")
    airflow.statuses["POST"] = 503
    with pytest.raises(TransientError):
        rita.trigger("d", {})


def test_long_lists_are_read_to_their_end(airflow: Airflow, rita: Person) -> None:
    rows = [{"task_id": f"t{number}"} for number in range(250)]

    def page(query: dict[str, str]) -> dict[str, Any]:
        offset = int(query["offset"])
        return {"task_instances": rows[offset : offset + int(query["limit"])], "total_entries": len(rows)}

    airflow.pages["dags/d/dagRuns/r/taskInstances"] = page
    assert Run(rita, "d", "r").tasks() == rows


def test_missing_result_is_none(airflow: Airflow, rita: Person) -> None:
    airflow.pages["dags/d/dagRuns/r/taskInstances/t/xcomEntries/return_value"] = {"value": {"outcome": "deployed"}}
    assert Run(rita, "d", "r").result("t") == {"outcome": "deployed"}
    assert Run(rita, "d", "r").result("other") is None


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


def test_host_that_does_not_answer_is_shown_as_such(airflow: Airflow) -> None:
    service = load_catalogue(PROJECT / "include/catalogue").services["bike-shop"]
    host = Settings(network="127.251.250").hosts()[0]
    assert demo.answered(host, service) == {}
    console = Console(file=io.StringIO(), width=100)
    console.print(demo.running_table({host: {}}, service))
    assert isinstance(console.file, io.StringIO)
    assert "no answer" in console.file.getvalue()
