"""The Dag ``review_release``: put the post-implementation review of a release on record.

Composition only: what it does is in ``include/interlock/stages/controls/reviews.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.locations import catalogue_folder
from interlock.stages.controls.reviews import record_review, review_params
from interlock.stages.runtime.taskflow import DEFAULT_ARGS

DOC = """
# Review release

## What it does

Puts the review of a release that has ended into the ledger. After an emergency release the service has no other release
but emergencies until this was done.

## When it runs

When a release manager triggers it.

## Parameters

- **Service** and **run**: which release was reviewed, by its run id.
- **What went well**, **what to change**, **participants**: what the review found, and who held it.

## What it asks people

Nothing.

## What it will not do

- Review a release that has not ended.
- Change how a release ended.

## If it fails

The review is not on record: the reason says which field is wrong. Trigger it again.

## Who keeps it

The release management office.
"""

with DAG(
    dag_id="review_release",
    dag_display_name="Review release",
    description="Put the post-implementation review of a release on record",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,
    dagrun_timeout=timedelta(hours=1),
    is_paused_upon_creation=False,
    tags=["control"],
    default_args={**DEFAULT_ARGS, "owner": "the release management office"},
    access_control=dag_access(),
) as dag:
    record_review()
# Only now: see release.py.
dag.params = review_params(catalogue_folder())
