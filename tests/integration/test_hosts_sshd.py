"""Deployments to real OpenSSH hosts: the good way, every way to fail, and the way back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from include.interlock.adapters.hosts import (
    Deployment,
    SshLogin,
    back_out_hosts,
    deploy_hosts,
    has_releases,
    read_running,
)
from include.interlock.adapters.load_balancer import Balancer
from include.interlock.domain.errors import HostUnreachable, TransientError
from include.interlock.domain.records import BackOutPlan, HostResult
from tests.sshd import Fleet, SshdHost, keygen, kill, make_release, sshd_fleet, wait_until

FAIL = "#!/bin/sh\necho the database is locked >&2\nexit 3\n"
HANG = "#!/bin/sh\nsetsid sleep 1000 &\nsleep 1000 &\nsleep 1000\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with sshd_fleet(tmp_path) as started:
        yield started


@pytest.fixture
def machine(fleet: Fleet) -> SshdHost:
    return fleet.machines[0]


@dataclass
class Balance:
    """A load balancer that remembers what it was told."""

    serving: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    broken: bool = False

    async def drain(self, instance_id: str, timeout: timedelta) -> None:
        self.told.append("drain")
        self.serving.discard(instance_id)
        if self.broken:
            raise TransientError("The load balancer does not answer.")

    async def restore(self, instance_id: str) -> None:
        self.told.append("restore")
        self.serving.add(instance_id)


def deploy(fleet: Fleet, deployment: Deployment, balancer: Balancer | None = None) -> tuple[HostResult, ...]:
    return asyncio.run(deploy_hosts(fleet.hosts, deployment, login=fleet.login, balancer=balancer))


def deploy_one(fleet: Fleet, deployment: Deployment, balancer: Balancer | None = None) -> HostResult:
    (result,) = deploy(fleet, deployment, balancer)
    return result


def back_out(
    fleet: Fleet, was: Deployment, releases: Mapping[str, str | None], balancer: Balancer | None = None
) -> tuple[HostResult, ...]:
    versions = {address: release and release.partition("-")[0] for address, release in releases.items()}
    return asyncio.run(
        back_out_hosts(
            fleet.hosts,
            BackOutPlan(releases=dict(releases), versions=versions, on_hosts=True),
            service=was.service,
            environment=was.environment,
            deployment_id=was.deployment_id,
            deploy_root=was.deploy_root,
            health=was.health,
            drain_timeout=was.drain_timeout,
            login=fleet.login,
            balancer=balancer,
        )
    )


def served(fleet: Fleet, machine: SshdHost) -> str | None:
    """Return the version that a host serves."""
    try:
        answer = httpx.get(f"http://{machine.address}:{fleet.health_port}/health", trust_env=False, timeout=5)
    except httpx.HTTPError:
        return None
    return str(answer.json()["version"])


# --- the good way ----------------------------------------------------------------------------------------------------


def test_a_release_is_brought_to_empty_hosts(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        deployment = make_release(fleet, tmp_path, "1.0.0")
        results = deploy(fleet, deployment)
        assert [(one.host, one.outcome, one.before, one.after) for one in results] == [
            (host.address, "deployed", None, deployment.release) for host in fleet.hosts
        ]
        assert [served(fleet, machine) for machine in fleet.machines] == ["1.0.0"] * 3


def test_a_release_folder_says_what_it_holds(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, deployment)
    folder = machine.root / "releases" / deployment.release
    assert json.loads((folder / ".interlock.json").read_text()) == {
        "service": "shop",
        "release": deployment.release,
        "version": "1.0.0",
        "commit": deployment.commit,
        "sha256": deployment.sha256,
    }
    assert os.readlink(machine.root / "current") == f"releases/{deployment.release}"


def test_hooks_run_in_order_with_codedeploys_variables(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    note = '#!/bin/sh\necho "$LIFECYCLE_EVENT $APPLICATION_NAME $DEPLOYMENT_GROUP_NAME $DEPLOYMENT_GROUP_ID" '
    note += '"$DEPLOYMENT_ID $PWD" >> "$INTERLOCK_SHARED/hooks"\n'
    events = ("ApplicationStop", "BeforeInstall", "AfterInstall", "ValidateService")
    first = make_release(
        fleet, tmp_path, "1.0.0", hooks=dict.fromkeys(events[:1], f"{note}kill $(cat ../../shared/pid)")
    )
    second = make_release(fleet, tmp_path, "1.1.0", hooks=dict.fromkeys(events, note))
    deploy(fleet, first)
    result = deploy_one(fleet, second)
    assert (machine.root / "shared/hooks").read_text().splitlines() == [
        f"{event} shop production production {second.deployment_id} {machine.root}/releases/{release}"
        for event, release in zip(events, [first.release, *[second.release] * 3], strict=True)
    ]
    steps = [name for name, _ in result.steps]
    assert steps[steps.index("ApplicationStop") :] == [
        *events[:3],
        "switch",
        "ApplicationStart",
        events[3],
        "health",
        "prune",
    ]


def test_a_repeated_deployment_changes_nothing(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, deployment)
    pid = (machine.root / "shared/pid").read_text()
    balance = Balance()
    result = deploy_one(fleet, deployment, balance)
    assert (result.outcome, result.before, result.after) == ("unchanged", deployment.release, deployment.release)
    assert (machine.root / "shared/pid").read_text() == pid
    assert balance.told == ["restore"]


def test_a_host_is_drained_only_while_it_is_switched(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    balance = Balance()
    deploy(fleet, make_release(fleet, tmp_path, "1.0.0"), balance)
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.1.0"), balance)
    steps = [name for name, _ in result.steps]
    assert balance.told == ["drain", "restore"] * 2
    assert steps.index("unpack") < steps.index("drain") < steps.index("ApplicationStop")
    assert steps.index("health") < steps.index("restore")


def test_a_program_that_stopped_is_started_again(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0", healthy_within=3)
    deploy(fleet, deployment)
    os.kill(int((machine.root / "shared/pid").read_text()), signal.SIGKILL)
    assert deploy_one(fleet, deployment).outcome == "deployed"
    assert served(fleet, machine) == "1.0.0"


def test_old_releases_go_but_never_the_current_nor_the_previous(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    releases = [make_release(fleet, tmp_path, f"1.{minor}.0", keep_releases=2) for minor in range(4)]
    for release in releases:
        deploy(fleet, release)
    assert machine.releases == {releases[2].release, releases[3].release}
    deploy(fleet, releases[2])
    deploy(fleet, replace(make_release(fleet, tmp_path, "2.0.0"), keep_releases=3))
    assert {releases[2].release, machine.current} < machine.releases
    assert len(machine.releases) == 3


def test_hosts_say_what_they_run(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 2) as fleet:
        deployment = make_release(fleet, tmp_path, "1.0.0")
        asyncio.run(deploy_hosts(fleet.hosts[:1], deployment, login=fleet.login, balancer=None))
        first, second = asyncio.run(read_running(fleet.hosts, deployment.deploy_root, login=fleet.login))
        assert (first.host, first.release) == (fleet.hosts[0].address, deployment.release)
        assert (first.version, first.commit) == ("1.0.0", deployment.commit)
        assert (second.release, second.version, second.commit) == (None, None, None)
        wanted = {host.address: deployment.release for host in fleet.hosts}
        there = asyncio.run(has_releases(fleet.hosts, deployment.deploy_root, wanted, login=fleet.login))
        assert there == {fleet.hosts[0].address: True, fleet.hosts[1].address: False}


def test_a_release_whose_digest_was_edited_is_not_there(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, deployment)
    about = machine.root / "releases" / deployment.release / ".interlock.json"
    about.write_text(about.read_text().replace(deployment.sha256, "0" * 64))
    wanted = {machine.address: deployment.release}
    there = asyncio.run(has_releases(fleet.hosts, deployment.deploy_root, wanted, login=fleet.login))
    assert there == {machine.address: False}


# --- failures --------------------------------------------------------------------------------------------------------


@dataclass
class Upgrade:
    """What a failed upgrade left."""

    old: Deployment
    result: HostResult
    balance: Balance


def failed_upgrade(fleet: Fleet, old: Deployment, new: Deployment) -> Upgrade:
    """Deploy two releases, of which the second fails; whatever failed, the first runs and serves."""
    balance = Balance()
    deploy(fleet, old, balance)
    result = deploy_one(fleet, new, balance)
    machine = fleet.machines[0]
    assert (result.outcome, result.before, result.after) == ("failed", old.release, old.release)
    assert machine.current == old.release
    assert served(fleet, machine) == old.version
    assert balance.serving == {machine.host.instance_id}
    return Upgrade(old, result, balance)


@pytest.mark.parametrize("event", ["BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"])
def test_a_failing_hook_leaves_the_old_release_running(fleet: Fleet, tmp_path: Path, event: str) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", hooks={event: FAIL})
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert f"the hook {event} (hooks/{event}.sh) of {new.release} ended with 3" in failed.result.error
    assert "the database is locked" in failed.result.error
    assert f"The host runs {failed.old.release}, as before, and is well." in failed.result.error


def test_a_failing_stop_hook_leaves_the_old_release_running(fleet: Fleet, tmp_path: Path) -> None:
    old = make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStop": FAIL})
    failed = failed_upgrade(fleet, old, make_release(fleet, tmp_path, "1.1.0"))
    assert "the hook ApplicationStop" in failed.result.error


def test_a_hook_that_hangs_is_killed_with_what_it_started(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", hooks={"AfterInstall": HANG}, timeouts={"AfterInstall": 1})
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert "ran longer than its 1 seconds and was killed" in failed.result.error
    assert machine.processes("sleep", "1000") == []


def test_a_stop_hook_that_hangs_is_killed_and_the_old_release_runs(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    old = make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStop": HANG}, timeouts={"ApplicationStop": 1})
    failed_upgrade(fleet, old, make_release(fleet, tmp_path, "1.1.0"))
    assert machine.processes("sleep", "1000") == []


def test_a_release_that_is_never_well_is_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", status=503, healthy_within=3)
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert "was not well with version 1.1.0 within 3 s" in failed.result.error
    assert "status 503" in failed.result.error


def test_a_program_that_a_failed_start_left_does_not_keep_the_port(fleet: Fleet, tmp_path: Path) -> None:
    left = f"#!/bin/sh\nsetsid {sys.executable} -S server.py </dev/null &\nsleep 1\nexit 1\n"
    broken = {"ApplicationStart": left, "ApplicationStop": "#!/bin/sh\nexit 1\n"}
    failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0", hooks=broken))


def test_a_first_release_that_fails_leaves_the_host_empty(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    balance = Balance()
    new = make_release(fleet, tmp_path, "1.0.0", hooks={"ValidateService": FAIL})
    result = deploy_one(fleet, new, balance)
    assert (result.outcome, result.after, machine.current) == ("failed", None, None)
    assert "The host runs nothing, as before." in result.error
    assert served(fleet, machine) is None
    assert balance.serving == set()


def test_a_corrupted_bundle_is_refused_by_the_host(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", padding=1000)
    new.bundle.write_bytes(new.bundle.read_bytes()[:-20] + b"x" * 20)
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert f"does not have the digest {new.sha256}" in failed.result.error
    assert failed.balance.told == ["drain", "restore", "restore"]
    assert machine.releases == {failed.old.release}


def test_a_bundle_that_the_disk_cannot_hold_leaves_the_old_release(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, limits="ulimit -f 64 &&") as fleet:
        new = make_release(fleet, tmp_path, "1.1.0", padding=2_000_000)
        failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
        assert "the bundle cannot be written" in failed.result.error
        assert fleet.machines[0].releases == {failed.old.release}


def test_a_balancer_that_fails_leaves_the_old_release_running(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    old = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, old)
    balance = Balance(broken=True)
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.1.0"), balance)
    assert (result.outcome, result.after, served(fleet, machine)) == ("failed", old.release, "1.0.0")
    assert "does not answer" in result.error
    assert balance.serving == {machine.host.instance_id}


def test_a_start_hook_that_forgets_to_let_go_does_not_hang(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    careless = f"#!/bin/sh\n{sys.executable} -S server.py &\nsleep 0.5\n"
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStart": careless}))
    assert (result.outcome, served(fleet, machine)) == ("deployed", "1.0.0")
    # It holds no lock either.
    assert deploy_one(fleet, make_release(fleet, tmp_path, "1.1.0")).outcome == "deployed"


def test_a_start_hook_that_stays_is_ended_by_its_time_limit(fleet: Fleet, tmp_path: Path) -> None:
    stays = f"#!/bin/sh\nexec {sys.executable} -S server.py\n"
    new = make_release(fleet, tmp_path, "1.1.0", hooks={"ApplicationStart": stays}, timeouts={"ApplicationStart": 1})
    failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)


# --- interruptions ---------------------------------------------------------------------------------------------------

_WORKER = """
import asyncio, json, sys
from datetime import timedelta
from pathlib import Path
from include.interlock.adapters.hosts import Deployment, SshLogin, deploy_hosts
from include.interlock.domain.catalogue import Health
from include.interlock.domain.records import Host

