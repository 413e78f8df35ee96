from __future__ import annotations

import asyncio
import smtplib
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

from aiosmtpd.smtp import Envelope

from interlock.estate.world import mail


def message(subject: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "releases@example.com", "shops@example.com", subject
    made.set_content("The bike shop sells bikes.\n.\nReally.\n")
    return made


def test_message_is_kept_with_its_envelope(tmp_path: Path) -> None:
    envelope = Envelope()
    envelope.mail_from, envelope.rcpt_tos, envelope.content = (
        "a@example.com",
        ["b@example.com", "c@example.com"],
        b"\r\nx",
    )
    kept = mail.MailFolder(tmp_path / "mail").keep(envelope)
    assert kept.read_bytes() == b"X-Mail-From: a@example.com\r\nX-Rcpt-To: b@example.com, c@example.com\r\n\r\nx"
    assert [path.name for path in (tmp_path / "mail").iterdir()] == [kept.name]


def test_what_is_sent_becomes_a_file(tmp_path: Path) -> None:
    async def send_two() -> None:
        server = await mail.serve("127.0.0.1", 0, tmp_path)
        port = server.sockets[0].getsockname()[1]
        await asyncio.to_thread(send, port)
        server.close()
        await server.wait_closed()

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.send_message(message("1.1.0 is here — öffentlich"))
            client.send_message(message("Training"))

    asyncio.run(send_two())
    kept = [BytesParser(policy=default).parsebytes(path.read_bytes()) for path in sorted(tmp_path.glob("*.eml"))]
    assert [it["Subject"] for it in kept] == ["1.1.0 is here — öffentlich", "Training"]
    assert kept[0]["X-Rcpt-To"] == "shops@example.com"
    assert kept[0].get_content().replace("\r\n", "\n") == "The bike shop sells bikes.\n.\nReally.\n"
