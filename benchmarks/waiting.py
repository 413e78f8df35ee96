"""Measure what releases that wait for their boards cost Airflow's components, and how soon they wake.

  python -m benchmarks.waiting [--waiting 0,50,200] [--seconds 30] [--answers 10] [--per-loop 20] [--write PAGE]

It runs an API server, a scheduler, a triggerer and their PostgreSQL, and copies a run so that there are many whose
board is waited for. Then it answers questions of some of them, one after another, until Airflow has the task to be run
again. Of others, it ends the task that waits, until the scheduler has the next one to be run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.reconcile import copy_runs
from benchmarks.table import machine, publish
from interlock.estate.stack import postgres
from interlock.stages.runtime import resources
from tests.integration.console_airflow import RELEASE, settings_of
from tests.integration.console_server import Console, console_server

ASKS, WAITS = "rollout.cast_ballot", "rollout.await_board"
READER = "interlock_reader"
DEFER = """
import json, sys
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from sqlalchemy import text
from interlock.stages.runtime.triggers import AnswersTrigger, digest_of_answers
dag_id, asks, waits, connection, *names = json.load(sys.stdin)
more = {"known": digest_of_answers(()), "until": None, "connection": connection}
with create_session() as session:
    for name in names:
        row = Trigger.from_object(AnswersTrigger(dag_id=dag_id, run_id=name, task_id=asks, **more))
        session.add(row)
        session.flush()
        session.execute(
            text(
                "UPDATE task_instance SET state = 'deferred', trigger_id = :id, next_method = 'execute_again', "
                "end_date = NULL WHERE dag_id = :dag AND run_id = :run AND task_id = :task"
            ),
            {"id": row.id, "dag": dag_id, "run": name, "task": waits},
        )
"""
"""Has the tasks of runs wait, as Airflow does when a task defers."""
AHEAD = """
UPDATE task_instance SET state = NULL, start_date = NULL, end_date = NULL
WHERE dag_id = %s AND run_id = ANY(%s) AND split_part(task_id, '.', 1) = ANY(%s)
"""
"""What comes after the board has not begun: at each look, the scheduler asks whether it may."""
STAGES_AHEAD = ["communication", "implementation", "verification", "closure"]
RUNS = "UPDATE dag_run SET state = %s, start_date = now() WHERE dag_id = %s AND run_id = ANY(%s)"
OPEN = """
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
DONE = """
UPDATE task_instance SET state = 'success', trigger_id = NULL, end_date = now()
WHERE dag_id = %s AND run_id = %s AND task_id = %s
"""
NEXT = """
SELECT count(*) FROM task_instance
WHERE dag_id = %s AND run_id = %s AND split_part(task_id, '.', 1) = ANY(%s) AND state IS NOT NULL
"""
STILL = "SELECT count(*) FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s AND state = 'deferred'"


class Airflow:
    """The processes that are measured, and their database."""

    def __init__(self, console: Console, **started: subprocess.Popen[bytes]) -> None:
        self._console = console
        ours = psutil.Process().children()
        (server,) = [one for one in ours if "tests.integration.console_airflow" in one.cmdline()]
        self._processes = {"api-server": server, **{who: psutil.Process(one.pid) for who, one in started.items()}}

    def run(self, statement: str, *values: object) -> object:
        """Run a statement; return the first value that it finds."""
        with closing(postgres.connect(self._console.postgres, postgres.DATABASE)) as connection:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                found = cursor.fetchone() if cursor.description else None
            connection.commit()
        return found and found[0]

    def seconds_after(
        self, statement: str, changed: tuple[str, str], count: str, counted: tuple[str, str | Sequence[str]]
    ) -> float:
        """Change a task of a run; return the seconds until a count of its tasks is another one."""
        before = self.run(count, RELEASE, *counted)
        self.run(statement, RELEASE, *changed)
        began = time.monotonic()
        while self.run(count, RELEASE, *counted) == before:
            if time.monotonic() - began > 120:
                raise SystemExit(f"nothing followed in {changed[0]}")
            time.sleep(0.05)
        return time.monotonic() - began

    def used(self) -> dict[str, float]:
        """Return the seconds of a processor that each has used."""
        return {who: sum(map(_seconds, _family(one))) for who, one in self._processes.items()}

    def memory(self) -> dict[str, float]:
        """Return the MiB that the processes of each have for themselves."""
        return {
            who: sum(process.memory_full_info().uss for process in _family(one)) / 2**20
            for who, one in self._processes.items()
        }


