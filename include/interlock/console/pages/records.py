"""The results that the tasks of a run left, as Airflow has them, for the pages of a release and of a train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, ValidationError

from interlock.adapters.airflow.results import parsed_result, stored_result
from interlock.adapters.ledger.vocabulary import TASKS, WAVE
from interlock.domain.canonical import Model
from interlock.domain.records import (
    Artifact,
    AssetReport,
    BackOutReport,
    Communication,
    Decision,
    Outcome,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    RolloutPlan,
    TestDeployment,
    VerificationReport,
    WaveReport,
)
from interlock.domain.trains.arrivals import Arrival
from interlock.domain.trains.manifest import Manifest, PlannedRun

REASON, WAITS_FOR, RESULT = "reason", "waits_for", "return_value"
"""The XCom keys in which a task says why it failed, for what it waits, and its result."""


class Records(Model):
    """The results of the tasks of a release, a rollback or a train; null: there is none yet."""

    policy: PolicyInForce | None = None
    plan: ReleasePlan | None = None
    plan_decision: Decision | None = None
    assets: AssetReport | None = None
    artifact: Artifact | None = None
    test: TestDeployment | None = None
    quality: QualityReport | None = None
    acceptance: Decision | None = None
    rollout: RolloutPlan | None = None
    board: Decision | None = None
    communication: Communication | None = None
    waves: tuple[WaveReport, ...] = ()
    verification: VerificationReport | None = None
    back_out: BackOutReport | None = None
    outcome: Outcome | None = None
    opened: PlannedRun | None = None
    manifest: Manifest | None = None
    arrival: Arrival | None = None


class RunRecords(Model):
    """What the tasks of a run left. It is what Airflow has: what was decided is in the ledger."""

    records: Records
    reasons: dict[str, str] = Field(description="Task: why it failed")
    waits: dict[str, str] = Field(description="Task: for what it waits")
    unread: dict[str, str] = Field(description="Task: why its result is not one that this version knows")


def records(dag_id: str, dag_run_id: str) -> RunRecords:
    """Return the results of the tasks of a run, why tasks failed, and for what they wait."""
    read: dict[str, Any] = {}
    waves: dict[int, WaveReport] = {}
    said: dict[str, dict[str, str]] = {REASON: {}, WAITS_FOR: {}}
    unread: dict[str, str] = {}
    for task, key, value in _left(dag_id, dag_run_id):
        wave = WAVE.fullmatch(task)
        try:
            if key != RESULT:
                said[key][task] = str(value)
            elif wave:
                waves[int(wave[1])] = WaveReport.from_xcom(stored_result(value))
            elif task in TASKS and value is not None:
                read[TASKS[task]] = _MODELS[TASKS[task]].from_xcom(stored_result(value))
        except ValidationError as error:
            unread[task] = f"{error.error_count()} of its fields cannot be read"
    return RunRecords(
        records=Records(**read, waves=tuple(waves[number] for number in sorted(waves))),
        reasons=said[REASON],
        waits=said[WAITS_FOR],
        unread=unread,
    )


_MODELS: dict[str, Any] = {
    name: next(one for one in field.annotation.__args__ if one is not type(None))  # type: ignore[union-attr]
    for name, field in Records.model_fields.items()
    if name != "waves"
}


def _left(dag_id: str, run_id: str) -> Iterator[tuple[str, str, Any]]:
    """Yield task, key and value of what was left; of a mapped task, what its first instance left is last."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    one = XComModel
    wanted = (
        select(one.task_id, one.key, one.value)
        .where(one.dag_id == dag_id, one.run_id == run_id, one.key.in_((REASON, WAITS_FOR, RESULT)))
        .order_by(one.map_index.desc())
    )
    with create_session() as session:
        found = session.execute(wanted).all()
    for task, key, value in found:
        yield task, key, parsed_result(value)
