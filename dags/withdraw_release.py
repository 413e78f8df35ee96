"""The Dag ``withdraw_release``: end a release before it is verified.

Composition only: what it does is in ``include/interlock/stages/controls/withdrawals.py``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import WITHDRAW_RELEASE
from interlock.locations import catalogue_folder
from interlock.stages.controls.withdrawals import withdraw_params, withdraw_tasks
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Withdraw a release

## What it does

Ends a release or a rollback that is queued, waits or is in progress. The withdrawal is recorded in the ledger. From
then on the release gets no permit, its open questions are closed, and its remaining tasks refuse to run. A wave in
progress changes no further hosts, and what the release changed is backed out. The outcome is *withdrawn* if production
was not changed, and *backed out* if it was.

## When it runs

The person who requested the release, or a release manager, triggers it. Other people are refused at the form.

## Parameters

- **Service** and **release**: what to withdraw. The release can be left empty if only one is under way.
- **Reason**: is sent to the requester of the release and recorded in the ledger.

## What it asks people

Nothing. The requester, and audiences that were told of the release, get the e-mails about its outcome.

## What it will not do

- Withdraw a release whose verification succeeded: roll the service back instead.
- Interrupt a task in progress, such as a build: the release ends when that task has ended. A queued release ends when
  Airflow starts it.
- Withdraw a train. Withdraw the releases of its passengers.

## If it fails

If the first task failed, nothing is withdrawn; its error says why. Correct the form and trigger the Dag again. If the
second task failed, the withdrawal is in force, and some questions may still be open; answers to them do not count.

## Owner

The release management office.
"""

with DAG(
    dag_id=WITHDRAW_RELEASE,
    dag_display_name="Withdraw a release",
    description="End a release before it is verified, with a reason",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(),
    **control_dag(dagrun_timeout=timedelta(hours=24)),
) as dag:
    withdraw_tasks()
# Only now: see release.py.
dag.params = withdraw_params(catalogue_folder())
