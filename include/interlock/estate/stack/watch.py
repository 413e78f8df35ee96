"""Restart the components that the supervisor does not restart: those that hang, and those that it has given up.

A scheduler that crashed may hang instead of ending. And the supervisor gives up a component that ends repeatedly right
after its start, for instance because the disk is full, even if the cause passes.

The supervisor runs this beside the components and sends a tick every five seconds. Airflow's health page shows which
component has sent no heartbeat for half a minute.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx
from supervisor import childutils
from supervisor.states import ProcessStates

from interlock.estate.settings import Settings

from .components import api_servers, kind_of

WATCHED = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
"""Kind of component: its name on the health page, which tells nothing of one of several."""
STARTUP_GRACE_SECONDS = 90
"""Seconds after a start in which a component that was healthy since is not checked."""
STARTING = 360
"""Seconds until a component must be healthy for the first time: on a busy machine the API server took two minutes."""
STRIKES = 12
"""Checks in a row that must fail, which takes a minute: fewer failures may mean that the machine was busy."""
RESTART_INTERVAL_TICKS = 12
"""Ticks between two attempts to start a component that the supervisor gave up."""


def main() -> None:
    """Answer the supervisor's ticks."""
    settings = Settings.from_environment(os.environ)
    rpc = childutils.getRPCInterface(os.environ).supervisor
    strikes: dict[str, int] = {}
    well: dict[str, float] = {}
    for tick in itertools.count(1):
        childutils.listener.wait(sys.stdin, sys.stdout)
        try:
            if tick % RESTART_INTERVAL_TICKS == 0:
                start_given_up(rpc)
            check(settings, rpc, strikes, well)
        except Exception as error:
            print(f"watch: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        childutils.listener.ok(sys.stdout)


def check(settings: Settings, rpc: Any, strikes: dict[str, int], well: dict[str, float]) -> None:
    """Check every component, and restart a component that failed too many checks in a row.

    :param well: component: the start since which it was seen healthy.
    """
    running = {info["name"]: info for info in rpc.getAllProcessInfo() if info["state"] == ProcessStates.RUNNING}
    pages = {name: health(url) for name, url in api_servers(settings).items()}
    silent = [name for name, page in pages.items() if page is None]
    ill_kinds = suspected(next((page for page in pages.values() if page is not None), None))
    suspects = [*silent, *(name for kind in ill_kinds for name in running if kind_of(name) == kind)]
    well |= {name: info["start"] for name, info in running.items() if name not in suspects}
    for name in ill(suspects, running, well):
        strikes[name] = strikes.get(name, 0) + 1
        if strikes[name] >= STRIKES:
            print(f"watch: {name} runs but gives no sign of life; it is restarted", file=sys.stderr, flush=True)
            strikes.clear()
            rpc.stopProcess(name)
            rpc.startProcess(name, False)
            return
        running.pop(name)
    for name in running:  # the healthy ones
        strikes.pop(name, None)


def start_given_up(rpc: Any) -> None:
    """Start each component that the supervisor gave up."""
    for info in rpc.getAllProcessInfo():
        if info["state"] == ProcessStates.FATAL:
            print(f"watch: {info['name']} was given up; it is started again", file=sys.stderr, flush=True)
            rpc.startProcess(info["name"], False)


def health(url: str) -> Mapping[str, Any] | None:
    """Return Airflow's health page; None when the API server does not answer."""
    try:
        answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=10, trust_env=False)
        page: Mapping[str, Any] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None
    return page


def suspected(page: Mapping[str, Any] | None) -> list[str]:
    """Return the kinds of components that are not known to be healthy: without a health page, all but API servers."""
    if page is None:
        return [*WATCHED]
    return [name for name, key in WATCHED.items() if page.get(key, {}).get("status") != "healthy"]


def ill(suspects: list[str], running: Mapping[str, Mapping[str, Any]], well: Mapping[str, float]) -> list[str]:
    """Return the suspects that run long enough to be healthy; if an API server is one, only API servers."""
    servers = [name for name in suspects if kind_of(name) == "api-server"]
    return [name for name in servers or suspects if name in running and _is_due(running[name]["start"], well.get(name))]


def _is_due(start: float, well_since: float | None) -> bool:
    return time.time() - start > (STARTUP_GRACE_SECONDS if well_since == start else STARTING)


if __name__ == "__main__":
    main()
