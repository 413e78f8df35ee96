"""The Dag ``emergency_stop``: halt every rollout in a scope, at once.

Composition only: what it does is in ``include/interlock/stages/controls/stops.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.locations import catalogue_folder
from interlock.stages.controls.stops import stop_params, stop_tasks
from interlock.stages.runtime.taskflow import DEFAULT_ARGS

DOC = """
# Emergency stop

## What it does

Declares that nothing in a scope is rolled out, or lifts such a stop. From the moment it is asked for, before this run
begins, no release in that scope gets a permit, and a wave that is under way touches no further host; it fails, and the
release is backed out. A back-out is never stopped.

## When it runs

When somebody with the role of release manager, board member, senior management or operator triggers it.

## Parameters

- **What to stop**: everything, a business unit, or a service.
- **Reason** and **incident**: stand in every refusal, and on record.
- **Hours**: after so many, the stop lifts itself.
- **Lift a stop**: the id of a stop, to lift it; scope and hours then do not matter.

## What it asks people

Nothing. It tells those whom `findings.notify` in `policy.yaml` names.

## What it will not do

- Undo what was rolled out before.
- Wait for anybody: the one who triggers it decides, and is on record.

## If it fails

Nothing was stopped, nobody was told, or it is not signed: the failed task says which. If nothing was stopped, correct
the form and trigger it again.

## Who keeps it

The platform engineers.
"""

with DAG(
    dag_id="emergency_stop",
    dag_display_name="Emergency stop",
    description="Halt every rollout in a scope, or lift such a stop",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,
    dagrun_timeout=timedelta(hours=1),
    is_paused_upon_creation=False,
    tags=["control"],
    default_args={**DEFAULT_ARGS, "owner": "the platform engineers"},
    access_control=dag_access(triggered_by=("release_manager", "board_member", "senior_management", "operator")),
) as dag:
    stop_tasks()
# Only now: see release.py.
dag.params = stop_params(catalogue_folder())
