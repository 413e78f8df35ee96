"""The measures: of releases that ended in a span of time, each with its definition and the releases that it counts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Literal

from pydantic import AwareDatetime, Field

from interlock.domain.board.questions import ASK_BOARD
from interlock.domain.canonical import Model
from interlock.domain.catalogue import ChangeType

from .facts import MeasuredRelease

Unit = Literal["seconds", "share", "per week", "releases"]
_DORA, _ITIL = "DORA, dora.dev/guides/dora-metrics", "ITIL 4, change enablement"
_OURS = "Interlock"
ON_TIME = timedelta(hours=1)
QUICK = 60.0
"""Seconds in which a vote is hardly more than a click."""


class Span(Model):
    """The time that is measured."""

    since: AwareDatetime
    until: AwareDatetime

    def has(self, at: datetime | None) -> bool:
        """Tell whether an instant is in it; its end is not."""
        return at is not None and self.since <= at < self.until

    @property
    def weeks(self) -> float:
        """Its length."""
        return (self.until - self.since) / timedelta(weeks=1)


class Figure(Model):
    """A measure of some releases."""

    key: str
    title: str
    group: str = Field(description="Whose measure it is: DORA, ITIL or Interlock, with the source")
    definition: str
    unit: Unit
    value: float | None = Field(None, description="null: nothing to measure; of seconds, the median")
    p90: float | None = Field(None, description="Of seconds: nine of ten took no longer")
    counted: tuple[str, ...] = Field((), description="Dag and run of each release that counts")
    among: tuple[str, ...] = Field((), description="Of a share: the releases among which they count")


class Seat(Model):
    """How long a person takes to answer in a stage."""

    stage: str
    user: str
    answers: int
    median_seconds: float
    p90_seconds: float
    quick: int = Field(description="Answers within a minute of the mail")


class Measures(Model):
    """Everything that is measured of some releases."""

    figures: tuple[Figure, ...]
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The releases: all of them, and those that ended in the span."""

    span: Span
    known: Sequence[MeasuredRelease]
    ended: Sequence[MeasuredRelease]

    @property
    def changes(self) -> list[MeasuredRelease]:
        """Return the releases and rollbacks that changed production."""
        return [one for one in self.ended if one.changed_production]

    @property
    def deployments(self) -> list[MeasuredRelease]:
        """Return the releases that production ran completely; without rollbacks."""
        return [one for one in self.ended if one.is_deployment and not one.rollback]

    @property
    def judged(self) -> list[MeasuredRelease]:
        """Return the releases that were to change production; without rollbacks."""
        return [one for one in self.ended if one.outcome != "rehearsed" and not one.rollback]

    def taken_back(self) -> dict[str, MeasuredRelease]:
        """Return by run the rollback that ended what a deployed release had brought."""
        found: dict[str, MeasuredRelease] = {}
        by_service: dict[str, list[MeasuredRelease]] = defaultdict(list)
        for one in sorted((one for one in self.known if one.is_deployment), key=lambda one: _or_never(one.ended_at)):
            before = by_service[one.service]
            if one.rollback and before and not before[-1].rollback:
                found[before[-1].run] = one
            before.append(one)
        return found


def _or_never(at: datetime | None) -> float:
    return math.inf if at is None else at.timestamp()


