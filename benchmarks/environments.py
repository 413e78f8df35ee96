"""Measure how long the environments between test and production took in a release, and how much of that was waiting.

  python -m benchmarks.environments RUN [--write PAGE]            a release of the running stack: <dag id>/<run id>
  python -m benchmarks.environments --tasks FILE [--write PAGE]   its task instances, as Airflow's API has them

The rest of a release is the same with and without them. So what they add is the time from the gate of test to the end
of the last environment. A moment of it is work if a task runs, for people if only questions are open, a soak if only a
soak runs, and otherwise Airflow's own: the time between two tasks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.table import machine, publish
from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.domain.board.questions import asks_people
from interlock.estate.airflow.accounts import passwords
from interlock.estate.settings import Settings

Span = tuple[datetime, datetime]
WAITS = {"await_soak": "soak", "await_sign_off": "people"}
"""The end of a task's id: what it waits for. Questions are for people; every other task works."""
ORDER = ("work", "people", "soak")
"""What a moment is, if it is several: the first."""


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="")
    parser.add_argument("--tasks", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    tasks = json.loads(options.tasks.read_text()) if options.tasks else tasks_of(*options.run.split("/", 1))
    publish(f"{machine()}\n\n{table(tasks)}", options.write, "environments")
    return 0


def tasks_of(dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Read the task instances of a release from the stack."""
    settings = Settings.from_environment(os.environ)
    with closing(AirflowApi(settings.airflow_url, "admin", passwords(settings)["admin"])) as api:
        return api.task_instances(dag_id, run_id)


def table(tasks: Iterable[Mapping[str, Any]]) -> str:
    """Return what each environment, and all of them together, took."""
    ran = [(str(one["task_id"]), _span(one)) for one in tasks if one["start_date"] and one["end_date"]]
    gate = max(end for task, (_, end) in ran if task == "quality.pass_gate")
    path = [
        (task.split(".")[1], task, span) for task, span in ran if task.startswith("quality.") and task.count(".") == 2
    ]
    rows = ["| Environment | Seconds | Work | People | Soak | Between tasks |", "| --- | --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(name for name, _, _ in sorted(path, key=lambda one: one[2])):
        own = [(task, span) for environment, task, span in path if environment == name]
        rows.append(_row(name, own, min(begin for _, (begin, _) in own)))
    rows.append(_row("all, from the gate of test on", [(task, span) for _, task, span in path], gate))
    whole = max(end for _, (_, end) in ran) - min(begin for _, (begin, _) in ran)
    return "\n".join(rows) + f"\n\nThe whole release took {whole.total_seconds():.0f} seconds.\n"


def _span(task: Mapping[str, Any]) -> Span:
    return datetime.fromisoformat(task["start_date"]), datetime.fromisoformat(task["end_date"])


def _kind(task: str) -> str:
    return "people" if asks_people(task) else WAITS.get(task.rpartition(".")[2], "work")


def _row(name: str, tasks: Iterable[tuple[str, Span]], begin: datetime) -> str:
    """Return a row: each moment counts once."""
    spans = [(_kind(task), span) for task, span in tasks]
    moments = sorted({begin, *(moment for _, span in spans for moment in span)})
    took = dict.fromkeys((*ORDER, "between"), 0.0)
    for since, until in pairwise(moments):
        kinds = {kind for kind, (first, last) in spans if first <= since and until <= last}
        what = next((kind for kind in ORDER if kind in kinds), "between")
        took[what] += (until - since).total_seconds()
    return f"| {name} | {sum(took.values()):.0f} | {' | '.join(f'{seconds:.0f}' for seconds in took.values())} |"


if __name__ == "__main__":
    sys.exit(main())
