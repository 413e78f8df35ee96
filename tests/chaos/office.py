"""The people of a release office: they ask for one release after another, and answer what they are asked.

They do what a person does while Airflow's pages fail: they try again later. What they were told is kept, so that it can
be compared with the ledger afterwards.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from interlock.adapters.airflow.rest_api import Answer
from interlock.domain.errors import ReleaseError
from interlock.estate.commands.client import ENDED
from tests.end_to_end.people import FORM, Colleague, Release
from tests.end_to_end.stack import Stack

SECONDS_BETWEEN_LOOKS = 3.0
GOOD = ("Approve", "Acknowledge", "Done", "Waive")
REJECTS = 0.05
"""Share of the ballots on which a member rejects."""
BALLOT = "rollout.cast_ballot"


@dataclass(frozen=True)
class Given:
    """An answer that Airflow confirmed to the person who gave it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    user: str
    option: str
    at: datetime


@dataclass
class Desk:
    """What happened to the releases of one service."""

    service: str
    versions: list[str]
    runs: list[tuple[str, str]] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)


@dataclass
class Office:
    """Releases every service again and again, until it is closed; answers questions until it is left.

    :param told: is called with what begins and ends, in a sentence.
    """

    stack: Stack
    rng: random.Random
    told: Callable[[str], None]
    desks: list[Desk]
    given: list[Given] = field(default_factory=list)
    trouble: int = 0
    closed: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    away: threading.Event = field(default_factory=threading.Event)
    """While it is set, nobody answers."""
    _threads: list[threading.Thread] = field(default_factory=list)

    def open(self) -> None:
        """Begin to work: each service is released by somebody of its own."""
        for desk in self.desks:
            thread = threading.Thread(target=self._work, args=(desk, random.Random(self.rng.random())))
            thread.start()
            self._threads.append(thread)

    def leave(self) -> None:
        """Stop to work."""
        self.closed.set()
        self.left.set()
        for thread in self._threads:
            thread.join()

    def active(self) -> Iterator[tuple[str, str]]:
        """Yield Dag and run of each release that has not ended."""
        for desk in self.desks:
            yield from (run for run in desk.runs if run[1] not in desk.ended)

    def _work(self, desk: Desk, rng: random.Random) -> None:
        with closing(Stack(self.stack.settings, desk.service)) as own:
            seen: set[tuple[str, str, int, datetime | None]] = set()
            while not self.left.wait(SECONDS_BETWEEN_LOOKS):
                try:
                    self._look(own, desk, rng, seen)
                except (ReleaseError, httpx.HTTPError):  # a page that does not load
                    self.trouble += 1

    def _look(
        self, own: Stack, desk: Desk, rng: random.Random, seen: set[tuple[str, str, int, datetime | None]]
    ) -> None:
        rita = own.person("rita")
        active = [run for run in desk.runs if run[1] not in desk.ended]
        if not active and not self.closed.is_set() and desk.versions:
            self._ask(rita, desk)
        for _, run_id in active:
            release = Release(rita, run_id)
            if release.state in ENDED:
                outcome = str((release.outcome() or {}).get("outcome") or "no outcome")
                desk.ended[run_id] = outcome
                self.told(f"{desk.service}: {run_id} is {outcome}")
            elif not self.away.is_set():
                self._answer(own, release, rng, seen)

    def _ask(self, rita: Colleague, desk: Desk) -> None:
        """Ask for a release, unless there is one that a lost answer kept from us."""
        runs = [run.id for run in rita.active_runs(rita.dag)]
        known = {run for _, run in desk.runs}
        if unknown := [run for run in runs if run not in known]:
            desk.runs.extend((rita.dag, run) for run in unknown)
            desk.versions.pop(0)
            return
        version = desk.versions[0]
        reply = rita.ask_for_release({"ref": version, "version": version, **FORM})
        if reply.is_success:
            desk.runs.append((rita.dag, reply.json()["dag_run_id"]))
        elif reply.status_code < 500:
            self.told(f"{desk.service}: {version} is refused: {reply.status_code} {reply.text[:300]}")
        else:
            self.trouble += 1
            return
        desk.versions.pop(0)

    def _answer(
        self, own: Stack, release: Release, rng: random.Random, seen: set[tuple[str, str, int, datetime | None]]
    ) -> None:
        """Answer what was there at the last look already, as people do."""
        for question in release.person.answers(release.dag_id, release.id, answered=False):
            if question.state != "awaiting_input" or not question.assigned:
                continue
            mark = (release.id, question.task_id, question.map_index, question.asked_at)
            if mark in seen:
                self._give(own, release, question, rng)
            seen.add(mark)

    def _give(self, own: Stack, release: Release, question: Answer, rng: random.Random) -> None:
        user = question.assigned[0]
        option = next((one for one in GOOD if one in question.options), question.options[0])
        if question.task_id == BALLOT and rng.random() < REJECTS:
            option = "Reject"
        if release.answer(own.person(user), question, option, "Looked at"):
            where = (release.dag_id, release.id, question.task_id, question.map_index)
            self.given.append(Given(*where, user, option, datetime.now(UTC)))

    def wait_for_ends(self, seconds: float) -> None:
        """Wait until every release has ended, at most so long."""
        give_up = time.monotonic() + seconds
        while any(True for _ in self.active()) and time.monotonic() < give_up:
            time.sleep(SECONDS_BETWEEN_LOOKS)
