"""The Dag ``emergency_stop``: halt every rollout in a scope, at once.

Composition only: what it does is in ``include/interlock/stages/controls/stops.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import EMERGENCY_STOP
from interlock.locations import catalogue_folder
from interlock.stages.controls.stops import stop_params, stop_tasks
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Emergency stop

## What it does

Stops all rollouts in a scope, or lifts an earlier stop. The stop takes effect when it is requested, before this run
starts. No release in the scope gets a permit. A wave that is in progress changes no further hosts: it fails, and the
release is backed out. A stop never blocks a back-out.

## When it runs

A person with the role release manager, board member, senior management or operator triggers it.

## Parameters

- **What to stop**: everything, a business unit, or a service.
- **Reason** and **incident**: appear in each refusal and are recorded in the ledger.
- **Hours**: the stop expires after this time.
- **Lift a stop**: the id or the scope of the stop to lift. Scope and hours are then ignored.

## What it asks people

Nothing. It sends an e-mail to the people listed under `findings.notify` in `policy.yaml`.

## What it will not do

- Undo a rollout that is complete.
- Wait for an approval: the person who triggers it decides, and their name is recorded.

## If it fails

The failed task shows whether the stop was not recorded, not signed, or not announced. If it was not recorded, correct
the form and trigger it again.

## Owner

The platform engineers.
"""

with DAG(
    dag_id=EMERGENCY_STOP,
    dag_display_name="Emergency stop",
    description="Stop all rollouts in a scope, or lift a stop",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(triggered_by=("release_manager", "board_member", "senior_management", "operator")),
    **control_dag("the platform engineers"),
) as dag:
    stop_tasks()
# Only now: see release.py.
dag.params = stop_params(catalogue_folder())
