from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.estate.world import processes

SLEEPER = [sys.executable, "-S", "-c", "print(1, flush=True); input()"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Give a list; what is in it at the end is ended."""
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        process.kill()
        process.communicate()


def start(state: Path, host: str | None, command: list[str] = SLEEPER) -> subprocess.Popen[bytes]:
    environ = {"INTERLOCK_STATE": str(state)} | ({"INTERLOCK_HOST": host} if host else {})
    process = subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout
    process.stdout.readline()
    return process


def test_processes_of_a_host_are_known_by_their_environment(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    one, two = start(tmp_path, "one"), start(tmp_path, "two")
    started += [one, two, start(tmp_path, None), start(tmp_path / "other", "one")]
    assert [it.pid for it in processes.of_hosts(tmp_path, "one")] == [one.pid]
    assert {it.pid for it in processes.of_hosts(tmp_path)} == {one.pid, two.pid}


@pytest.mark.parametrize("gently", [True, False])
def test_only_the_host_that_is_meant_is_ended(
    tmp_path: Path, started: list[subprocess.Popen[bytes]], gently: bool
) -> None:
    one, two, someone = start(tmp_path, "one"), start(tmp_path, "two"), start(tmp_path, None)
    started += [one, two, someone]
    processes.end_all(tmp_path, "one", gently=gently)
    assert one.wait(5) == (-15 if gently else -9)
    assert two.poll() is None
    assert someone.poll() is None


def test_stubborn_process_is_killed_in_the_end(
    tmp_path: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT_SECONDS", 0.2)
    stubborn = start(tmp_path, "one", STUBBORN)
    started.append(stubborn)
    processes.end_all(tmp_path, gently=True)
    assert stubborn.wait(5) == -9
