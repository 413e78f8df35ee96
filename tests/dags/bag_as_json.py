"""Load folders of Dags as the Dag processor does, each in a process forked from this one, and print what is in them.

Standard input has a line of JSON for each folder: ``folder``, ``environment``, and whether it is to do ``no_work``: a
Dag file that does anything but describe Dags fails to be imported then. What is printed is JSON, too.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

import airflow.settings  # noqa: F401  # Airflow's own start, which may do work, is over before a Dag file is read
from airflow.dag_processing.dagbag import DagBag

OTHERS = (
    "airflow.providers.standard.operators.hitl",
    "airflow.providers.standard.sensors.date_time",
    "boto3",
    "jsonschema",
    "securesystemslib.signer",
)
"""What Dag files import of others; Interlock itself reads its environment when it is imported."""
WORK = ("socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "sqlite3.connect")


def refuse_work(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse, as an audit hook, what reaches outside of the process."""
    if event in WORK:
        raise RuntimeError(f"importing a Dag file did {event} {arguments}")


def described_task(task: Any) -> dict[str, Any]:
    """Return what the tests want to know of a task."""
    return {
        "doc": task.doc_md,
        "retries": task.retries,
        "title": task.task_display_name,
        "type": task.task_type,
        "downstream": sorted(task.downstream_task_ids),
        "rule": task.trigger_rule.value,
    }


def described_dag(dag: Any) -> dict[str, Any]:
    """Return what the tests want to know of a Dag."""
    return {
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "owner": sorted({task.owner for task in dag.tasks}),
        "max_active_runs": dag.max_active_runs,
        "paused_at_first": dag.is_paused_upon_creation,
        "title": dag.dag_display_name,
        "access": sorted(dag.access_control or ()),
        "groups": [group for group in dag.task_group.get_task_group_dict() if group],
        "tasks": {task.task_id: described_task(task) for task in dag.tasks},
    }


def show(folder: str, environment: dict[str, str], no_work: bool) -> None:
    """Print one line of JSON after whatever Airflow prints."""
    os.environ.update(environment)
    if no_work:
        sys.addaudithook(refuse_work)
    bag = DagBag(dag_folder=folder, bundle_name="test")
    described = {dag_id: described_dag(dag) for dag_id, dag in bag.dags.items()}
    print("\nRESULT" + json.dumps({"errors": bag.import_errors, "dags": described}), flush=True)


def main() -> None:
    """Fork for each folder, with other people's modules in memory."""
    for name in OTHERS:
        import_module(name)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            show(**json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(f"\nENDED {status}", flush=True)


if __name__ == "__main__":
    main()
