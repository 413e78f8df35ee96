"""The Dag ``confirm_account``: an account that changed is as its owner left it, says a second person.

Composition only: what it does is in ``include/interlock/stages/controls/accounts.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.locations import catalogue_folder
from interlock.stages.controls.accounts import confirm_params, record_confirmation
from interlock.stages.runtime.taskflow import DEFAULT_ARGS

DOC = """
# Confirm an account

## What it does

Puts on record that an account is as its owner left it, although its password was set anew or the account was made anew.
Whoever administers accounts could answer as somebody else; so an account that changed answers nothing until somebody
else has vouched for it.

## When it runs

When somebody of `board.yaml` triggers it who has talked to the owner, and whose own account nobody doubts.

## Parameters

- **Account**: whose it is. It is confirmed as it was when it last tried to answer.
- **How you know**: goes on record.

## What it asks people

Nothing.

## What it will not do

- Let anybody confirm their own account, or somebody confirm who is not in `board.yaml`.
- Confirm what is changed about the account later: that is doubted again.

## If it fails

Nothing is confirmed: the reason says why. Trigger it again.

## Who keeps it

The release management office.
"""

with DAG(
    dag_id="confirm_account",
    dag_display_name="Confirm an account",
    description="Say that an account that changed is as its owner left it",
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
        triggered_by=("release_manager", "board_member", "functional_approver", "senior_management", "support")
    ),
) as dag:
    record_confirmation()
# Only now: see release.py.
dag.params = confirm_params(catalogue_folder())
