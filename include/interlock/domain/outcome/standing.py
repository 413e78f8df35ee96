"""What is known of a run that may stand still: what Airflow, the ledger and the catalogue say of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from interlock.domain.canonical import Model
from interlock.domain.permits.objections import Objection

from .progress import Progress


class TaskSeen(Model):
    """A task of the run, by Airflow's own record."""

    task_id: str
    title: str
    state: str | None
    since: datetime | None = Field(None, description="When it came into this state, as far as Airflow says")
    tries: int = 0
    max_tries: int = 0
    again_at: datetime | None = Field(None, description="When it is tried again")
    pool: str = ""
    reason: str = Field("", description="Why it failed, in the words of its error")
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


class ProcessSeen(Model):
    """A process of Airflow that gives no sign of life."""

    name: Literal["scheduler", "triggerer"]
    heard: datetime | None = Field(None, description="When it was heard last; none: never")


class PoolSeen(Model):
    """A pool of Airflow in which no place is left."""

    name: str
    slots: int = Field(description="-1: without limit")


class Holder(Model):
    """A release that holds an environment, or is ahead in the queue for it."""

    run: str = Field(description="Dag and run, as a waiting task names them")
    version: str = ""
    requested_by: str = ""


class Closed(Model):
    """What keeps an environment from being changed now, by the calendars."""

    service: str
    environment: str
    title: str
    place: str = Field(description="Its file, and the entry in it")
    until: datetime | None = Field(None, description="From when on it is open; none: not within 400 days")
    override_by: tuple[str, ...] = Field((), description="Roles that may override it; empty: nobody may")


class Away(Model):
    """A member of a board who has a delegate now."""

    user: str
    until: str = Field(description="The last day, such as 2026-12-14")
    delegate: str


class Refusal(Objection):
    """What would refuse a wave."""

    at: datetime | None = Field(None, description="When it would; none: now")


class Standing(Model):
    """What is known of a run that may stand still."""

    now: datetime
    state: str = Field(description="Of the run, by Airflow: queued, running, success or failed")
    paused: bool = False
    called_off: str = Field("", description="By whom it was withdrawn, or by what overtaken, in a sentence")
    ahead: Ahead | None = None
    tasks: tuple[TaskSeen, ...] = Field((), description="Those that have begun and not ended, and those that failed")
    questions: tuple[QuestionSeen, ...] = ()
    progress: Progress | None = None
    not_before: datetime | None = None
    failed_hosts: str = Field("", description="Which hosts failed, and whether the error budget bears it; empty: none")
    quiet_since: datetime | None = Field(None, description="When the last of its tasks ended; none: none has")
    silent: tuple[ProcessSeen, ...] = ()
    full: tuple[PoolSeen, ...] = ()
    holders: tuple[Holder, ...] = Field((), description="Of the environments that it goes to; the first one first")
    closed: tuple[Closed, ...] = Field((), description="Of the environments that it goes to")
    away: tuple[Away, ...] = ()
    gone: tuple[str, ...] = Field((), description="User names that are asked, and that board.yaml does not have")
    refusals: tuple[Refusal, ...] = Field((), description="What would refuse a permit, now or at its start")
    incidents: tuple[str, ...] = Field((), description="Open incidents of other systems about it")
