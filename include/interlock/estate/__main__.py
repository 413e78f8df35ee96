"""The commands behind those of ``make`` that start, stop, show or ask the embedded stack.

``python -m interlock.estate up``
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interlock.adapters.catalogue import backtest
from interlock.adapters.catalogue.catalogue import load_catalogue, what_is_wrong
from interlock.domain.errors import ReleaseError
from interlock.estate.airflow.accounts import Account, accounts, passwords
from interlock.estate.airflow.astro_settings import read_astro_settings
from interlock.estate.airflow.home import airflow_environment
from interlock.estate.airflow.named_connections import faults_of, lacking_in_stack, named_by
from interlock.estate.world.wanted import SETTINGS_FILE, wanted_of
from interlock.locations import PROJECT

from .commands import demo, trains
from .settings import Settings
from .stack import components, leftovers, postgres, stack
from .steps import StackError, Steps, open_console, show_failure
from .world import aws, memory


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


def hosts_table(settings: Settings, kept: memory.Memory) -> Table:
    """List the hosts of the estate: what each is called, where it is, its tags, and the target groups it is in."""
    table = Table(title=f"Hosts of the estate in {settings.state}", title_justify="left")
    for column in ("host", "address", "state", "tags", "target groups"):
        table.add_column(column, overflow="fold", no_wrap=column in ("host", "address"))
    for one in sorted(kept.instances, key=lambda one: one.tags.get("Name", "")):
        tags = ", ".join(f"{key}: {value}" for key, value in one.tags.items() if key not in ("Name", aws.USE))
        groups = ", ".join(group.name for group in kept.groups if one.address in group.targets)
        table.add_row(
            one.tags.get("Name", ""), one.address, "stopped" if one.stopped else "running", tags, groups or "none"
        )
    return table


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


def show_hosts(settings: Settings, console: Console) -> bool:
    """List the hosts, and what of the catalogue's services has none here."""
    console.print(hosts_table(settings, memory.read_memory(settings)))
    for note in wanted_of(settings).elsewhere:
        console.print(f"[yellow]![/] no hosts for {escape(note)}", highlight=False, soft_wrap=True)
    return settings.estate_ready.exists()


def check_catalogue(settings: Settings, console: Console) -> bool:
    """Say what is wrong in the catalogue, and which connections that it names there are not."""
    wrong, doubtful = what_is_wrong(settings.catalogue), list[str]()
    try:
        named = list(named_by(load_catalogue(settings.catalogue).services.values()))
        entries = read_astro_settings(SETTINGS_FILE).connections
        faults = faults_of(named, entries, os.environ, partial(lacking_in_stack, settings))
        wrong, doubtful = [*wrong, *faults.wrong], list(faults.doubtful)
    except ReleaseError as error:
        if not wrong:  # what keeps the catalogue from being read is among what is wrong with it
            wrong.append(str(error))
    print("\n\n".join(wrong) if wrong else f"OK: {settings.catalogue}")
    for sentence in doubtful:
        print(f"\nWarning: {sentence}.")
    return not wrong


def write_evidence(settings: Settings, console: Console, run: str = "", file: str = "") -> bool:
    """Write the evidence pack of a release of the running stack to a file, by default below the state."""
    if not (settings.state.exists() and postgres.is_ready(settings)):
        raise StackError("The stack does not run, and the ledger is in it.", next_step="make up")
    destination = Path(file).absolute() if file else settings.state / "evidence"
    if not file:
        destination.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-m", "interlock.estate.commands.evidence", run, str(destination)]
    return subprocess.run(command, env=airflow_environment(settings), cwd=PROJECT, check=False).returncode == 0


def try_policy(settings: Settings, console: Console, *arguments: str) -> bool:
    """Try a change of the policy against past releases: those of the ledger if the stack runs, else the sample's.

    :param arguments: of ``interlock.adapters.catalogue.backtest``.
    """
    if "--releases" in arguments:
        return backtest.main(arguments, console) == 0
    with TemporaryDirectory(prefix="interlock-") as folder:
        releases = Path(folder, "ledger.jsonl")
        if not (settings.state.exists() and postgres.is_ready(settings)):
            console.print("The stack does not run: these are the releases of the sample.", highlight=False)
            return backtest.main([*arguments, "--releases", str(SAMPLE_RELEASES)], console) == 0
        command = [sys.executable, "-m", "interlock.estate.commands.past_releases", str(releases)]
        if subprocess.run(command, env=airflow_environment(settings), cwd=PROJECT, check=False).returncode:
            return False
        if not releases.read_text(encoding="utf-8"):
            console.print("No release has ended in the stack: these are the releases of the sample.", highlight=False)
            return backtest.main([*arguments, "--releases", str(SAMPLE_RELEASES)], console) == 0
        console.print(f"These are the releases of the ledger of {settings.state}.", highlight=False, soft_wrap=True)
        return backtest.main([*arguments, "--releases", str(releases)], console) == 0


def show_trains(settings: Settings, console: Console) -> bool:
    """Show the next departures; who would board now, too, if the stack runs."""
    if not (settings.state.exists() and postgres.is_ready(settings)):
        return trains.show(settings.catalogue, console, with_ledger=False)
    command = [sys.executable, "-m", "interlock.estate.commands.trains"]
    return subprocess.run(command, env=airflow_environment(settings), cwd=PROJECT, check=False).returncode == 0


COMMANDS: dict[str, Callable[..., bool]] = {
    "up": run_up,
    "demo": run_demo,
    "down": run_down,
    "reset": run_reset,
    "status": run_status,
    "hosts": show_hosts,
    "catalogue": check_catalogue,
    "logs": follow_logs,
    "evidence": write_evidence,
    "backtest": try_policy,
    "trains": show_trains,
}
SAMPLE_RELEASES = PROJECT / "include" / "samples" / "past_releases.jsonl"
MOST_ARGUMENTS = {"evidence": 2, "backtest": 6}
"""How many a command takes, if any."""


def main(arguments: list[str]) -> int:
    """Run one of the commands; the exit code says whether it reached what it was for."""
    console = open_console()
    name, given = "".join(arguments[:1]), arguments[1:]
    if name not in COMMANDS or len(given) > MOST_ARGUMENTS.get(name, 0):
        console.print(f"usage: python -m interlock.estate {{{'|'.join(COMMANDS)}}}", markup=False)
        return 2
    try:
        return 0 if COMMANDS[name](Settings.from_environment(os.environ), console, *given) else 1
    except ReleaseError as error:
        show_failure(console, error)
        return 1
    except KeyboardInterrupt:
        console.print("[red]✗[/] interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
