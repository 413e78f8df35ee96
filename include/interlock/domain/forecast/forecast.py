"""When a release will be through: in half of the cases, and in nine of ten.

A release passes milestones one after the other. What is left is added up from what this service's releases took between
the milestones, and from what these people take to answer. How wrong such sums were for earlier releases, each worked
out from what was known then, gives the range: its quantile at 0.9 is a factor that held in nine of ten cases. So the
range is as wide as the past was uncertain, whatever the distribution (a split conformal prediction).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.measures.facts import MILESTONES, MeasuredRelease

ENOUGH = 9
"""So many earlier releases give a range of nine of ten."""
LOOKED_AT = 60
"""So many of the last releases are looked at: what is older says little about today."""
TYPICAL = 3
"""So many releases or answers of one kind say what is typical."""
START = "begun"
"""The milestone that does not come before the planned start."""


class Asked(Model):
    """The people whose answers a milestone waits for."""

    users: tuple[str, ...]
    answers: int = Field(1, ge=1, description="So many answers are needed")


class Step(Model):
    """A part of the way that is left."""

    milestone: str
    title: str
    seconds: float = Field(description="What it typically takes, still")
    waits_for: tuple[str, ...] = Field((), description="User names of people whose answers it waits for")


class Forecast(Model):
    """When a release will be through, if it gets through."""

    reached: str = Field(description="The last milestone that it passed; empty: none")
    half: AwareDatetime | None = Field(None, description="Half of such releases are through by then; null: not known")
    nine_of_ten: AwareDatetime | None = Field(None, description="Nine of ten are; null: not known")
    steps: tuple[Step, ...] = Field(description="The way that is left, in its order; all of it is critical")
    starts: AwareDatetime | None = Field(None, description="Production is not changed before; null: at any time")
    based_on: int = Field(description="Number of earlier releases that the range is made of")
    through: float | None = Field(
        None, description="Share of this service's releases that got through from here; null: not known"
    )
    why: str = Field("", description="Why there is no range; empty: there is one")


class Outlook(Model):
    """A release on its way, as far as it is known at one moment."""

    service: str
    change_type: str
    requested_at: AwareDatetime | None = None
    reached: dict[str, AwareDatetime]
    not_before: AwareDatetime | None = None
    asked: dict[str, Asked] = Field({}, description="Milestone: the people whose answers it waits for")

    @property
    def last(self) -> int:
        """The place of the last milestone that it passed."""
        return max((MILESTONES.index(name) for name in self.reached if name in MILESTONES), default=-1)


class History:
    """The releases that are known, for any number of forecasts.

    :param known: all measured releases and rollbacks.
    """

    def __init__(self, known: Sequence[MeasuredRelease]) -> None:
        ended = [one for one in known if one.ended_at is not None and not one.rollback]
        self._ended = sorted(ended, key=_end_of)
        self._through = [one for one in self._ended if one.is_deployment]
        self._ends = [_end_of(one) for one in self._through]
        told = sorted((_end_of(one), answer.user, answer.seconds) for one in ended for answer in one.answers)
        self._answers: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
        for at, user, seconds in told:
            self._answers[user].append((at, seconds))
        self._took = {one.run: tuple(took(one, place) for place in range(len(MILESTONES))) for one in self._through}
        self._kept: dict[tuple[str, int], float | None] = {}

    def forecast(self, outlook: Outlook, now: datetime, among: int = 1) -> Forecast:
        """Return when a release will be through; only releases that ended before ``now`` count.

        :param among: of so many releases, all are to be through by then in half of the cases, and in nine of ten.
        """
        place = outlook.last
        since = outlook.reached[MILESTONES[place]] if place >= 0 else outlook.requested_at or now
        elapsed = max((now - since).total_seconds(), 0.0)
        steps = self._steps(outlook, place, elapsed, now)
        starts = _start(outlook.not_before, now, place)
        bare = Forecast(
            reached=MILESTONES[place] if place >= 0 else "",
            steps=steps,
            starts=starts,
            based_on=0,
            through=self._share_through(outlook.service, place, now),
        )
        if place == len(MILESTONES) - 1:
            return bare.model_copy(update={"why": "It has ended."})
        factors = self._factors(outlook.service, place, elapsed, now)
        if len(factors) < ENOUGH or not steps:
            why = f"It needs {ENOUGH} earlier releases that got through; {len(factors)} are known."
            return bare.model_copy(update={"based_on": len(factors), "why": why})
        cuts = quantiles(factors, n=1000)
        wanted = (cuts[min(round(1000 * share ** (1 / among)), 999) - 1] for share in (0.5, 0.9))
        half, nine = (_end(now, max(factor, 0.0), *_halves(steps), starts) for factor in wanted)
        return bare.model_copy(update={"based_on": len(factors), "half": half, "nine_of_ten": max(half, nine)})

    def _before(self, at: datetime) -> Sequence[MeasuredRelease]:
        """Return the releases that had been deployed by then."""
        return self._through[: bisect_left(self._ends, at)]

    def _share_through(self, service: str, place: int, now: datetime) -> float | None:
        came = [
            one
            for one in self._ended
            if one.service == service and _end_of(one) < now
            if place < 0 or MILESTONES[place] in one.milestones
        ]
        return sum(one.is_deployment for one in came) / len(came) if came else None

    def _steps(self, outlook: Outlook, place: int, elapsed: float, now: datetime) -> tuple[Step, ...]:
        """Return what is left of the way; nothing, if nothing is known of a part of it."""
        before, found = self._before(now), []
        own = [one for one in before if one.service == outlook.service]
        alike = [one for one in own if one.change_type == outlook.change_type]
        for number in range(place + 1, len(MILESTONES)):
            samples = self._samples(number, alike, own, before)
            if not samples:
                return ()
            name = MILESTONES[number]
            asked, gone = outlook.asked.get(name), elapsed if number == place + 1 else 0.0
            typical = _left(samples, gone)
            if asked and (people := self._of_people(asked, now)) is not None:
                typical = max(people - gone, typical / 10)
            waits_for = asked.users if asked else ()
            found.append(Step(milestone=name, title=TITLES[name], seconds=typical, waits_for=waits_for))
        return tuple(found)

    def _samples(self, place: int, *groups: Sequence[MeasuredRelease]) -> list[float]:
        """Return what the last releases took to a milestone: of the first group that says what is typical."""
        found: list[float] = []
        for some in groups:
            each = (self._took[one.run][place] for one in some[-LOOKED_AT:])
            found = [seconds for seconds in each if seconds is not None]
            if len(found) >= TYPICAL:
                return found
        return found

    def _of_people(self, asked: Asked, now: datetime) -> float | None:
        """Return when so many of these people have typically answered; None: too little is known of them."""
        each = []
        for user in asked.users:
            took = [seconds for at, seconds in self._answers.get(user, ()) if at < now]
            if len(took) >= TYPICAL:
                each.append(median(took[-LOOKED_AT:]))
        return sorted(each)[asked.answers - 1] if len(each) >= asked.answers else None

    def _factors(self, service: str, place: int, elapsed: float, now: datetime) -> list[float]:
        """Return how much longer earlier releases took from this milestone on than was expected of them then.

        A service with few releases borrows those of others: a factor has no unit.
        """
        before = self._before(now)
        own = [one for one in before if one.service == service]
        others = [one for one in before if one.service != service] if len(own) < 2 * ENOUGH else []
        found = (self._factor(one, place, elapsed) for one in (*own[-LOOKED_AT:], *others[-LOOKED_AT:]))
        return [one for one in found if one is not None]

    def _factor(self, one: MeasuredRelease, place: int, elapsed: float) -> float | None:
        """Return the factor of a release; None: it was not at this place for so long, or nothing was known then."""
        if elapsed:
            return self._worked_out(one, place, elapsed)
        if (one.run, place) not in self._kept:
            self._kept[one.run, place] = self._worked_out(one, place, 0.0)
        return self._kept[one.run, place]

    def _worked_out(self, one: MeasuredRelease, place: int, elapsed: float) -> float | None:
        reached = one.requested_at if place < 0 else one.milestones.get(MILESTONES[place])
        following = one.milestones.get(MILESTONES[place + 1])
        if reached is None or following is None:
            return None
        then = reached + timedelta(seconds=elapsed)
        if then > following or (elapsed and then == following):
            return None
        steps = self._steps(outlook_of(one, then), place, elapsed, then)
        if not steps:
            return None
        return _solved(then, _end_of(one), *_halves(steps), _start(one.not_before, then, place))


def _end_of(one: MeasuredRelease) -> datetime:
    return one.ended_at or datetime.max.replace(tzinfo=UTC)


def took(one: MeasuredRelease, place: int) -> float | None:
    """Return the seconds between a milestone and the one before it; None: one of them is not on record.

    Waiting for the planned start does not count.
    """
    name = MILESTONES[place]
    before = one.requested_at if place == 0 else one.milestones.get(MILESTONES[place - 1])
    at = one.milestones.get(name)
    if at is None or before is None:
        return None
    if name == START and one.not_before is not None:
        before = max(before, one.not_before)
    return max((at - before).total_seconds(), 0.0)


TITLES = {
    "planned": "Plan",
    "built": "Build",
    "judged": "Quality review",
    "accepted": "Acceptance",
    "frozen": "Rollout plan",
    "approved": "Vote of the board",
    "told": "Communication and training",
    "begun": "Start of the first wave",
    "deployed": "Rollout",
    "verified": "Verification",
    "ended": "Closure",
}


def _left(samples: Sequence[float], gone: float) -> float:
    """Return what is typically left of something that has taken so long already."""
    longer = [one for one in samples if one > gone]
    return median(longer) - gone if longer else max(gone, 1.0) / 2


def _start(not_before: datetime | None, now: datetime, place: int) -> datetime | None:
    waits = not_before is not None and not_before > now and place < MILESTONES.index(START)
    return not_before if waits else None


def _halves(steps: Sequence[Step]) -> tuple[float, float]:
    """Return the seconds before production can be changed, and those from then on."""
    begins = MILESTONES.index(START)
    before = sum(one.seconds for one in steps if MILESTONES.index(one.milestone) < begins)
    return before, sum(one.seconds for one in steps) - before


def _end(now: datetime, factor: float, before: float, after: float, starts: datetime | None) -> datetime:
    ready = now + timedelta(seconds=factor * before)
    return max(ready, starts or ready) + timedelta(seconds=factor * after)


def outlook_of(one: MeasuredRelease, at: datetime) -> Outlook:
    """Return a release as it was known at an instant; whom it asked as far as they answered, then or later."""
    return Outlook(
        service=one.service,
        change_type=one.change_type,
        requested_at=one.requested_at,
        reached={name: when for name, when in one.milestones.items() if when <= at},
        not_before=one.not_before,
        asked=_asked_of(one),
    )


def _asked_of(one: MeasuredRelease) -> dict[str, Asked]:
    """Return whom a release asked, as far as they answered."""
    found: dict[str, list[str]] = {}
    for answer in one.answers:
        if milestone := ASKED_FOR.get(answer.task_id):
            found.setdefault(milestone, []).append(answer.user)
    return {name: Asked(users=tuple(users), answers=len(users)) for name, users in found.items()}


ASKED_FOR = {"rollout.cast_ballot": "approved", "acceptance.ask_approver": "accepted"}


def _solved(then: datetime, end: datetime, before: float, after: float, starts: datetime | None) -> float:
    """Return the factor with which a release would have been forecast to end when it did."""
    took_all = (end - then).total_seconds()
    whole = took_all / max(before + after, 1.0)
    if starts is None:
        return whole
    late = (end - starts).total_seconds() / max(after, 1.0)
    ready = then + timedelta(seconds=late * before)
    return late if ready <= starts else whole


def held(history: History, one: MeasuredRelease) -> bool | None:
    """Tell whether a release was through by the time given for nine of ten as it was requested; None: none was."""
    if one.requested_at is None or one.ended_at is None or not one.is_deployment or one.rollback:
        return None
    found = history.forecast(outlook_of(one, one.requested_at), one.requested_at)
    return None if found.nine_of_ten is None else one.ended_at <= found.nine_of_ten


class Calibration(Model):
    """How often forecasts of the past held."""

    milestone: str = Field(description="Where the releases were; empty: all places")
    forecasts: int
    half: float | None = Field(description="Share that was through by the time given for half of the cases")
    nine_of_ten: float | None = Field(description="Share that was through by the time given for nine of ten")


def calibration(known: Sequence[MeasuredRelease]) -> tuple[Calibration, ...]:
    """Forecast each release that got through when it passed a milestone, by what was known then, and count.

    The first line is of all places together.
    """
    held: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    history = History(known)
    for one in known:
        if not one.is_deployment or one.rollback or one.requested_at is None:
            continue
        for name, at in (("requested", one.requested_at), *one.milestones.items()):
            found = history.forecast(outlook_of(one, at), at)
            if found.half and found.nine_of_ten:
                held[name].append((_end_of(one) <= found.half, _end_of(one) <= found.nine_of_ten))
    each = [_calibrated(name, held[name]) for name in ("requested", *MILESTONES) if name in held]
    return (_calibrated("", [one for some in held.values() for one in some]), *each)


def _calibrated(milestone: str, held: Sequence[tuple[bool, bool]]) -> Calibration:
    number = len(held)
    return Calibration(
        milestone=milestone,
        forecasts=number,
        half=sum(half for half, _ in held) / number if number else None,
        nine_of_ten=sum(nine for _, nine in held) / number if number else None,
    )
