"""The Dag ``override_freeze``: override a calendar freeze for one service.

Composition only: what it does is in ``include/interlock/stages/controls/overrides.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import OVERRIDE_FREEZE
from interlock.locations import catalogue_folder
from interlock.stages.controls.overrides import override_params, override_tasks
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Override a freeze

## What it does

Overrides the calendar entry that closes an environment now, for one service and a limited number of hours. Releases of
that service then get permits as if the entry did not exist.

## When it runs

A person triggers it whose role in `board.yaml` is listed under `override_by` of the calendar entry. Other people are
refused; the error names the entry and the roles that may override it.

## Parameters

- **Service** and **environment**: the freeze to override.
- **Reason**: why the change cannot wait. It is sent by e-mail and recorded in the ledger.
- **Hours**: 24 at most. Trigger it again to extend the override.

## What it asks people

Nothing. It sends an e-mail to the people listed under `findings.notify` in `policy.yaml`. The e-mail lists any other
entries that close the environment.

## What it will not do

- Override a freeze for a release that the same person requested.
- Override an entry without `override_by`, calendars that cannot be read, or an emergency stop.
- Start a release, or replace the vote of its board.

## If it fails

Nothing is overridden. The error says who may override the entry, or that the environment is open. If only the e-mail
failed, the override is in force.

## Owner

The release management office.
"""

with DAG(
    dag_id=OVERRIDE_FREEZE,
    dag_display_name="Override a freeze",
    description="Override a calendar freeze for one service, for a limited number of hours",
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
    override_tasks()
# Only now: see release.py.
dag.params = override_params(catalogue_folder())
