"""Commits whose build goes for the platform itself: its secrets, its servers, its processes, its code."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import psutil
import pytest

from interlock.adapters.build.builders import build
from interlock.domain.catalogue import Build
from interlock.estate.airflow.home import airflow_environment
from interlock.estate.settings import Settings
from interlock.estate.stack.leftovers import MARK
from interlock.locations import PROJECT
from interlock.stages.runtime import resources
from tests.end_to_end.stack import Stack
from tests.git_project import git_project

from .suite import AUTHOR, SANDBOX, attack

pytestmark = [pytest.mark.timeout(1800), pytest.mark.attacks]


def printed(stack: Stack, folder: Path, script: str) -> list[str]:
    """Build a commit on a worker of the stack, as the task does it, and return what the build could print."""
    project = git_project(folder / "project")
    sha = project.commit({"appspec.yml": "version: 0.0\nos: linux\n", "attack.sh": script})
    assert sha
    policy, _, service = resources.catalogue_of("bike-shop")
    commands = ("sh", "-c", "mkdir out; cp appspec.yml out; sh attack.sh 2>/dev/null; true")
    spec = Build.model_validate({"tool": "command", "build": commands, "output": "out"})
    environ = {**os.environ, **airflow_environment(stack.settings)}
    result = build(project.folder, spec, environ=environ, confines=resources.confines(policy, service, ()))
    assert result.surroundings.isolated
    return result.log.decode().splitlines()[1:]


def secret_files(settings: Settings) -> list[Path]:
    """Return the files with which one could do without a board: keys, passwords, Airflow's own secrets."""
    folders = [settings.state / name for name in ("keys", "secrets", "estate", "airflow")]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [
        settings.state / "logins.json",
        *(path for path in found if "PRIVATE KEY" in head(path) or "secrets" in path.parts),
    ]


def head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(200).decode(errors="replace")


@attack("read and replace the platform's keys and passwords in a build", by=AUTHOR, way="code", stopped=SANDBOX)
def test_a_build_reads_and_writes_no_secret(stack: Stack, tmp_path: Path) -> None:
    secrets = secret_files(stack.settings)
    assert len(secrets) >= 5
    before = [path.read_bytes() for path in secrets]
    names = " ".join(shlex.quote(str(path)) for path in secrets)
    script = (
        f"for f in {names}; do cat $f; echo mine > $f && echo wrote $f; done; env | grep -i -E 'secret|fernet|password'"
    )
    assert printed(stack, tmp_path, script) == []
    assert [path.read_bytes() for path in secrets] == before


@attack("connect to the platform's servers from a build", by=AUTHOR, way="code", stopped=SANDBOX)
def test_a_build_connects_to_no_server(stack: Stack, tmp_path: Path) -> None:
    places = [(port.address, port.port) for port in stack.settings.ports()]
    assert len(places) >= 5
    connect = "python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)'"
    script = "".join(f"{connect} {address} {port} && echo reached {address} {port}\n" for address, port in places)
    assert printed(stack, tmp_path, script) == []


@attack(
    "read the environment of the platform's processes in a build, and end them", by=AUTHOR, way="code", stopped=SANDBOX
)
def test_a_build_sees_and_ends_no_process(stack: Stack, tmp_path: Path) -> None:
    before = processes_of(stack.settings)
    assert len(before) >= 5
    pids = " ".join(map(str, before))
    script = (
        f"cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep {MARK}; "
        f"for p in {pids}; do test -d /proc/$p && echo sees $p; kill -9 $p && echo ended $p; done"
    )
    assert printed(stack, tmp_path, script) == []
    assert all(psutil.pid_exists(pid) for pid in before)


def processes_of(settings: Settings) -> list[int]:
    """Return the oldest processes of the stack: those that its supervisor started."""
    found = psutil.process_iter(["environ", "create_time"])
    ours = [one for one in found if (one.info["environ"] or {}).get(MARK) == str(settings.state)]
    return [one.pid for one in sorted(ours, key=lambda one: one.info["create_time"])][:6]


@attack("change the platform's code, Python and catalogue in a build", by=AUTHOR, way="code", stopped=SANDBOX)
def test_a_build_changes_no_code(stack: Stack, tmp_path: Path) -> None:
    packages = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    places = [PROJECT / "dags", PROJECT / "plugins", PROJECT / "include/interlock", packages, stack.settings.catalogue]
    planted = [place / "planted_by_a_build.py" for place in places]
    script = "".join(f"touch {shlex.quote(str(path))} && echo planted {path}\n" for path in planted)
    script += "python3 -c 'import airflow' && echo airflow\n"
    assert printed(stack, tmp_path, script) == []
    assert not any(path.exists() for path in planted)
