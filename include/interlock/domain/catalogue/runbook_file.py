"""``runbook:`` of a service: the steps around the waves, once for an environment and not for each host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from interlock.domain.canonical import Later, Model

from .values import Duration, Identifier, Line, People, RelativePath, in_words, named_twice

MAX_STEPS = 20
"""So many steps a runbook has at most: each is a task of the release's Dag."""
MAX_COMMAND_TIME = timedelta(hours=1)
"""So long a command on a host may run at most: the host is locked meanwhile."""
MAX_MANUAL_TIME = timedelta(days=7)
NO_WAY_BACK = "none"

_AFTER_WAVE = re.compile(r"after_wave_([1-9]\d?)", re.ASCII)

Moment = Annotated[
    str,
    StringConstraints(pattern=r"^(before|after|after_wave_[1-9]\d?)$"),
    Field(
        description="before: before the first wave; after_wave_1: after the first wave and before the next one; "
        "after: after the last wave, and before the release is verified"
    ),
]


ReleasedVersion = Annotated[
    str,
    StringConstraints(pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$", max_length=64),
    Field(description="A semantic version, such as 2.0.0"),
]
Script = Annotated[
    RelativePath,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=255),
    Field(description="A program of the bundle, such as scripts/migrate.sh"),
]


def wave_of(moment: str, waves: int) -> int:
    """Return after which wave a moment is: 0 before the first, ``waves`` after the last."""
    if after := _AFTER_WAVE.fullmatch(moment):
        return int(after[1])
    return 0 if moment == "before" else waves


def moment_in_words(moment: str) -> str:
    """Return when a step is done, as people say it."""
    if after := _AFTER_WAVE.fullmatch(moment):
        return f"after wave {after[1]}"
    return "before the first wave" if moment == "before" else "after the last wave"


def _at_most(limit: timedelta) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if value > limit:
            raise ValueError(f"must be at most {in_words(limit)}")
        return value

    return AfterValidator(check)


class ManualStep(Model):
    """People do it, and one of them answers a question about it."""

    who: Annotated[People, Field(min_length=1)] = Field(description="People who may do it; one of them answers")
    instructions: str = Field(min_length=1, max_length=4000, description="What is to be done")
    evidence: Line = Field(description="What the answer's comment has to name, such as the number of a confirmation")
    within: Annotated[Duration, _at_most(MAX_MANUAL_TIME)] = Field(
        timedelta(hours=4), description="Time for the answer; without one by then, the step has failed"
    )


class CommandStep(Model):
    """A program of the bundle, run on one host of the environment."""

    script: Annotated[RelativePath, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=255)] = (
        Field(description="A program of the bundle, such as scripts/migrate.sh")
    )
    host: Line | None = Field(None, description="Name of the host; default: the first host of the environment")
    runas: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = Field(
        None, description="The account that it runs as; default: the login of the hosts"
    )
    timeout: Annotated[Duration, _at_most(MAX_COMMAND_TIME)] = Field(
        timedelta(minutes=10), description="Time after which it is killed; the step has failed then"
    )


class Action(Model):
    """What is done: one of its kinds."""

    manual: Later[ManualStep] = Field(None, description="People do it, and answer a question about it")
    command: Later[CommandStep] = Field(None, description="A program of the bundle, on one host")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if len([kind for kind in type(self).model_fields if getattr(self, kind) is not None]) != 1:
            raise ValueError(f"names one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """Which one it is."""
        return next(kind for kind in type(self).model_fields if getattr(self, kind) is not None)

    def __str__(self) -> str:
        if self.command is not None:
            account = f" as {self.command.runas}" if self.command.runas else ""
            return f"{self.command.script} of the bundle{account}"
        return "by hand"


class Step(Model):
    """A step of a runbook."""

    name: Identifier
    title: Line
    when: Moment
    needs: tuple[Identifier, ...] = Field(
        (), description="Steps before it without which it is not done; they are named above it"
    )
    estimate: Duration = Field(description="How long it usually takes, for people")
    do: Action
    way_back: Action | Literal["none"] = Field(
        description="What takes it back if the release is backed out; none: it cannot be taken back, so the release is "
        "irreversible, which the board is told and rules of boards may ask more for"
    )

    works_from: Later[ReleasedVersion] = Field(
        None,
        description="Of a step that takes away what older versions need (contract): the oldest version that works "
        "after it. It is not done while any host of any environment of the service runs an older one",
    )
    migrates: Later[Identifier] = Field(
        None,
        description="The database of the service that the step changes. It is rehearsed on a restored copy, with the "
        "version that production runs, before anybody votes",
    )

    @property
    def actions(self) -> Iterator[tuple[str, Action]]:
        """Its action and its way back, each with its key."""
        yield "do", self.do
        if isinstance(self.way_back, Action):
            yield "way_back", self.way_back


def refuse_disorder(steps: Sequence[Step], waves: int) -> None:
    """Refuse steps that cannot be done in the order of their file.

    :param waves: how many waves production has.
    """
    if twice := named_twice(step.name for step in steps):
        raise ValueError(f"runbook: {twice} is named twice")
    known: set[str] = set()
    last = 0
    for step in steps:
        after = wave_of(step.when, waves)
        if step.when not in ("before", "after") and after >= waves:
            raise ValueError(
                f"runbook: {step.name} is {moment_in_words(step.when)}, and production has {waves} "
                f"wave{'' if waves == 1 else 's'}; the last wave is followed by when: after"
            )
        if after < last:
            raise ValueError(f"runbook: {step.name} is done before the step above it; list steps in their order")
        if missing := [need for need in step.needs if need not in known]:
            raise ValueError(f"runbook: {step.name} needs {', '.join(missing)}, which is not a step above it")
        known.add(step.name)
        last = after


def irreversible_of(steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the names of the steps that cannot be taken back."""
    return tuple(step.name for step in steps if step.way_back == NO_WAY_BACK)
