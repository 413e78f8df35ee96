"""What the triggerer watches for a waiting release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.interlock.adapters.airflow_api import AirflowApi
from include.interlock.domain.errors import ReleaseError, TransientError

UNDER_WAY = ("queued", "running")
"""States of a run that has not ended."""
POLL = 2.0
"""Seconds between two looks at the answers."""


class RunTrigger(BaseTrigger):
    """Fire when a run of a Dag has ended, or when it is gone.

    It fires too when Airflow's API refuses to say: the waiting task then asks itself, and fails with the reason.

    :param connection: the Airflow connection of the service account that reads.
    """

    def __init__(self, *, dag_id: str, run_id: str, connection: str) -> None:
        super().__init__()
        self.dag_id, self.run_id, self.connection = dag_id, run_id, connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"dag_id": self.dag_id, "run_id": self.run_id, "connection": self.connection},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the run until it has ended."""
        while True:
            try:
                connection = await Connection.async_get(self.connection)
                with closing(await asyncio.to_thread(AirflowApi, connection)) as api:
                    await asyncio.to_thread(api.log_in)
                    while (state := await asyncio.to_thread(api.run_state, self.dag_id, self.run_id)) in UNDER_WAY:
                        await asyncio.sleep(POLL)
                yield TriggerEvent({"why": f"the run is {state or 'gone'}"})
                return
            except TransientError as error:
                self.log.warning("%s", error)
                await asyncio.sleep(POLL)
            except ReleaseError as error:
                yield TriggerEvent({"why": str(error)})
                return


class AnswersTrigger(BaseTrigger):
    """Fire when the number of answers to a run's questions is another than is known, or when the time is up.

    It fires too when Airflow's API refuses to say: the waiting task then asks itself, and fails with the reason.

    :param answered: how many answers are known already.
    :param until: when the time is up; none: never.
    :param connection: the Airflow connection of the service account that reads.
    """

    def __init__(
        self, *, dag_id: str, run_id: str, task_id: str, answered: int, until: datetime | None, connection: str
    ) -> None:
        super().__init__()
        self.dag_id, self.run_id, self.question_id = dag_id, run_id, task_id
        self.answered, self.until, self.connection = answered, until, connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "task_id": self.question_id,
                "answered": self.answered,
                "until": self.until,
                "connection": self.connection,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the answers until there is something to count."""
        while not self._time_is_up():
            try:
                if (answered := await self._other_count()) is not None:
                    yield TriggerEvent({"why": f"{answered} answers"})
                    return
            except TransientError as error:
                self.log.warning("%s", error)
                await asyncio.sleep(POLL)
            except ReleaseError as error:
                yield TriggerEvent({"why": str(error)})
                return
        yield TriggerEvent({"why": "the time is up"})

    async def _other_count(self) -> int | None:
        """Return the number of answers as soon as it is another than is known; None when the time is up."""
        async with aclosing(self._counts()) as counts:
            async for answered in counts:
                if answered != self.answered:
                    return answered
        return None

    async def _counts(self) -> AsyncGenerator[int, None]:
        """Log in once and count the answers every few seconds, until the time is up."""
        connection = await Connection.async_get(self.connection)  # each time: its password may have been changed
        with closing(await asyncio.to_thread(AirflowApi, connection)) as api:
            await asyncio.to_thread(api.log_in)
            while not self._time_is_up():
                answers = await asyncio.to_thread(api.answers, self.dag_id, self.run_id, self.question_id)
                yield sum(answer.answered for answer in answers)
                await asyncio.sleep(POLL)

    def _time_is_up(self) -> bool:
        return self.until is not None and datetime.now(UTC) >= self.until
