"""iCalendar files are read and worked out in another process, with limits: whatever is in them, whoever asks goes on.

A file of a few hundred bytes can mean more times than there is memory for. Everything that is known of is refused with
its reason where it is read (:mod:`.reading`); the limits are for the rest. The process is started when it is first
needed, takes one file after another, and each of them in a child.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from select import select

from pydantic import ValidationError

from interlock.adapters.catalogue.yaml_files import refused
from interlock.domain.calendars.calendar import HORIZON
from interlock.domain.calendars.entries import Entry, Fault, Occurrence
from interlock.domain.calendars.spans import year_span
from interlock.domain.errors import CatalogueError
from interlock.locations import PACKAGE

from .messages import Limits, Named, Question, WorkedOut, receive, send

log = logging.getLogger(__name__)

LATER_SECONDS = 30.0
"""So much later than the limits of a file, its answer is not waited for any more."""
_LIMITS = Limits()
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "PYTHONTZPATH", "LD_LIBRARY_PATH")


class Unanswered(CatalogueError):
    """A file was not worked out within the limits; that may be the machine's fault, so it is tried again."""


class FileTimes:
    """An iCalendar file, worked out.

    :param asked: none: there is no file to ask about.
    """

    def __init__(
        self,
        asked: Question | None = None,
        found: WorkedOut | None = None,
        *,
        notes: Iterable[str] = (),
        faults: Iterable[Fault] = (),
    ) -> None:
        known = found or WorkedOut()
        self._asked, self._years = asked, {year: known for year in known.years}
        self.entries: tuple[Entry, ...] = known.entries
        self.notes, self.faults = (*known.notes, *notes), tuple(faults)

    def between(self, begin: datetime, end: datetime) -> Iterator[Occurrence]:
        """Yield the events that go on at some time from an instant to before another."""
        if self._asked is None:
            return
        for year in range(begin.year, (end - timedelta(microseconds=1)).year + 1):
            first, _ = year_span(year)
            for one in self._of_year(year):
                began_before = year > begin.year and one.start < first
                if one.start < end and one.end > begin and not began_before:
                    yield one

    def _of_year(self, year: int) -> Iterator[Occurrence]:
        """Yield what goes on in a year; in one that cannot be worked out, all that denies is in force."""
        if self._asked is not None and year not in self._years:
            try:
                self._years[year] = _answer(replace(self._asked, years=(year,)))
            except CatalogueError as error:
                log.warning("%s", error)
                begin, end = year_span(year)
                denying = (entry for entry in self.entries if entry.effect == "deny")
                yield from (Occurrence(begin, end, entry, f"{entry.title}: {error.what}") for entry in denying)
                return
        yield from self._years[year].occurrences(year)


def read_apart(
    path: Path,
    named: Named | None,
    known: Mapping[str, Collection[str] | None],
    *,
    shown: str,
    now: datetime | None = None,
    limits: Limits = _LIMITS,
) -> FileTimes:
    """Read an iCalendar file, and work out the years that questions are about; later ones when they are asked about.

    :param named: the entry that names it; none: each event says by its categories what it is.
    :param known: the names that categories may use, by ``service``, ``business-unit`` and ``environment``.
    :param shown: how messages call it.
    :raises CatalogueError: it cannot be used, with every event that is wrong.
    """
    at = now or datetime.now(UTC)
    years = tuple(range((at - HORIZON).year, (at + HORIZON).year + 1))
    asked = Question(path.absolute(), named, known, shown, years, limits)
    return FileTimes(asked, _answer(asked))


def _answer(asked: Question) -> WorkedOut:
    said = _reader.ask(pickle.dumps(asked), asked.limits.seconds + LATER_SECONDS)
    try:
        found = WorkedOut.model_validate_json(said) if said else None
    except ValidationError:
        log.exception("The answer about %s cannot be read", asked.shown)
        found = None
    if found is None:
        error = refused(asked.shown, [f"cannot be worked out with {asked.limits}"], who=asked.owner)
        raise Unanswered(error.what, rule=error.rule, who=error.who, next_step=error.next_step)
    if found.refusal is not None:
        raise found.refusal.error()
    return found


class _Reader:
    """The other process; it is started again if it has ended, and one thread at a time asks it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def ask(self, question: bytes, longest: float) -> bytes:
        """Return its answer; empty: there was none."""
        with self._turn:
            for _ in range(2):  # it may be about to end, because nobody asked it anything
                try:
                    process = self._running()
                    if process.stdin is None or process.stdout is None:
                        return b""
                    send(process.stdin.fileno(), question)
                    if not select([process.stdout], [], [], longest)[0]:
                        break
                    if (said := receive(process.stdout.fileno())) is not None:
                        return said
                except OSError as error:
                    log.warning("The process that reads iCalendar files does not answer: %s", error)
                self._end()
            self._end()
        return b""

    def forget(self) -> None:
        """Leave the other process to whoever started it: this is a fork, and a thread may have been asking."""
        process, self._process, self._turn = self._process, None, threading.Lock()
        if process is not None:
            _close(process)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = _start()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _start() -> subprocess.Popen[bytes]:
    environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "interlock.adapters.calendars.ical"],
        cwd="/",
        env={**environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


_reader = _Reader()
os.register_at_fork(after_in_child=_reader.forget)
