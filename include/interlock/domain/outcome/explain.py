"""Why a release does not move now: one sentence, what has to happen, by whom, until when.

It is worked out from what Airflow says of the run and its tasks, from the ledger, and from the catalogue. It decides
nothing: doing what it names lets the release go on to what comes next, which may be another wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import Field

from interlock.domain.board.questions import ASK_WAVE
from interlock.domain.canonical import Model
from interlock.domain.permits.objections import WHO_ELSE_APPROVES

from .standing import Closed, QuestionSeen, Refusal, Standing, TaskSeen

PATIENCE = timedelta(minutes=2)
"""So long a task may be queued before that is worth a word: Airflow starts tasks every few seconds."""
PLATFORM, OPERATORS, MANAGERS = "the platform engineer", "operators of Airflow", "a release manager"
AWAITS_AUTHORITIES = "await_authorities"
"""The task that waits for approvals in other systems."""
_ENDED = ("success", "failed")
_PARKED = ("deferred", "up_for_reschedule")
_QUEUED = ("scheduled", "queued")
_DONE = ("success", "failed", "skipped", "upstream_failed", "removed")
_REASON_LENGTH = 300

ActKind = Literal[
    "answer", "unpause", "end_ahead", "wait", "override", "retry", "work", "pool", "schedule", "trigger", "replace"
]


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
    acts: tuple[Act, ...] = Field((), description="Of several about one task, one is enough")
    earliest: datetime | None = Field(None, description="When it moves by itself at the earliest; none: not known")
    refusals: tuple[Refusal, ...] = Field((), description="What would be refused if a wave began now, or at its start")
    incidents: tuple[str, ...] = Field((), description="Open incidents of other systems; they hold nothing back")


class _Obstacle(NamedTuple):
    sentence: str
    acts: tuple[Act, ...]
    helpless: bool = False
    """Whether nobody and nothing that ends it is expected to come by itself."""


def explain(standing: Standing, names: Mapping[str, str]) -> Explanation:
    """Explain why a release does not move.

    :param names: the name of each person, by user name.
    """
    if standing.state in _ENDED:
        return Explanation(state="ended", why="It has ended.")
    if standing.called_off:
        return Explanation(state="waits", why=f"{standing.called_off} It ends by itself.")
    halted, held = [*_of_all(standing)], [*_obstacles(standing, names)]
    found = [*halted, *held]
    acts = tuple(act for one in found for act in one.acts)
    failed = _failures(standing)
    # A task at work moves the release, whatever else of it waits; unless nothing can follow.
    if not halted and (moves := _movement(standing, nothing_else=not held)):
        besides = " ".join(one.sentence for one in held)
        why = " ".join(filter(None, (f"It moves: {moves}.", besides and f"Besides: {besides}", failed)))
        return Explanation(state="moves", why=why, acts=acts, refusals=standing.refusals, incidents=standing.incidents)
    by_itself = [act.until for act in acts if act.kind in ("wait", "retry") and act.until is not None]
    return Explanation(
        state="stuck" if halted or all(one.helpless for one in found) else "waits",
        why=" ".join(filter(None, (*(one.sentence for one in found), failed))),
        acts=acts,
        earliest=None if halted else min(by_itself, default=None),
        refusals=standing.refusals,
        incidents=standing.incidents,
    )


def _movement(standing: Standing, *, nothing_else: bool) -> str:
    """Say what of a release goes on, if Airflow can begin what follows; empty: nothing does."""
    if working := [task.title for task in standing.tasks if task.state in ("running", "restarting")]:
        return f"{_listed(working)} is running"
    begins = [task.title for task in standing.tasks if task.state in _QUEUED and not _is_held(task, standing)]
    return f"Airflow is about to begin {_listed(begins) or 'what comes next'}" if begins or nothing_else else ""


def _failures(standing: Standing) -> str:
    """Say which tasks failed. A question that failed was answered or closed: what counts is its record."""
    asked = {one.task_id for one in standing.questions}
    return " ".join(
        f"{task.title} failed{_because(task)}."
        for task in standing.tasks
        if task.state == "failed" and task.task_id not in asked
    )


def _because(task: TaskSeen) -> str:
    words = " ".join(task.reason.split()).rstrip(".")
    return f" ({words[:_REASON_LENGTH]}{'…' if len(words) > _REASON_LENGTH else ''})" if words else ""


def _of_all(standing: Standing) -> Iterator[_Obstacle]:
    """Yield what keeps Airflow from beginning anything of the release."""
    if standing.paused:
        unpause = Act(kind="unpause", what="unpause the Dag", by=(OPERATORS,))
        yield _Obstacle("The Dag is paused, so Airflow begins nothing of it.", (unpause,), helpless=True)
    for one in standing.silent:
        if one.name == "scheduler":
            act = Act(kind="schedule", what="start Airflow's scheduler", by=(PLATFORM,))
            said = f"Airflow's scheduler gives no sign of life{_heard(one.heard)}, so Airflow begins nothing."
            yield _Obstacle(said, (act,), helpless=True)


def _heard(at: datetime | None) -> str:
    return f" since {_instant(at)}" if at else ""


def _obstacles(standing: Standing, names: Mapping[str, str]) -> Iterator[_Obstacle]:
    """Yield what each branch of the release waits for."""
    if standing.state == "queued":
        yield from _in_the_queue(standing, names)
        return
    yield from _questions(standing, names)
    yield from _triggerer(standing)
    asked = {one.task_id.rpartition(".")[0] for one in standing.questions if not one.answered}
    for task in standing.tasks:
        counts = task.task_id.endswith((".await_board", ".await_sign_off"))  # what counts answers waits for the people
        if task.state in _PARKED and not (counts and task.task_id.rpartition(".")[0] in asked):
            yield _parked(task, standing, names)
        elif task.state == "up_for_retry":
            tries = f"{task.tries} of {task.max_tries}" if task.max_tries else f"{task.tries}"
            when = f" at {_instant(task.again_at)}" if task.again_at else ""
            what = f"see why {task.title} failed; it is tried again by itself"
            act = Act(kind="retry", what=what, by=(PLATFORM,), until=task.again_at, task=task.task_id)
            yield _Obstacle(f"{task.title} failed in try {tries}{_because(task)}, and is tried again{when}.", (act,))
        elif task.state in _QUEUED and _is_held(task, standing):
            yield _no_place(task, standing)
    if not _scheduler_is_silent(standing) and not standing.paused and _is_idle(standing):
        act = Act(kind="schedule", what="see whether Airflow's scheduler runs", by=(PLATFORM,))
        yield _Obstacle("Nothing of it runs or waits: Airflow has not begun what comes next.", (act,), helpless=True)


def _in_the_queue(standing: Standing, names: Mapping[str, str]) -> Iterator[_Obstacle]:
    if standing.ahead is not None:
        by, what = standing.ahead.requested_by, standing.ahead.version or standing.ahead.run_id
        act = Act(kind="end_ahead", what=f"wait until {what} ends, or withdraw it", by=(by, MANAGERS))
        yield _Obstacle(f"It is in the queue behind {what}, requested by {names.get(by, by) or 'nobody'}.", (act,))
    elif not standing.paused and not _scheduler_is_silent(standing):
        act = Act(kind="schedule", what="see whether Airflow's scheduler runs", by=(PLATFORM,))
        yield _Obstacle("Airflow has not begun it yet.", (act,), helpless=True)


def _scheduler_is_silent(standing: Standing) -> bool:
    return any(one.name == "scheduler" for one in standing.silent)


def _triggerer(standing: Standing) -> Iterator[_Obstacle]:
    """Yield that Airflow's triggerer is silent, if it is to wake a task."""
    silent = next((one for one in standing.silent if one.name == "triggerer"), None)
    if silent is not None and any(task.state == "deferred" for task in standing.tasks):
        act = Act(kind="trigger", what="start Airflow's triggerer", by=(PLATFORM,))
        said = f"Airflow's triggerer gives no sign of life{_heard(silent.heard)}, so what waits is not woken."
        yield _Obstacle(said, (act,), helpless=True)


