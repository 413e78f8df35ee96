"""The Dag ``accept_defect``: accept an open defect of a service as known.

Composition only: what it does is in ``include/interlock/stages/controls/defects.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import ACCEPT_DEFECT
from interlock.locations import catalogue_folder
from interlock.stages.controls.defects import acceptance_params, acceptance_tasks
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Accept a defect

## What it does

Accepts an open defect of a service as known, for a limited number of days. Until then, the defect does not stop
releases, and neither does its test case if it fails again.

## When it runs

A person triggers it whose role in `board.yaml` is listed under `waivers.defects` in `policy.yaml`. Other people are
refused; the error names the roles.

## Parameters

- **Service** and **defect**: the open defect, by its id. The tab *Test matrix* of a release and the mails about failed
  test cases have the ids.
- **Reason**: why the service can be released with it. It is sent by e-mail and recorded in the ledger.
- **Days**: when the acceptance ends. The policy limits it (`waivers.defects.longest`).

## What it asks people

Nothing. It sends an e-mail to the development team, and to the people listed under `findings.notify` in `policy.yaml`.

## What it will not do

- Accept a defect of a service while a release is under way that the same person requested.
- Close the defect: only a deployed release whose test case passes does that.
- Change a quality report that exists already. The release has to be triggered again.

## If it fails

Nothing is accepted. The error says who may accept the defect, or which defects are open. If only the e-mail failed, the
acceptance is in force.

## Owner

The release management office.
"""

with DAG(
    dag_id=ACCEPT_DEFECT,
    dag_display_name="Accept a defect",
    description="Accept an open defect of a service as known, for a limited number of days",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(
        triggered_by=(
            "release_manager",
            "board_member",
            "functional_approver",
            "senior_management",
            "support",
            "operator",
        )
    ),
    **control_dag(),
) as dag:
    acceptance_tasks()
# Only now: see release.py.
dag.params = acceptance_params(catalogue_folder())
