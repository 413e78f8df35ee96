"""Restart what the supervisor does not: components of Airflow that run but do nothing, and what it has given up.

A scheduler that crashed may hang instead of ending. And the supervisor gives up for good a component that ends again
and again as soon as it is started, say because the disk is full; the disk may have room again.

The supervisor runs this beside the components and tells it the time every five seconds; Airflow's own health page
says which component has not given a sign of life for half a minute.
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

WATCHED = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
"""Component: its name on the health page."""
STARTUP_GRACE_SECONDS = 90
"""Seconds that a component has after its start before anybody asks how it is, if it was well since."""
STARTING = 360
"""Seconds that it has to be well for the first time: on a busy machine the API server has taken two minutes."""
STRIKES = 12
"""How often in a row a component must be found ill, which takes a minute: less may be the machine that was busy."""


RESTART_INTERVAL_TICKS = 12
"""Ticks between two tries to start what was given up."""


def main() -> None:
    """Answer the supervisor's ticks for ever."""
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
    """Look at every component once, and restart those that were found ill too often.

    :param well: the start since which a component was seen well.
    """
    running = {info["name"]: info for info in rpc.getAllProcessInfo() if info["state"] == ProcessStates.RUNNING}
    suspects = suspected(health(settings.airflow_url))
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
    for name in running:  # those that are well start from nothing again
        strikes.pop(name, None)


def start_given_up(rpc: Any) -> None:
    """Start each component that the supervisor starts no more."""
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
    """Name the components that are not known to be well: without a health page, all; the API server comes first."""
    if page is None:
        return ["api-server", *WATCHED]
    return [name for name, key in WATCHED.items() if page.get(key, {}).get("status") != "healthy"]


def ill(suspects: list[str], running: Mapping[str, Mapping[str, Any]], well: Mapping[str, float]) -> list[str]:
    """Name the suspects that run long enough to be well; without the API server nobody knows how the others are."""
    asked = suspects[:1] if suspects[:1] == ["api-server"] else suspects
    return [name for name in asked if name in running and _is_due(running[name]["start"], well.get(name))]


def _is_due(start: float, well_since: float | None) -> bool:
    return time.time() - start > (STARTUP_GRACE_SECONDS if well_since == start else STARTING)


if __name__ == "__main__":
    main()
