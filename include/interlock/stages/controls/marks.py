"""The Dag ``mark_version``: mark a version as bad, or pin an environment to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param, get_current_context

from interlock.adapters.catalogue.catalogue import default_environment, environments_of
from interlock.domain.outcome import marks
from interlock.domain.outcome.outcome import PRODUCTION
from interlock.locations import catalogue_folder
from interlock.stages.runtime import history
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_task, this_run


def mark_params(folder: Path) -> dict[str, Param]:
    """Return the form of a mark."""
    places = environments_of(folder)
    environments = sorted({name for found in places.values() for name in found} or {PRODUCTION})
    return {
        "service": Param(
            type="string", enum=sorted(places), title="Service", description="The service whose version you mark."
        ),
        "environment": Param(
            default_environment(places),
            type="string",
            enum=environments,
            title="Environment",
            description="The environment to which the mark applies.",
        ),
        "version": Param(
            type="string", minLength=5, maxLength=64, title="Version", description="The version to mark, such as 1.4.0."
        ),
        "verdict": Param(
            "bad",
            type="string",
            enum=["bad", "good", "pin", "unpin"],
            values_display={
                "bad": "bad: do not deploy this version, and do not roll back to it",
                "good": "good: remove the mark bad",
                "pin": "pin: deploy only this version",
                "unpin": "unpin: allow other versions again",
            },
            title="Verdict",
            description="The mark to set or remove. The latest mark applies.",
        ),
        "reason": Param(
            type="string",
            minLength=5,
            maxLength=1000,
            title="Reason",
            description="Why you mark it. The reason appears in each refusal and is recorded in the ledger.",
        ),
    }


@stage_task(task_display_name="Record the mark")
def record_mark() -> dict[str, Any]:
    """Record in the ledger that a version is bad, good, pinned or not pinned any more.

    Afterwards no release gets a permit for a version that is marked bad, or for a version other than the pinned one.
    """
    by = requester()
    form = {name: value for name, value in get_current_context()["params"].items() if value is not None}
    mark = marks.parse_mark(form, by, environments_of(catalogue_folder()))
    payload = mark.model_dump(mode="json")
    history.append(mark.kind, payload, key=f"{mark.kind}/{'/'.join(this_run())}", actor=by)
    return {"kind": mark.kind, **payload}
