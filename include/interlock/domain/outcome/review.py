"""The post-implementation review: an emergency release is reviewed before the service has other releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from interlock.domain.catalogue import ChangeType, Flow
from interlock.domain.errors import PolicyViolation, RequestRefused
from interlock.domain.records import PastRelease
from interlock.domain.trigger_form import MULTILINE, Form, read_form

_Words = Annotated[str, Field(min_length=5, max_length=4000, json_schema_extra=MULTILINE)]


def unreviewed(previous: Sequence[PastRelease], flows: Mapping[ChangeType, Flow]) -> tuple[PastRelease, ...]:
    """Return the deployed releases whose flow requires a review that has not been held; the oldest first."""
    due = (
        release
        for release in previous
        if release.outcome == "deployed"
        and not release.reviewed
        and flows[release.change_type].review_within is not None
    )
    return tuple(sorted(due, key=lambda release: (release.at, release.run)))


def refuse_unreviewed(
    previous: Sequence[PastRelease],
    *,
    service: str,
    change_type: ChangeType,
    flows: Mapping[ChangeType, Flow],
    now: datetime,
) -> None:
    """Refuse a release of a service while the review of an earlier one is owed.

    An emergency is never refused, so that a failure can be fixed. ``review_within`` says by when the review is due; the
    next release waits for it from the beginning.

    :param previous: releases that have ended; those of other services do not matter.
    :param flows: what each change type asks, as :func:`interlock.domain.change.policy.flows_of` has it.
    :raises PolicyViolation: a review is owed.
    """
    if change_type is ChangeType.EMERGENCY:
        return
    owed = unreviewed([release for release in previous if release.service == service], flows)
    if owed:
        each = "; ".join(_owed(release, flows[release.change_type], now) for release in owed)
        raise PolicyViolation(
            f"{service} cannot have a {change_type} release yet: {each}.",
            rule="review_within of the change type, in policy.yaml: a service cannot release again before the review",
            who="the release manager",
            next_step="hold the review, record it with the Dag review_release, then trigger the release again",
        )


def _owed(release: PastRelease, flow: Flow, now: datetime) -> str:
    due = release.at + (flow.review_within or now - now)
    when = f"{due.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    named = f"{release.version} (run {release.run})" if release.version else f"of the run {release.run}"
    since = "was due on" if due <= now else "is due on"
    return f"the {release.change_type} release {named} has not been reviewed (the review {since} {when})"


class _Reviewed(Form):
    service: str = Field(description="The service whose release was reviewed.")
    run: str = Field(
        min_length=1,
        max_length=300,
        description="The run id of the release, as Airflow shows it on the page of the run: 1.4.0__2026-…",
    )
    went_well: _Words = Field(title="What went well", description="Recorded in the ledger for the next release.")
    to_change: _Words = Field(title="What to change", description="The improvements, and who is responsible for each.")


class ReviewRequest(_Reviewed):
    """The form of a review."""

    participants: str = Field(
        min_length=1,
        max_length=2000,
        description="Who took part in the review: one person per line.",
        json_schema_extra=MULTILINE,
    )


class Review(_Reviewed):
    """A post-implementation review."""

    participants: tuple[str, ...] = Field(min_length=1)
    reviewer: str = Field(description="User name of who put it on record")


def parse_review(form: Mapping[str, Any], reviewer: str) -> Review:
    """Read the form; RequestRefused with every field that is wrong.

    :param reviewer: who triggered it.
    """
    said = read_form(ReviewRequest, form, "the review").model_dump()
    names = tuple(name for line in said["participants"].splitlines() if (name := line.strip()))
    return Review(**{**said, "participants": names}, reviewer=reviewer)


def find_ended(previous: Sequence[PastRelease], service: str, run: str) -> PastRelease:
    """Return the ended release with a run id; RequestRefused if there is none.

    :param previous: the service's releases that have ended.
    :param run: its run id, or Dag and run.
    """
    for release in previous:
        if run in (release.run, release.run.partition("/")[2]):
            return release
    owed = ", ".join(release.run.partition("/")[2] for release in previous if not release.reviewed) or "none"
    raise RequestRefused(
        f"The ledger has no ended release of {service} with the run {run}.",
        rule="only a release that has ended can be reviewed",
        who="the release manager",
        next_step=f"copy the run id from the page of the run; releases without a review: {owed}",
    )
