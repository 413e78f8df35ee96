"""A proxy in front of an HTTP server that loses, doubles, delays, reorders and cuts a share of all calls.

What becomes of a call is drawn from a seed and the number of the call.
"""

from __future__ import annotations

import random
from collections import Counter
from threading import Lock, Timer
from typing import Any

from tests.service_now import Instance, Request

FAULTS = ("lost", "doubled", "delayed", "reordered", "cut")


class FaultProxy:
    """The proxy.

    :param share: of calls with a fault.
    :param late: seconds after which a delayed call arrives, when nobody waits for its answer any more.
    :param down: the server does not answer anything.
    """

    def __init__(self, instance: Instance, *, seed: int, share: float = 0.3, late: float = 0.05) -> None:
        self._instance, self._random, self._share, self._late = instance, random.Random(seed), share, late
        self._lock, self.faults, self.calls, self.down = Lock(), Counter[str](), 0, False
        self._held: Request | None = None

    def handle(self, handler: Any, request: Request) -> None:
        """Let a call through, or not."""
        with self._lock:
            self.calls += 1
            fault = self._random.choice(FAULTS) if self._random.random() < self._share else ""
            fault = "lost" if self.down else fault
            self.faults[fault or "well"] += 1
        held = self._swap(request if fault == "reordered" else None)
        if fault in ("lost", "delayed", "reordered"):
            if fault == "delayed":
                Timer(self._late, self._instance.answer, [request]).start()
            handler.close_connection = True
        elif fault == "doubled":
            self._instance.answer(request)
            handler.reply(self._instance.answer(request))
        else:
            handler.reply(self._instance.answer(request), cut=fault == "cut")
        if held is not None:  # it arrives after one that was sent later
            self._instance.answer(held)

    def flush(self) -> None:
        """Let what is held arrive."""
        if (held := self._swap(None)) is not None:
            self._instance.answer(held)

    def _swap(self, request: Request | None) -> Request | None:
        """Hold a call back until the next one has passed; return the one that was held."""
        with self._lock:
            held, self._held = self._held, request
        return held
