"""``trains/*.yaml``: a release train: when it departs, who boards it, and what happens to late or failed passengers.

A train without a cadence is an enterprise release: it departs once, and its milestones are counted back from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from croniter import CroniterError, croniter
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from interlock.domain.canonical import Model, sha256_of
from interlock.domain.change.semver import MAX_VERSION_LENGTH, is_version

from .calendar_file import Holidays, Rule, TimeZone, moment_of, repeated
from .values import ChangeType, Duration, Identifier, Line, UserName, each_once, named_twice

Late = Literal["left_behind", "wait", "stop"]
MAX_MOVE = timedelta(days=7)

_CRON = r"^[0-9*/,A-Za-z-]+( [0-9*/,A-Za-z#?-]+){4}$"
_LOCAL = r"^20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d$"


def _is_cron(text: str) -> str:
    """Refuse an invalid cron expression, and departures more often than hourly."""
    try:
        croniter(text, datetime(2026, 1, 1)).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        raise ValueError(f"{text} is not a valid cron expression: {error}") from error
    if not re.fullmatch(r"[0-9]{1,2}", text.split()[0]):
        raise ValueError(f"{text} departs more often than once an hour: its first part is one minute, such as 30")
    return text


Cron = Annotated[
    str,
    StringConstraints(pattern=_CRON, max_length=200),
    AfterValidator(_is_cron),
    Field(description="Minute, hour, day of the month, month, day of the week: 0 20 * * TUE"),
]
LocalTime = Annotated[
    str,
    StringConstraints(pattern=_LOCAL),
    AfterValidator(lambda text: datetime.fromisoformat(text).isoformat(timespec="minutes")),
    Field(description="A time of the train's time zone, such as 2027-03-01T20:00"),
]


def _is_semantic(version: str) -> str:
    if not is_version(version):
        raise ValueError(f"{version} is not a semantic version (semver.org), such as 1.4.0 or 2.0.0-rc.1")
    return version


def _may_be_a_version(pattern: str) -> str:
    """Refuse patterns that match no version, so that no release could ever board."""
    if not re.match(r"v?[0-9*?]", pattern) or ("*" not in pattern and not _fits(pattern)):
        raise ValueError(
            f"no tag with the pattern {pattern} is a semantic version (semver.org), such as 1.4.0 or v2.0.0-rc.1"
        )
    return pattern


def _fits(pattern: str) -> bool:
    """Say whether a pattern without * may be a version, with a digit or a letter for each ?."""
    tried = (pattern.replace("?", each).removeprefix("v") for each in "1a.v")
    return any(map(is_version, tried)) or pattern.count("?") > 1


TagPattern = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9*?][A-Za-z0-9._*?+-]{0,60}$"),
    AfterValidator(_may_be_a_version),
    Field(description="Pattern of tags with * and ?, such as 1.*; the highest matching version boards"),
]


class Cadence(Model):
    """When a train departs, again and again, by the clocks of its time zone."""

    cron: Cron | None = None
    rule: Rule | None = Field(None, description="A recurrence rule of RFC 5545, with from, instead of cron")
    from_: LocalTime | None = Field(None, alias="from", description="The first departure of a rule")
    model_config = ConfigDict(serialize_by_alias=True)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.cron is None) == (self.rule is None):
            raise ValueError("a cadence has either cron, or rule with from")
        if (self.rule is None) != (self.from_ is None):
            raise ValueError("from goes with rule, and rule with from")
        if self.rule is not None and self.from_ is not None:
            repeated(self.rule, datetime.fromisoformat(self.from_))
        return self


class Milestone(Model):
    """Something that is due some working days before an enterprise release."""

    name: Identifier
    title: Line
    working_days_before: int = Field(ge=0, le=500)


class Target(Model):
    """When an enterprise release is to depart, and what is due before, counted back over working days."""

    at: LocalTime
    milestones: tuple[Milestone, ...] = ()
    weekend: tuple[Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], ...] = Field(
        ("saturday", "sunday"), max_length=6, description="Days of the week that are not working days"
    )
    holidays: Holidays | None = Field(None, description="Public holidays, which are not working days")

    @model_validator(mode="after")
    def _names_each_milestone_once(self) -> Self:
        if twice := named_twice(milestone.name for milestone in self.milestones):
            raise ValueError(f"milestones: {twice} is named twice")
        return self


class Boarding(Model):
    """When a train takes passengers."""

    opens: Duration = Field(timedelta(days=1), description="Time before departure at which boarding opens")
    cut_off: Duration = Field(
        timedelta(hours=2), description="Time before departure at which the manifest is frozen and the vote starts"
    )

    @model_validator(mode="after")
    def _opens_before_it_closes(self) -> Self:
        if self.cut_off > self.opens:
            raise ValueError("cut_off is longer before departure than opens")
        return self


class FreezeRule(Model):
    """What becomes of a departure that falls into a freeze."""

    then: Literal["move", "drop"] = Field(
        "move", description="move: depart as soon as allowed; drop: cancel this departure"
    )
    farthest: Duration = Field(timedelta(days=2), description="Maximum delay; a departure never moves to the next date")

    @model_validator(mode="after")
    def _is_not_moved_for_weeks(self) -> Self:
        if self.farthest > MAX_MOVE:
            raise ValueError(f"farthest is at most {MAX_MOVE.days} days")
        return self


class Named(Model):
    """Just this version: an entry of an explicit manifest."""

    ref: Annotated[str, StringConstraints(pattern=r"^[^\s~^:?*\[\\\x00-\x1f\x7f-][^\s~^:?*\[\\\x00-\x1f\x7f]{0,199}$")]
    version: Annotated[
        str,
        StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*$", max_length=MAX_VERSION_LENGTH),
        AfterValidator(_is_semantic),
        Field(description="A semantic version (semver.org), such as 1.4.0 or 2.0.0-rc.1"),
    ]
    by: UserName = Field(description="The person who named the version; this person does not vote")

    @model_validator(mode="after")
    def _is_what_its_tag_says(self) -> Self:
        """Refuse a tag of another version: such a release is refused when it is planned."""
        tag = self.ref.removeprefix("refs/tags/").removeprefix("v")
        if is_version(tag) and tag != self.version:
            raise ValueError(f"ref is the tag of {tag}, and version is {self.version}")
        return self


class TrainPassenger(Model):
    """A service that may be on a train, and how it is found out which version boards."""

    service: Identifier
    tags: TagPattern | None = Field(None, description="Board the highest version among the tags with this pattern")
    named: Named | None = Field(None, description="Board exactly this version")
    accepted: Literal[True] | None = Field(
        None, description="Board the last version that was accepted or rehearsed since its last departure"
    )
    after: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] = Field(
        (), description="Passengers that must arrive before this one departs"
    )
    summary: Line | None = Field(None, description="Summary for the board; default: service and version")
    tickets: tuple[str, ...] = ()
    risk: dict[str, bool] = Field({}, description="Keys of risk questions of policy.yaml that are answered with yes")
    late: Late | None = Field(None, description="When it is not ready at the cut-off; default: the rule of the train")
    failed: Late | None = Field(None, description="When its release fails; default: the rule of the train")

    @model_validator(mode="after")
    def _boards_in_one_way(self) -> Self:
        if sum(way is not None for way in (self.tags, self.named, self.accepted)) != 1:
            raise ValueError("a passenger has exactly one of: tags, named, accepted")
        return self


class Train(Model):
    """A release train: ``trains/<name>.yaml``."""

    name: Identifier = Field(description="The name of its file, without .yaml")
    title: Line
    description: str = Field("", max_length=10_000)
    owner: Line = Field(description="Owner of the train, who is named in refusals")
    time_zone: TimeZone
    cadence: Cadence | None = Field(None, description="Schedule; an enterprise release has a target instead")
    target: Target | None = None
    on_schedule: bool = Field(True, description="false: it departs only when a release manager triggers it")
    boarding: Boarding = Boarding()
    freeze: FreezeRule = FreezeRule()
    environment: Literal["production"] = "production"
    change_type: ChangeType = ChangeType.NORMAL
    board: Identifier | None = Field(
        None, description="A board of board.yaml that votes in addition to the boards of the passengers"
    )
    late: Late = Field("left_behind", description="What happens to a passenger that is not ready at the cut-off")
    failed: Late = Field("left_behind", description="What happens when a passenger's release fails")
    patience: Duration = Field(
        timedelta(hours=4),
        description="Maximum time to wait for a late or failed passenger, a repository, or a queued release",
    )
    passengers: tuple[TrainPassenger, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _departs_in_one_way(self) -> Self:
        if (self.cadence is None) == (self.target is None):
            raise ValueError("a train has either a cadence, or as an enterprise release a target")
        return self

    @model_validator(mode="after")
    def _has_each_passenger_once_and_in_order(self) -> Self:
        services = [passenger.service for passenger in self.passengers]
        if twice := named_twice(services):
            raise ValueError(f"passengers: {twice} is named twice")
        for one in self.passengers:
            if strangers := sorted(set(one.after) - set(services)):
                raise ValueError(f"passengers: {one.service} is after {', '.join(strangers)}, not on the train")
        if circle := _circle({one.service: one.after for one in self.passengers}):
            raise ValueError(f"passengers: {' after '.join(circle)}: the dependencies are circular")
        return self

    @property
    def digest(self) -> str:
        """The SHA-256 of what a departure goes by; whether there will be others does not concern it."""
        return sha256_of(self.model_dump(mode="json", exclude={"on_schedule"}))

    @property
    def services(self) -> tuple[str, ...]:
        """The services that may be on it."""
        return tuple(passenger.service for passenger in self.passengers)

    def passenger(self, service: str) -> TrainPassenger:
        """Return a passenger; KeyError if the service is not on the train."""
        return {one.service: one for one in self.passengers}[service]

    def when_late(self, service: str) -> Late:
        """Return what happens if a passenger is not ready."""
        return self.passenger(service).late or self.late

    def when_failed(self, service: str) -> Late:
        """Return what happens if a passenger's release fails."""
        return self.passenger(service).failed or self.failed


def _circle(after: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return services with circular dependencies; empty if there are none."""
    left = dict(after)
    while ready := [name for name, before in left.items() if not set(before) & left.keys()]:
        for name in ready:
            del left[name]
    if not left:
        return []
    walked = [next(iter(left))]
    while (following := next(name for name in left[walked[-1]] if name in left)) not in walked:
        walked.append(following)
    return [*walked[walked.index(following) :], following]


def local_of(text: str) -> datetime:
    """Return a local time of a train's file, without a time zone."""
    found = moment_of(text)
    if not isinstance(found, datetime):
        raise ValueError(f"{text} is a day")
    return found
