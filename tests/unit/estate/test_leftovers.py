from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from interlock.estate.stack.leftovers import MARK, of_stack, stop

Start = Callable[..., "subprocess.Popen[str]"]
WAIT = "import sys, time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAIT
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], env={})"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a Python program, and be sure that it runs; whatever is left is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env={"PATH": os.environ["PATH"], **environment},
            cwd=cwd,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def pids(state: Path) -> set[int]:
    return {process.pid for process in of_stack(state)}


def test_marked_process_is_stopped_and_others_are_not(tmp_path: Path, start: Start) -> None:
    marked = start(WAIT, **{MARK: str(tmp_path)})
    other_stack = start(WAIT, **{MARK: f"{tmp_path}-other"})
    plain = start(WAIT)
    assert pids(tmp_path) == {marked.pid}
    assert stop(tmp_path) == 1
    assert marked.wait(5) == -signal.SIGTERM
    assert other_stack.poll() is None
    assert plain.poll() is None


def test_stopping_nothing_is_nothing(tmp_path: Path) -> None:
    assert stop(tmp_path) == 0


def test_process_that_does_not_listen_is_killed(tmp_path: Path, start: Start) -> None:
    deaf = start(DEAF, **{MARK: str(tmp_path)})
    assert stop(tmp_path, patience=0.3) == 1
    assert deaf.wait(5) == -signal.SIGKILL


def test_children_with_an_environment_of_their_own_belong_to_the_stack(tmp_path: Path, start: Start) -> None:
    parent = start(PARENT, WAIT, **{MARK: str(tmp_path)})
    child = psutil.Process(parent.pid).children()[0]
    assert pids(tmp_path) == {parent.pid, child.pid}
    assert stop(tmp_path) == 2


def test_program_of_a_host_belongs_to_the_stack_after_everything_else_has_gone(tmp_path: Path, start: Start) -> None:
    program = start(WAIT, INTERLOCK_STATE=str(tmp_path), INTERLOCK_HOST="bike-shop-production-01")
    assert pids(tmp_path) == {program.pid}


def test_build_inside_the_state_folder_belongs_to_the_stack(tmp_path: Path, start: Start) -> None:
    build = start(WAIT, cwd=tmp_path, INTERLOCK_STATE=str(tmp_path))
    assert pids(tmp_path) == {build.pid}


def test_program_of_a_user_who_only_set_the_variable_is_left_alone(tmp_path: Path, start: Start) -> None:
    editor = start(WAIT, cwd=Path("/"), INTERLOCK_STATE=str(tmp_path))
    assert pids(tmp_path) == set()
    assert stop(tmp_path) == 0
    assert editor.poll() is None


def test_caller_and_what_started_it_are_spared(tmp_path: Path, start: Start) -> None:
    """As when somebody calls make down from a shell that the stack itself has marked."""
    asking = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[3] / "include")!r})
from pathlib import Path
from interlock.estate.stack.leftovers import stop
print("up", flush=True)
print(stop(Path({str(tmp_path)!r})))
"""
    caller = start(asking, **{MARK: str(tmp_path)})
    assert caller.stdout
    assert caller.stdout.readline() == "0\n"
    assert caller.wait(10) == 0