def _questions(standing: Standing, names: Mapping[str, str]) -> Iterator[_Obstacle]:
    """Yield an obstacle for each task that asks: who has not answered, how many have, until when."""
    of_task: dict[str, list[QuestionSeen]] = {}
    for one in standing.questions:
        of_task.setdefault(one.task_id, []).append(one)
    for task, every in of_task.items():
        if left := [one for one in every if not one.answered]:
            yield _question(task, left, len(every), standing, names)


def _question(
    task: str, left: Sequence[QuestionSeen], asked: int, standing: Standing, names: Mapping[str, str]
) -> _Obstacle:
    until = min((one.until for one in left if one.until is not None), default=None)
    people = [*dict.fromkeys(" or ".join(names.get(user, user) for user in one.people) for one in left)]
    done = f" ({asked - len(left)} of {asked} answered)" if asked > 1 else ""
    closes = f", until {_instant(until)}" if until else ""
    title, users = left[0].title, tuple(dict.fromkeys(user for one in left for user in one.people))
    more = [*_absences(left, users, standing, names)]
    if task.startswith(ASK_WAVE.partition("{")[0]) and standing.failed_hosts:
        more.insert(0, standing.failed_hosts)
    said = " ".join((f"Waiting for {_listed(people)}{done}{closes}: {title}.", *more))
    if able := tuple(user for user in users if user not in standing.gone):
        return _Obstacle(said, (Act(kind="answer", what=f"answer: {title}", by=able, until=until, task=task),))
    what = f"withdraw the release and request it again: nobody who may answer {title} is in board.yaml any more"
    return _Obstacle(said, (Act(kind="replace", what=what, by=(MANAGERS,), until=until, task=task),), helpless=True)


