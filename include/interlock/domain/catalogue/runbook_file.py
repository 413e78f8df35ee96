"""``runbook:`` of a service: the steps around the waves, once for an environment and not for each host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator

from interlock.domain.canonical import Later, Model, canonical_bytes
from interlock.domain.dag_names import file_of

from .values import ConnectionId, Duration, Identifier, Line, People, RelativePath, in_words, named_twice

MAX_STEPS = 20
"""So many steps a runbook has at most: each is a task of the release's Dag."""
MAX_COMMAND_TIME = timedelta(hours=1)
"""So long a command on a host may run at most: the host is locked meanwhile."""
MAX_MANUAL_TIME = timedelta(days=7)
MAX_ELSEWHERE = timedelta(days=1)
"""So long a step may take at most that Airflow or AWS does: the environment is booked meanwhile."""
MAX_FUNCTION_TIME = timedelta(minutes=15)
"""AWS ends a Lambda function after so long."""
MAX_INPUT = 16 * 1024
"""Bytes of JSON that a step may hand over: it is part of the frozen plan."""
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


def _small(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(canonical_bytes(value))  # a ValueError for what is no JSON, such as .nan
    if size > MAX_INPUT:
        raise ValueError(f"is {size} bytes of JSON, and may be at most {MAX_INPUT}")
    return value


JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_small)]


def _not_interlocks(dag: str) -> str:
    if file := file_of(dag):
        raise ValueError(f"{dag} is the name of a Dag of Interlock ({file}), which no step starts")
    return dag


class DagRunStep(Model):
    """A run of a Dag of the organisation's own."""

    dag: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,250}$"), AfterValidator(_not_interlocks)] = Field(
        description="The id of the Dag; it gives interlock_conductor the right to start runs of it"
    )
    conf: JsonObject = Field({}, description="The configuration of the run; no secrets, because people read it")
    within: Annotated[Duration, _at_most(MAX_ELSEWHERE)] = Field(
        timedelta(hours=1), description="Time after which the step has failed if the run has not ended"
    )


class _OfAws(Model):
    """An action of AWS."""

    connection: ConnectionId = Field(
        description="The Airflow connection to AWS that it is done with; give it the rights for this action only"
    )


class _MayBeInDoubt(_OfAws):
    """What AWS does as often as it is asked to: if it is not known whether it was done, people find out."""

    ask: People = Field(
        (), description="People who are asked what became of it, if Interlock cannot find out; one of them answers"
    )
    answer_within: Annotated[Duration, _at_most(MAX_MANUAL_TIME)] = Field(
        timedelta(hours=4), description="Time for this answer; without one by then, the step has failed"
    )


class DocumentStep(_MayBeInDoubt):
    """A document of AWS Systems Manager: an Automation, or with ``host`` a Command document on this host."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/-]{3,200}$")]
    version: Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,9}$")] | None = Field(
        None, description="Version of the document; default: its default version when the plan is frozen"
    )
    parameters: dict[str, tuple[str, ...]] = Field(
        {}, max_length=200, description="Parameters of the document, each a list of texts; no secrets"
    )
    host: Line | None = Field(None, description="Of a Command document: name of the host of production that it runs on")
    within: Annotated[Duration, _at_most(MAX_ELSEWHERE)] = Field(
        timedelta(hours=1), description="Time after which it is stopped, and the step has failed"
    )

    @model_validator(mode="after")
    def _somebody_is_asked(self) -> Self:
        if bool(self.ask) != (self.host is not None):
            raise ValueError(
                "ask goes with host: Systems Manager may run a Command document twice, so people are asked if it is "
                "not known whether it ran; an Automation is started once"
            )
        return self


class FunctionStep(_MayBeInDoubt):
    """An AWS Lambda function, called once; its answer is waited for."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:-]{1,170}$")]
    qualifier: Annotated[str, StringConstraints(pattern=r"^(\$LATEST|[A-Za-z0-9_-]{1,128})$")] = Field(
        "$LATEST", description="A version or an alias; the version that it means is frozen"
    )
    payload: JsonObject = Field(
        {}, description="The event for the function, to which interlock_step is added; no secrets"
    )
    ask: Annotated[People, Field(min_length=1)] = Field(
        description="People who are asked what became of it, if it is not known whether it ran; one of them answers"
    )
    within: Annotated[Duration, _at_most(MAX_FUNCTION_TIME)] = Field(
        timedelta(minutes=1), description="Time in which it has to answer"
    )


