"""What is measured of a release: its times, its answers and its waivers, read from the entries of its chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from interlock.domain.canonical import Model
from interlock.domain.dag_names import is_rollback
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    ANSWER_GIVEN,
    ARTIFACT_BUILT,
    BACK_OUT_DONE,
    BOARD_DECIDED,
    BREAK_GLASS_USED,
    COMMUNICATION_RECORDED,
    EMERGENCY_STOP_DECLARED,
    FINDING,
    FREEZE_OVERRIDDEN,
    PATH_WAIVED,
    PERMIT_USED,
    PLAN_MADE,
    PURPOSES,
    QUALITY_JUDGED,
    QUALITY_WAIVED,
    QUESTION_MAILED,
    RELEASE_REQUESTED,
    ROLLOUT_FROZEN,
    VERIFICATION_JUDGED,
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
    PERMIT_USED,
    WAVE_DEPLOYED,
    BACK_OUT_DONE,
    FINDING,
    ARTIFACT_BUILT,
    QUALITY_JUDGED,
    ACCEPTANCE_DECIDED,
    ROLLOUT_FROZEN,
    BOARD_DECIDED,
    COMMUNICATION_RECORDED,
    VERIFICATION_JUDGED,
)
"""The kinds of entries of a release's chain that are read here."""
_PASSED = {
    "planned": PLAN_MADE,
    "built": ARTIFACT_BUILT,
    "judged": QUALITY_JUDGED,
    "accepted": ACCEPTANCE_DECIDED,
    "frozen": ROLLOUT_FROZEN,
    "approved": BOARD_DECIDED,
    "told": COMMUNICATION_RECORDED,
    "verified": VERIFICATION_JUDGED,
}
ASIDE = (BREAK_GLASS_USED, FREEZE_OVERRIDDEN, EMERGENCY_STOP_DECLARED)
"""The kinds of entries of the installation's chain that say something about releases."""
MILESTONES = (
    *("planned", "built", "judged", "accepted", "frozen", "approved", "told"),
    *("begun", "deployed", "verified", "ended"),
)
"""What a release passes, in this order; ``begun`` is the first wave, ``deployed`` the last."""
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
    first_wave_at: AwareDatetime | None = Field(None, description="When the first wave in production began")
    last_wave_at: AwareDatetime | None = Field(None, description="When the last wave in production was done")
    milestones: dict[str, AwareDatetime] = Field({}, description="What it passed, and when")
    backed_out_at: AwareDatetime | None = None
    answers: tuple[AnsweredQuestion, ...] = ()
    waivers: tuple[GivenWaiver, ...] = ()
    findings: int = 0
    overrides: int = Field(0, description="Overrides of freezes for its service that were in force as its waves ran")
    broken_glass: int = Field(0, description="Uses of break-glass access to it")
    incident: str = Field("", description="Of a rollback: the incident that it is for")
    incidents: tuple[str, ...] = Field((), description="Incidents for which its service was stopped after it")
    forecast_held: bool | None = Field(
        None, description="It was through by the time given for nine of ten as it was requested; null: none was given"
    )

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
    begun = [*filter(_to_deploy, found[PERMIT_USED]), *waves][:1]
    passed = {name: found[kind][-1].at for name, kind in _PASSED.items() if found[kind]}
    passed |= {"begun": begun[0].at} if begun else {}
    passed |= {"deployed": waves[-1].at} if waves else {}
    passed |= {"ended": ended.at} if ended else {}
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
        first_wave_at=begun[0].at if begun else None,
        last_wave_at=waves[-1].at if waves else None,
        milestones=passed,
        backed_out_at=back_outs[-1].at if back_outs else None,
        answers=tuple(_answers(found[QUESTION_MAILED], found[ANSWER_GIVEN])),
        waivers=tuple(_waivers((*found[QUALITY_WAIVED], *found[PATH_WAIVED]))),
        findings=len(found[FINDING]),
        incident=_text(request.payload, "incident")[:100],
    )


class Aside:
    """What the installation's chain has about releases.

    :param entries: of the kinds :data:`ASIDE`.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._glass: Counter[str] = Counter()
        self._overrides: list[tuple[str, datetime, datetime]] = []
        self._stops: list[tuple[str, datetime, str]] = []
        for one in entries:
            if one.kind == BREAK_GLASS_USED:
                self._glass["/".join((_text(one.payload, "dag_id"), _text(one.payload, "run_id")))] += 1
            elif one.kind == FREEZE_OVERRIDDEN and (until := _time(one.payload.get("until"))):
                self._overrides.append((_text(one.payload, "service"), one.at, until))
            elif one.kind == EMERGENCY_STOP_DECLARED and (incident := _text(one.payload, "incident")):
                self._stops.append((_text(one.payload, "scope"), one.at, incident))

    def beside(self, one: MeasuredRelease, following: datetime | None) -> MeasuredRelease:
        """Return a release with what the installation's chain has about it.

        :param following: when the next deployment of its service ended; none: it runs still.
        """
        known: dict[str, Any] = {"overrides": self._overridden(one), "broken_glass": self._glass[one.run]}
        if one.is_deployment and not one.rollback and one.last_wave_at is not None:
            known["incidents"] = tuple(
                incident
                for scope, at, incident in self._stops
                if scope == one.service and one.last_wave_at <= at and (following is None or at < following)
            )
        return one.model_copy(update=known) if any(known.values()) else one

    def _overridden(self, one: MeasuredRelease) -> int:
        if one.first_wave_at is None:
            return 0
        end = one.last_wave_at or one.first_wave_at
        return sum(
            service == one.service and at <= end and one.first_wave_at <= until
            for service, at, until in self._overrides
        )


def _to_deploy(used: Entry) -> bool:
    """Tell whether a permit is that of a wave; a permit is used when the wave begins."""
    permit = used.payload.get("permit")
    return isinstance(permit, dict) and permit.get("purpose") == PURPOSES[WAVE_DEPLOYED]


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
