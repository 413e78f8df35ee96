"""The Dag ``override_freeze``: let one service change an environment although a calendar closes it.

Composition only: what it does is in ``include/interlock/stages/controls/overrides.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.locations import catalogue_folder
from interlock.stages.controls.overrides import override_params, override_tasks
from interlock.stages.runtime.taskflow import DEFAULT_ARGS

DOC = """
# Override a freeze

## What it does

Puts on record that what closes an environment now, by the calendars, does not count for one service, for some hours.
Releases of that service then get their permits as if the calendar's entry were not there.

## When it runs

When somebody triggers it whose role in `board.yaml` stands in the entry's `override_by`. Anybody else is refused, with
the entry's name and the roles that it names.

## Parameters

- **Service** and **environment**: what closes this environment to this service is overridden.
- **Reason**: why it cannot wait. It stands in the mail about it, and on record.
- **Hours**: 24 at most; who needs more asks again.

## What it asks people

Nothing. It tells those whom `findings.notify` in `policy.yaml` names, and says what else closes the environment.

## What it will not do

- Override for a release that the same person asked for.
- Override what has no `override_by`, calendars that cannot be read, or an emergency stop.
- Start a release, or spare it its board.

## If it fails

Nothing is overridden: the reason says who may, or that it is open. If only the mail failed, the override holds.

## Who keeps it

The release management office.
"""

with DAG(
    dag_id="override_freeze",
    dag_display_name="Override a freeze",
    description="Let one service change an environment although a calendar closes it, for some hours",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,
    dagrun_timeout=timedelta(hours=1),
    is_paused_upon_creation=False,
    tags=["control"],
    default_args={**DEFAULT_ARGS, "owner": "the release management office"},
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
) as dag:
    override_tasks()
# Only now: see release.py.
dag.params = override_params(catalogue_folder())
