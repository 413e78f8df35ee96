"""The first process of a sandbox: it is held until the network is ready, and ended with all that it started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from interlock.domain.errors import AssetMissing

from ._network_access import Gateway, opened

SET_UP_TIMEOUT_SECONDS = 30.0
_END_TIMEOUT_SECONDS = 30.0


class FirstProcess:
    """A sandbox's first process, held until its doors are open, and ended with everything in the sandbox."""

    def __init__(
        self, told: int, telling: int, going: int, gateways: Sequence[Gateway], worker: Mapping[str, str]
    ) -> None:
        self._told, self._telling, self._going, self._gateways, self._worker = told, telling, going, gateways, worker
        self._first: int | None = None

    @contextmanager
    def around(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Open the network access and start the command; after its end, wait until no process in the sandbox runs."""
        os.close(self._telling)
        self._telling = -1
        child = self._child(process)
        if child is None:  # it says why on its output, and ends
            yield
            return
        self._first = os.pidfd_open(child)
        with suppress(OSError):  # when memory runs out, a build goes before the platform
            Path(f"/proc/{child}/oom_score_adj").write_text("500")
        try:
            with opened(child, self._gateways, self._worker):
                os.write(self._going, b"!")
                yield
        finally:
            self._end()

    def _child(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return the first process of the sandbox, as reported by bubblewrap."""
        told, give_up = b"", time.monotonic() + SET_UP_TIMEOUT_SECONDS
        while time.monotonic() < give_up and select.select([self._told], [], [], 1.0)[0]:
            data = os.read(self._told, 4096)
            told += data
            with suppress(ValueError):
                return int(json.loads(told)["child-pid"])
            if not data:
                return None
        os.killpg(process.pid, signal.SIGKILL)
        raise AssetMissing(
            f"bubblewrap did not create a sandbox within {SET_UP_TIMEOUT_SECONDS:g} s.",
            who="the operators of the worker",
            next_step="trigger the release again; check the load of the worker",
        )

    def _end(self) -> None:
        """End the first process, and with it all others: the kernel reports its end when the last of them is gone."""
        assert self._first is not None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._first, select.POLLIN)
        if not poll.poll(_END_TIMEOUT_SECONDS * 1000):
            raise AssetMissing(
                f"Processes of the build still run {_END_TIMEOUT_SECONDS:g} s after they were killed.",
                rule="the output of a build is used only when no process can change it",
                who="the operators of the worker",
                next_step="look for processes in state D, and check the disk that they wait for",
            )

    def close(self) -> None:
        """Give back what is open."""
        for one in (self._telling, self._first):
            if one is not None and one >= 0:
                os.close(one)
