"""The estate's mail server: every message that is sent becomes a file."""

from __future__ import annotations

import asyncio
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

MAX_MESSAGE_BYTES = 32 * 1024 * 1024


class MailFolder:
    """Keeps each message as ``<time>-<random>.eml``, with its envelope in ``X-Mail-From`` and ``X-Rcpt-To``."""

    def __init__(self, folder: Path) -> None:
        """Keep messages in a folder, which is made."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Keep a message, and acknowledge it when it is on the disk."""
        await asyncio.to_thread(self.keep, envelope)
        return "250 OK"

    def keep(self, envelope: Envelope) -> Path:
        """Write a message; a reader of the folder sees it whole or not at all."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}"
        aside = self._folder / f".{name}"
        with aside.open("wb") as file:
            file.write(f"X-Mail-From: {envelope.mail_from}\r\n".encode())
            file.write(f"X-Rcpt-To: {', '.join(envelope.rcpt_tos)}\r\n".encode())
            file.write(_bytes(envelope.content))
            file.flush()
            os.fsync(file.fileno())
        kept = self._folder / f"{name}.eml"
        aside.replace(kept)
        return kept


async def serve(address: str, port: int, folder: Path) -> asyncio.Server:
    """Listen for mail; OSError if the address is taken."""
    keeper = MailFolder(folder)
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(
            keeper, data_size_limit=MAX_MESSAGE_BYTES, hostname="estate.example", enable_SMTPUTF8=True, loop=loop
        )

    return await loop.create_server(protocol, address, port)


def _bytes(content: bytes | str | None) -> bytes:
    return content.encode() if isinstance(content, str) else content or b""
