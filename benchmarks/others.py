"""Measure what Interlock's middlewares add to requests of other teams to Airflow's API server.

  python -m benchmarks.others [--requests 2000] [--write PAGE]

Each request goes to an app that reads the body and answers at once, alone and behind the middlewares, in turns. What
is not in the figures is Airflow itself: it is the same with and without them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import machine, publish
from interlock.console.control.current_request import App, Message, Receive, Scope, Send
from interlock.console.control.guard import ReleaseGuard
from interlock.console.control.middleware import ReleaseControl
from interlock.console.pages.choices import FormChoices

DAG = "nightly_sales"
RUN = "scheduled__2026-11-30T00:00:00+00:00"
BODY = json.dumps({"dag_run_id": RUN, "conf": {"day": "2026-11-30", "shops": list(range(50))}}).encode()
RESULT = json.dumps({"rows": list(range(2_000))}).encode()
API = f"/api/v2/dags/{DAG}"
REQUESTS: dict[str, tuple[str, str, bytes]] = {
    "A person reads the runs of a Dag": ("GET", f"{API}/dagRuns", b""),
    "A person opens the form of a Dag": ("GET", f"{API}/details", b""),
    "A person triggers a Dag": ("POST", f"{API}/dagRuns", BODY),
    "A person clears tasks": ("POST", f"{API}/clearTaskInstances", b'{"dry_run": false, "task_ids": ["load"]}'),
    "A person changes a variable": ("PATCH", "/api/v2/variables/day", b'{"key": "day", "value": "monday"}'),
    "A task says that it runs": ("PUT", "/execution/task-instances/0197/heartbeat", b'{"pid": 1, "hostname": "w"}'),
    "A task reads a connection": ("GET", "/execution/connections/warehouse", b""),
    "A task reads a result": ("GET", f"/execution/xcoms/{DAG}/{RUN}/extract/return_value", b""),
    "A task writes a result": ("POST", f"/execution/xcoms/{DAG}/{RUN}/load/return_value", RESULT),
    "A task starts a run": ("POST", f"/execution/dag-runs/{DAG}/{RUN}", b'{"conf": {}}'),
}


async def airflow(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def asked(app: App, method: str, path: str, body: bytes) -> tuple[float, float]:
    """Send a request; return how many milliseconds it took, and how many of a processor."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": headers}
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    began, used = time.perf_counter(), time.process_time()
    await app(scope, receive, send)
    took = (1000 * (time.perf_counter() - began), 1000 * (time.process_time() - used))
    if status != 200:
        raise SystemExit(f"{method} {path} was answered with {status}")
    return took


async def added(behind: Callable[[App], App], method: str, path: str, body: bytes, many: int) -> list[list[float]]:
    """Return what each of many requests took more behind the middlewares than the median without: time, processor."""
    app, found = behind(airflow), ([], [])  # type: tuple[list[tuple[float, float]], ...]
    for number in range(many + 50):
        for one, kept in zip((airflow, app), found, strict=True):
            took = await asked(one, method, path, body)
            if number >= 50:  # the first ones import and compile
                kept.append(took)
    alone, through = (list(zip(*kept, strict=True)) for kept in found)
    return [[one - statistics.median(without) for one in took] for without, took in zip(alone, through, strict=True)]


def p95(values: Sequence[float]) -> float:
    """Return the value that one in twenty exceeds."""
    return statistics.quantiles(values, n=20)[-1]


def behind_all(app: App) -> App:
    """Put all middlewares before an app, as with an auth manager that is not Interlock's."""
    guarded: Any = ReleaseControl(FormChoices(ReleaseGuard(app)))
    return guarded


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.others", description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    rows = [
        "| Request | Median | p95 | p95 (of a processor) |",
        "| --- | --- | --- | --- |",
    ]
    for what, request in REQUESTS.items():
        took, used = asyncio.run(added(behind_all, *request, options.requests))
        cells = (statistics.median(took), p95(took), p95(used))
        rows.append(f"| {what} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    about = f"{options.requests:,} requests of each kind, milliseconds added. {machine()}"
    publish(f"{about}\n\n" + "\n".join(rows) + "\n", options.write, "others")
    return 0


if __name__ == "__main__":
    sys.exit(main())
