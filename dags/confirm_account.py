"""The Dag ``confirm_account``: a second person confirms an account that changed.

Composition only: what it does is in ``include/interlock/stages/controls/accounts.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import CONFIRM_ACCOUNT
from interlock.locations import catalogue_folder
from interlock.stages.controls.accounts import confirm_params, record_confirmation
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Confirm an account

## What it does

Confirms that an account is still controlled by its owner after its password was reset or the account was created
again. A person who administers accounts could use such an account to answer for another person. Interlock therefore
accepts no answers from a changed account until a second person confirms it.

## When it runs

A person listed in `board.yaml` triggers it after talking to the owner. Their own account must not be waiting for a
confirmation.

## Parameters

- **Account**: the account to confirm, in the state in which it last tried to answer.
- **How you verified it**: is recorded in the ledger.

## What it asks people

Nothing.

## What it will not do

- Let people confirm their own account, or let a person confirm who is not listed in `board.yaml`.
- Confirm later changes to the account: each change needs a confirmation of its own.

## If it fails

The account is not confirmed. The error says why. Correct the form and trigger it again.

## Owner

The release management office.
"""

with DAG(
    dag_id=CONFIRM_ACCOUNT,
    dag_display_name="Confirm an account",
    description="Confirm that a changed account is still controlled by its owner",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(
        triggered_by=("release_manager", "board_member", "functional_approver", "senior_management", "support")
    ),
    **control_dag(),
) as dag:
    record_confirmation()
# Only now: see release.py.
dag.params = confirm_params(catalogue_folder())
