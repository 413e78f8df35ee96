"""Triggers: Airflow's triggerer waits for tasks of a release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, closing
from datetime import UTC, datetime
from functools import partial
from typing import Any

from airflow.sdk import Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from interlock.adapters.airflow.rest_api import AirflowApi, Answer
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import ReleaseError, TransientError
from interlock.domain.ledger.kinds import RELEASE_OVERTAKEN, RELEASE_WITHDRAWN, family

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
        while (left := (self.moment - datetime.now(UTC)).total_seconds()) > 0:
            try:
                if await self._is_called_off():
                    yield TriggerEvent({"why": "the release was called off"})
                    return
            except ReleaseError as error:  # the task asks the ledger itself when the time has come
                self.log.warning("%s", error)
            await asyncio.sleep(min(left, LEDGER_POLL))
        yield TriggerEvent({"why": "the time has come"})

    async def _is_called_off(self) -> bool:
        from interlock.adapters.ledger.ledger import open_ledger  # not at the top: brings SQLAlchemy

        connection = await Connection.async_get(self.connection)
        with open_ledger(connection) as ledger:
            entries = await asyncio.to_thread(partial(ledger.entries, self.chain, kind=family(RELEASE_WITHDRAWN)))
        return any(entry.kind in (RELEASE_WITHDRAWN, RELEASE_OVERTAKEN) for entry in entries)


def digest_of_answers(answers: Iterable[Answer]) -> str:
    """Return a digest of all given answers. It changes with each answer."""
    told = [one.model_dump(mode="json", exclude={"body", "subject"}) for one in answers if one.answered]
    return sha256_of({"answers": sorted(told, key=lambda one: int(one["map_index"]))})


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
        while not self._time_is_up():
            try:
                if (answers := await self._others()) is not None:
                    yield TriggerEvent({"why": f"{sum(one.answered for one in answers)} answers"})
                    return
            except TransientError as error:
                self.log.warning("%s", error)
                await asyncio.sleep(POLL)
            except ReleaseError as error:
                yield TriggerEvent({"why": str(error)})
                return
        yield TriggerEvent({"why": "the deadline has passed"})

    async def _others(self) -> tuple[Answer, ...] | None:
        """Return the answers as soon as there are new ones; None when the time is up."""
        async with aclosing(self._looks()) as looks:
            async for answers in looks:
                if digest_of_answers(answers) != self.known:
                    return answers
        return None

    async def _looks(self) -> AsyncGenerator[tuple[Answer, ...], None]:
        """Log in once and read the given answers every few seconds, until the time is up."""
        connection = await Connection.async_get(self.connection)  # each time: its password may have been changed
        with closing(await asyncio.to_thread(AirflowApi.of, connection)) as api:
            await asyncio.to_thread(api.log_in)
            while not self._time_is_up():
                given = partial(api.answers, self.dag_id, self.run_id, self.question_id, answered=True)
                yield await asyncio.to_thread(given)
                await asyncio.sleep(POLL)

    def _time_is_up(self) -> bool:
        return _is_up(self.until)
