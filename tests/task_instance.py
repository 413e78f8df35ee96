"""A task instance, as the Task SDK hands one to a task: it has the names that Airflow's protocol has, and no other."""

from __future__ import annotations

from typing import Any
from unittest.mock import NonCallableMock

from airflow.sdk.types import RuntimeTaskInstanceProtocol


def task_instance(dag_id: str, task_id: str, *, try_number: int = 1) -> Any:
    """Return a task instance; its calls do nothing."""
    # Not create_autospec: it takes a tenth of a second, and some tests make twenty.
    ti = NonCallableMock(spec=RuntimeTaskInstanceProtocol)
    ti.dag_id, ti.task_id, ti.map_index, ti.try_number = dag_id, task_id, -1, try_number
    return ti
