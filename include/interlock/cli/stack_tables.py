"""The tables of ``interlock stack``: components, hosts, logins."""

from __future__ import annotations

from collections.abc import Iterable

import psutil
from rich.table import Table

from interlock.estate.airflow.accounts import passwords
from interlock.estate.settings import Settings
from interlock.estate.stack import components, leftovers, process_supervisor
from interlock.estate.world import aws, memory
from interlock.installation.accounts import Account


def status_table(settings: Settings) -> Table:
    """List each component: its state, since when, and the memory of its processes."""
    known = process_supervisor.states(settings)
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
    """List the hosts of the estate: name, address, state, tags and target groups."""
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


def logins_table(settings: Settings, people: Iterable[Account]) -> Table:
    """List the people who can log in, with their passwords."""
    known = passwords(settings)
    table = Table(title=f"Log in at {settings.airflow_url}", title_justify="left")
    for column in ("user", "password", "name", "who it is"):
        table.add_column(column, overflow="fold")
    for account in people:
        if not account.is_service:
            table.add_row(account.user, known.get(account.user, ""), account.name, account.title)
    return table
