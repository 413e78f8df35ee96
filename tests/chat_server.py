"""Chat on the loopback interface: Slack's Web API with channels and threads, and a service that Apprise posts to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import Handler, http_server

TOKEN = "xoxb-s3cret"


@dataclass
class ChatServer:
    """What was said.

    :param said: in Slack: channel, thread (empty: none), and the whole message.
    :param posted: by Apprise's ``json://``: title and message.
    :param down: whether every answer is status 503.
    """

    port: int = 0
    said: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    posted: list[tuple[str, str]] = field(default_factory=list)
    channels: set[str] = field(default_factory=lambda: {"#releases"})
    down: bool = False

    def words(self, number: int) -> str:
        """Return what people read of a message, with the addresses of its links."""
        (block,) = self.said[number][2]["blocks"]
        (section,) = block["elements"]
        return "".join(one.get("url") or one["text"] for one in section["elements"])

    def answer(self, path: str, body: dict[str, Any], login: str) -> dict[str, Any]:
        if path != "/api/chat.postMessage":
            self.posted.append((body["title"], body["message"]))
            return {}
        if login != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        if body["channel"] not in self.channels:
            return {"ok": False, "error": "channel_not_found"}
        thread = body.get("thread_ts", "")
        if thread and thread not in {f"{number}.000100" for number in range(len(self.said))}:
            return {"ok": False, "error": "thread_not_found"}
        self.said.append((body["channel"], thread, body))
        return {"ok": True, "ts": f"{len(self.said) - 1}.000100", "channel": "C1"}


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """Serve for a block."""
    chat = ChatServer()

    class Answers(Handler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = {} if chat.down else chat.answer(self.path, given, self.headers.get("Authorization", ""))
            body = json.dumps(said).encode()
            self.answer(503 if chat.down else 200, body, {"Content-Type": "application/json"})

    with http_server(Answers) as port:
        chat.port = port
        yield chat
