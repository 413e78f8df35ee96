"""A mail server that keeps what it is given."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from interlock.stages.runtime import resources
from tests.ports import free_port


class Mailbox:
    """What a mail server was given; it takes nothing more when it is closed."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, email.message.EmailMessage]] = []
        self.closed_for: set[str] = set()

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:
        if self.closed_for & set(envelope.rcpt_tos):
            return "451 Not now"
        raw = envelope.content
        message = email.message_from_bytes(bytes(raw or b"", "utf-8") if isinstance(raw, str) else raw or b"")
        parsed = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
        self.messages.append((envelope.rcpt_tos[0], parsed))
        return "250 OK"

    @property
    def to(self) -> list[str]:
        return [recipient.partition("@")[0] for recipient, _ in self.messages]

    def words(self, number: int) -> str:
        """Return the text of a message, as HTML."""
        text = self.messages[number][1].get_body(("html",))
        assert text is not None
        return str(text.get_content())


@contextmanager
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    """Start a mail server for a block; yield it, and the Airflow connection that leads to it, as JSON."""
    box = Mailbox()
    port = free_port()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    extra = '{"from_email": "releases@example.com", "disable_tls": true, "disable_ssl": true, "retry_limit": 1}'
    try:
        yield box, f'{{"conn_type": "smtp", "host": "127.0.0.1", "port": {port}, "extra": {extra}}}'
    finally:
        server.stop()


@contextmanager
def mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """Start a mail server, and let the connection of the installation lead to it for a block."""
    with mailbox() as (box, connection):
        monkeypatch.setenv(f"AIRFLOW_CONN_{resources.SMTP.upper()}", connection)
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
        yield box