told = json.load(sys.stdin)
login, release = told["login"], told["deployment"]
login |= {"known_hosts": Path(login["known_hosts"]), "client_key": Path(login["client_key"])}
release |= {"bundle": Path(release["bundle"]), "health": Health(**release["health"])}
release |= {"drain_timeout": timedelta(seconds=release["drain_timeout"])}
hosts = [Host(**host) for host in told["hosts"]]
asyncio.run(deploy_hosts(hosts, Deployment(**release), login=SshLogin(**login), balancer=None))
"""


def start_worker(fleet: Fleet, deployment: Deployment) -> subprocess.Popen[bytes]:
    """Deploy in a process of its own, which can be killed."""
    about = asdict(deployment) | {"health": deployment.health.model_dump(mode="json"), "drain_timeout": 5}
    told = {
        "login": asdict(fleet.login),
        "deployment": about,
        "hosts": [host.model_dump(mode="json") for host in fleet.hosts],
    }
    root = Path(__file__).parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
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
        for process in machine.processes("interlock", "session"):
            kill(process)
        machine.cut()

    killer = threading.Thread(target=kill_the_program)
    killer.start()
    result = deploy_one(fleet, new)
    killer.join()
    assert (result.outcome, result.after, served(fleet, machine)) == ("deployed", new.release, "1.1.0")


def test_a_second_deployment_to_a_host_is_refused_with_the_holders_name(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    slow = '#!/bin/sh\ncd "$INTERLOCK_SHARED"\ntouch slow\nwhile [ ! -e go ]; do sleep 0.05; done\n'
    first = make_release(fleet, tmp_path, "1.0.0", hooks={"BeforeInstall": slow}, deployment_id="release_shop/first")
    second = make_release(fleet, tmp_path, "1.1.0", deployment_id="release_shop/second")

    async def both() -> tuple[tuple[HostResult, ...], tuple[HostResult, ...]]:
        running = asyncio.create_task(deploy_hosts(fleet.hosts, first, login=fleet.login, balancer=None))
        await asyncio.to_thread(wait_until, (machine.root / "shared/slow").exists, "the slow hook")
        refused = await deploy_hosts(fleet.hosts, second, login=fleet.login, balancer=None)
        (machine.root / "shared/go").touch()
        return await running, refused

    (done,), (refused,) = asyncio.run(both())
    assert (done.outcome, refused.outcome) == ("deployed", "failed")
    assert f"{machine.address} is locked by release_shop/first." in refused.error
    assert (machine.current, served(fleet, machine)) == (first.release, "1.0.0")


# --- the way back ----------------------------------------------------------------------------------------------------


def test_hosts_go_back_to_what_is_on_them(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 2) as fleet:
        old, new = make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0")
        balance = Balance()
        deploy(fleet, old, balance)
        deploy(fleet, new, balance)
        plan: dict[str, str | None] = {host.address: old.release for host in fleet.hosts}
        results = back_out(fleet, new, plan, balance)
        assert [(one.outcome, one.before, one.after) for one in results] == [
            ("backed_out", new.release, old.release)
        ] * 2
        assert [served(fleet, machine) for machine in fleet.machines] == ["1.0.0"] * 2
        assert balance.serving == {host.instance_id for host in fleet.hosts}
        assert {one.outcome for one in back_out(fleet, new, plan, balance)} == {"unchanged"}


def test_a_host_without_a_release_before_is_emptied(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new, balance = make_release(fleet, tmp_path, "1.0.0"), Balance()
    deploy(fleet, new, balance)
    (result,) = back_out(fleet, new, {machine.address: None}, balance)
    assert (result.outcome, result.after, machine.current, served(fleet, machine)) == ("backed_out", None, None, None)
    assert balance.serving == set()
    assert back_out(fleet, new, {machine.address: None})[0].outcome == "unchanged"


def test_a_release_that_cannot_be_stopped_is_backed_out_all_the_same(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    old, new = (
        make_release(fleet, tmp_path, "1.0.0"),
        make_release(fleet, tmp_path, "1.1.0", hooks={"ApplicationStop": FAIL}),
    )
    deploy(fleet, old)
    deploy(fleet, new)
    (result,) = back_out(fleet, new, {machine.address: old.release})
    assert (result.outcome, result.after, served(fleet, machine)) == ("backed_out", old.release, "1.0.0")


def test_a_back_out_to_a_release_that_is_gone_fails_and_leaves_the_host(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    new = make_release(fleet, tmp_path, "1.1.0")
    deploy(fleet, new)
    (result,) = back_out(fleet, new, {machine.address: "1.0.0-0123456789ab"})
    assert (result.outcome, result.after, served(fleet, machine)) == ("failed", new.release, "1.1.0")
    assert "no longer has 1.0.0-0123456789ab" in result.error


# --- hosts that cannot be reached ------------------------------------------------------------------------------------


def test_a_host_that_is_down_does_not_stop_the_others(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        fleet.machines[1].stop()
        deployment = make_release(fleet, tmp_path, "1.0.0")
        results = deploy(fleet, deployment)
        assert [one.outcome for one in results] == ["deployed", "failed", "deployed"]
        assert "could not be connected to" in results[1].error
        with pytest.raises(HostUnreachable, match=fleet.machines[1].address):
            asyncio.run(read_running(fleet.hosts, deployment.deploy_root, login=fleet.login))


def refusal(fleet: Fleet, login: SshLogin) -> str:
    with pytest.raises(HostUnreachable) as refused:
        asyncio.run(read_running(fleet.hosts, "srv/shop", login=login))
    return str(refused.value)


def test_a_changed_host_key_is_refused(fleet: Fleet, machine: SshdHost) -> None:
    machine.stop()
    machine.make_key()
    machine.start()
    said = refusal(fleet, fleet.login)
    assert f"{machine.address} shows another host key than the one in {fleet.login.known_hosts}" in said
    assert "the platform engineer" in said


def test_an_unknown_host_key_is_refused(fleet: Fleet, machine: SshdHost) -> None:
    fleet.login.known_hosts.write_text("")
    said = refusal(fleet, fleet.login)
    assert f"{machine.address} is not known: {fleet.login.known_hosts} has no key for it." in said
    assert "SHA256:" in said


def test_a_login_that_the_host_does_not_know_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    keygen(tmp_path / "stranger")
    said = refusal(fleet, replace(fleet.login, client_key=tmp_path / "stranger"))
    assert "does not let" in said
    assert "authorized_keys" in said


def test_a_host_that_says_nothing_is_given_up(fleet: Fleet, machine: SshdHost) -> None:
    machine.stop()
    with socket.create_server((machine.address, machine.port)):
        said = refusal(fleet, replace(fleet.login, connect_timeout=0.5))
    assert "did not answer" in said or "could not be connected to" in said
