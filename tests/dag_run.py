"""A task of any Dag that is running, for tests of what stages do: no scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk.execution_time.context import set_current_context

from interlock.domain.canonical import sha256_of
from interlock.domain.ledger.kinds import RUN_ASKED
from interlock.domain.ledger.witness import AskedRun
from tests.memory_ledger import MemoryLedger
from tests.task_instance import task_instance
from tests.witness import asked_payload


@contextmanager
def dag_run(
    task: str,
    *,
    run_id: str = "manual__1",
    user: str | None = None,
    params: Mapping[str, Any] | None = None,
    results: Mapping[Any, Any] | None = None,
    ledger: MemoryLedger | None = None,
    **run: Any,
) -> Iterator[dict[Any, Any]]:
    """Run a task, named with its Dag (``emergency_stop/record_stop``); yield the XComs that it leaves.

    :param ledger: has it on record that the user asked for the run; none: nothing has.
    :param results: what tasks before it left, by task, or by task and key.
    """
    left: dict[Any, Any] = {}
    before = {(name, "return_value") if isinstance(name, str) else name: one for name, one in (results or {}).items()}
    dag_id, _, task_id = task.partition("/")
    ti = task_instance(dag_id, task_id)
    ti.xcom_push.side_effect = lambda key, value: left.__setitem__(key, value)
    ti.xcom_pull.side_effect = lambda task_ids, key="return_value", **_: before.get((task_ids, key))
    conf = dict(params or {})
    runs = SimpleNamespace(dag_id=ti.dag_id, run_id=run_id, triggering_user_name=user, conf=conf, **run)
    if ledger is not None and user is not None:
        asked = AskedRun(dag_id=ti.dag_id, run_id=run_id, user=user, conf=sha256_of(conf))
        if ledger.find(asked.chain, asked.key) is None:
            payload = asked_payload(asked, datetime.now(UTC))
            ledger.append(asked.chain, RUN_ASKED, payload, actor=user, key=asked.key)
    context: Any = {"ti": ti, "dag_run": runs, "params": dict(params or {})}
    with set_current_context(context):
        yield left
