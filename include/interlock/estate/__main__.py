"""The commands behind ``make up``, ``demo``, ``down``, ``status``, ``logs`` and ``reset``.

``python -m include.interlock.estate up``
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

import psutil
from rich.console import Console
from rich.table import Table

from include.interlock.adapters.catalogue import load_catalogue
from include.interlock.domain.errors import ReleaseError

from . import components, demo, leftovers, stack
from .accounts import Account, accounts, passwords
from .settings import Settings
from .steps import StackError, Steps, show_failure


def status_table(settings: Settings) -> Table:
    """Describe each component: its state, since when, and the memory of it and what it started."""
    known = components.states(settings)
    table = Table(title=f"Stack in {settings.state}", title_justify="left")
    for column in ("component", "state", "up", "pid", "memory"):
        table.add_column(column, justify="right" if column in ("up", "pid", "memory") else "left")
    total = 0.0
    for component in components.components(settings):
        info = known.get(component.name, {})
        memory = memory_of(info.get("pid", 0))
        total += memory
        since = f"{info['now'] - info['start']} s" if info.get("statename") == "RUNNING" else ""
        shown = (component.title, info.get("statename", "not started").lower(), since, str(info.get("pid") or ""))
        table.add_row(*shown, f"{memory:.0f} MB" if memory else "")
    table.add_section()
    table.add_row("together", "", "", "", f"{total:.0f} MB")
    return table


def memory_of(pid: int) -> float:
    """Return the memory of a process and its children in megabytes, shared pages counted once (PSS)."""
    total = 0.0
    if pid and psutil.pid_exists(pid):
        for process in leftovers.family(psutil.Process(pid)):
            try:
                total += process.memory_full_info().pss / 1e6
            except psutil.Error:
                continue
    return total


def logins_table(settings: Settings, everybody: Iterable[Account]) -> Table:
    """List who can log in, with which password."""
    known = passwords(settings)
    table = Table(title=f"Log in at {settings.airflow_url}", title_justify="left")
    for column in ("user", "password", "name", "who it is"):
        table.add_column(column, overflow="fold")
    for account in everybody:
        if not account.is_service:
            table.add_row(account.user, known.get(account.user, ""), account.name, account.title)
    return table


def follow_logs(settings: Settings, console: Console) -> bool:
    """Follow all logs until interrupted."""
    files = sorted(str(file) for file in settings.logs.glob("*.log"))
    if not files:
        raise StackError(f"There are no logs in {settings.logs}.", next_step="make up")
    os.execvp("tail", ["tail", "-n", "5", "-F", *files])


def run_up(settings: Settings, console: Console) -> bool:
    """Start the stack and say how to use it."""
    stack.up(settings, Steps(console))
    console.print(logins_table(settings, accounts(load_catalogue(settings.catalogue))))
    console.print("Stop it with [bold]make down[/]; what it costs: [bold]make status[/].", highlight=False)
    return True


def run_demo(settings: Settings, console: Console) -> bool:
    """Start the stack and release a version of the sample: the one that RELEASE names."""
    stack.up(settings, Steps(console))
    return demo.demonstrate(settings, console, os.environ.get("RELEASE") or "1.1.0")


def run_down(settings: Settings, console: Console) -> bool:
    """Stop the stack and say what was stopped."""
    stopped = stack.down(settings)
    console.print(f"[green]✓[/] {stopped} processes stopped" if stopped else "Nothing was running.", highlight=False)
    return True


def run_reset(settings: Settings, console: Console) -> bool:
    """Throw the stack's state away and say so."""
    stack.reset(settings)
    console.print(f"[green]✓[/] {settings.state} is gone", highlight=False)
    return True


def run_status(settings: Settings, console: Console) -> bool:
    """Say what runs, and whether all of it does."""
    console.print(status_table(settings))
    return all(info["statename"] == "RUNNING" for info in components.states(settings).values())


COMMANDS: dict[str, Callable[[Settings, Console], bool]] = {
    "up": run_up,
    "demo": run_demo,
    "down": run_down,
    "reset": run_reset,
    "status": run_status,
    "logs": follow_logs,
}


def main(arguments: list[str]) -> int:
    """Run one of the commands; the exit code says whether it reached what it was for."""
    console = Console()
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        console.print(f"usage: python -m include.interlock.estate {{{'|'.join(COMMANDS)}}}", markup=False)
        return 2
    try:
        return 0 if COMMANDS[arguments[0]](Settings.from_environment(os.environ), console) else 1
    except ReleaseError as error:
        show_failure(console, error)
        return 1
    except KeyboardInterrupt:
        console.print("[red]✗[/] interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
