"""The Dag ``retry_deliveries``: try again what another system refused or did not answer.

Composition only: what it does is in ``include/interlock/stages/controls/deliveries.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import RETRY_DELIVERIES
from interlock.locations import catalogue_folder
from interlock.stages.controls.deliveries import retry_deliveries, retry_params
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Retry deliveries

## What it does

Has everything tried again now that a system of service management refused, or did not answer. Without it, refused
records are tried again every hour, and others within minutes.

## When it runs

A release manager or an operator triggers it, after the reason was corrected.

## Parameters

- **System**: a system of `systems.yaml`.
- **Release**: the run id of a release; empty: all that failed.
- **Reason**: what was corrected.

## What it asks people

Nothing.

## What it will not do

- Skip something: what is told of a release is told in order.
- Make a second record: each record is looked up first.

## If it fails

The form names a system or a release that has no failed delivery. `interlock deliveries` lists them.

## Owner

The release management office.
"""

with DAG(
    dag_id=RETRY_DELIVERIES,
    dag_display_name="Retry deliveries",
    description="Try again what another system refused or did not answer",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(triggered_by=("release_manager", "operator")),
    **control_dag(),
) as dag:
    retry_deliveries()
# Only now: see release.py.
dag.params = retry_params(catalogue_folder())
