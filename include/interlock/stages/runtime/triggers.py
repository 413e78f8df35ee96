"""Triggers: Airflow's triggerer waits for tasks of a release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from interlock.adapters.airflow.rest_api import AirflowApi, Answer
from interlock.adapters.airflow.watched_runs import Question, given_answers
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import ReleaseError, TransientError
from interlock.domain.ledger.kinds import RELEASE_OVERTAKEN, RELEASE_WITHDRAWN

from .shared_looks import SharedLooks

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

UNDER_WAY = ("queued", "running")
"""States of a run that has not ended."""
POLL = 2.0
"""Seconds between two reads of the answers."""
LEDGER_POLL = 10.0
"""Seconds between two reads of the ledger: many releases may wait, each for hours."""


class RunTrigger(BaseTrigger):
    """Fire when a run of a Dag has ended or was deleted, or when the time is up.

    It also fires when Airflow's API refuses to answer: the waiting task then asks itself, and fails with the reason.

    :param connection: the Airflow connection of the service account that reads.
    :param until: when the time is up; None: never.
    """

    def __init__(self, *, dag_id: str, run_id: str, connection: str, until: datetime | None = None) -> None:
        super().__init__()
        self.dag_id, self.run_id, self.connection, self.until = dag_id, run_id, connection, until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"dag_id": self.dag_id, "run_id": self.run_id, "connection": self.connection, "until": self.until},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read the state of the run until it has ended."""
        while not _is_up(self.until):
            try:
                connection = await Connection.async_get(self.connection)
                with closing(await asyncio.to_thread(AirflowApi.of, connection)) as api:
                    await asyncio.to_thread(api.log_in)
                    while (state := await asyncio.to_thread(api.run_state, self.dag_id, self.run_id)) in UNDER_WAY:
                        if _is_up(self.until):
                            break
                        await asyncio.sleep(POLL)
                yield TriggerEvent({"why": f"the run is {state or 'gone'}"})
                return
            except TransientError as error:
                self.log.warning("%s", error)
                await asyncio.sleep(POLL)
            except ReleaseError as error:
                yield TriggerEvent({"why": str(error)})
                return
        yield TriggerEvent({"why": "the time is up"})


def _is_up(until: datetime | None) -> bool:
    return until is not None and datetime.now(UTC) >= until


class StartTrigger(BaseTrigger):
    """Fire when the time for which a release waits has come, or when the release was withdrawn or overtaken.

    :param moment: the time.
    :param chain: of the release.
    :param connection: the Airflow connection of the ledger.
    """

    def __init__(self, *, moment: datetime, chain: str, connection: str) -> None:
        super().__init__()
        self.moment, self.chain, self.connection = moment, chain, connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"moment": self.moment, "chain": self.chain, "connection": self.connection},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read the ledger every few seconds until the release is called off, or the time has come."""
        looks = SharedCalls.of(self.connection)
        while (left := (self.moment - datetime.now(UTC)).total_seconds()) > 0:
            try:
                async with asyncio.timeout(left):
                    is_called_off = await looks.next(self.chain)
            except TimeoutError:
                break
            except ReleaseError as error:  # the task asks the ledger itself when the time has come
                self.log.warning("%s", error)
            else:
                if is_called_off:
                    yield TriggerEvent({"why": "the release was called off"})
                    return
        yield TriggerEvent({"why": "the time has come"})


class SharedCalls(SharedLooks[str, bool]):
    """Whether releases are called off, by the ledger; named by their chains."""

    @property
    def every(self) -> float:
        """Seconds between two readings."""
        return LEDGER_POLL

    def open(self, connection: Connection) -> AbstractContextManager[Ledger]:
        """Open the ledger."""
        from interlock.adapters.ledger.ledger import open_ledger  # not at the top: brings SQLAlchemy

        return open_ledger(connection)

    def read(self, source: Ledger, keys: Sequence[str]) -> dict[str, bool]:
        """Tell of each chain whether its release was called off."""
        found = source.among(keys, (RELEASE_WITHDRAWN, RELEASE_OVERTAKEN))
        called_off = {entry.chain for entry in found}
        return {chain: chain in called_off for chain in keys}


def digest_of_answers(answers: Iterable[Answer]) -> str:
    """Return a digest of all given answers. It changes with each answer."""
    told = [one.model_dump(mode="json", exclude={"body", "subject"}) for one in answers if one.answered]
    return sha256_of({"answers": sorted(told, key=lambda one: int(one["map_index"]))})


class SharedAnswers(SharedLooks[Question, tuple[Answer, ...]]):
    """The answers to questions of runs, from Airflow's API server."""

    @property
    def every(self) -> float:
        """Seconds between two readings."""
        return POLL

    def open(self, connection: Connection) -> AbstractContextManager[AirflowApi]:
        """Return a client, which logs in at its first request."""
        return closing(AirflowApi.of(connection))

    def read(self, source: AirflowApi, keys: Sequence[Question]) -> dict[Question, tuple[Answer, ...]]:
        """Read the answers that were given."""
        return given_answers(source, keys)


class AnswersTrigger(BaseTrigger):
    """Fire when there are new answers to a run's questions, or when the time is up.

    It also fires when Airflow's API refuses to answer: the waiting task then asks itself, and fails with the reason.

    :param known: the answers that are known already, by :func:`digest_of_answers`.
    :param until: when the time is up; None: never.
    :param connection: the Airflow connection of the service account that reads.
    """

    def __init__(
        self, *, dag_id: str, run_id: str, task_id: str, known: str, until: datetime | None, connection: str
    ) -> None:
        super().__init__()
        self.dag_id, self.run_id, self.question_id = dag_id, run_id, task_id
        self.known, self.until, self.connection = known, until, connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "task_id": self.question_id,
                "known": self.known,
                "until": self.until,
                "connection": self.connection,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read the answers until there are new ones to count."""
        looks = SharedAnswers.of(self.connection)
        while not _is_up(self.until):
            try:
                answers = await looks.next((self.dag_id, self.run_id, self.question_id))
            except TransientError as error:
                self.log.warning("%s", error)
            except ReleaseError as error:
                yield TriggerEvent({"why": str(error)})
                return
            else:
                if digest_of_answers(answers) != self.known:
                    yield TriggerEvent({"why": f"{sum(one.answered for one in answers)} answers"})
                    return
        yield TriggerEvent({"why": "the deadline has passed"})