@dataclass(frozen=True, slots=True)
class _Measure:
    key: str
    title: str
    group: str
    definition: str
    unit: Unit
    work: Callable[[_Seen], _Found]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a measure found.

    :ivar seconds: of a measure in seconds, one of each case.
    """

    counted: Sequence[MeasuredRelease] = ()
    among: Sequence[MeasuredRelease] = ()
    seconds: Sequence[float] = ()


def _lead_time(seen: _Seen) -> _Found:
    pairs = [
        (one, (one.last_wave_at - at).total_seconds())
        for one in seen.deployments
        if one.last_wave_at is not None
        for at in one.commits
    ]
    return _Found(_once(one for one, _ in pairs), seconds=[max(took, 0.0) for _, took in pairs])


def _recovery(seen: _Seen) -> _Found:
    took = []
    taken_back = seen.taken_back()
    for one in seen.changes:
        if one.backed_out_at is not None and one.first_wave_at is not None:
            took.append((one, (one.backed_out_at - one.first_wave_at).total_seconds()))
        elif (back := taken_back.get(one.run)) and back.last_wave_at and one.last_wave_at:
            took.append((one, (back.last_wave_at - one.last_wave_at).total_seconds()))
    return _Found([one for one, _ in took], seconds=[max(seconds, 0.0) for _, seconds in took])


def _failed(seen: _Seen) -> _Found:
    changes, taken_back = [one for one in seen.changes if not one.rollback], seen.taken_back()
    failed = [one for one in changes if one.outcome != "deployed" or one.run in taken_back]
    return _Found(failed, changes)


def _rework(seen: _Seen) -> _Found:
    whole = [one for one in seen.ended if one.is_deployment]
    return _Found([one for one in whole if one.rollback or one.change_type == ChangeType.EMERGENCY], whole)


def _on_time(seen: _Seen) -> _Found:
    planned = [one for one in seen.deployments if one.not_before is not None]
    met = [
        one
        for one in planned
        if one.first_wave_at is not None
        and one.not_before is not None
        and one.first_wave_at <= one.not_before + ON_TIME
    ]
    return _Found(met, planned)


def _share_of(*outcomes: str) -> Callable[[_Seen], _Found]:
    return lambda seen: _Found([one for one in seen.judged if one.outcome in outcomes], seen.judged)


def _backlog(seen: _Seen) -> _Found:
    end = seen.span.until
    return _Found(
        [
            one
            for one in seen.known
            if one.requested_at and one.requested_at < end and (one.ended_at is None or one.ended_at >= end)
        ]
    )


def _answer_time(seen: _Seen) -> _Found:
    pairs = [(one, answer.seconds) for one in seen.ended for answer in one.answers]
    return _Found(_once(one for one, _ in pairs), seconds=[took for _, took in pairs])


def _quick_votes(seen: _Seen) -> _Found:
    voted = [one for one in seen.ended if any(answer.task_id == ASK_BOARD for answer in one.answers)]
    quick = [
        one for one in voted if any(answer.task_id == ASK_BOARD and answer.seconds < QUICK for answer in one.answers)
    ]
    return _Found(quick, voted)


def _waivers(seen: _Seen) -> _Found:
    end = seen.span.until
    aged = [
        (one, (end - waiver.given_at).total_seconds())
        for one in seen.known
        for waiver in one.waivers
        if waiver.given_at < end <= waiver.until
    ]
    return _Found(_once(one for one, _ in aged), seconds=[age for _, age in aged])


def _incidents(seen: _Seen) -> _Found:
    taken_back = seen.taken_back()
    caused = [one for one in seen.deployments if one.incidents or ((back := taken_back.get(one.run)) and back.incident)]
    return _Found(caused, seen.deployments)


def _forecasts(seen: _Seen) -> _Found:
    made = [one for one in seen.deployments if one.forecast_held is not None]
    return _Found([one for one in made if one.forecast_held], made)


def _once(releases: Iterable[MeasuredRelease]) -> list[MeasuredRelease]:
    return list({one.run: one for one in releases}.values())


_MEASURES = (
    _Measure(
        "change_lead_time",
        "Change lead time",
        _DORA,
        "From a commit to the last wave in production that has it: of each commit of the deployed releases.",
        "seconds",
        _lead_time,
    ),
    _Measure(
        "deployment_frequency",
        "Deployment frequency",
        _DORA,
        "Releases deployed to production in a week, without rollbacks.",
        "per week",
        lambda seen: _Found(seen.deployments),
    ),
    _Measure(
        "failed_deployment_recovery_time",
        "Failed deployment recovery time",
        _DORA,
        "From the first wave of a release that failed to the end of its back-out; from the last wave of a release that "
        "was rolled back to the last wave of the rollback.",
        "seconds",
        _recovery,
    ),
    _Measure(
        "change_fail_rate",
        "Change fail rate",
        _DORA,
        "Of the releases that changed production: those that failed, were backed out, or were rolled back later.",
        "share",
        _failed,
    ),
    _Measure(
        "deployment_rework_rate",
        "Deployment rework rate",
        _DORA,
        "Of the releases and rollbacks deployed to production: rollbacks and emergency changes.",
        "share",
        _rework,
    ),
    _Measure(
        "releases",
        "Releases",
        _ITIL,
        "Releases that ended, without rehearsals and rollbacks.",
        "releases",
        lambda seen: _Found(seen.judged),
    ),
    _Measure(
        "on_time",
        "On time",
        _ITIL,
        "Of the deployed releases requested for a time: those whose first wave began within an hour of it.",
        "share",
        _on_time,
    ),
    _Measure(
        "emergency_changes",
        "Emergency changes",
        _ITIL,
        "Of the releases: those with the change type emergency.",
        "share",
        lambda seen: _Found([one for one in seen.judged if one.change_type == ChangeType.EMERGENCY], seen.judged),
    ),
    _Measure(
        "backed_out",
        "Backed out",
        _ITIL,
        "Of the releases: those that were backed out.",
        "share",
        _share_of("backed_out"),
    ),
    _Measure(
        "rejected",
        "Rejected",
        _ITIL,
        "Of the releases: those that people rejected, or did not answer in time.",
        "share",
        _share_of("rejected", "expired"),
    ),
    _Measure(
        "unauthorised",
        "With findings",
        _ITIL,
        "Of all that ended: releases and rollbacks with a finding, such as a host that was changed without a permit.",
        "share",
        lambda seen: _Found([one for one in seen.ended if one.findings], seen.ended),
    ),
    _Measure(
        "backlog", "Backlog", _ITIL, "Releases and rollbacks under way at the end of the time.", "releases", _backlog
    ),
    _Measure(
        "incidents_caused",
        "Incidents caused",
        _ITIL,
        "Of the deployed releases: those that were rolled back for an incident, or after which their service was "
        "stopped for one, before the next deployment. The form of the rollback or the stop names the incident.",
        "share",
        _incidents,
    ),
    _Measure(
        "overrides",
        "Overrides of freezes",
        _OURS,
        "Of all that changed production: releases and rollbacks whose waves ran while a freeze was overridden for "
        "their service.",
        "share",
        lambda seen: _Found([one for one in seen.changes if one.overrides], seen.changes),
    ),
    _Measure(
        "broken_glass",
        "Break-glass access",
        _OURS,
        "Of all that ended: releases and rollbacks that a person changed with break-glass access.",
        "share",
        lambda seen: _Found([one for one in seen.ended if one.broken_glass], seen.ended),
    ),
    _Measure(
        "forecasts_held",
        "Forecasts that held",
        _OURS,
        "Of the deployed releases that could be forecast when they were requested: those that were through by the time "
        "that was given for nine of ten. 90 % is right; more means that the times were too long.",
        "share",
        _forecasts,
    ),
    _Measure(
        "answer_time",
        "Time to answer",
        _OURS,
        "From the mail with a question to its answer, of all questions.",
        "seconds",
        _answer_time,
    ),
    _Measure(
        "quick_votes",
        "Votes within a minute",
        _OURS,
        "Of the releases on which a board voted: those with a vote within a minute of the mail that asked for it.",
        "share",
        _quick_votes,
    ),
    _Measure(
        "waiver_age",
        "Age of waivers",
        _OURS,
        "Of the waivers in force at the end of the time: how long ago they were given.",
        "seconds",
        _waivers,
    ),
)


def measure(known: Iterable[MeasuredRelease], span: Span) -> Measures:
    """Return all measures of some releases.

    :param known: all releases and rollbacks, also those that ended before or after the span, or have not ended.
    """
    all_of_them = tuple(known)
    ended = [one for one in all_of_them if span.has(one.ended_at)]
    seen = _Seen(span, all_of_them, ended)
    return Measures(figures=tuple(_figure(one, one.work(seen), span) for one in _MEASURES), seats=tuple(_seats(ended)))


def _figure(one: _Measure, found: _Found, span: Span) -> Figure:
    value: float | None
    if one.unit == "seconds":
        value = median(found.seconds) if found.seconds else None
    elif one.unit == "share":
        value = len(found.counted) / len(found.among) if found.among else None
    else:
        value = len(found.counted) / (span.weeks if one.unit == "per week" else 1)
    return Figure(
        key=one.key,
        title=one.title,
        group=one.group,
        definition=one.definition,
        unit=one.unit,
        value=value,
        p90=nine_of_ten(found.seconds) if found.seconds else None,
        counted=_runs(found.counted),
        among=_runs(found.among),
    )


def _runs(releases: Iterable[MeasuredRelease]) -> tuple[str, ...]:
    return tuple(one.run for one in sorted(releases, key=lambda one: (_or_never(one.ended_at), one.run)))


def nine_of_ten(values: Sequence[float]) -> float:
    """Return the smallest of the values that at least nine of ten do not exceed."""
    return sorted(values)[math.ceil(len(values) * 0.9) - 1]


def _seats(ended: Sequence[MeasuredRelease]) -> Iterable[Seat]:
    by_seat: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in ended:
        for answer in one.answers:
            by_seat[answer.stage, answer.user].append(answer.seconds)
    for (stage, user), took in sorted(by_seat.items()):
        yield Seat(
            stage=stage,
            user=user,
            answers=len(took),
            median_seconds=median(took),
            p90_seconds=nine_of_ten(took),
            quick=sum(seconds < QUICK for seconds in took),
        )
