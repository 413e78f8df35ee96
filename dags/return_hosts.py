"""Hosts that were down when a release came get it when they are back: ``return_hosts``.

Composition only: what its task does is in ``include/interlock/stages/controls/returning.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.locations import catalogue_folder
from interlock.stages.controls.reconcile import schedule
from interlock.stages.controls.returning import bring_hosts_back
from interlock.stages.runtime.taskflow import DEFAULT_ARGS

DOC = """
# Return hosts

A host that was down when a release came, and that the release's error budget left out, gets it when it is back.

## What it does

For each service whose last deployment left hosts out because nobody could reach them: asks these hosts what they run.
One that answers is brought to that release, drained and checked as in its wave. Nothing new is decided: the permit is
for the plan that was frozen, the decision on it, and the bytes of then, all proven again from the release's own chain,
in which the result stands as `host.returned`.

## When it runs

As often as `findings.every` in `policy.yaml` says; every five minutes by default. It may be triggered at any time.

## Parameters

None.

## What it asks people

Nothing.

## What it will not do

- Touch a host while a release of its service is under way, during an emergency stop or while the calendars close it.
- Bring a version that is marked bad, or one that another release has changed hosts after.
- Try a host again that was reached and failed: that is for people.

## If it fails

A host has returned and may not be brought to its release; the reason says why. Release the version again as a standard
change, or wait until what closes the environment is over.

## Who keeps it

The platform engineers.
"""

with DAG(
    dag_id="return_hosts",
    dag_display_name="Return hosts",
    description="Bring hosts that were down when a release came to it, under a permit for exactly that release",
    doc_md=DOC,
    schedule=schedule(catalogue_folder()),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    is_paused_upon_creation=False,
    tags=["control"],
    default_args={**DEFAULT_ARGS, "owner": "the platform engineers"},
    access_control=dag_access(triggered_by=("release_manager", "operator")),
) as dag:
    bring_hosts_back()
