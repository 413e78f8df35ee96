"""Programs that run once on a real OpenSSH host, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from interlock.adapters.hosts.fleet import Deployment
from interlock.adapters.hosts.step_run import Program, StepRun, run_step
from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import DeployError, HostUnreachable, LostRight, PolicyViolation
from interlock.domain.permits.production import Production
from tests.deployments import ADMITTED, WithToken, deploy_one, served
from tests.sshd import Fleet, SshdHost, make_release, wait_until

ID, OTHER = "a" * 32, "b" * 32
_COUNTED = '#!/bin/sh\n[ -n "$INTERLOCK_STEP" ] || exit 0\necho "$INTERLOCK_STEP" >>"$INTERLOCK_SHARED/ran"\n'
MIGRATE = f"{_COUNTED}echo migrated $(pwd)\n"
SLOW = f"{_COUNTED}sleep 2\necho migrated slowly\n"
FAILS = f"{_COUNTED}echo the table is locked >&2\nexit 3\n"

_WORKER = """
import asyncio, json, sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from interlock.adapters.hosts.fleet import Deployment, SshLogin
from interlock.adapters.hosts.step_run import Program, run_step
from interlock.adapters.permits.issuer import Admission
from interlock.domain.catalogue import Health
from interlock.domain.permits.production import Production
from interlock.domain.records import Host

told = json.load(sys.stdin)
login, release = told["login"], told["deployment"]
login |= {"known_hosts": Path(login["known_hosts"]), "client_key": Path(login["client_key"])}
release |= {"bundle": Path(release["bundle"]), "health": Health(**release["health"])}
release |= {"drain_timeout": timedelta(seconds=release["drain_timeout"])}
way = {"login": SshLogin(**login), "admission": Admission.sandbox("test", production=Production())}
step = run_step(Host(**told["host"]), Program(**told["program"]), Deployment(**release), **way)
asyncio.run(step)
"""


def release(fleet: Fleet, folder: Path, script: str, version: str = "1.1.0") -> Deployment:
    return make_release(fleet, folder, version, hooks={"AfterInstall": script})


def program(id: str = ID, *, seconds: int = 20, account: str | None = None) -> Program:
    return Program(id, "hooks/AfterInstall.sh", seconds, account)


def run(fleet: Fleet, deployment: Deployment, id: str = ID, admission: Admission = ADMITTED, **changes: Any) -> StepRun:
    (host,) = fleet.hosts
    return asyncio.run(run_step(host, program(id, **changes), deployment, login=fleet.login, admission=admission))


def ran(machine: SshdHost) -> list[str]:
    """Return the ids of the steps that ran, each as often as it did."""
    noted = machine.root / "shared/ran"
    return noted.read_text().split() if noted.exists() else []


def start_worker(fleet: Fleet, deployment: Deployment) -> subprocess.Popen[bytes]:
    """Run the step in a process of its own, which can be killed."""
    about = asdict(deployment) | {"health": deployment.health.model_dump(mode="json"), "drain_timeout": 5}
    told = {
        "login": asdict(fleet.login),
        "deployment": about,
        "host": fleet.hosts[0].model_dump(mode="json"),
        "program": asdict(program()),
    }
    root = Path(__file__).parents[3]
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER],
        stdin=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "include")},
    )
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(told, default=str).encode())
    worker.stdin.close()
    return worker


def test_a_step_runs_once_and_leaves_what_the_host_runs(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    old, new = make_release(fleet, tmp_path, "1.0.0"), release(fleet, tmp_path, MIGRATE)
    deploy_one(fleet, old)
    first = run(fleet, new)
    assert (first.outcome, first.is_again) == (True, False)
    assert first.said == f"migrated {machine.root}/releases/{new.release}"
    assert (machine.current, served(fleet, machine)) == (old.release, "1.0.0")
    again = run(fleet, new)
    assert (again.outcome, again.said, again.is_again) == (True, first.said, True)
    assert ran(machine) == [ID]
    assert run(fleet, new, OTHER).outcome
    assert ran(machine) == [ID, OTHER]
    result = deploy_one(fleet, new)
    assert (result.outcome, result.sent) == ("deployed", 0), "the step had brought the release"
    assert run(fleet, new).is_again, "a switch forgets no step"
    assert ran(machine) == [ID, OTHER]


def test_a_step_runs_on_a_host_that_has_no_release_yet(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    assert run(fleet, release(fleet, tmp_path, MIGRATE)).outcome
    assert (machine.current, ran(machine)) == (None, [ID])


def test_a_step_that_failed_is_not_run_again(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = release(fleet, tmp_path, FAILS)
    for is_again in (False, True):
        found = run(fleet, new)
        assert (found.outcome, found.said, found.is_again) == (False, "the table is locked", is_again)
        assert "ended with 3" in found.why
    assert ran(machine) == [ID]


def test_a_step_that_takes_too_long_is_killed(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    found = run(fleet, release(fleet, tmp_path, f"{_COUNTED}exec sleep 60\n"), seconds=1)
    assert found.outcome is False
    assert "ran longer than its 1 seconds and was killed" in found.why


def test_a_host_ends_the_step_that_a_killed_worker_began_and_the_next_try_learns_how(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    new = release(fleet, tmp_path, SLOW)
    worker = start_worker(fleet, new)
    wait_until(lambda: ran(machine) == [ID], "the step", 20)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    found = run(fleet, new)
    assert (found.outcome, found.said, found.is_again) == (True, "migrated slowly", True)
    assert ran(machine) == [ID]


def test_a_connection_that_is_cut_in_a_step_is_another_try(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = release(fleet, tmp_path, SLOW)

    def cut() -> None:
        wait_until(lambda: bool(ran(machine)), "the step", 20)
        machine.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(HostUnreachable, match="was lost during RunbookStep"):
        run(fleet, new)
    cutter.join()
    assert run(fleet, new).outcome
    assert ran(machine) == [ID]


def test_a_step_whose_end_nobody_saw_is_not_run_again(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = release(fleet, tmp_path, f"{_COUNTED}sleep 60\n")
    worker = start_worker(fleet, new)
    wait_until(lambda: ran(machine) == [ID], "the step", 20)
    worker.kill()
    worker.wait()
    # The program on the host dies, and cannot note how its step ended: as if the host had been switched off.
    _, mine = (machine.root / ".interlock/holder").read_text().splitlines()
    psutil.Process(int(mine.split()[2])).kill()
    for _ in range(2):
        found = run(fleet, new)
        assert found.outcome is None
        assert "how it ended is not known" in found.why
    assert ran(machine) == [ID]
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("INTERLOCK_STEP") == ID:
            process.kill()


def test_a_step_that_cannot_begin_may_begin_later(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = release(fleet, tmp_path, MIGRATE)
    with pytest.raises(DeployError, match="is to run as nobody-here"):
        run(fleet, new, account="nobody-here")
    assert ran(machine) == []
    assert run(fleet, new).outcome


def test_a_step_needs_the_right_to_the_host(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = release(fleet, tmp_path, MIGRATE)
    with pytest.raises(PolicyViolation, match="No permit was shown"):
        run(fleet, new, admission=Admission("production", production=Production()))
    assert run(fleet, new, admission=WithToken(7)).outcome
    with pytest.raises(LostRight, match="takes no lower token"):
        run(fleet, new, OTHER, admission=WithToken(6))
    assert ran(machine) == [ID]
