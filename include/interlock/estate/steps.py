"""The output of commands of the stack: progress, and failures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from interlock.domain.errors import ReleaseError

TAIL = 20
"""Lines of a log that are shown when its component fails."""
WIDE = 200
"""Columns of the output to a file or a pipe."""


def open_console() -> Console:
    """Return the console of a command: as wide as the terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDE)


class StackError(ReleaseError):
    """The stack could not be started; ``log`` is the file that says more."""

    def __init__(self, what: str, *, log: Path | None = None, next_step: str = "") -> None:
        super().__init__(what, next_step=next_step)
        self.log = log


class Steps:
    """Shows each step: a spinner while it lasts, a line with its seconds when it is over."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show a step while the block runs; what the block calls with a text is shown beside the title."""
        began = time.monotonic()
        with self.console.status(title) as status:
            yield lambda detail: status.update(f"{title} [dim]{escape(detail)}[/]")
        seconds = time.monotonic() - began
        self.console.print(f"[green]✓[/] {title} [dim]{seconds:.1f} s[/]", highlight=False)


def show_failure(console: Console, error: ReleaseError) -> None:
    """Print an error, with the end of its log if it has one."""
    console.print(f"[red]✗[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    log = getattr(error, "log", None)
    if log and log.exists():
        lines = log.read_text(errors="replace").splitlines()[-TAIL:]
        console.print(f"[dim]The end of {escape(str(log))}:[/]", highlight=False, soft_wrap=True)
        console.print("\n".join(f"  {escape(line)}" for line in lines), highlight=False, soft_wrap=True)
