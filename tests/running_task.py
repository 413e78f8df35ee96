"""A task of a release that is running, for tests of what stages do: no scheduler, and a ledger in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self

import pytest
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.ledger.ledger import Ledger
from interlock.domain.calendars.bookings import PREFIX
from interlock.domain.canonical import sha256_of
from interlock.domain.ledger.kinds import RUN_ASKED
from interlock.domain.ledger.witness import AskedRun
from interlock.domain.records import Record
from interlock.stages.runtime import resources
from tests.airflow_server import RUN
from tests.task_instance import task_instance
from tests.witness import SIGNER, asked_payload


@dataclass
class RunningTask:
    """What a task leaves: its XComs, and its entries in the ledger."""

    xcoms: dict[str, Any] = field(default_factory=dict)
    recorded: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Kind and payload."""
    before: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What tasks before it left: task and key."""
    asked: SimpleNamespace | None = None
    """The entry of who asked for the run; none: by the ledger nobody did."""
    answers: Callable[[], Iterable[SimpleNamespace]] = tuple
    """Returns the entries of the answers that came in at Airflow's API."""
    began: datetime = datetime(2026, 11, 23, 9, tzinfo=UTC)
    """When everything was recorded."""

    def __enter__(self) -> Self:
        """Be the ledger for a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stay open."""

    bookings: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Kind and payload of what went into the chains of environments' bookings."""

    def append(self, chain: str, kind: str, payload: dict[str, Any], *, actor: str, key: str) -> SimpleNamespace:
        """Take an entry of the ledger."""
        kept = self.bookings if chain.startswith(PREFIX) else self.recorded
        kept.append((kind, payload))
        return SimpleNamespace(chain=chain, kind=kind, payload=payload, sequence=len(kept))

    def append_once(self, chain: str, kind: str, payload: dict[str, Any], *, actor: str, key: str) -> SimpleNamespace:
        """Take an entry that there is once; that it is once is the ledger's own tests' matter."""
        return self.append(chain, kind, payload, actor=actor, key=key)

    def look(self, *asked: tuple[str, str, int]) -> tuple[datetime, tuple[tuple[SimpleNamespace, ...], ...]]:
        """Have in the chains of bookings what was put there, and in others nothing that matters."""
        found = ([*self._booked(after)] if chain.startswith(PREFIX) else [] for chain, _, after in asked)
        return datetime.now(UTC), tuple(map(tuple, found))

    def _booked(self, after: int = 0) -> Iterator[SimpleNamespace]:
        for number, (kind, payload) in enumerate(self.bookings, start=1):
            if number > after:
                yield SimpleNamespace(kind=kind, payload=payload, sequence=number, at=datetime.now(UTC))

    def check(self, chain: str, keys: object = ()) -> None:
        """Hold."""

    def entries(self, chain: str, **_: object) -> tuple[SimpleNamespace, ...]:
        """Be read as the ledger is."""
        if chain.startswith(PREFIX):
            return tuple(self._booked())
        recorded = (
            SimpleNamespace(chain=chain, kind=kind, payload=payload, sequence=number, at=self.began)
            for number, (kind, payload) in enumerate(self.recorded, start=1)
        )
        return (*recorded, *self.answers())

    def heads(self, chain: str) -> tuple[SimpleNamespace, ...]:
        """Have signed all there is."""
        return (SimpleNamespace(sequence=len(self.recorded)),)

    def find(self, chain: str, key: str) -> SimpleNamespace | None:
        """Find the one entry that has a key here."""
        return self.asked

    def knows(self, kind: str, record: Record) -> None:
        """Have a record of an earlier task."""
        self.recorded.append((kind, record.to_xcom()))

    def sign_head(self, chain: str, signer: object, *, seals: object = None) -> None:
        """Sign nothing: the ledger's own tests are about signatures."""


def asked_for(run: tuple[str, str], user: str, form: dict[str, Any] | None = None) -> AskedRun:
    """Return what the ledger has of a run that somebody asked for at Airflow's API."""
    return AskedRun(dag_id=run[0], run_id=run[1], user=user, conf=sha256_of(form or {}))


def asked_at_the_api(ledger: Ledger, run: tuple[str, str], user: str | None) -> SimpleNamespace:
    """Put on record that somebody asked for a run, with an empty form; return the run, as its tasks know it.

    :param user: none: nobody did.
    """
    if user is not None:
        asked = asked_for(run, user)
        if ledger.find(asked.chain, asked.key) is None:
            ledger.append(asked.chain, RUN_ASKED, asked_payload(asked, datetime.now(UTC)), actor=user, key=asked.key)
    return SimpleNamespace(dag_id=run[0], run_id=run[1], triggering_user_name=user, conf=None)


@contextmanager
def running_task(task_id: str, patch: pytest.MonkeyPatch) -> Iterator[RunningTask]:
    """Run a task of the release :data:`RUN` for a block."""
    left = RunningTask()
    ti = task_instance(RUN[0], task_id)
    ti.xcom_push.side_effect = lambda key, value: left.xcoms.__setitem__(key, value)
    ti.xcom_pull.side_effect = lambda task_ids, key="return_value", **_: left.before.get((task_ids, key))
    patch.setattr(resources, "signer", lambda: SIGNER)
    patch.setattr(resources, "ledger", lambda: left)
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=RUN[0], run_id=RUN[1]), "params": {}}
    with set_current_context(context):
        yield left
