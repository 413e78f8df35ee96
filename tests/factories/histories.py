"""Generated histories of releases: of several services, with people who answer when they do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from interlock.domain.measures.facts import MILESTONES, AnsweredQuestion, MeasuredRelease

BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)
MEDIANS = {
    "planned": 20.0,
    "built": 240.0,
    "judged": 900.0,
    "accepted": 0.0,
    "frozen": 15.0,
    "approved": 0.0,
    "told": 1800.0,
    "begun": 60.0,
    "deployed": 400.0,
    "verified": 600.0,
    "ended": 20.0,
}
"""Seconds that the machine typically takes to each milestone; the others are for people."""
PEOPLE = {"fay": 3 * 3600.0, "ben": 4 * 3600.0, "cora": 9 * 3600.0, "dan": 20 * 3600.0}
"""Seconds that each person typically takes to answer."""
QUORUM = 2


def history(
    releases: int, *, services: int = 4, seed: int = 17, office_hours: bool = False, spread: float = 0.9
) -> list[MeasuredRelease]:
    """Return releases that were requested one after the other; one of ten is not deployed.

    :param office_hours: people answer on weekdays between 9 and 17 UTC only.
    :param spread: of the answers of people: the standard deviation of the logarithm.
    """
    chance = random.Random(seed)
    pace = {f"service-{number}": chance.lognormvariate(0, 0.5) for number in range(services)}
    at, found = BEGIN, []
    for number in range(releases):
        at += timedelta(hours=chance.expovariate(1 / 9))
        service = chance.choice([*pace])
        found.append(_release(chance, number, service, pace[service], at, office_hours, spread))
    return found


def _release(
    chance: random.Random,
    number: int,
    service: str,
    pace: float,
    requested: datetime,
    office_hours: bool,
    spread: float,
) -> MeasuredRelease:
    at, passed, answers = requested, dict[str, datetime](), list[AnsweredQuestion]()
    fails = chance.random() < 0.1
    not_before = requested + timedelta(hours=chance.uniform(10, 60)) if chance.random() < 0.3 else None
    for name in MILESTONES:
        if name == "accepted":
            at, given = _answered(chance, "acceptance.ask_approver", ["fay"], 1, at, office_hours, spread)
            answers += given
        elif name == "approved":
            at, given = _answered(
                chance, "rollout.cast_ballot", ["ben", "cora", "dan"], QUORUM, at, office_hours, spread
            )
            answers += given
        else:
            if name == "begun" and not_before is not None:
                at = max(at, not_before)
            at += timedelta(seconds=MEDIANS[name] * pace * chance.lognormvariate(0, 0.35))
        passed[name] = at
        if fails and name == "judged":
            passed["ended"] = at
            break
    waves = {} if fails else {"first_wave_at": passed["begun"], "last_wave_at": passed["deployed"]}
    return MeasuredRelease(
        run=f"release_{service.replace('-', '_')}/{number:05d}",
        service=service,
        version=f"1.{number}.0",
        change_type="normal",
        outcome="rejected" if fails else "deployed",
        rollback=False,
        requested_at=requested,
        ended_at=passed["ended"],
        not_before=not_before,
        milestones=passed,
        answers=tuple(answers),
        **waves,
    )


def _answered(
    chance: random.Random,
    task: str,
    people: Sequence[str],
    needed: int,
    asked: datetime,
    office_hours: bool,
    spread: float,
) -> tuple[datetime, list[AnsweredQuestion]]:
    each = []
    for user in people:
        at = asked + timedelta(seconds=PEOPLE[user] * chance.lognormvariate(0, spread))
        each.append((_in_office(at) if office_hours else at, user))
    given = sorted(each)[:needed]
    answers = [
        AnsweredQuestion(stage="", task_id=task, user=user, asked_at=asked, answered_at=at) for at, user in given
    ]
    return given[-1][0], answers


def _in_office(at: datetime) -> datetime:
    while at.weekday() > 4 or not 9 <= at.hour < 17:
        later = at.hour >= 17 or at.weekday() > 4
        at = at.replace(hour=9, minute=at.minute) + timedelta(days=1 if later else 0)
    return at
