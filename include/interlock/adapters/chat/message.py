"""What is said in a chat: plain text and links, so that no text of people becomes a link, a mention or a form."""

from __future__ import annotations

from dataclasses import dataclass

from interlock.adapters.templates import inert

MAX_LINES = 30
MAX_LINE = 300


@dataclass(frozen=True, slots=True)
class Line:
    """A line, which may end with a link.

    :param link: an address of Airflow's; empty: none.
    """

    text: str
    link: str = ""

    @property
    def plain(self) -> str:
        """The text on one line, which leads nowhere and calls nobody."""
        return shortened(self.text)

    @property
    def is_linked(self) -> bool:
        """Whether the link is an address; without one of Airflow's own, it is only a path."""
        return self.link.startswith(("https://", "http://"))


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    :param thread: what all messages of its thread are about, such as a release; it begins the thread.
    :param aloud: shown in the room, too, and not in the thread alone.
    """

    title: str
    lines: tuple[Line, ...] = ()
    thread: Line | None = None
    aloud: bool = True

    @property
    def shown(self) -> tuple[Line, ...]:
        """The lines, as many as people read."""
        if len(self.lines) <= MAX_LINES:
            return self.lines
        return (*self.lines[: MAX_LINES - 1], Line(f"… and {len(self.lines) - MAX_LINES + 1} more"))


def shortened(text: str) -> str:
    """Return text of people as one line that leads nowhere."""
    line = inert(" ".join(text.split()))
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"
