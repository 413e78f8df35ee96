"""A task of a release that is running, for tests of what stages do: no scheduler, and a ledger in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self
from unittest.mock import create_autospec

import pytest
from airflow.sdk.execution_time.context import set_current_context
from airflow.sdk.types import RuntimeTaskInstanceProtocol

from include.interlock.domain.records import Record
from include.interlock.stages import resources
from tests.airflow_server import RUN


@dataclass
class RunningTask:
    """What a task leaves: its XComs, and its entries in the ledger."""

    xcoms: dict[str, Any] = field(default_factory=dict)
    recorded: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Kind and payload."""
    before: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What tasks before it left: task and key."""
    answers: Callable[[], Iterable[SimpleNamespace]] = tuple
    """Returns the entries of the answers that came in at Airflow's API."""

    def __enter__(self) -> Self:
        """Be the ledger for a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stay open."""

    def append(self, chain: str, kind: str, payload: dict[str, Any], *, actor: str, key: str) -> None:
        """Take an entry of the ledger."""
        self.recorded.append((kind, payload))

    def entries(self, chain: str, **_: object) -> tuple[SimpleNamespace, ...]:
        """Be read as the ledger is."""
        recorded = (SimpleNamespace(kind=kind, payload=payload) for kind, payload in self.recorded)
        return (*recorded, *self.answers())

    def knows(self, kind: str, record: Record) -> None:
        """Have a record of an earlier task."""
        self.recorded.append((kind, record.to_xcom()))

    def sign_head(self, chain: str, signer: object, *, follows: bool = False) -> None:
        """Sign nothing: the ledger's own tests are about signatures."""


@contextmanager
def running_task(task_id: str, patch: pytest.MonkeyPatch) -> Iterator[RunningTask]:
    """Run a task of the release :data:`RUN` for a block."""
    left = RunningTask()
    ti = create_autospec(RuntimeTaskInstanceProtocol, instance=True)
    ti.xcom_push.side_effect = lambda key, value: left.xcoms.__setitem__(key, value)
    ti.xcom_pull.side_effect = lambda task_ids, key="return_value", **_: left.before.get((task_ids, key))
    ti.dag_id, ti.task_id, ti.map_index = RUN[0], task_id, -1
    patch.setattr(resources, "ledger", lambda: left)
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=RUN[0], run_id=RUN[1])}
    with set_current_context(context):
        yield left
