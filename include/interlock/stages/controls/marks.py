"""The Dag ``mark_version``: mark a version as bad, or pin an environment to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param

from interlock.adapters.catalogue.catalogue import environments_of
from interlock.adapters.ledger.past_releases import versions_of
from interlock.domain.outcome.marks import MarkRequest, parse_mark, refuse_never_released
from interlock.domain.trigger_form import environment_choices, fields_of
from interlock.locations import catalogue_folder
from interlock.stages.runtime import history, resources
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_task, this_run


def mark_params(folder: Path) -> dict[str, Param]:
    """Return the form of a mark."""
    return form_params(fields_of(MarkRequest, **environment_choices(environments_of(folder))))


@stage_task(task_display_name="Record the mark")
def record_mark() -> dict[str, Any]:
    """Record in the ledger that a version is bad, good, pinned or not pinned any more.

    Afterwards no release gets a permit for a version that is marked bad, or for a version other than the pinned one.
    """
    by = requester()
    mark = parse_mark(entered(), by, environments_of(catalogue_folder()))
    with resources.ledger() as ledger:
        refuse_never_released(mark, versions_of(ledger, mark.service))
    payload = mark.model_dump(mode="json")
    history.append(mark.kind, payload, key=f"{mark.kind}/{'/'.join(this_run())}", actor=by)
    return {"kind": mark.kind, **payload}
