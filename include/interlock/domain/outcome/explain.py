"""Why a release does not move now: one sentence, what has to happen, by whom, until when.

It is worked out from what Airflow says of the run and its tasks, and from the ledger. It decides nothing: doing what it
names lets the release go on to what comes next, which may be another wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from interlock.domain.canonical import Model
from interlock.domain.permits.objections import WHO_ELSE_APPROVES

from .progress import Progress

PATIENCE = timedelta(minutes=2)
"""So long a task may be queued before that is worth a word: Airflow starts tasks every few seconds."""
PLATFORM, OPERATORS, MANAGERS = "the platform engineer", "operators of Airflow", "a release manager"
AWAITS_AUTHORITIES = "await_authorities"
"""The task that waits for approvals in other systems."""
_ENDED = ("success", "failed")
_PARKED = ("deferred", "up_for_reschedule")
_QUEUED = ("scheduled", "queued")
_DONE = ("success", "failed", "skipped", "upstream_failed", "removed")

ActKind = Literal["answer", "unpause", "end_ahead", "wait", "retry", "work", "schedule"]


class TaskSeen(Model):
    """A task of the run, by Airflow's own record."""

    task_id: str
    title: str
    state: str | None
    since: datetime | None = Field(None, description="When it came into this state, as far as Airflow says")
    tries: int = 0
    max_tries: int = 0
    waits: str = Field("", description="For what it waits, in its own words")
    until: datetime | None = Field(None, description="Until when it waits at most")


class QuestionSeen(Model):
    """A question of the run."""

    task_id: str
    title: str
    people: tuple[str, ...] = Field(description="User names of those who may answer it, without the board's clerk")
    until: datetime | None = None
    answered: bool = False


class Ahead(Model):
    """The run that a queued one waits for: of each Dag, Airflow runs one at a time."""

    run_id: str
    version: str
    requested_by: str


class Standing(Model):
    """What is known of a run that may stand still."""

    now: datetime
    state: str = Field(description="Of the run, by Airflow: queued, running, success or failed")
    paused: bool = False
    called_off: str = Field("", description="By whom it was withdrawn, or by what overtaken, in a sentence")
    ahead: Ahead | None = None
    tasks: tuple[TaskSeen, ...] = ()
    questions: tuple[QuestionSeen, ...] = ()
    progress: Progress | None = None
    not_before: datetime | None = None
    quiet_since: datetime | None = Field(None, description="When the last of its tasks ended; none: none has")
    refusals: tuple[str, ...] = Field((), description="What would refuse a permit now: stops, freezes, findings")


class Act(Model):
    """Something that lets the release go on."""

    kind: ActKind
    what: str
    by: tuple[str, ...] = Field(description="User names or roles of those who can do it; empty: nobody has to")
    until: datetime | None = Field(None, description="After that, it is too late, or happens by itself")
    task: str = Field("", description="The task that it is about")


class Explanation(Model):
    """Why a release does not move."""

    state: Literal["ended", "moves", "waits", "stuck"] = Field(
        description="stuck: nobody and nothing that it waits for is expected to come by itself"
    )
    why: str = Field(description="A sentence")
    acts: tuple[Act, ...] = ()
    earliest: datetime | None = Field(None, description="When it moves by itself at the earliest; none: not known")
    refusals: tuple[str, ...] = Field((), description="What would be refused if a wave began now")


def explain(standing: Standing, names: Mapping[str, str]) -> Explanation:
    """Explain why a release does not move.

    :param names: the name of each person, by user name.
    """
    if standing.state in _ENDED:
        return Explanation(state="ended", why="It has ended.")
    if standing.called_off:
        return Explanation(state="waits", why=f"{standing.called_off} It ends by itself.")
    found = [*_obstacles(standing, names)]
    # A task at work moves the release, whatever else of it waits; unless nothing follows, because the Dag is paused.
    working = [task.title for task in standing.tasks if task.state in ("running", "restarting")]
    if working and not standing.paused:
        also = f" Besides: {_joined(found)}" if found else ""
        why = f"It moves: {_listed(working)} is running.{also}"
        return Explanation(state="moves", why=why, acts=_acts(found), refusals=standing.refusals)
    if not found:
        begins = [task.title for task in standing.tasks if task.state in _QUEUED]
        why = f"It moves: Airflow is about to begin {_listed(begins) or 'what comes next'}."
        return Explanation(state="moves", why=why, refusals=standing.refusals)
    by_itself = [act.until for _, act in found if act.kind == "wait" and act.until is not None]
    helpless = all(act.kind in ("work", "schedule", "unpause") for _, act in found)
    return Explanation(
        state="stuck" if helpless else "waits",
        why=_joined(found),
        acts=_acts(found),
        earliest=min(by_itself, default=None) if not standing.paused else None,
        refusals=standing.refusals,
    )


_Obstacle = tuple[str, Act]


