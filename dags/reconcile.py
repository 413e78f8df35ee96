"""The Dag ``reconcile``: checks every few minutes whether a change bypassed the release process.

Composition only: what it compares is in ``include/interlock/stages/reconcile/reconcile_*.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import WATCHERS, dag_access
from interlock.domain.dag_names import RECONCILE
from interlock.locations import catalogue_folder
from interlock.stages.reconcile.reconcile import reconcile_tasks, schedule
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Reconcile

Detects changes that bypassed the release process.

## What it does

Compares the ledger with the actual state:

- **Releases** that are in progress or ended within the last seven days, with the records in Airflow: tasks that were
  marked or cleared manually, missing answers, edited results, deleted runs, paused Dags, and connections or catalogue
  files that changed during the release.
- **The ledger** with itself: broken chains and removed signatures. Chains that are intact are signed.
- **Hosts** outside of the sandboxes, with the releases that were deployed to them.
- **Files** of the releases on all hosts, with what was built: a part at a time, all of them within a day.

Each contradiction is recorded as a *finding* with its evidence, in the chain of the affected release or in the chain
of the installation. A release with a finding gets no permit.

## When it runs

At the interval `findings.every` in `policy.yaml`; the default is five minutes. An operator can also trigger it
manually. Only operators and auditors see it: Airflow counts the runs that a user may read as that user's statistics.

## Parameters

None.

## What it asks people

Nothing. It sends one e-mail about each finding to the people listed under `findings.notify` in `policy.yaml`.

## What it will not do

- Change a release, a run, a connection or a host.
- Remove a finding: people decide how to handle it.

## If it fails

A check could not be completed, for example because the API of Airflow, the ledger or AWS was not available. The error
of the task says which. The next run repeats all checks; nothing is lost. A host that does not answer does not fail the
run; the log names it.

## Owner

The platform engineers.
"""

with DAG(
    dag_id=RECONCILE,
    dag_display_name="Reconcile",
    description="Compare the ledger with Airflow, with itself and with the hosts, and record findings",
    doc_md=DOC,
    schedule=schedule(catalogue_folder()),
    access_control=dag_access(triggered_by=("operator",), read_by=WATCHERS),
    **control_dag("the platform engineers", max_active_runs=1),
) as dag:
    reconcile_tasks()
