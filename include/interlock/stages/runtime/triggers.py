"""Triggers: Airflow's triggerer waits for tasks of a release."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar
from weakref import WeakKeyDictionary

from airflow.sdk import Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from interlock.adapters.airflow.rest_api import AirflowApi, Answer
from interlock.adapters.airflow.watched_runs import Question, given_answers
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import ReleaseError, TransientError
from interlock.domain.ledger.kinds import RELEASE_OVERTAKEN, RELEASE_WITHDRAWN

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

UNDER_WAY = ("queued", "running")
"""States of a run that has not ended."""
POLL = 0.5
"""Seconds between two reads of the answers, which are read for all releases together."""
AT_ONCE = 50
"""So much is read in a request."""
RUN_POLL = 2.0
"""Seconds between two reads of the state of a run."""
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
                        await asyncio.sleep(RUN_POLL)
                yield TriggerEvent({"why": f"the run is {state or 'gone'}"})
                return
            except TransientError as error:
                self.log.warning("%s", error)
                await asyncio.sleep(RUN_POLL)
            except ReleaseError as error:
                yield TriggerEvent({"why": str(error)})
                return
        yield TriggerEvent({"why": "the time is up"})


def _is_up(until: datetime | None) -> bool:
    return until is not None and datetime.now(UTC) >= until


class SharedLooks(ABC, Generic[K, V]):
    """Reads what many triggers of a process wait for, for all of them together: hundreds of releases may wait.

    Each event loop has one for each connection: :meth:`of`.

    :param connection: the name of the Airflow connection of the source.
    """

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[type, str], Any]]] = WeakKeyDictionary()

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, connection: str) -> Self:
        """Return the one of the running event loop."""
        known = cls._of_loops.setdefault(asyncio.get_running_loop(), {})
        found: Self = known.setdefault((cls, connection), cls(connection))
        return found

    @property
    @abstractmethod
    def every(self) -> float:
        """Seconds between two readings."""

    @abstractmethod
    def open(self, connection: Connection) -> AbstractContextManager[Any]:
        """Open the source; called in a thread."""

    @abstractmethod
    def read(self, source: Any, keys: Sequence[K]) -> Mapping[K, V]:
        """Read what there is of each key; called in a thread."""

    async def next(self, key: K) -> V:
        """Return what the next reading finds.

        :raises ReleaseError: the source does not answer, or refuses to.
        """
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_on())
        return await future

    async def _read_on(self) -> None:
        """Read while something waits; open the source again after an error."""
        while self._waiting:
            try:
                connection = await Connection.async_get(self._connection)  # its password may have been changed
                with await asyncio.to_thread(self.open, connection) as source:
                    while self._waiting:
                        await self._read(source, list(self._waiting))
                        await asyncio.sleep(self.every)
            except Exception as error:
                self._tell(list(self._waiting), error)
                await asyncio.sleep(self.every)

    async def _read(self, source: Any, keys: Sequence[K]) -> None:
        for begin in range(0, len(keys), AT_ONCE):
            some = keys[begin : begin + AT_ONCE]
            try:
                self._tell(some, await asyncio.to_thread(self.read, source, some))
            except TransientError:
                raise
            except ReleaseError as error:
                if len(keys) == 1:
                    self._tell(keys, error)
                    continue
                for one in some:  # one of them is refused: no other waits for that
                    await self._read(source, [one])

    def _tell(self, keys: Sequence[K], found: Mapping[K, V] | Exception) -> None:
        for key in keys:
            for future in self._waiting.pop(key, ()):
                if future.done():
                    continue  # its trigger was cancelled
                if isinstance(found, Exception):
                    future.set_exception(found)
                else:
                    future.set_result(found[key])


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
            left = (self.until - datetime.now(UTC)).total_seconds() if self.until else None
            try:
                async with asyncio.timeout(left):
                    answers = await looks.next((self.dag_id, self.run_id, self.question_id))
            except TimeoutError:
                break
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
