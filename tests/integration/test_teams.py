"""Microsoft Teams by Apprise: what a workflow of Power Automate gets, on a server with the published schema."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from interlock.adapters.chat.message import Line, Message
from interlock.adapters.chat.services import post
from interlock.domain.errors import ReleaseError
from tests.certificates import certificate_of_this_machine
from tests.http_server import Handler

SIGNATURE = "s1gnature-of-the-workflow"
CARD = {
    "type": "object",
    "required": ["type", "version", "body"],
    "properties": {
        "type": {"const": "AdaptiveCard"},
        "version": {"type": "string", "pattern": r"^1\.[0-6]$"},
        "body": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"enum": ["TextBlock", "Image", "Container", "ColumnSet", "FactSet"]},
                    "text": {"type": "string"},
                    "wrap": {"type": "boolean"},
                },
            },
        },
        "actions": {"type": "array", "maxItems": 0},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["type", "attachments"],
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["contentType", "content"],
                "properties": {"contentType": {"const": "application/vnd.microsoft.card.adaptive"}, "content": CARD},
            },
        },
    },
}
"""Of "When a Teams webhook request is received", and of adaptive cards; without actions: a click is never a vote."""


class Teams:
    """A workflow: the cards that it posted, and what was wrong with the others."""

    def __init__(self) -> None:
        self.port = 0
        self.cards: list[dict[str, Any]] = []
        self.refused: list[str] = []

    def words(self) -> str:
        """Return what people read on the last card."""
        return "\n".join(str(one.get("text", "")) for one in self.cards[-1]["body"])


@contextmanager
def _teams(folder: Path) -> Iterator[Teams]:
    teams = Teams()

    class Answers(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "/workflows/w0rkflow/triggers/manual/" not in self.path or f"sig={SIGNATURE}" not in self.path:
                self.answer(401, b'{"error": {"code": "DirectApiAuthorizationRequired"}}')
                return
            try:
                Draft202012Validator(SCHEMA).validate(body)
            except ValidationError as error:
                teams.refused.append(error.message)
                self.answer(400, b'{"error": {"code": "TriggerInputSchemaMismatch"}}')
                return
            teams.cards.append(body["attachments"][0]["content"])
            self.answer(202, b"")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_of_this_machine(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    teams.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield teams
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def teams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Teams]:
    with _teams(tmp_path) as served:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "server.pem"))
        yield served


def connected(teams: Teams, monkeypatch: pytest.MonkeyPatch, signature: str = SIGNATURE) -> str:
    path = f"workflows://127.0.0.1:{teams.port}/w0rkflow/{signature}/?image=no"
    extra = json.dumps({"config": {"path": path, "tag": "all"}})
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_TEAMS", json.dumps({"conn_type": "apprise", "extra": extra}))
    return "shop_teams"


ASKED = Message(
    title="The board is asked: Bike shop 1.1.0",
    lines=(Line("ben, until 2026-03-05 09:00 UTC", "https://airflow.example.com/dags/d/runs/r/tasks/t"),),
    thread=Line("Bike shop 1.1.0", "https://airflow.example.com/dags/d/runs/r"),
)


def test_teams_gets_a_card_that_says_who_is_asked_with_the_link(teams: Teams, monkeypatch: pytest.MonkeyPatch) -> None:
    post(connected(teams, monkeypatch), ASKED)
    assert teams.refused == []
    said = teams.words()
    for part in (
        "The board is asked",
        "ben, until 2026-03-05 09:00 UTC",
        "https://airflow.example.com/dags/d/runs/r/tasks/t",
    ):
        assert part in said
    assert "actions" not in teams.cards[0]


def test_a_workflow_that_refuses_is_an_error_without_its_signature(
    teams: Teams, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReleaseError, match="did not take a message") as refused:
        post(connected(teams, monkeypatch, "wrong-signature"), ASKED)
    assert "wrong-signature" not in str(refused.value)
    assert teams.cards == []
