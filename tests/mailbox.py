"""A mail server that keeps what it is given."""

from __future__ import annotations

import email
import email.policy

from aiosmtpd.smtp import Envelope


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