def _absences(
    left: Iterable[QuestionSeen], users: Sequence[str], standing: Standing, names: Mapping[str, str]
) -> Iterator[str]:
    for user in users:
        if user in standing.gone:
            yield f"{names.get(user, user)} is not in board.yaml any more, so an answer of {user} does not count."
    for away in standing.away:
        if away.user not in users:
            continue
        delegate = names.get(away.delegate, away.delegate)
        asked = any(away.user in one.people and away.delegate in one.people for one in left)
        instead = f"{delegate} answers instead" if asked else f"{delegate}, the delegate, was not asked"
        yield f"{names.get(away.user, away.user)} is away until {away.until}; {instead}."


def _parked(task: TaskSeen, standing: Standing, names: Mapping[str, str]) -> _Obstacle:
    for holder in standing.holders:
        if holder.run in task.waits:
            by = holder.requested_by
            what = f"wait until {holder.version or holder.run} ends, or withdraw it"
            act = Act(kind="end_ahead", what=what, by=(*filter(None, (by,)), MANAGERS), task=task.task_id)
            asked = f" ({holder.version}, requested by {names.get(by, by)})" if by else ""
            return _Obstacle(f"Another release is ahead of it: {holder.run}{asked}.", (act,))
    for closed in standing.closed:
        if f"{closed.service} in {closed.environment} may not be changed" in task.waits:
            return _closed(task, closed)
    until, why = task.until, task.waits
    name = task.task_id.split(".")
    if name[-1] == "await_start":
        until, why = standing.not_before or until, "the time before which it is not to start"
    elif name[-1] == "await_soak" and standing.progress is not None:
        soaks = [one.soak for one in standing.progress.environments if one.environment == name[1]]
        until, why = next((soak.until for soak in soaks if soak), until), f"the end of the soak in {name[1]}"
    elif name[-1] == AWAITS_AUTHORITIES:
        what = "have the change approved in the other system"
        act = Act(kind="wait", what=what, by=(WHO_ELSE_APPROVES,), task=task.task_id)
        return _Obstacle(f"It waits for {(why or 'the approval in another system').rstrip('.')}.", (act,))
    elif not why:
        why = task.title
    closes = f", until {_instant(until)}" if until else ""
    act = Act(kind="wait", what=why, by=(), until=until, task=task.task_id)
    return _Obstacle(f"It waits for this: {why.rstrip('.')}{closes}.", (act,))


def _closed(task: TaskSeen, closed: Closed) -> _Obstacle:
    opens = f" until {_instant(closed.until)}" if closed.until else " for more than 400 days"
    acts = [Act(kind="wait", what=f"the end of {closed.title}", by=(), until=closed.until, task=task.task_id)]
    if closed.override_by:
        what = f"override {closed.title} for {closed.service} in {closed.environment}, with a reason"
        acts.append(Act(kind="override", what=what, by=closed.override_by, until=closed.until, task=task.task_id))
    said = f"{closed.environment} is closed to {closed.service}{opens}: {closed.title} ({closed.place})."
    return _Obstacle(said, tuple(acts))


def _is_held(task: TaskSeen, standing: Standing) -> bool:
    """Tell whether a task that is to begin cannot: its pool is full, or it is queued for long."""
    full = any(pool.name == task.pool for pool in standing.full)
    return full or task.since is None or standing.now - task.since >= PATIENCE


def _no_place(task: TaskSeen, standing: Standing) -> _Obstacle:
    for pool in standing.full:
        if pool.name == task.pool:
            what = f"make the pool {pool.name} larger" + (", or wait until a task in it ends" if pool.slots else "")
            act = Act(kind="pool", what=what, by=(PLATFORM,), task=task.task_id)
            taken = f"{'all ' if pool.slots else ''}{pool.slots} places are taken"
            said = f"{task.title} waits for a place in the pool {pool.name}: {taken}."
            return _Obstacle(said, (act,), helpless=not pool.slots)
    act = Act(
        kind="work", what="start a worker, or see why the workers take no task", by=(PLATFORM,), task=task.task_id
    )
    return _Obstacle(f"{task.title} waits for a worker.", (act,), helpless=True)


def _is_idle(standing: Standing) -> bool:
    """Tell whether for a while no task has been at work, waited, or been about to begin, and nobody is asked."""
    if standing.quiet_since is not None and standing.now - standing.quiet_since < PATIENCE:
        return False
    asked = any(not one.answered for one in standing.questions)
    return not asked and standing.state == "running" and all(one.state in (None, *_DONE) for one in standing.tasks)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
