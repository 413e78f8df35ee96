from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from interlock.adapters import processes

ENVIRON = {"PATH": os.environ["PATH"]}


def run(*command: str, folder: Path, **options: object) -> processes.Finished:
    settings = {"environ": ENVIRON, "seconds": 30, "cap": 100_000} | options
    return processes.run(command, folder=folder, **settings)  # type: ignore[arg-type]


def python(code: str, folder: Path, **options: object) -> processes.Finished:
    return run(sys.executable, "-c", code, folder=folder, **options)


def test_output_errors_and_exit_code_come_back(tmp_path: Path) -> None:
    done = run("sh", "-c", "pwd; echo wrong >&2; exit 3", folder=tmp_path)
    assert (done.code, done.output, done.errors) == (3, f"{tmp_path}\n".encode(), b"wrong\n")
    assert not done.timed_out


def test_merged_errors_stand_among_the_output(tmp_path: Path) -> None:
    done = run("sh", "-c", "echo a; echo b >&2; echo c", folder=tmp_path, merged=True)
    assert done.output == b"a\nb\nc\n"


def test_a_command_sees_only_the_environment_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret")
    seen = run("env", folder=tmp_path, environ=ENVIRON | {"COLOUR": "red"}).output.decode()
    assert {line.partition("=")[0] for line in seen.splitlines()} == {"PATH", "COLOUR", processes.MARK}


def test_long_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    done = python("print('first'); print('x' * 500_000); print('last')", tmp_path, cap=1000)
    assert done.output.startswith(b"first\n")
    assert done.output.endswith(b"x\nlast\n")
    assert len(done.output) < 1100
    assert done.left_out == 500_012 - 1000
    assert f"{done.left_out} bytes left out".encode() in done.output


def test_output_below_the_cap_is_whole(tmp_path: Path) -> None:
    done = python("print('x' * 998, end='\\n\\n')", tmp_path, cap=1000)
    assert done.output == b"x" * 998 + b"\n\n"
    assert done.left_out == 0


def test_a_command_that_is_not_there_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run("no-such-program", folder=tmp_path)


def test_time_up_ends_the_command_and_its_grandchildren(tmp_path: Path) -> None:
    done = run("sh", "-c", "sh -c 'echo $$ > pid; sleep 600' & wait", folder=tmp_path, seconds=0.5)
    assert done.timed_out
    assert done.code < 0
    assert not alive(tmp_path / "pid")


def test_a_command_that_ignores_the_polite_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.1)
    done = run("sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 600; done", folder=tmp_path, seconds=0.5)
    assert done.timed_out
    assert done.code == -9
    assert not alive(tmp_path / "pid")


def test_a_command_that_closed_its_output_still_has_a_time_limit(tmp_path: Path) -> None:
    assert run("sh", "-c", "exec sleep 600 >&- 2>&-", folder=tmp_path, seconds=0.3).timed_out


def test_what_stays_in_the_background_ends_with_the_command(tmp_path: Path) -> None:
    done = run("sh", "-c", "sleep 600 & echo $! > pid; echo done", folder=tmp_path)
    assert (done.code, done.output) == (0, b"done\n")
    assert not alive(tmp_path / "pid")


def test_a_daemon_in_a_session_of_its_own_is_swept_up(tmp_path: Path) -> None:
    daemon = "setsid sh -c 'echo $$ > pid; exec sleep 600' & while ! test -s pid; do sleep 0.01; done"
    assert run("sh", "-c", daemon, folder=tmp_path, sweep=True).code == 0
    assert not alive(tmp_path / "pid")


def alive(pid_file: Path) -> bool:
    """Tell whether a process goes on running: a killed one takes a moment to go, and may stay as a zombie."""
    try:
        process = psutil.Process(int(pid_file.read_text()))
        for _ in range(500):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        return False
    return True
