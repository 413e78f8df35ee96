"""The Dag ``review_release``: record the post-implementation review of a release that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param

from interlock.adapters.catalogue.catalogue import environments_of
from interlock.domain.canonical import sha256_of
from interlock.domain.ledger.kinds import RELEASE_REVIEWED
from interlock.domain.outcome.review import Review, ReviewRequest, find_ended, parse_review
from interlock.domain.trigger_form import fields_of
from interlock.stages.runtime import history
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_task


def review_params(folder: Path) -> dict[str, Param]:
    """Return the form of a review."""
    return form_params(fields_of(ReviewRequest, service={"enum": sorted(environments_of(folder))}))


@stage_task(task_display_name="Record the review")
def record_review() -> dict[str, Any]:
    """Record the review of a release in the ledger. The service can then make further releases.

    A release that has not ended is refused.
    """
    reviewer = requester()
    review: Review = parse_review(entered(), reviewer)
    ended = find_ended(history.past_releases(review.service), review.service, review.run)
    payload = {**review.model_dump(mode="json"), "run": ended.run, "version": ended.version}
    history.append(RELEASE_REVIEWED, payload, key=f"{RELEASE_REVIEWED}/{sha256_of(payload)[:32]}", actor=reviewer)
    return payload
