"""Restart components of Airflow that run but do nothing: a scheduler that crashed may hang instead of ending.

The supervisor runs this beside the components and tells it the time every five seconds; Airflow's own health page
says which component has not given a sign of life for half a minute.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx
from supervisor import childutils
from supervisor.states import ProcessStates

from .settings import Settings

WATCHED = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
"""Component: its name on the health page."""
PATIENCE = 90
"""Seconds that a component has after its start before anybody asks how it is."""
STRIKES = 4
"""How often in a row a component must be found ill: once may be the machine that was busy."""


def main() -> None:
    """Answer the supervisor's ticks for ever."""
    settings = Settings.from_environment(os.environ)
    rpc = childutils.getRPCInterface(os.environ).supervisor
    strikes: dict[str, int] = {}
    while True:
        childutils.listener.wait(sys.stdin, sys.stdout)
        try:
            check(settings, rpc, strikes)
        except Exception as error:
            print(f"watch: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        childutils.listener.ok(sys.stdout)


def check(settings: Settings, rpc: Any, strikes: dict[str, int]) -> None:
    """Look at every component once, and restart those that were found ill too often."""
    running = {info["name"]: info for info in rpc.getAllProcessInfo() if info["state"] == ProcessStates.RUNNING}
    for name in ill(health(settings.airflow_url), running):
        strikes[name] = strikes.get(name, 0) + 1
        if strikes[name] >= STRIKES:
            print(f"watch: {name} runs but gives no sign of life; it is restarted", file=sys.stderr, flush=True)
            strikes.clear()
            rpc.stopProcess(name)
            rpc.startProcess(name, False)
            return
        running.pop(name)
    for name in running:  # those that are well start from nothing again
        strikes.pop(name, None)


def health(url: str) -> Mapping[str, Any] | None:
    """Return Airflow's health page; None when the API server does not answer."""
    try:
        answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=4, trust_env=False)
        answer.raise_for_status()
        page: Mapping[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return page


def ill(page: Mapping[str, Any] | None, running: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name the components that run long enough and are not well; without a health page that is the API server."""
    if page is None:
        suspects = ["api-server"]
    else:
        suspects = [name for name, key in WATCHED.items() if page.get(key, {}).get("status") != "healthy"]
    now = time.time()
    return [name for name in suspects if name in running and now - running[name]["start"] > PATIENCE]


if __name__ == "__main__":
    main()
