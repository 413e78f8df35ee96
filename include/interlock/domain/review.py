"""The post-implementation review: what was released in a hurry is looked at before the service goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from .catalogue import ChangeType, Flow
from .errors import PolicyViolation
from .records import PastRelease


def unreviewed(previous: Sequence[PastRelease], flows: Mapping[ChangeType, Flow]) -> tuple[PastRelease, ...]:
    """Return the deployed releases whose flow asks for a review that has not been held; the oldest first."""
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

    An emergency is never refused: what is broken can be mended. ``review_within`` says by when the review is due; the
    next release waits for it from the beginning.

    :param previous: releases that have ended; those of other services do not matter.
    :param flows: what each change type asks, as :func:`include.interlock.domain.policy.flows_of` has it.
    :raises PolicyViolation: a review is owed.
    """
    if change_type is ChangeType.EMERGENCY:
        return
    owed = unreviewed([release for release in previous if release.service == service], flows)
    if owed:
        each = "; ".join(_owed(release, flows[release.change_type], now) for release in owed)
        raise PolicyViolation(
            f"{service} cannot have a {change_type} release yet: {each}.",
            rule="review_within of its change type, in policy.yaml: it is reviewed before the service's next release",
            who="the release manager",
            next_step="hold the review and put it on record, then trigger the release again",
        )


def _owed(release: PastRelease, flow: Flow, now: datetime) -> str:
    due = release.at + (flow.review_within or now - now)
    when = f"{due.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    named = f"{release.version} (run {release.run})" if release.version else f"of the run {release.run}"
    since = "was due on" if due <= now else "is due on"
    return f"the {release.change_type} release {named} has not been reviewed, which {since} {when}"
