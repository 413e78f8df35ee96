"""Deployments to real OpenSSH hosts that are cut off: workers, connections and host programs that die."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from interlock.adapters.hosts.fleet import Deployment, deploy_hosts
from interlock.domain.records import HostResult
from tests.deployments import ADMITTED, FAIL, Balance, back_out, deploy, deploy_one, served
from tests.sshd import Fleet, SshdHost, make_release, wait_until

_WORKER = """
import asyncio, json, sys
from datetime import timedelta
from pathlib import Path
from interlock.adapters.hosts.fleet import Deployment, SshLogin, deploy_hosts
from interlock.adapters.permits.issuer import Admission
from interlock.domain.catalogue import Health
from interlock.domain.permits.production import Production
from interlock.domain.records import Host

told = json.load(sys.stdin)
login, release = told["login"], told["deployment"]
login |= {"known_hosts": Path(login["known_hosts"]), "client_key": Path(login["client_key"])}
release |= {"bundle": Path(release["bundle"]), "health": Health(**release["health"])}
release |= {"drain_timeout": timedelta(seconds=release["drain_timeout"])}
hosts = [Host(**host) for host in told["hosts"]]
admission = Admission.sandbox("test", production=Production())
asyncio.run(deploy_hosts(hosts, Deployment(**release), login=SshLogin(**login), admission=admission, balancer=None))
"""


def start_worker(fleet: Fleet, deployment: Deployment) -> subprocess.Popen[bytes]:
    """Deploy in a process of its own, which can be killed."""
    about = asdict(deployment) | {"health": deployment.health.model_dump(mode="json"), "drain_timeout": 5}
    told = {
        "login": asdict(fleet.login),
        "deployment": about,
        "hosts": [host.model_dump(mode="json") for host in fleet.hosts],
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


def kill_worker(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


def test_a_worker_killed_in_the_middle_of_a_transfer_leaves_the_old_release(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    old, new = make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0", padding=20_000_000)
    deploy(fleet, old)
    worker = start_worker(fleet, new)
    incoming = machine.root / ".interlock/incoming"
    wait_until(lambda: incoming.exists() and incoming.stat().st_size > 100_000, "the transfer", 20)
    kill_worker(worker)
    assert (machine.current, served(fleet, machine)) == (old.release, "1.0.0")
    assert new.release not in machine.releases
    assert deploy_one(fleet, new).outcome == "deployed"
    assert (machine.current, served(fleet, machine)) == (new.release, "1.1.0")
    assert not incoming.exists()


def test_a_host_ends_by_itself_what_a_killed_worker_began(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    slow = '#!/bin/sh\ntouch "$INTERLOCK_SHARED/slow"\nsleep 1\n'
    old, new = (
        make_release(fleet, tmp_path, "1.0.0"),
        make_release(fleet, tmp_path, "1.1.0", hooks={"AfterInstall": slow}),
    )
    deploy(fleet, old)
    worker = start_worker(fleet, new)
    wait_until(lambda: (machine.root / "shared/slow").exists(), "the slow hook", 20)
    kill_worker(worker)
    # The old one is stopped now; the retry waits for the host, and does not do again what is done.
    result = deploy_one(fleet, new)
    assert (result.outcome, result.before, result.after) == ("deployed", old.release, new.release)
    assert "transfer" not in dict(result.steps)
    assert served(fleet, machine) == "1.1.0"


def test_a_killed_workers_failing_release_is_taken_back_by_the_host(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    slow = '#!/bin/sh\ntouch "$INTERLOCK_SHARED/slow"\nsleep 1\nexit 1\n'
    old, new = (
        make_release(fleet, tmp_path, "1.0.0"),
        make_release(fleet, tmp_path, "1.1.0", hooks={"ValidateService": slow}),
    )
    deploy(fleet, old)
    worker = start_worker(fleet, new)
    wait_until(lambda: (machine.root / "shared/slow").exists(), "the slow hook", 20)
    kill_worker(worker)
    wait_until(lambda: served(fleet, machine) == "1.0.0", "the old release")
    assert machine.current == old.release


def test_a_connection_cut_in_a_hook_is_made_again(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    slow = '#!/bin/sh\ntouch "$INTERLOCK_SHARED/slow"\nsleep 1\n'
    old, new = (
        make_release(fleet, tmp_path, "1.0.0"),
        make_release(fleet, tmp_path, "1.1.0", hooks={"AfterInstall": slow}),
    )
    deploy(fleet, old)
    cutter = threading.Thread(
        target=lambda: (wait_until((machine.root / "shared/slow").exists, "the slow hook"), machine.cut())
    )
    cutter.start()
    result = deploy_one(fleet, new, balance := Balance())
    cutter.join()
    assert [name for name, _ in result.steps].count("connect") == 2
    assert (result.outcome, result.before, result.after) == ("deployed", old.release, new.release)
    assert served(fleet, machine) == "1.1.0"
    assert balance.serving == {machine.host.instance_id}


def test_a_host_program_killed_between_two_releases_is_done_again(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    once = '#!/bin/sh\n[ -e "$INTERLOCK_SHARED/slow" ] && exit 0\ntouch "$INTERLOCK_SHARED/slow"\nsleep 5\n'
    old, new = (
        make_release(fleet, tmp_path, "1.0.0"),
        make_release(fleet, tmp_path, "1.1.0", hooks={"BeforeInstall": once}),
    )
    deploy(fleet, old)

    def kill_the_program() -> None:
        wait_until((machine.root / "shared/slow").exists, "the slow hook")
        machine.cut("interlock", "session")

    killer = threading.Thread(target=kill_the_program)
    killer.start()
    result = deploy_one(fleet, new)
    killer.join()
    assert (result.outcome, result.after, served(fleet, machine)) == ("deployed", new.release, "1.1.0")


def beside(machine: SshdHost, strike: Callable[[], None], visit: Callable[[], HostResult]) -> HostResult:
    """Make a visit, and strike when a hook has said that it is slow."""

    def wait_and_strike() -> None:
        wait_until((machine.root / "shared/slow").exists, "the slow hook")
        strike()

    striker = threading.Thread(target=wait_and_strike)
    striker.start()
    result = visit()
    striker.join()
    return result


def events(machine: SshdHost, deployment: Deployment) -> list[str]:
    """Return what the hooks of a release noted."""
    noted = (machine.root / "shared/events").read_text().splitlines()
    return [line.split()[0] for line in noted if line.endswith(deployment.release)]


START = f"""#!/bin/sh
rm -f "$INTERLOCK_SHARED/pid"
setsid {sys.executable} -S server.py </dev/null >server.log 2>&1 &
until [ -s "$INTERLOCK_SHARED/pid" ]; do sleep 0.05; done
"""
NOTE = '#!/bin/sh\necho "$LIFECYCLE_EVENT $PWD" >> "$INTERLOCK_SHARED/events"\n'
AROUND = {"BeforeAllowTraffic": NOTE, "AfterAllowTraffic": NOTE}
SLOW_ONCE = '[ -e "$INTERLOCK_SHARED/slow" ] || { touch "$INTERLOCK_SHARED/slow"; sleep %s; }\n'


def test_hooks_around_traffic_run_when_the_host_has_ended_the_switch_alone(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    start = f"{START}\n{SLOW_ONCE % 1}"
    old = make_release(fleet, tmp_path, "1.0.0")
    new = make_release(fleet, tmp_path, "1.1.0", hooks={"ApplicationStart": start, **AROUND})
    balance = Balance()
    deploy(fleet, old, balance)
    result = beside(machine, machine.cut, lambda: deploy_one(fleet, new, balance))
    assert (result.outcome, result.before, result.after) == ("deployed", old.release, new.release)
    steps = [name for name, _ in result.steps]
    assert (steps.count("connect"), steps.count("switch")) == (2, 1), "what is done is not done again"
    assert events(machine, new)[-3:] == ["ValidateService", "BeforeAllowTraffic", "AfterAllowTraffic"]
    noted = len(events(machine, new))
    assert deploy_one(fleet, new, balance).outcome == "unchanged"
    assert len(events(machine, new)) == noted, "a release that ran before the visit is left alone"


@pytest.mark.parametrize(("validate", "outcome"), [(NOTE, "deployed"), (FAIL, "failed")])
def test_a_release_whose_start_came_to_no_end_is_started_and_validated_again(
    fleet: Fleet, machine: SshdHost, tmp_path: Path, validate: str, outcome: str
) -> None:
    start = f"{START}\n{SLOW_ONCE % 60}"
    old = make_release(fleet, tmp_path, "1.0.0")
    hooks = {"ApplicationStart": start, "ValidateService": validate, **AROUND}
    new = make_release(fleet, tmp_path, "1.1.0", hooks=hooks, timeouts={"ApplicationStart": 90})
    balance = Balance()
    deploy(fleet, old, balance)
    result = beside(machine, lambda: machine.cut("interlock", "session"), lambda: deploy_one(fleet, new, balance))
    runs = new if outcome == "deployed" else old
    assert (result.outcome, result.before, result.after) == (outcome, old.release, runs.release)
    assert (machine.current, served(fleet, machine)) == (runs.release, runs.version)
    if outcome == "deployed":
        assert events(machine, new)[-3:] == ["ValidateService", "BeforeAllowTraffic", "AfterAllowTraffic"]
    else:
        assert "the hook ValidateService" in result.error
        assert "BeforeAllowTraffic" not in events(machine, new)
    assert balance.serving == {machine.host.instance_id}


def test_a_back_out_whose_start_came_to_no_end_is_made_again(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    start = f"{START}\n[ ! -e $INTERLOCK_SHARED/back ] || {SLOW_ONCE % 60}"
    old = make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStart": start}, timeouts={"ApplicationStart": 90})
    new = make_release(fleet, tmp_path, "1.1.0")
    for release in (old, new):
        deploy(fleet, release)
    (machine.root / "shared/back").touch()
    plan: dict[str, str | None] = {machine.address: old.release}
    result = beside(machine, lambda: machine.cut("interlock", "session"), lambda: back_out(fleet, new, plan)[0])
    assert (result.outcome, result.after, served(fleet, machine)) == ("backed_out", old.release, "1.0.0")
    assert events(machine, old).count("ValidateService") == 2


def test_a_second_deployment_to_a_host_is_refused_with_the_holders_name(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    slow = '#!/bin/sh\ncd "$INTERLOCK_SHARED"\ntouch slow\nwhile [ ! -e go ]; do sleep 0.05; done\n'
    first = make_release(fleet, tmp_path, "1.0.0", hooks={"BeforeInstall": slow}, deployment_id="release_shop/first")
    second = make_release(fleet, tmp_path, "1.1.0", deployment_id="release_shop/second")

    async def both() -> tuple[tuple[HostResult, ...], tuple[HostResult, ...]]:
        running = asyncio.create_task(
            deploy_hosts(fleet.hosts, first, login=fleet.login, admission=ADMITTED, balancer=None)
        )
        await asyncio.to_thread(wait_until, (machine.root / "shared/slow").exists, "the slow hook")
        refused = await deploy_hosts(fleet.hosts, second, login=fleet.login, admission=ADMITTED, balancer=None)
        (machine.root / "shared/go").touch()
        return await running, refused

    (done,), (refused,) = asyncio.run(both())
    assert (done.outcome, refused.outcome) == ("deployed", "failed")
    assert f"{machine.address} is locked by release_shop/first." in refused.error
    assert (machine.current, served(fleet, machine)) == (first.release, "1.0.0")
