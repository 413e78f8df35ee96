"""The Dag ``deliver_records``: other systems are told of releases.

Composition only: what it does is in ``include/interlock/stages/controls/deliveries.py``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import WATCHERS, dag_access
from interlock.domain.dag_names import DELIVER_RECORDS
from interlock.locations import catalogue_folder
from interlock.stages.controls.deliveries import deliver_tasks, schedule
from interlock.stages.runtime.taskflow import DEFAULT_ARGS, control_dag

DOC = """
# Deliver records

Tells the systems of service management of releases.

## What it does

Reads the ledger and tells each system of `systems.yaml` what is new: planned, frozen, decided, each wave, verified,
backed out, closed, findings, emergency stops. Each release is told in order. A record is looked up before it is made,
and nothing is posted blindly again.

## When it runs

All the time, if `systems.yaml` names a system. It waits without a worker while nothing is to be told. A run ends after
six hours, and the next one begins. Only operators and auditors see it.

## Parameters

None.

## What it asks people

Nothing. If a system refuses something, the people listed under `findings.notify` in `policy.yaml` get one e-mail.

## What it will not do

- Stop a release, a back-out or an emergency stop: none of them waits for it.
- Decide anything, or vote.

## If it fails

The ledger was not available. The next run continues; nothing is lost and nothing is told twice. What a system refuses
or does not answer does not fail the run: `interlock deliveries` lists it, and the Dag *Retry deliveries* tries it
again.

## Owner

The platform engineers.
"""

with DAG(
    dag_id=DELIVER_RECORDS,
    dag_display_name="Deliver records",
    description="Tell the systems of service management of releases",
    doc_md=DOC,
    schedule=schedule(catalogue_folder()),
    access_control=dag_access(triggered_by=("operator",), read_by=WATCHERS),
    **control_dag(
        "the platform engineers",
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=12),
        default_args={**DEFAULT_ARGS, "owner": "the platform engineers", "retries": 10},
    ),
) as dag:
    deliver_tasks()
