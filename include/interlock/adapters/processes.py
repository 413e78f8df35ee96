"""Commands on this machine: with the environment they are given, a time limit, a cap on what is kept of their output,
and nothing of them left running when they are done."""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MARK = "INTERLOCK_COMMAND"
"""Environment variable by which all of a command's children are found, even outside of its process group."""

_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL, in which git removes its lock files."""

_LOOKS = 20


@dataclass(frozen=True)
class Finished:
    """A command that has ended.

    :param code: its exit code; negative: the signal that ended it.
    :param left_out: bytes of output that were over the cap, and are replaced by a line that says so.
    :param timed_out: it was stopped because its time was up.
    :param stopped: why else it was stopped; empty: it was not.
    """

    code: int
    output: bytes
    errors: bytes
    left_out: int
    seconds: float
    timed_out: bool
    stopped: str = ""


class _Kept:
    """The first and the last bytes of an output, at most ``cap`` of them."""

    def __init__(self, cap: int) -> None:
        self._half = max(1, cap // 2)
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    @property
    def left_out(self) -> int:
        """How many bytes were dropped."""
        return max(0, self._total - 2 * self._half)

    def text(self) -> bytes:
        """Return what was kept, with a line where something is missing."""
        middle = f"\n… {self.left_out} bytes left out …\n".encode() if self.left_out else b""
        return bytes(self._head) + middle + bytes(self._tail[-self._half :])


def run(
    command: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    seconds: float,
    cap: int,
    merged: bool = False,
    sweep: bool = False,
    pass_fds: Collection[int] = (),
    around: Callable[[subprocess.Popen[bytes]], AbstractContextManager[None]] | None = None,
    watch: Callable[[subprocess.Popen[bytes]], str] | None = None,
    largest: int | None = None,
    stop: bool = False,
) -> Finished:
    """Run a command in a session of its own; OSError if it cannot be started.

    :param environ: the whole environment that it sees, but for :data:`MARK`.
    :param cap: bytes of output that are kept, first and last half; the rest is counted and dropped.
    :param merged: its errors go into its output, in their order.
    :param sweep: also end what it started in the background, even in sessions of its own.
    :param around: entered when it has been started, left when it has been ended.
    :param watch: asked again and again while it runs; what it says is the reason to stop it.
    :param largest: bytes that a file which it writes may have; more ends it.
    :param stop: end it as soon as its output is over the cap.
    """
    mark, start = uuid.uuid4().hex, time.monotonic()
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env={**environ, MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        start_new_session=True,
        umask=0o022,  # the same modes on every worker
        pass_fds=tuple(pass_fds),
    )
    if largest is not None:
        _limit(process, largest)
    kept = {pipe: _Kept(cap) for pipe in (process.stdout, process.stderr) if pipe}
    with ExitStack() as stack:
        try:
            if around:
                stack.enter_context(around(process))
            timed_out, stopped = _listen(process, kept, start + seconds, watch or (lambda _: ""), stop=stop)
        finally:
            _end(process)
            if sweep:
                _end_marked(mark)
            for pipe in kept:
                pipe.close()
    output, errors = [kept[pipe].text() if pipe else b"" for pipe in (process.stdout, process.stderr)]
    left_out = sum(one.left_out for one in kept.values())
    return Finished(process.returncode, output, errors, left_out, time.monotonic() - start, timed_out, stopped)


def _limit(process: subprocess.Popen[bytes], largest: int) -> None:
    """Limit the files of a command that has just begun, and of all that it starts."""
    with suppress(ProcessLookupError):  # it is done already
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        limit = largest if most == resource.RLIM_INFINITY else min(largest, most)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))


def _listen(
    process: subprocess.Popen[bytes],
    kept: Mapping[IO[bytes], _Kept],
    deadline: float,
    watch: Callable[[subprocess.Popen[bytes]], str],
    *,
    stop: bool,
) -> tuple[bool, str]:
    """Collect output until the command ends; return whether it timed out, or another reason to stop it."""
    with selectors.DefaultSelector() as selector:
        for pipe in kept:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, kept[pipe])
        while not _exited(process):
            if time.monotonic() >= deadline:
                return True, ""
            if reason := watch(process):
                return False, reason
            # Short looks: a child in the background may keep the pipes open when the command itself is done, and a
            # command may close them long before its end.
            _read(selector, wait=0.05)
            if stop and any(one.left_out for one in kept.values()):
                return False, ""
        while _read(selector, wait=0):
            pass
    return False, ""


def _read(selector: selectors.BaseSelector, *, wait: float) -> bool:
    """Read once from each pipe that has something; False if none had."""
    if not selector.get_map():
        time.sleep(wait / 10)
        return False
    ready = selector.select(wait)
    for key, _ in ready:
        data = os.read(key.fd, 65536)
        key.data.add(data)
        if not data:
            selector.unregister(key.fileobj)
    return bool(ready)


def _exited(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether the command has ended, without reaping it: its process group's id must stay reserved."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command's whole process group: politely, then not."""
    if not _exited(process):
        _signal(process.pid, signal.SIGTERM)
        give_up = time.monotonic() + _GRACE
        while not _exited(process) and time.monotonic() < give_up:
            time.sleep(0.02)
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:  # all of them are gone already
        return


def _end_marked(mark: str) -> None:
    """Kill every process with ``mark``; repeat, because a process may have started another in the meantime."""
    import psutil

    for _ in range(_LOOKS):
        found = [one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get(MARK) == mark]
        if not found:
            return
        for one in found:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=0.1)
