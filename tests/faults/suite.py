"""Many trials: some fleets beside one another, the kinds of faults in turn, everything drawn from one seed."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .balancers import Balancers, balancers
from .lane import HOSTS, Lane, lane
from .trials import FAULTS, make_trial


@dataclass
class Tally:
    """What came of the trials."""

    trials: int = 0
    faults: int = 0
    failures: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.trials} trials, {self.faults} faults, {len(self.failures)} failures"


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Have a logger say nothing for a block: what failed is what is tried here."""
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


class Suite:
    """Trials to be made."""

    def __init__(self, folder: Path, numbers: list[int], seed: int, *, lanes: int = 4, loud: bool = True) -> None:
        self._folder, self._seed, self._lanes, self._loud = folder, seed, lanes, loud
        self._numbers, self._guard = list(reversed(numbers)), threading.Lock()
        self.tally = Tally()

    def run(self) -> Tally:
        """Make all trials."""
        started = time.monotonic()
        with _quiet("interlock"), balancers(random.Random(self._seed)) as found:
            ids = found.instances(self._lanes * HOSTS)
            threads = [
                threading.Thread(target=self._work, args=(number, found, ids[number * HOSTS : (number + 1) * HOSTS]))
                for number in range(self._lanes)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.tally.seconds = time.monotonic() - started
        return self.tally

    def _work(self, number: int, found: Balancers, ids: list[str]) -> None:
        try:
            with lane(self._folder / f"lane-{number}") as fleet:
                for machine, instance_id in zip(fleet.fleet.machines, ids, strict=True):
                    machine.host = machine.host.model_copy(update={"instance_id": instance_id})
                group = found.target_group(f"lane-{uuid.uuid4().hex[:8]}")
                while (trial := self._next()) is not None:
                    self._try(trial, fleet, found, group)
        except Exception:
            self._note(-1, "lane", 0, traceback.format_exc())

    def _next(self) -> int | None:
        with self._guard:
            return self._numbers.pop() if self._numbers else None

    def _try(self, number: int, fleet: Lane, found: Balancers, group: object) -> None:
        fault = FAULTS[number % len(FAULTS)]
        rng = random.Random(f"{self._seed}/{number}")
        problem, faults = "", 1
        try:
            faults = make_trial(fleet, found, group, rng, fault)  # type: ignore[arg-type]
        except AssertionError as error:
            problem = str(error)
        except Exception:
            problem = traceback.format_exc()
        self._note(number, fault.__name__, faults, problem)

    def _note(self, number: int, kind: str, faults: int, problem: str) -> None:
        with self._guard:
            self.tally.trials += number >= 0
            self.tally.faults += faults
            self.tally.kinds[kind] += 1
            if problem:
                self.tally.failures.append(f"trial {number} ({kind}): {problem}")
            if self._loud and problem:
                sys.stdout.write(f"trial {number}, {kind.replace('_', ' ')}: {problem}\n")
            elif self._loud and self.tally.trials % 20 == 0:
                sys.stdout.write(f"{self.tally}\n")
            sys.stdout.flush()
