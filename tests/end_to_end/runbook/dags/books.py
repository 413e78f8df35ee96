"""Dags of another team, which a step of a runbook runs: they close the books of a month, and open them again."""

from __future__ import annotations

import time
from typing import Any

from airflow.sdk import DAG, Param, task

ACCESS = {
    "interlock_reader": {"DAGs": {"can_read"}},
    "interlock_conductor": {"DAGs": {"can_read", "can_edit"}, "DAG Runs": {"can_create"}},
}


@task
def write_down(params: dict[str, Any]) -> str:
    """Say for which month; it takes a moment."""
    time.sleep(5)
    return str(params["month"])


for name in ("close_the_books", "open_the_books"):
    with DAG(name, schedule=None, params={"month": Param(type="string")}, access_control=ACCESS) as dag:
        write_down()
