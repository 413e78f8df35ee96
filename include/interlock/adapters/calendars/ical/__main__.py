"""The process that reads iCalendar files: each in a child of its own, which ends when it exceeds its limits.

:mod:`.apart` starts it and asks it. It has no connection, no password and no open file of whoever asks, and ends when
nobody has asked it anything for a while.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date

from interlock.adapters.catalogue.yaml_files import refused
from interlock.domain.calendars.entries import Occurrence
from interlock.domain.calendars.spans import year_span
from interlock.domain.errors import CatalogueError

from .messages import Limits, Question, Refusal, Row, WorkedOut, receive, send
from .reading import MAX_OCCURRENCES_PER_YEAR, IcsTimes, read_ical

IDLE_SECONDS = 30.0
EXHAUSTED = 3
"""The exit code of a child that got no more memory."""


def main() -> None:
    """Answer questions from standard input on standard output, until nobody asks any more."""
    while select.select([0], [], [], IDLE_SECONDS)[0] and (asked := receive(0)) is not None:
        send(1, _by_a_child(asked))


def _by_a_child(asked: bytes) -> bytes:
    """Return the answer of a child; if it did not come to one, nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            question: Question = pickle.loads(asked)
            _limit(question.limits)
            send(writing, answer(question).model_dump_json().encode())
            code = 0
        except MemoryError:
            code = EXHAUSTED
        finally:
            os._exit(code)
    os.close(writing)
    try:
        return receive(reading) or b""
    finally:
        os.close(reading)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(limits.seconds)


def answer(asked: Question) -> WorkedOut:
    """Return what goes on in the years that are asked about, or why that cannot be known."""
    try:
        found = read_ical(asked.path, asked.named, asked.known, shown=asked.shown)
        return work_out(found, asked.years)
    except CatalogueError as error:
        return WorkedOut(refusal=Refusal.of(error))
    except ValueError as error:
        problem = str(error)
    except MemoryError:
        raise
    except Exception as error:  # whatever a file contains, who asks gets an answer that people can read
        problem = f"cannot be read: {error!r}"
    return WorkedOut(refusal=Refusal.of(refused(asked.shown, [problem], who=asked.owner)))


def work_out(times: IcsTimes, years: Iterable[int]) -> WorkedOut:
    """Return what goes on in some years.

    :raises ValueError: more than anybody could mean.
    """
    numbers = {entry.place: number for number, entry in enumerate(times.entries)}
    found = {year: _rows(times, year, numbers) for year in years}
    return WorkedOut.model_construct(entries=times.entries, notes=times.notes, years=found)


def _rows(times: IcsTimes, year: int, numbers: Mapping[str, int]) -> tuple[Row, ...]:
    begin, end = year_span(year)
    found: list[Row] = []
    for one in times.between(begin, end):
        if one.start < end and one.end > begin:
            found.append((one.start, one.end, numbers[one.entry.place], one.title, _days(one)))
        if len(found) > MAX_OCCURRENCES_PER_YEAR:
            raise ValueError(
                f"its events occur more than {MAX_OCCURRENCES_PER_YEAR} times in {year}; allowed: so many at most"
            )
    return tuple(found)


def _days(one: Occurrence) -> tuple[date, date, str] | None:
    return (one.days.first, one.days.after, one.days.zone) if one.days else None


if __name__ == "__main__":
    main()
