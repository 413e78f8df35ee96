"""The paths of a run's pages, in the artifact store and in Airflow's UI: one rule for writers and readers."""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import quote

SAFE_DAG_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
STAGE = re.compile(r"[a-z][a-z0-9_-]*")
UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
MAX_NAME_LENGTH = 100


def run_slug(run_id: str) -> str:
    """Return a run id as the name of a folder; different run ids never get the same name."""
    return f"{UNSAFE.sub('-', run_id)[:MAX_NAME_LENGTH]}-{sha256(run_id.encode()).hexdigest()[:12]}"


def quality_page(dag_id: str, run_id: str) -> str:
    """Return where Airflow's UI shows a run's data docs, below its own address."""
    return f"{run_page(dag_id, run_id)}/plugin/quality-report"


def matrix_page(dag_id: str, run_id: str) -> str:
    """Return where Airflow's UI shows a run's test matrix, below its own address."""
    return f"{run_page(dag_id, run_id)}/plugin/test-matrix"


def dag_page(dag_id: str) -> str:
    """Return where Airflow's UI shows a Dag, below its own address."""
    return f"dags/{quote(dag_id, safe='')}"


def release_page(dag_id: str, run_id: str) -> str:
    """Return where Airflow's UI shows the tab *Release* of a run, below its own address."""
    return f"{run_page(dag_id, run_id)}/plugin/release"


def run_page(dag_id: str, run_id: str) -> str:
    """Return where Airflow's UI shows a run, below its own address."""
    return f"{dag_page(dag_id)}/runs/{quote(run_id, safe='')}"


def question_page(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return where Airflow's UI asks a question of a run, below its own address."""
    return f"{run_page(dag_id, run_id)}/tasks/{quote(task_id, safe='')}/mapped/{map_index}/required_actions"


def docs_stage(environment: str) -> str:
    """Return the stage under which the data docs of an environment between test and production are kept."""
    return f"quality-{environment}"


def docs_prefix(dag_id: str, run_id: str, stage: str) -> str:
    """Return the folder of a stage's data docs below the artifact store's root.

    :raises ValueError: it is not a Dag id or a stage, so that a name cannot leave the root.
    """
    if not SAFE_DAG_ID.fullmatch(dag_id) or not STAGE.fullmatch(stage):
        raise ValueError(f"{dag_id!r} is not a Dag id, or {stage!r} is not a stage")
    return f"docs/{dag_id}/{run_slug(run_id)}/{stage}"