def _family(process: psutil.Process) -> tuple[psutil.Process, ...]:
    return (process, *process.children(recursive=True))


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def component(name: str, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run Airflow's triggerer or scheduler."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "airflow", name, "--skip-serve-logs"]
        with subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                yield process
            finally:
                process.terminate()


def measure(airflow: Airflow, names: list[str], seconds: float, answers: int) -> Mapping[str, float]:
    """Return what so many waiting releases cost, in a share of a processor, and how soon they wake."""
    time.sleep(20)  # the triggerer takes them
    before, began = airflow.used(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    found = {f"{who} (% of a processor)": 100 * (now - before[who]) / took for who, now in airflow.used().items()}
    found |= {f"{who}, memory (MiB)": mib for who, mib in airflow.memory().items()}
    half = len(names) // 2
    woke = [airflow.seconds_after(ANSWER, (name, ASKS), STILL, (name, WAITS)) for name in names[:half][:answers]]
    fresh = [name for name in names[half:] if not airflow.run(NEXT, RELEASE, name, STAGES_AHEAD)]
    went = [airflow.seconds_after(DONE, (name, WAITS), NEXT, (name, STAGES_AHEAD)) for name in fresh[:answers]]
    for what, each in (
        ("From an answer until the task may run", woke),
        ("From a task's end until the next may run", went),
    ):
        if each:
            found[f"{what}, median (s)"] = statistics.median(each)
            found[f"{what}, most (s)"] = max(each)
    return found


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--waiting", default="0,50,200")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--per-loop", type=int, default=20, help="max_dagruns_per_loop_to_schedule")
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    sizes = [int(size) for size in options.waiting.split(",")]
    columns: list[Mapping[str, float]] = []
    with (
        tempfile.TemporaryDirectory(prefix="interlock-bench-") as name,
        console_server(Path(name), on_postgres=True) as at,
    ):
        home = Path(name)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "INTERLOCK"))},
            **settings_of(home, int(urlsplit(at.base).port or 0)),
            f"AIRFLOW_CONN_{resources.AIRFLOW.upper()}": at.base.replace("://", f"://{READER}:{READER}@"),
            "AIRFLOW__TRIGGERER__CAPACITY": "1000",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "1",
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": str(options.per_loop),
        }
        environment.pop("_AIRFLOW_PROCESS_CONTEXT")
        with (
            component("triggerer", environment, home / "triggerer.log") as trig,
            component("scheduler", environment, home / "scheduler.log") as sched,
        ):
            airflow = Airflow(at, triggerer=trig, scheduler=sched)
            names = copy_runs(at.postgres, sum(sizes))
            airflow.run(OPEN, RELEASE, names, ASKS)
            airflow.run(AHEAD, RELEASE, names, STAGES_AHEAD)
            airflow.run(RUNS, "success", RELEASE, names)
            airflow.run("UPDATE dag SET is_paused = false, is_stale = false WHERE dag_id = %s", RELEASE)
            for size in sizes:
                some, names = names[:size], names[size:]
                airflow.run(RUNS, "running", RELEASE, some)
                given = json.dumps([RELEASE, ASKS, WAITS, resources.AIRFLOW, *some])
                subprocess.run([sys.executable, "-c", DEFER], input=given.encode(), env=environment, check=True)
                columns.append(measure(airflow, some, options.seconds, options.answers))
                airflow.run(RUNS, "failed", RELEASE, some)
                airflow.run("UPDATE task_instance SET state = 'failed', trigger_id = NULL WHERE state = 'deferred'")
    rows = [f"| Releases that wait | {' | '.join(map(str, sizes))} |", f"| --- |{' --- |' * len(sizes)}"]
    for what in dict.fromkeys(what for column in columns for what in column):
        cells = (f"{column[what]:.3g}" if what in column else "" for column in columns)
        rows.append(f"| {what} | {' | '.join(cells)} |")
    looks = f"{options.per_loop} runs in a look of the scheduler"
    about = f"{options.seconds:g} s each, {options.answers} answers, {looks}. {machine()}"
    publish(f"{about}\n\n" + "\n".join(rows) + "\n", options.write, "waiting")
    return 0


if __name__ == "__main__":
    sys.exit(main())