def _obstacles(standing: Standing, names: Mapping[str, str]) -> Iterator[_Obstacle]:
    if standing.paused:
        what = "unpause the Dag"
        yield "The Dag is paused, so Airflow begins nothing of it.", Act(kind="unpause", what=what, by=(OPERATORS,))
    if standing.state == "queued":
        yield from _in_the_queue(standing, names)
        return
    yield from _questions(standing, names)
    asked = {one.task_id.rpartition(".")[0] for one in standing.questions if not one.answered}
    for task in standing.tasks:
        counts = task.task_id.endswith((".await_board", ".await_sign_off"))  # what counts answers waits for the people
        if task.state in _PARKED and not (counts and task.task_id.rpartition(".")[0] in asked):
            yield _parked(task, standing)
        elif task.state == "up_for_retry":
            tries = f"{task.tries} of {task.max_tries}" if task.max_tries else f"{task.tries}"
            yield (
                f"{task.title} failed in try {tries}, and is tried again.",
                Act(kind="retry", what=f"see why {task.title} failed", by=(PLATFORM,), task=task.task_id),
            )
        elif task.state in _QUEUED and (task.since is None or standing.now - task.since >= PATIENCE):
            yield (
                f"{task.title} waits for a worker or for a place in its pool.",
                Act(kind="work", what="start a worker, or make the pool larger", by=(PLATFORM,), task=task.task_id),
            )
    if not standing.paused and _is_idle(standing):
        yield (
            "Nothing of it runs or waits: Airflow has not begun what comes next.",
            Act(kind="schedule", what="see whether Airflow's scheduler runs", by=(PLATFORM,)),
        )


def _in_the_queue(standing: Standing, names: Mapping[str, str]) -> Iterator[_Obstacle]:
    if standing.ahead is not None:
        by, what = standing.ahead.requested_by, standing.ahead.version or standing.ahead.run_id
        yield (
            f"It is in the queue behind {what}, requested by {names.get(by, by) or 'nobody'}.",
            Act(
                kind="end_ahead",
                what=f"wait until {what} ends, or withdraw it",
                by=(by, MANAGERS),
            ),
        )
    elif not standing.paused:
        yield (
            "Airflow has not begun it yet.",
            Act(kind="schedule", what="see whether Airflow's scheduler runs", by=(PLATFORM,)),
        )


def _questions(standing: Standing, names: Mapping[str, str]) -> Iterator[_Obstacle]:
    """Yield an obstacle for each task that asks: who has not answered, how many have, until when."""
    of_task: dict[str, list[QuestionSeen]] = {}
    for one in standing.questions:
        of_task.setdefault(one.task_id, []).append(one)
    for task, every in of_task.items():
        if not (left := [one for one in every if not one.answered]):
            continue
        until = min((one.until for one in left if one.until is not None), default=None)
        people = [*dict.fromkeys(" or ".join(names.get(user, user) for user in one.people) for one in left)]
        done = f" ({len(every) - len(left)} of {len(every)} answered)" if len(every) > 1 else ""
        closes = f", until {_instant(until)}" if until else ""
        yield (
            f"Waiting for {_listed(people)}{done}{closes}: {left[0].title}.",
            Act(
                kind="answer",
                what=f"answer: {left[0].title}",
                by=tuple(dict.fromkeys(user for one in left for user in one.people)),
                until=until,
                task=task,
            ),
        )


def _parked(task: TaskSeen, standing: Standing) -> _Obstacle:
    until, why = task.until, task.waits
    name = task.task_id.split(".")
    if name[-1] == "await_start":
        until, why = standing.not_before, "the time before which it is not to start"
    elif name[-1] == "await_soak" and standing.progress is not None:
        soaks = [one.soak for one in standing.progress.environments if one.environment == name[1]]
        until, why = next((soak.until for soak in soaks if soak), until), f"the end of the soak in {name[1]}"
    elif name[-1] == AWAITS_AUTHORITIES:
        what = "have the change approved in the other system"
        act = Act(kind="wait", what=what, by=(WHO_ELSE_APPROVES,), task=task.task_id)
        return f"It waits for {(why or 'the approval in another system').rstrip('.')}.", act
    elif not why:
        why = task.title
    closes = f", until {_instant(until)}" if until else ""
    return f"It waits for this: {why.rstrip('.')}{closes}.", Act(
        kind="wait", what=why, by=(), until=until, task=task.task_id
    )


def _is_idle(standing: Standing) -> bool:
    """Tell whether for a while no task has been at work, waited, or been about to begin, and nobody is asked."""
    if standing.quiet_since is not None and standing.now - standing.quiet_since < PATIENCE:
        return False
    asked = any(not one.answered for one in standing.questions)
    return not asked and standing.state == "running" and all(one.state in (None, *_DONE) for one in standing.tasks)


def _acts(found: Sequence[_Obstacle]) -> tuple[Act, ...]:
    return tuple(act for _, act in found)


def _joined(found: Sequence[_Obstacle]) -> str:
    return " ".join(sentence for sentence, _ in found)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
