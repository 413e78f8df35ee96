"""The Dag ``return_hosts``: deploy a release to hosts that were unreachable during its rollout.

Composition only: what its task does is in ``include/interlock/stages/controls/returning.py``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import RETURN_HOSTS
from interlock.locations import catalogue_folder
from interlock.stages.controls.returning import bring_hosts_back
from interlock.stages.reconcile.reconcile import schedule
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Return hosts

Deploys the current release to hosts that were unreachable during its rollout and that the error budget left out.

## What it does

For each service whose last deployment left out unreachable hosts, it asks these hosts which version they run. A host
that answers gets the release, with the same drain and health checks as in a wave. No new decision is made: the permit
covers the frozen plan, its decision and its artifact. All three are verified again from the chain of the release. The
result is recorded in that chain as `host.returned`.

## When it runs

At the interval `findings.every` in `policy.yaml`; the default is five minutes. You can also trigger it manually.

## Parameters

None.

## What it asks people

Nothing.

## What it will not do

- Change a host while a release of its service is in progress, during an emergency stop, or during a freeze.
- Deploy a version that is marked bad, or a release whose hosts another release has changed since.
- Retry a host that was reached and failed: a person has to handle it.

## If it fails

A host is reachable again, but the release may not be deployed to it. The error says why. Release the version again as
a standard change, or wait until the environment is open.

## Owner

The platform engineers.
"""

with DAG(
    dag_id=RETURN_HOSTS,
    dag_display_name="Return hosts",
    description="Deploy the current release to hosts that were unreachable during its rollout",
    doc_md=DOC,
    schedule=schedule(catalogue_folder()),
    access_control=dag_access(triggered_by=("release_manager", "operator")),
    **control_dag("the platform engineers", max_active_runs=1, dagrun_timeout=timedelta(hours=2)),
) as dag:
    bring_hosts_back()
