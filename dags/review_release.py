"""The Dag ``review_release``: record the post-implementation review of a release.

Composition only: what it does is in ``include/interlock/stages/controls/reviews.py``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.domain.dag_names import REVIEW_RELEASE
from interlock.locations import catalogue_folder
from interlock.stages.controls.reviews import record_review, review_params
from interlock.stages.runtime.taskflow import control_dag

DOC = """
# Review release

## What it does

Records the post-implementation review of a release that has ended. After an emergency release, the service can only
make further emergency releases until the review is recorded.

## When it runs

A release manager triggers it.

## Parameters

- **Service** and **run**: the release that was reviewed, by its run id.
- **What went well**, **what to change**, **participants**: the result of the review, and who took part.

## What it asks people

Nothing.

## What it will not do

- Record a review of a release that has not ended.
- Change the outcome of a release.

## If it fails

The review is not recorded. The error names the field that is wrong. Correct it and trigger the Dag again.

## Owner

The release management office.
"""

with DAG(
    dag_id=REVIEW_RELEASE,
    dag_display_name="Review release",
    description="Record the post-implementation review of a release",
    doc_md=DOC,
    schedule=None,
    access_control=dag_access(),
    **control_dag(),
) as dag:
    record_review()
# Only now: see release.py.
dag.params = review_params(catalogue_folder())
