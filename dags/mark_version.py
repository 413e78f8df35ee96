"""The Dag ``mark_version``: mark a version as bad, or pin an environment to it.

Composition only: what it does is in ``include/interlock/stages/controls/marks.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import MARK_VERSION
from interlock.locations import catalogue_folder
from interlock.stages.controls.marks import mark_params, record_mark
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Mark version

## What it does

Marks a version of a service in an environment. A version marked *bad* is not deployed to the environment any more, and
no rollback returns to it. If the environment is *pinned* to a version, no other version is deployed to it. *Good* and
*unpin* remove these marks. The latest mark applies.

## When it runs

A release manager triggers it.

## Parameters

- **Service**, **environment** and **version**: what to mark.
- **Verdict**: bad, good, pin or unpin.
- **Reason**: appears in each refusal and is recorded in the ledger.

## What it asks people

Nothing.

## What it will not do

- Change hosts. To replace a bad version, roll the service back or release another version.
- Block a back-out: a back-out returns to the version that the frozen plan names.

## If it fails

Nothing is marked. The error names the field that is wrong. Correct it and trigger the Dag again.

## Owner

The release management office.
"""

with DAG(
    dag_id=MARK_VERSION,
    dag_display_name="Mark version",
    description="Mark a version as bad, or pin an environment to it",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(),
    **control_dag(),
) as dag:
    record_mark()
# Only now: see release.py.
dag.params = mark_params(catalogue_folder())
