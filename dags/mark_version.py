"""The Dag ``mark_version``: a version is bad, or the only one that an environment takes.

Composition only: what it does is in ``include/interlock/stages/controls/marks.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from interlock.console.auth.roles import dag_access
from interlock.locations import catalogue_folder
from interlock.stages.controls.marks import mark_params, record_mark
from interlock.stages.runtime.taskflow import DEFAULT_ARGS

DOC = """
# Mark version

## What it does

Puts on record what holds for a version of a service in an environment: it is bad, so that it is not rolled out there
any more and nothing goes back to it; or the environment is pinned to it, so that no other is rolled out there. Good
and unpin lift that again; what was said last holds.

## When it runs

When a release manager triggers it.

## Parameters

- **Service**, **environment** and **version**: what is marked.
- **Verdict**: bad, good, pin or unpin.
- **Reason**: stands in every refusal, and on record.

## What it asks people

Nothing.

## What it will not do

- Change what hosts run: to leave a bad version, roll the service back or release another.
- Stop a back-out: it goes where the frozen plan says.

## If it fails

Nothing is marked: the reason says which field is wrong. Trigger it again.

## Who keeps it

The release management office.
"""

with DAG(
    dag_id="mark_version",
    dag_display_name="Mark version",
    description="Say that a version is bad, or the only one that an environment takes",
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
    record_mark()
# Only now: see release.py.
dag.params = mark_params(catalogue_folder())
