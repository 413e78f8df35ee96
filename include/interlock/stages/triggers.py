"""What the triggerer watches for a waiting release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.interlock.adapters.airflow_api import AirflowApi
from include.interlock.domain.errors import TransientError

POLL = 2.0
"""Seconds between two looks at the answers."""


class AnswersTrigger(BaseTrigger):
    """Fire when another answer to a run's questions has come in, or when the time is up.

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
        connection = await Connection.async_get(self.connection)
        while self.until is None or datetime.now(UTC) < self.until:
            try:
                async for answered in self._counts(connection):
                    if answered > self.answered:
                        yield TriggerEvent({"why": f"{answered} answers"})
                        return
            except TransientError as error:
                self.log.warning("%s", error)
                await asyncio.sleep(POLL)
        yield TriggerEvent({"why": "the time is up"})

    async def _counts(self, connection: Any) -> AsyncIterator[int]:
        """Log in once and count the answers every few seconds, until the time is up."""
        with closing(await asyncio.to_thread(_logged_in, connection)) as api:
            while self.until is None or datetime.now(UTC) < self.until:
                answers = await asyncio.to_thread(api.answers, self.dag_id, self.run_id, self.question_id)
                yield sum(answer.answered for answer in answers)
                await asyncio.sleep(POLL)


def _logged_in(connection: Any) -> AirflowApi:
    return AirflowApi(connection).log_in()
