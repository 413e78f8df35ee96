"""What happened in each week of a span of time, for plots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from statistics import median

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model

from .facts import MeasuredRelease
from .measures import Span

WEEK = timedelta(weeks=1)
MOST = 60
"""So many weeks at most: the last ones of the span."""


class Week(Model):
    """What ended in a week; the last week ends with the span."""

    since: AwareDatetime
    deployed: int = Field(description="Releases, without rollbacks")
    failed: int = Field(description="Releases that failed, were backed out, rejected or not answered in time")
    rollbacks: int
    emergencies: int = Field(description="Of the deployed releases: emergency changes")
    lead_seconds: float | None = Field(
        description="From the first commit to the last wave, the median of the deployed releases; null: there are none"
    )
    answer_seconds: float | None = Field(description="From the mail to the answer, the median; null: there are none")


def weeks(known: Iterable[MeasuredRelease], span: Span) -> tuple[Week, ...]:
    """Return the weeks of a span, the first one first."""
    number = min(MOST, max(1, -(-(span.until - span.since) // WEEK)))
    begins = [span.until - WEEK * (number - place) for place in range(number)]
    ended: list[list[MeasuredRelease]] = [[] for _ in begins]
    for one in known:
        if one.ended_at is not None and max(begins[0], span.since) <= one.ended_at < span.until:
            ended[(one.ended_at - begins[0]) // WEEK].append(one)
    return tuple(_week(since, each) for since, each in zip(begins, ended, strict=True))


def _week(since: datetime, ended: list[MeasuredRelease]) -> Week:
    own = [one for one in ended if not one.rollback and one.outcome != "rehearsed"]
    deployed = [one for one in own if one.is_deployment]
    leads = [
        (one.last_wave_at - min(one.commits)).total_seconds() for one in deployed if one.commits and one.last_wave_at
    ]
    answers = [answer.seconds for one in ended for answer in one.answers]
    return Week(
        since=since,
        deployed=len(deployed),
        failed=len(own) - len(deployed),
        rollbacks=sum(one.rollback for one in ended),
        emergencies=sum(one.change_type == "emergency" for one in deployed),
        lead_seconds=median(leads) if leads else None,
        answer_seconds=median(answers) if answers else None,
    )
