"""Slack, through the hook of Airflow's provider: a thread for each release."""

from __future__ import annotations

from typing import Any

from interlock.domain.errors import ReleaseError, TransientError

from .message import Line, Message, shortened

_TIMEOUT = 10
"""Seconds for one call."""


def post(connection: str, channel: str, message: Message, thread: str) -> str:
    """Say something in a channel; return the thread in which it is, as Slack names it.

    Text goes as blocks of plain text and links: Slack looks for no mentions and no formatting in them.

    :param thread: an earlier answer of this function; empty: a new thread begins.
    :raises TransientError: Slack did not answer. :raises ReleaseError: it refused.
    """
    from airflow.providers.slack.hooks.slack import SlackHook  # not at the top: only where there are rooms
    from slack_sdk.errors import SlackApiError, SlackClientError

    try:
        client = SlackHook(slack_conn_id=connection, timeout=_TIMEOUT, retry_handlers=[]).client
        if not thread and message.thread is not None:
            thread = _said(client, channel, [message.thread], message.thread.plain)
        lines = [Line(message.title), *message.shown]
        broadcast = {"reply_broadcast": True} if thread and message.aloud else {}
        said = _said(
            client, channel, lines, shortened(message.title), **({"thread_ts": thread} if thread else {}), **broadcast
        )
        return thread or said
    except SlackApiError as error:
        code = str(error.response.get("error", "an error")) if isinstance(error.response.data, dict) else "an error"
        raise ReleaseError(
            f"Slack refused a message to {channel}: {code}",
            who="the platform engineer",
            next_step=f"check the token of the connection {connection}, its scope chat:write, and that the bot is in "
            "the channel",
        ) from error
    except (SlackClientError, OSError) as error:
        raise TransientError(f"Slack did not answer: {type(error).__name__}") from error


def _said(client: Any, channel: str, lines: list[Line], text: str, **more: Any) -> str:
    elements: list[dict[str, Any]] = []
    for count, line in enumerate(lines):
        before, after = "\n" if count else "", " " if line.is_linked else ""
        elements.append({"type": "text", "text": f"{before}{line.plain}{after}"})
        if line.is_linked:
            elements.append({"type": "link", "url": line.link, "text": "Open in Airflow"})
    section = {"type": "rich_text_section", "elements": elements}
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    answer = client.chat_postMessage(
        channel=channel,
        text=escaped,
        blocks=[{"type": "rich_text", "elements": [section]}],
        unfurl_links=False,
        unfurl_media=False,
        **more,
    )
    return str(answer["ts"])
