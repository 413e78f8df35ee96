"""What is measured of a release: its times, its answers and its waivers, read from the entries of its chain."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from interlock.domain.canonical import Model
from interlock.domain.dag_names import is_rollback
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    BACK_OUT_DONE,
    FINDING,
    PATH_WAIVED,
    PLAN_MADE,
    QUALITY_WAIVED,
    QUESTION_MAILED,
    RELEASE_REQUESTED,
    WAVE_DEPLOYED,
)
from interlock.domain.ledger.runs import run_of
from interlock.domain.outcome.outcome import STAGE_TITLES

MEASURED = (
    RELEASE_REQUESTED,
    PLAN_MADE,
    QUESTION_MAILED,
    ANSWER_GIVEN,
    QUALITY_WAIVED,
    PATH_WAIVED,
    WAVE_DEPLOYED,
    BACK_OUT_DONE,
    FINDING,
)
"""The kinds of entries of a release's chain that are read here."""
_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


class AnsweredQuestion(Model):
    """A question of a release that a person was asked by mail, and answered."""

    stage: str = Field(description="Title of the stage that asked")
    task_id: str
    user: str
    asked_at: AwareDatetime = Field(description="When the mail with the question was sent")
    answered_at: AwareDatetime

    @property
    def seconds(self) -> float:
        """The time between the mail and the answer."""
        return max((self.answered_at - self.asked_at).total_seconds(), 0.0)


class GivenWaiver(Model):
    """An expectation that failed and was waived."""

    given_at: AwareDatetime
    until: AwareDatetime


class MeasuredRelease(Model):
    """A release or a rollback, as far as it is measured; times are those of the ledger's entries."""

    run: str = Field(description="Dag and run: release_bike_shop/1.4.0__2026-…")
    service: str
    version: str
    change_type: str
    outcome: str = Field("", description="How it ended; empty: it has not ended")
    rollback: bool
    requested_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    not_before: AwareDatetime | None = Field(None, description="The time for which it was requested; none: any")
    commits: tuple[AwareDatetime, ...] = Field((), description="The times of its commits; at most 200")
    first_wave_at: AwareDatetime | None = Field(None, description="When the first wave in production was done")
    last_wave_at: AwareDatetime | None = None
    backed_out_at: AwareDatetime | None = None
    answers: tuple[AnsweredQuestion, ...] = ()
    waivers: tuple[GivenWaiver, ...] = ()
    findings: int = 0

    @property
    def changed_production(self) -> bool:
        """Whether at least one wave was deployed to production."""
        return self.first_wave_at is not None and self.outcome != "rehearsed"

    @property
    def is_deployment(self) -> bool:
        """Whether production runs it since, completely."""
        return self.outcome == "deployed" and self.last_wave_at is not None


def measured(chain: str, entries: Iterable[Entry], ended: Entry | None) -> MeasuredRelease | None:
    """Return what is measured of a release; None for a chain of another kind, or without a request.

    A time that cannot be read is left out, and with it what would be measured by it.

    :param entries: of the release's chain, of the kinds :data:`MEASURED`, in their order.
    :param ended: how it ended, of the installation's chain; none: it has not ended.
    """
    run = run_of(chain)
    if run is None:
        return None
    found: dict[str, list[Entry]] = {kind: [] for kind in MEASURED}
    for entry in entries:
        found.setdefault(entry.kind, []).append(entry)
    if not found[RELEASE_REQUESTED]:
        return None
    request = found[RELEASE_REQUESTED][0]
    plan = found[PLAN_MADE][-1].payload if found[PLAN_MADE] else {}
    told = ended.payload if ended else {}
    waves, back_outs = found[WAVE_DEPLOYED], found[BACK_OUT_DONE]
    return MeasuredRelease(
        run="/".join(run),
        service=_text(told, "service") or _text(plan, "service") or _text(request.payload, "service"),
        version=_text(told, "version") or _text(plan, "version") or _text(request.payload, "version"),
        change_type=_text(told, "change_type") or _text(request.payload, "change_type") or "normal",
        outcome=_text(told, "outcome"),
        rollback=is_rollback(run[0]),
        requested_at=request.at,
        ended_at=ended.at if ended else None,
        not_before=_time(plan.get("not_before")),
        commits=tuple(filter(None, (_time(one.get("at")) for one in plan.get("commits") or ()))),
        first_wave_at=waves[0].at if waves else None,
        last_wave_at=waves[-1].at if waves else None,
        backed_out_at=back_outs[-1].at if back_outs else None,
        answers=tuple(_answers(found[QUESTION_MAILED], found[ANSWER_GIVEN])),
        waivers=tuple(_waivers((*found[QUALITY_WAIVED], *found[PATH_WAIVED]))),
        findings=len(found[FINDING]),
    )


def _answers(mailed: Iterable[Entry], given: Iterable[Entry]) -> Iterable[AnsweredQuestion]:
    """Yield the first answer of each person who was asked by mail."""
    asked: dict[tuple[str, Any, str], datetime] = {}
    for entry in mailed:
        for user in entry.payload.get("users") or ():
            place = (_text(entry.payload, "task_id"), entry.payload.get("map_index"), str(user))
            asked.setdefault(place, entry.at)
    for entry in given:
        place = (_text(entry.payload, "task_id"), entry.payload.get("map_index"), _text(entry.payload, "user"))
        if (at := asked.pop(place, None)) is not None:
            stage = place[0].partition(".")[0]
            yield AnsweredQuestion(
                stage=STAGE_TITLES.get(stage, stage), task_id=place[0], user=place[2], asked_at=at, answered_at=entry.at
            )


def _waivers(entries: Iterable[Entry]) -> Iterable[GivenWaiver]:
    for entry in entries:
        given, until = _time(entry.payload.get("at")), _time(entry.payload.get("until"))
        if given and until:
            yield GivenWaiver(given_at=given, until=until)


def _text(payload: Any, name: str) -> str:
    return str(payload.get(name) or "")


def _time(value: Any) -> datetime | None:
    try:
        return None if value is None else _TIME.validate_python(value)
    except ValidationError:
        return None
