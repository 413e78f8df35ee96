"""Measure what releases that wait for their boards cost: Airflow's API server, and the process of their triggers.

  python -m benchmarks.waiting [--waiting 0,50,200] [--seconds 30] [--answers 10] [--write PAGE]

It runs an Airflow API server with its PostgreSQL, copies a run so that there are many, and has the triggers of all of
them wait in this process, as Airflow's triggerer has. Then it answers questions of some of them, one after another.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.reconcile import copy_runs
from benchmarks.table import machine, publish
from interlock.estate.stack import postgres
from interlock.stages.runtime import resources
from interlock.stages.runtime.triggers import AnswersTrigger, digest_of_answers
from tests.integration.console_airflow import RELEASE
from tests.integration.console_server import Console, console_server

TASK = "rollout.cast_ballot"
READER = "interlock_reader"
NOTHING = digest_of_answers(())
NEW_QUESTION = """
INSERT INTO hitl_detail (ti_id, options, subject, params, params_input, assignees, created_at)
SELECT id, '["Approve", "Reject"]', 'Vote', '{}', '{}', '[{"id": "ben", "name": "ben"}]', now()
FROM task_instance WHERE dag_id = %s AND run_id = ANY(%s) AND task_id = %s
ON CONFLICT (ti_id) DO UPDATE SET responded_at = NULL, responded_by = NULL, chosen_options = NULL
"""
ANSWER = """
UPDATE hitl_detail
SET responded_at = now(), responded_by = '{"id": "ben", "name": "ben"}', chosen_options = '["Approve"]'
WHERE ti_id IN (SELECT id FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s)
"""


def change(console: Console, statement: str, *values: object) -> None:
    """Change rows of Airflow's database."""
    with closing(postgres.connect(console.postgres, postgres.DATABASE)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        connection.commit()


def used(process: psutil.Process) -> float:
    """Return the seconds of a processor that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def fires(run_id: str) -> float:
    """Wait for answers in a run; return when they were seen."""
    trigger = AnswersTrigger(
        dag_id=RELEASE, run_id=run_id, task_id=TASK, known=NOTHING, until=None, connection=resources.AIRFLOW
    )
    async for event in trigger.run():
        if "answers" not in str(event.payload):
            raise SystemExit(f"{run_id}: {event.payload}")
    return time.monotonic()


async def measure(
    console: Console, server: psutil.Process, names: list[str], seconds: float, answers: int
) -> Mapping[str, float]:
    """Return what so many waiting releases cost, in a share of a processor, and how soon answers are seen."""
    own, waiting = psutil.Process(), {name: asyncio.create_task(fires(name)) for name in names}
    await asyncio.sleep(10)
    before, began = (used(server), used(own)), time.monotonic()
    await asyncio.sleep(seconds)
    for_s = time.monotonic() - began
    found = {
        "API server (% of a processor)": 100 * (used(server) - before[0]) / for_s,
        "Their triggers (% of a processor)": 100 * (used(own) - before[1]) / for_s,
        "Memory of the triggers' process (MiB)": own.memory_info().rss / 2**20,
    }
    took = []
    for name in names[:answers]:
        change(console, ANSWER, RELEASE, name, TASK)
        answered = time.monotonic()
        took.append(await waiting.pop(name) - answered)
    for task in waiting.values():
        task.cancel()
    await asyncio.gather(*waiting.values(), return_exceptions=True)
    if took:
        found["From an answer until it is seen, median (s)"] = sorted(took)[len(took) // 2]
        found["From an answer until it is seen, most (s)"] = max(took)
    return found


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--waiting", default="0,50,200")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    sizes = [int(size) for size in options.waiting.split(",")]
    columns: list[Mapping[str, float]] = []
    with (
        tempfile.TemporaryDirectory(prefix="interlock-bench-") as name,
        console_server(Path(name), on_postgres=True) as console,
    ):
        os.environ[f"AIRFLOW_CONN_{resources.AIRFLOW.upper()}"] = console.base.replace("://", f"://{READER}:{READER}@")
        ours = psutil.Process().children()
        (server,) = [one for one in ours if "tests.integration.console_airflow" in " ".join(one.cmdline())]
        names = copy_runs(console.postgres, max(sizes))
        for size in sizes:
            change(console, NEW_QUESTION, RELEASE, names, TASK)
            columns.append(asyncio.run(measure(console, server, names[:size], options.seconds, options.answers)))
    rows = [f"| Releases that wait | {' | '.join(map(str, sizes))} |", f"| --- |{' --- |' * len(sizes)}"]
    for what in dict.fromkeys(what for column in columns for what in column):
        cells = (f"{column[what]:.3g}" if what in column else "" for column in columns)
        rows.append(f"| {what} | {' | '.join(cells)} |")
    about = f"{options.seconds:g} s each, {datetime.now(UTC):%Y-%m-%d}, {options.answers} answers. {machine()}"
    publish(f"{about}\n\n" + "\n".join(rows) + "\n", options.write, "waiting")
    return 0


if __name__ == "__main__":
    sys.exit(main())