class SnapshotStep(_OfAws):
    """A snapshot of an RDS database instance."""

    instance: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$")]
    within: Annotated[Duration, _at_most(MAX_ELSEWHERE)] = Field(
        timedelta(hours=1), description="Time after which the step has failed if the snapshot is not available"
    )


ElsewhereStep = DagRunStep | DocumentStep | FunctionStep | SnapshotStep
"""What Airflow or AWS does, and Interlock begins and waits for."""


class Action(Model):
    """What is done: one of its kinds."""

    manual: Later[ManualStep] = Field(None, description="People do it, and answer a question about it")
    command: Later[CommandStep] = Field(None, description="A program of the bundle, on one host")
    dag_run: Later[DagRunStep] = Field(None, description="A run of another Dag of this Airflow")
    document: Later[DocumentStep] = Field(None, description="A document of AWS Systems Manager")
    function: Later[FunctionStep] = Field(None, description="An AWS Lambda function")
    snapshot: Later[SnapshotStep] = Field(None, description="A snapshot of an RDS database instance")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if len([kind for kind in type(self).model_fields if getattr(self, kind) is not None]) != 1:
            raise ValueError(f"names one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """Which one it is."""
        return next(kind for kind in type(self).model_fields if getattr(self, kind) is not None)

    @property
    def elsewhere(self) -> ElsewhereStep | None:
        """What Airflow or AWS does; none: a host or people do it."""
        return self.dag_run or self.document or self.function or self.snapshot

    @property
    def connection(self) -> str | None:
        """The connection to AWS that it is done with."""
        aws = self.document or self.function or self.snapshot
        return aws.connection if aws else None

    @property
    def on_host(self) -> CommandStep | DocumentStep | None:
        """What of it runs on a host of the environment."""
        return self.document if self.document is not None and self.document.host else self.command

    @property
    def question(self) -> ManualStep | None:
        """Who answers for it, and until when, counted from its beginning; none: nobody needs to."""
        doubtful = self.function or self.document
        if doubtful is None or not doubtful.ask:
            return self.manual
        return ManualStep(
            who=doubtful.ask,
            instructions=f"Find out whether it was done: {self}.",
            evidence="how you know",
            within=min(doubtful.within + doubtful.answer_within, MAX_MANUAL_TIME),
        )

    def __str__(self) -> str:
        if self.command is not None:
            account = f" as {self.command.runas}" if self.command.runas else ""
            return f"{self.command.script} of the bundle{account}"
        if self.dag_run is not None:
            return f"a run of the Dag {self.dag_run.dag}{_with(self.dag_run.conf)}"
        if self.document is not None:
            return f"the Systems Manager document {self.document.name}{_with(self.document.parameters)}"
        if self.function is not None:
            return f"the Lambda function {self.function.name}, {self.function.qualifier}{_with(self.function.payload)}"
        return "by hand" if self.snapshot is None else f"a snapshot of the database {self.snapshot.instance}"


def _with(what: object) -> str:
    return f" with {canonical_bytes({'_': what})[5:-1].decode()}" if what else ""


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
    def is_irreversible(self) -> bool:
        """Whether it cannot be taken back; a snapshot changes nothing."""
        return self.way_back == NO_WAY_BACK and self.do.snapshot is None

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
    return tuple(step.name for step in steps if step.is_irreversible)
