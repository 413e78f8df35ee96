"""Refused attempts, on record: who tried what to a release.

A refusal never waits for the record: attempts are handed to a thread that writes them. The first of its kind is written
at once; those that follow within a minute become one entry with their number, so that no one can flood the ledger. What
the ledger does not take is tried again while the process lives.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.control.current_request import CurrentRequest
from interlock.domain.errors import LedgerConflict, LedgerError
from interlock.domain.ledger.chain import INSTALLATION, instant
from interlock.domain.ledger.kinds import ATTEMPT_REFUSED

log = logging.getLogger(__name__)
WINDOW = 60.0
"""Seconds in which all attempts of the same kind make one further entry."""
MAX_KINDS = 20
"""Kinds of attempts of a user within a window; further kinds are counted together."""
MAX_WAITING = 1000
PAUSE = 5.0
"""Seconds before an entry that the ledger did not take is tried again."""
MAX_TEXT_LENGTH = 500
SEVERAL = "(several)"
NOT_TAKEN = (LedgerError, LedgerConflict)
"""Errors with which the ledger refuses an entry for good."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A refused attempt to change a release.

    :param by: what refused it: ``role``, ``release control``, ``assignment``.
    """

    user: str
    method: str
    entity: str
    dag_id: str
    by: str
    path: str
    at: datetime
    run_id: str | None = None
    task_id: str | None = None
    targets: int = 1

    @property
    def kind(self) -> tuple[Any, ...]:
        """The fields that repetitions have in common."""
        return (self.user, self.method, self.entity, self.dag_id, self.run_id, self.task_id, self.by)


def attempt_of(user: str, asked: CurrentRequest, entity: str | None, dag_id: str, by: str) -> Attempt:
    """Return what a request tried to do to a Dag."""
    targets = asked.targets_of(dag_id)
    return Attempt(
        user=_short(user) or "nobody",
        method=asked.method,
        entity=entity or "DAG",
        dag_id=_short(dag_id),
        by=by,
        path=_short(asked.path),
        at=asked.at,
        run_id=_short(targets[0].run_id) or None,
        task_id=_short(targets[0].task_id) or None,
        targets=len(targets),
    )


def attempt_by_task(asked: CurrentRequest, entity: str, dag_id: str, run_id: str) -> Attempt:
    """Return what a task tried to do to another Dag's run; only Airflow can verify the token of the task."""
    said = attempt_of("a task", asked, entity, dag_id, "release control")
    return replace(said, run_id=_short(run_id) or None)


def _short(text: str | None) -> str:
    """Return a text for an entry: a single line, shortened."""
    return "".join(one if one.isprintable() else "?" for one in text or "")[:MAX_TEXT_LENGTH]


@dataclass(slots=True)
class Row:
    """An entry that is to be written: attempts of the same kind."""

    first: Attempt
    count: int = 1
    last: datetime | None = None
    key: str = field(default_factory=lambda: f"{ATTEMPT_REFUSED}/{uuid.uuid4().hex}")

    def payload(self) -> dict[str, Any]:
        """Return it as the ledger has it."""
        one = self.first
        named = {name: getattr(one, name) for name in ("user", "method", "entity", "dag_id", "run_id", "task_id")}
        times = {"at": instant(self.last or one.at), "first_at": instant(one.at)}
        return {**named, **times, "by": one.by, "path": one.path, "targets": one.targets, "count": self.count}


class Tally:
    """Attempts by kind: the first of a kind makes a row at once; all others of a window make a row at its end."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._open: dict[tuple[Any, ...], tuple[float, Row | None]] = {}

    @property
    def is_open(self) -> bool:
        """Tell whether a window is open."""
        return bool(self._open)

    def add(self, attempt: Attempt, now: float) -> Row | None:
        """Count an attempt; return a row if it is the first of its kind."""
        kind = attempt.kind
        if kind not in self._open and sum(known[0] == attempt.user for known in self._open) >= MAX_KINDS:
            attempt = replace(attempt, dag_id=SEVERAL, run_id=None, task_id=None, entity=SEVERAL, method=SEVERAL)
            kind = attempt.kind
        if kind not in self._open:
            self._open[kind] = (now + self._window, None)
            return Row(attempt)
        until, row = self._open[kind]
        if row is None:
            self._open[kind] = (until, Row(attempt, last=attempt.at))
        else:
            row.count, row.last = row.count + 1, attempt.at
        return None

    def passed(self, now: float) -> list[Row]:
        """Close the windows that have ended; return the rows that were counted in them."""
        over = [kind for kind, (until, _) in self._open.items() if until <= now]
        rows = [self._open.pop(kind)[1] for kind in over]
        return [row for row in rows if row is not None]


class AttemptLog:
    """Writes refused attempts into the ledger, from a thread of its own."""

    def __init__(
        self, open_ledger: OpenLedger = configured_ledger, *, window: float = WINDOW, pause: float = PAUSE
    ) -> None:
        self._open_ledger, self._pause = open_ledger, pause
        self._tally = Tally(window)
        self._came: deque[Attempt] = deque(maxlen=MAX_WAITING)
        self._rows: deque[Row] = deque(maxlen=MAX_WAITING)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def note(self, attempt: Attempt) -> None:
        """Record an attempt later; this neither waits nor fails."""
        log.warning(
            "Refused to %s (%s): %s %s of %s %s",
            *(attempt.user, attempt.by, attempt.method, attempt.entity, attempt.dag_id, attempt.run_id or ""),
        )
        with self._changed:
            if len(self._came) == MAX_WAITING:
                log.error("Too many refused attempts to record: the oldest attempt was dropped")
            self._came.append(attempt)
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._changed.notify()

    def close(self, seconds: float = 5.0) -> None:
        """Write the waiting entries, for at most so many seconds."""
        thread = self._thread
        with self._changed:
            self._closing = True
            self._changed.notify()
        if thread is not None:
            thread.join(seconds)

    def _start(self) -> None:
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="interlock-attempts", daemon=True)
        self._thread.start()
        atexit.unregister(self.close)
        atexit.register(self.close)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._came and not self._closing:
                    self._changed.wait(self._pause if self._rows else 1.0 if self._tally.is_open else None)
                self._count()
                closing = self._closing
            written = self._write()
            if closing:
                return
            if not written:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, self._pause)

    def _count(self) -> None:
        now = time.monotonic()
        first = [self._tally.add(attempt, now) for attempt in self._came]
        self._came.clear()
        self._rows.extend(row for row in first if row is not None)
        self._rows.extend(self._tally.passed(float("inf") if self._closing else now))

    def _write(self) -> bool:
        """Write the rows that wait; False if the ledger does not take them now."""
        if not self._rows:
            return True
        try:
            with self._open_ledger() as ledger:
                while self._rows:
                    row = self._rows[0]
                    ledger.append(INSTALLATION, ATTEMPT_REFUSED, row.payload(), actor=row.first.user, key=row.key)
                    self._rows.popleft()
        except Exception as error:  # a thread that ends would lose all that come after
            log.exception("%s entries of refused attempts wait, because the ledger is not available", len(self._rows))
            if type(error) in NOT_TAKEN:
                log.error("An entry was dropped: %s", self._rows.popleft().payload())
            return False
        return True


Note = Callable[[Attempt], None]
