"""The Dag ``reconcile``: looks, every few minutes, whether anybody went round the release process.

Composition only: what it compares is in ``include/interlock/stages/controls/reconcile_*.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.locations import catalogue_folder
from interlock.stages.controls.reconcile import reconcile_tasks, schedule
from interlock.stages.runtime.taskflow import DEFAULT_ARGS

DOC = """
# Reconcile

The bypass detector.

## What it does

Compares what the ledger says with what is:

- **Releases**, under way or ended within seven days, with Airflow's record of them: a task marked or cleared by hand,
  an answer that is gone, a result that was edited, a deleted run, a paused Dag, a connection or the catalogue edited
  meanwhile.
- **The ledger** with itself: chains that do not hold, signed heads that were removed. What holds is signed.
- **Hosts** beyond the sandboxes with the releases that were brought there.

Each contradiction is a *finding*: one entry in the ledger, with its evidence, in the chain of the release it is about
or in the installation's. A release with a finding gets no permit.

## When it runs

As often as `findings.every` in `policy.yaml` says; every five minutes by default. It may be triggered at any time.

## Parameters

None.

## What it asks people

Nothing. It tells those whom `findings.notify` in `policy.yaml` names, once about each finding.

## What it will not do

- Change a release, a run, a connection or a host.
- Take a finding back: what becomes of it is for people.

## If it fails

Something could not be looked at: Airflow's API, the ledger, AWS. The task's reason says what. The next run looks at all
of it again; nothing is lost. A host that does not answer fails nothing; the log names it.

## Who keeps it

The platform engineers.
"""

with DAG(
    dag_id="reconcile",
    dag_display_name="Reconcile",
    description="Compare the ledger with Airflow, with itself and with the hosts; findings go on record",
    doc_md=DOC,
    schedule=schedule(catalogue_folder()),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    is_paused_upon_creation=False,
    tags=["control"],
    default_args={**DEFAULT_ARGS, "owner": "the platform engineers"},
    access_control=dag_access(triggered_by=("release_manager", "operator")),
) as dag:
    reconcile_tasks()
