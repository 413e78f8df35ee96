"""E-mail through Airflow's SMTP provider."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from interlock.domain.errors import ReleaseError, TransientError

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<style>body {{ font: 16px/1.5 sans-serif; max-width: 42em; margin: 1em; overflow-wrap: anywhere }}</style>
</head>
<body>
{body}</body>
</html>
"""
"""A message as a page that is readable in dark mode, and whose links do not leave a narrow screen."""


def message_id(*same: str) -> str:
    """Return the Message-ID of a message, which is the same whenever these are: what sends it again sends no other."""
    return f"<{sha256('/'.join(same).encode()).hexdigest()[:32]}@interlock>"


def send(smtp: SmtpHook, *, to: Sequence[str], subject: str, text: str, message_id: str) -> None:
    """Send one message, Markdown without HTML, to all addresses.

    :param message_id: makes a message that is sent again recognisable as the same.
    :param smtp: an open hook.
    :raises TransientError: the server did not take it now.
    :raises ReleaseError: the server refused every recipient, or the connection names no sender.
    """
    if not smtp.from_email:
        raise ReleaseError(
            "The SMTP connection has no sender address.",
            who="the platform engineer",
            next_step="set from_email in its extra",
        )
    try:
        smtp.send_email_smtp(
            to=list(to),
            subject=" ".join(subject.split()),
            html_content=PAGE.format(body=MarkdownIt("commonmark", {"html": False}).render(text)),
            custom_headers={"Message-ID": message_id},
        )
    except smtplib.SMTPRecipientsRefused as error:
        raise ReleaseError(
            f"The mail server refused {', '.join(to)}: {error}",
            who="the service's team",
            next_step="correct the audience's addresses in its catalogue file",
        ) from error
    except (smtplib.SMTPException, OSError) as error:
        raise TransientError(f"The mail server did not accept the message to {', '.join(to)}: {error}") from error
