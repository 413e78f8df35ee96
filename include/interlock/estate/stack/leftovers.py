"""Find and stop the processes of a stack, also after a crash.

Every process that the stack starts has the folder of its state in its environment, and so do that process's own
children. A process belongs to the stack if it has this mark or descends from a process that has it. No other process
is stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from interlock.domain.errors import ReleaseError

MARK = "INTERLOCK_STACK"
"""The variable that marks a process as started by the stack whose state is in the folder it names."""
ROUNDS = 5


def of_stack(state: Path) -> list[psutil.Process]:
    """Return the living processes of the stack with this state folder, without the caller and its parents."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in spared and is_of_stack(process, state):
            found.update({member.pid: member for member in family(process) if member.pid not in spared})
    return [process for process in found.values() if alive(process)]


def is_of_stack(process: psutil.Process, state: Path) -> bool:
    """Say whether the stack of this state folder started a process.

    Its environment carries the mark, with two exceptions. Programs of hosts and builds have an environment of their
    own, which has only INTERLOCK_STATE; this counts for a program of a host, or one whose working folder is inside the
    state. PostgreSQL runs as another user if root started it, and a root without all capabilities cannot read that
    environment; its command line names the folder.
    """
    try:
        if process.name() == "postgres" and any(f"{state}/" in word for word in process.cmdline()):
            return True
        environment = process.environ()
        if environment.get(MARK) == str(state):
            return True
        of_state = environment.get("INTERLOCK_STATE") == str(state) and not process.terminal()
        return of_state and ("INTERLOCK_HOST" in environment or works_in(process, state))
    except (psutil.Error, OSError):
        return False  # it ended meanwhile, or belongs to another user


def works_in(process: psutil.Process, folder: Path) -> bool:
    """Say whether a process's working folder is a folder or inside it."""
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def family(process: psutil.Process) -> Iterator[psutil.Process]:
    """Yield a process and everything that descends from it."""
    yield process
    try:
        yield from process.children(recursive=True)
    except psutil.Error:
        return


def alive(process: psutil.Process) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def stop(state: Path, *, patience: float = 5) -> int:
    """Stop everything that belongs to a stack, and return how many processes that were.

    The supervisor is asked first, so that it restarts nothing, and killed after the others: they may block if their
    output is no longer read. The database is stopped last, without clients.

    :param patience: seconds that the processes have to end by themselves before they are killed.
    """
    stopped: set[int] = set()
    for _ in range(ROUNDS):  # a process that started during the search is found in the next round
        processes = of_stack(state)
        if not processes:
            return len(stopped)
        stopped |= {process.pid for process in processes}
        supervisors, databases, others = by_kind(processes)
        ask(supervisors, signal.SIGTERM)
        end(others, signal.SIGTERM, patience)
        ask(supervisors, signal.SIGKILL)
        end(
            databases, signal.SIGINT, patience
        )  # PostgreSQL's fast shutdown: it disconnects clients and writes its files
    if left := of_stack(state):
        raise ReleaseError(
            f"These processes of the stack in {state} do not end: {', '.join(describe(process) for process in left)}.",
            who="their owner",
            next_step="stop them by hand, then try again",
        )
    return len(stopped)


def by_kind(
    processes: Iterable[psutil.Process],
) -> tuple[list[psutil.Process], list[psutil.Process], list[psutil.Process]]:
    """Sort processes into supervisors, database servers, and all others.

    A database server's own workers are in none: they end with it, and it restarts if a worker is killed.
    """
    supervisors, databases, others = [], [], []
    for process in processes:
        command = command_of(process)
        if any("supervisor.supervisord" in word for word in command):
            supervisors.append(process)
        elif command and Path(command[0]).name == "postgres":
            databases.append(process)
        elif not (command and command[0].startswith("postgres:")):
            others.append(process)
    return supervisors, databases, others


def command_of(process: psutil.Process) -> list[str]:
    """Return a process's command line; nothing when it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def end(processes: Iterable[psutil.Process], request: signal.Signals, patience: float) -> None:
    """Ask processes to end, and kill those that do not end in time."""
    remaining = list(processes)
    for sent, seconds in ((request, patience), (signal.SIGKILL, 5.0)):
        ask(remaining, sent)
        remaining = still_there(remaining, seconds)


def ask(processes: Iterable[psutil.Process], request: signal.Signals) -> None:
    """Send a signal to the processes that still exist."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(request)


def still_there(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for processes to end, and return those that did not."""
    deadline = time.monotonic() + seconds
    while (processes := [process for process in processes if alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return processes


def describe(process: psutil.Process) -> str:
    """Return the command line and the number of a process."""
    command = " ".join(command_of(process))
    return f"{command[:100] or 'a process'} (pid {process.pid})"
