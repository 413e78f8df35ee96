"""The Dag ``overtake_releases``: an urgent release goes before others of its service.

Composition only: what it does is in ``include/interlock/stages/controls/overtakings.py``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import OVERTAKE_RELEASES
from interlock.locations import catalogue_folder
from interlock.stages.controls.overtakings import overtake_params, overtake_tasks
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Overtake releases

## What it does

Lets a release go before the releases of the same service that were requested before it, if the policy allows that for
its change type (`overtakes` in `policy.yaml`) and they have not begun their rollout. Each overtaken release gets an
entry in its chain. From then on it gets no permit, its open questions are closed, and its remaining tasks refuse to
run. Its outcome is *overtaken*. It has to be requested again, so that it is planned and judged anew.

## When it runs

Whenever a release is requested whose change type overtakes others while another release of the service has not ended. A
release manager can trigger it, too: what is overtaken depends only on the requests and on the policy.

## Parameters

- **Service**: the service whose releases are looked at.

## What it asks people

Nothing. The requesters of overtaken releases, and audiences that were told of them, get an e-mail when they have ended.

## What it will not do

- Overtake a release that has a permit to change production. The other release waits for its end.
- Overtake a rollback, or anything for a rehearsal.
- Interrupt a task in progress, such as a build: the overtaken release ends when that task has ended.

## If it fails

Trigger it again with the name of the service. If the second task failed, the releases are overtaken, and some of their
questions may still be open; answers to them do not count.

## Owner

The release management office.
"""

with DAG(
    dag_id=OVERTAKE_RELEASES,
    dag_display_name="Overtake releases",
    description="Let an urgent release go before others of its service, as the policy allows",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(),
    **control_dag(dagrun_timeout=timedelta(hours=24)),
) as dag:
    overtake_tasks()
# Only now: see release.py.
dag.params = overtake_params(catalogue_folder())
