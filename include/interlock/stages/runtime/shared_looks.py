"""What many triggers of a process wait for, read for all of them together: hundreds of releases may wait."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, Self, TypeVar
from weakref import WeakKeyDictionary

from airflow.sdk import Connection

from interlock.domain.errors import ReleaseError, TransientError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
AT_ONCE = 50
"""So many keys are read in a request."""


class SharedLooks(ABC, Generic[K, V]):
    """Reads every few seconds what is waited for, and hands each trigger its own.

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
