"""How ready a release or a train is, from 0 to 100, and what lowers it.

The weights are those that ServiceNow's Digital Product Release publishes for the risk of a release; readiness is what
that risk leaves of 100. With a date: 0.3 work, 0.4 policy, 0.1 progress, 0.2 time pressure, which grows over the 14
days before the date. Without: 0.5, 0.4, 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    BOARD_DECIDED,
    CONFLICTS_FOUND,
    FINDING,
    MANIFEST_FROZEN,
    TRAIN_DEPARTED,
    TRAIN_OPENED,
)
from interlock.domain.measures.facts import MILESTONES
from interlock.domain.trains.manifest import manifest_in

RAMP = timedelta(days=14)
WEIGHTS = {
    True: {"work": 0.3, "policy": 0.4, "progress": 0.1, "time": 0.2},
    False: {"work": 0.5, "policy": 0.4, "progress": 0.1, "time": 0.0},
}
"""Whether there is a date: the weight of each part."""


class Check(Model):
    """Something that must be so."""

    title: str
    met: bool
    why: str = Field("", description="What is missing")


class Part(Model):
    """A part of the score."""

    key: str
    weight: float
    missing: float = Field(ge=0, le=1, description="Share of it that is not there")
    lowers: tuple[str, ...] = Field(description="What lowers it")


class Readiness(Model):
    """How ready something is."""

    score: int = Field(ge=0, le=100)
    date: AwareDatetime | None = Field(description="The date that time presses towards; null: there is none")
    parts: tuple[Part, ...]


def readiness(
    *,
    people: Sequence[Check],
    policy: Sequence[Check],
    stages: Sequence[Check],
    date: datetime | None,
    now: datetime,
) -> Readiness:
    """Return a score.

    :param people: what people have to do.
    :param policy: what the policy demands.
    :param stages: what it passes on its way.
    :param date: when it is to begin.
    """
    done = all(one.met for one in stages)
    dated = date is not None and not done
    missing = {
        "work": _missing(people),
        "policy": _missing(policy),
        "progress": _missing(stages),
        "time": _pressure(date, now) if dated and date else 0.0,
    }
    lowers = {
        "work": _lowers(people),
        "policy": _lowers(policy),
        "progress": tuple(one.title for one in stages if not one.met)[:1],
        "time": (f"It is to begin at {date:%Y-%m-%d %H:%M} UTC.",) if dated and date else (),
    }
    weights = WEIGHTS[dated]
    parts = tuple(
        Part(key=key, weight=weight, missing=missing[key], lowers=lowers[key] if missing[key] else ())
        for key, weight in weights.items()
    )
    risk = sum(one.weight * one.missing for one in parts)
    return Readiness(score=round(100 * (1 - risk)), date=date if dated else None, parts=parts)


def _missing(checks: Sequence[Check]) -> float:
    return sum(not one.met for one in checks) / len(checks) if checks else 0.0


def _lowers(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(one.why or one.title for one in checks if not one.met)


def _pressure(date: datetime, now: datetime) -> float:
    return min(max(1 - (date - now) / RAMP, 0.0), 1.0)


_PEOPLE = {"accepted": "Acceptance", "approved": "Vote of the board", "told": "Communication and training"}


def of_release(
    reached: Sequence[str], unmet: Sequence[str], *, date: datetime | None, now: datetime, checks: int = 4
) -> Readiness:
    """Return how ready a release is.

    :param reached: the milestones that it passed.
    :param unmet: what the policy demands and is not so, a sentence each.
    :param checks: how many such demands were looked at.
    """
    people = [Check(title=title, met=name in reached, why=f"{title} is not done.") for name, title in _PEOPLE.items()]
    policy = [Check(title=one, met=False, why=one) for one in unmet]
    policy += [Check(title="met", met=True)] * max(checks - len(unmet), 0)
    stages = [Check(title=f"It has not passed: {name}.", met=name in reached) for name in MILESTONES]
    return readiness(people=people, policy=policy, stages=stages, date=date, now=now)


def of_train(entries: Sequence[Entry], services: Sequence[str], *, date: datetime | None, now: datetime) -> Readiness:
    """Return how ready a train is.

    :param entries: of the chain of its run; empty: boarding has not opened.
    :param services: the services of its file.
    """
    kinds = {one.kind for one in entries}
    manifest = manifest_in(entries)
    voted = manifest is not None and (manifest.decide_by is None or BOARD_DECIDED in kinds)
    people = [Check(title="Vote", met=voted, why="Its board has not decided.")]
    return readiness(
        people=people,
        policy=[*_boarded(entries, services), *_demands(entries)],
        stages=[
            Check(title="Boarding has not opened.", met=TRAIN_OPENED in kinds),
            Check(title="The manifest is not frozen.", met=MANIFEST_FROZEN in kinds),
            Check(title="Its board has not decided.", met=voted),
            Check(title="It has not departed.", met=TRAIN_DEPARTED in kinds),
        ],
        date=date,
        now=now,
    )


def _boarded(entries: Sequence[Entry], services: Sequence[str]) -> Iterator[Check]:
    """Yield for each service whether it is on board, or has no new version."""
    manifest = manifest_in(entries)
    for service in services:
        if manifest is None:
            yield Check(title=service, met=False, why=f"{service} has not boarded.")
            continue
        late = next((one for one in manifest.left if one.service == service and one.late), None)
        yield Check(title=service, met=late is None, why=f"{service} stays behind: {late.why}" if late else "")


def _demands(entries: Sequence[Entry]) -> Iterator[Check]:
    conflicts = next((one.payload for one in reversed(entries) if one.kind == CONFLICTS_FOUND), {}).get("conflicts", ())
    severe = [str(one.get("what")) for one in conflicts if one.get("severity") == "severe"]
    yield Check(title="Conflicts", met=not severe, why="; ".join(severe))
    findings = [str(one.payload.get("what")) for one in entries if one.kind == FINDING]
    yield Check(title="Findings", met=not findings, why="; ".join(findings))
