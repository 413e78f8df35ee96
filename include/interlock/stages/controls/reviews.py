"""The Dag ``review_release``: record the post-implementation review of a release that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param, get_current_context

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import CatalogueError
from interlock.domain.ledger.kinds import RELEASE_REVIEWED
from interlock.domain.outcome.review import Review, find_ended, parse_review
from interlock.stages.runtime import history
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_task


def review_params(folder: Path) -> dict[str, Param]:
    """Return the form of a review."""
    try:
        services = sorted(load_catalogue(folder).services)
    except CatalogueError:
        services = sorted(path.stem for path in folder.glob("services/*.yaml"))
    words: dict[str, Any] = {"type": "string", "format": "multiline", "minLength": 5, "maxLength": 4000}
    return {
        "service": Param(
            type="string", enum=services, title="Service", description="The service whose release was reviewed."
        ),
        "run": Param(
            type="string",
            minLength=1,
            maxLength=300,
            title="Run",
            description="The run id of the release, as Airflow shows it on the page of the run: 1.4.0__2026-…",
        ),
        "went_well": Param(title="What went well", description="Recorded in the ledger for the next release.", **words),
        "to_change": Param(
            title="What to change", description="The improvements, and who is responsible for each.", **words
        ),
        "participants": Param(
            type="string",
            format="multiline",
            minLength=1,
            maxLength=2000,
            title="Participants",
            description="Who took part in the review: one person per line.",
        ),
    }


@stage_task(task_display_name="Record the review")
def record_review() -> dict[str, Any]:
    """Record the review of a release in the ledger. The service can then make further releases.

    A release that has not ended is refused.
    """
    reviewer = requester()
    review: Review = parse_review(dict(get_current_context()["params"]), reviewer)
    ended = find_ended(history.past_releases(review.service), review.service, review.run)
    payload = {**review.model_dump(mode="json"), "run": ended.run, "version": ended.version}
    history.append(RELEASE_REVIEWED, payload, key=f"{RELEASE_REVIEWED}/{sha256_of(payload)[:32]}", actor=reviewer)
    return payload
