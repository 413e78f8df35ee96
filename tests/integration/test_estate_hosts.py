from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest

from interlock.adapters.artifacts.bundle import pack
from interlock.domain.canonical import sha256_of
from interlock.estate.settings import SSH_LOGIN, Settings, SettingsError
from interlock.estate.world import hosts, image, processes
from interlock.estate.world.aws import Instance
from interlock.estate.world.hosts import Fleet
from interlock.estate.world.image import Image
from tests.estate_process import is_open, lives, wait_until
from tests.ports import free_network

APPSPEC = """\
version: 0.0
os: linux
hooks:
  ApplicationStart:
    - location: start
      timeout: 20
"""
DAEMON = """\
#!/bin/sh
env >"$INTERLOCK_SHARED/environment"
setsid sleep 300 </dev/null >/dev/null 2>&1 &
echo $! >"$INTERLOCK_SHARED/pid"
"""

Scenario = Callable[[Fleet], Awaitable[None]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", network=free_network())


def disk_with(start: str, settings: Settings, tmp_path: Path) -> Image:
    """Make an image of a service that is started by this script."""
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "appspec.yml").write_text(APPSPEC)
    (folder / "start").write_text(start)
    pack(folder, tmp_path / "bundle.tar.gz")
    data = (tmp_path / "bundle.tar.gz").read_bytes()
    disk = Image(version="1.0.0", commit="c" * 40, sha256=sha256_of(data))
    settings.images.mkdir(parents=True)
    image.bundle_of(settings, disk).write_bytes(data)
    return disk


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Callable[..., None]:
    """Give what runs a scenario with a fleet that has no hosts yet; nothing of it is left afterwards."""

    async def with_fleet(scenario: Scenario, start: str) -> None:
        fleet = Fleet(settings, disk_with(start, settings, tmp_path))
        try:
            await scenario(fleet)
        finally:
            await fleet.off()
        assert not list(processes.of_hosts(settings.state))

    return lambda scenario, start=DAEMON: asyncio.run(with_fleet(scenario, start))


def instance(
    settings: Settings,
    number: int = 1,
    *,
    state: str = "running",
    name: str = "one",
    address: str | None = None,
    **tags: str,
) -> Instance:
    known = {"Service": "bike-shop", "Environment": "production", **({"Name": name} if name else {}), **tags}
    return Instance(f"i-{number:08x}", f"{settings.network}.{number}" if address is None else address, state, known)


async def settle(fleet: Fleet, *instances: Instance) -> None:
    """Show a fleet its instances until nothing is left to be done."""
    while tasks := fleet.follow(instances):
        await asyncio.gather(*tasks)
    await fleet.settled()


async def said(settings: Settings, address: str, command: str) -> str:
    """Run a command on a host, as the deployer does."""
    async with asyncssh.connect(
        address,
        settings.ssh_port,
        username=SSH_LOGIN,
        client_keys=[str(settings.deployer_key("production"))],
        known_hosts=str(settings.known_hosts("production")),
        config=None,
        agent_path=None,
    ) as connection:
        return str((await connection.run(command, check=True)).stdout).strip()


def daemon_of(settings: Settings) -> int:
    return int((settings.host_folder("one") / "srv/bike-shop/shared/pid").read_text())


def test_running_instance_is_a_host_that_has_booted(settings: Settings, run: Callable[..., None]) -> None:
    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, instance(settings))
        assert lives(daemon_of(settings))
        assert await said(settings, f"{settings.network}.1", "pwd") == str(settings.host_folder("one"))
        shared = settings.host_folder("one") / "srv" / "bike-shop" / "shared"
        environ = dict(line.partition("=")[::2] for line in (shared / "environment").read_text().splitlines())
        assert environ["INTERLOCK_SHARED"] == str(shared)
        assert environ["INTERLOCK_RELEASE"] == str((shared.parent / "current").resolve())
        assert environ["LIFECYCLE_EVENT"] == "ApplicationStart"
        assert environ["DEPLOYMENT_GROUP_NAME"] == "production"
        assert environ["INTERLOCK_HOST"] == "one"
        assert environ["INTERLOCK_ADDRESS"] == f"{settings.network}.1"

    run(scenario)


OWN = "/opt/interlock-test-of-roots"


def test_an_absolute_path_is_the_hosts_own_and_stays_as_long_as_the_host(settings: Settings, tmp_path: Path) -> None:
    one, two = instance(settings), instance(settings, 2, name="two")
    booted = f"#!/bin/sh\nmkdir -p {OWN}\necho booted >>{OWN}/boots\n"

    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, one, two)
        await said(settings, one.address, f"echo of one >{OWN}/file")
        assert await said(settings, one.address, f"cat {OWN}/file {OWN}/boots") == "of one\nbooted"
        assert await said(settings, two.address, f"ls {OWN}") == "boots"
        for command in ("touch /usr/ours 2>/dev/null || echo no", f"test -e {tmp_path}/build || echo no"):
            assert await said(settings, one.address, command) == "no"
        locked = "flock /run/lock-of-ours sh -c 'test -d /proc/$$ && mktemp -p /tmp >/dev/null && echo yes'"
        assert await said(settings, one.address, locked) == "yes"
        await settle(fleet, instance(settings, state="stopped"), two)
        await settle(fleet, one, two)
        assert await said(settings, one.address, f"cat {OWN}/file {OWN}/boots") == "of one\nbooted\nbooted"
        await settle(fleet, instance(settings, state="terminated"), two)
        assert not settings.host_root("one").exists()
        assert not Path(OWN).exists()

    async def with_fleet() -> None:
        fleet = Fleet(settings, disk_with(booted, settings, tmp_path))
        try:
            await scenario(fleet)
        finally:
            await fleet.off()

    asyncio.run(with_fleet())


def test_where_a_host_cannot_have_its_own_root_that_is_said_and_it_works_all_the_same(
    settings: Settings, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosts, "why_not", lambda: "bwrap is not installed")

    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, instance(settings))
        assert await said(settings, f"{settings.network}.1", f"ls -d {settings.state}") == str(settings.state)

    run(scenario)
    assert "Hosts share this machine's root, where an absolute destination is really written: bwrap" in caplog.text


def test_stopped_instance_takes_everything_on_it_down(settings: Settings, run: Callable[..., None]) -> None:
    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, instance(settings))
        (settings.host_folder("one") / "kept").write_text("on the disk")
        daemon = daemon_of(settings)
        await settle(fleet, instance(settings, state="stopped"))
        assert not lives(daemon)
        assert not is_open(f"{settings.network}.1", settings.ssh_port)
        await settle(fleet, instance(settings))
        assert await said(settings, f"{settings.network}.1", "cat kept") == "on the disk"
        assert daemon_of(settings) != daemon

    run(scenario)


def test_terminated_instance_loses_its_disk_and_its_key(settings: Settings, run: Callable[..., None]) -> None:
    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, instance(settings), instance(settings, 2, name="two"))
        before = settings.known_hosts("production").read_text()
        await settle(fleet, instance(settings, state="terminated"), instance(settings, 2, name="two"))
        assert [path.name for path in settings.host_folders.iterdir()] == ["two"]
        assert len(settings.known_hosts("production").read_text().splitlines()) == 1
        await settle(fleet, instance(settings), instance(settings, 2, name="two"))
        after = settings.known_hosts("production").read_text()
        assert after.splitlines()[1] == before.splitlines()[1]
        assert after.splitlines()[0] != before.splitlines()[0]

    run(scenario)


def test_instance_without_a_usable_name_is_called_by_its_id(settings: Settings, run: Callable[..., None]) -> None:
    async def scenario(fleet: Fleet) -> None:
        await settle(
            fleet,
            instance(settings, 1, name=""),
            instance(settings, 2, name="../../etc"),
            instance(settings, 3, name="one"),
            instance(settings, 4, name="one"),
        )
        names = ["i-00000001", "i-00000002", "i-00000004", "one"]
        assert sorted(path.name for path in settings.host_folders.iterdir()) == names

    run(scenario)


def test_only_loopback_addresses_become_hosts_and_each_once(settings: Settings, run: Callable[..., None]) -> None:
    async def scenario(fleet: Fleet) -> None:
        await settle(
            fleet,
            instance(settings, 1, name="one"),
            instance(settings, 2, name="far", address="10.0.0.5"),
            instance(settings, 3, name="lost", address=""),
            instance(settings, 4, name="twin", address=f"{settings.network}.1"),
        )
        assert sorted(path.name for path in settings.host_folders.iterdir()) == ["one"]

    run(scenario)


def test_host_of_another_service_is_empty(settings: Settings, run: Callable[..., None]) -> None:
    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, instance(settings, Service="warehouse"))
        assert await said(settings, f"{settings.network}.1", "ls -A") == ".interlock-enrolment"

    run(scenario)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("#!/bin/sh\nexit 3\n", id="hook fails"),
        pytest.param("no program at all", id="hook cannot be run"),
    ],
)
def test_host_whose_service_does_not_start_can_be_repaired(
    settings: Settings, run: Callable[..., None], start: str
) -> None:
    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, instance(settings))
        assert await said(settings, f"{settings.network}.1", "readlink srv/bike-shop/current")

    run(scenario, start)


def test_what_killed_servers_left_running_is_ended_at_boot(settings: Settings, run: Callable[..., None]) -> None:
    environ = {"INTERLOCK_STATE": str(settings.state), "INTERLOCK_HOST": "one"}
    left = subprocess.Popen(["/bin/sleep", "300"], env=environ, start_new_session=True)

    async def scenario(fleet: Fleet) -> None:
        await settle(fleet, instance(settings))
        assert left.wait(5) == -signal.SIGKILL
        assert lives(daemon_of(settings))

    run(scenario)


def test_taken_address_is_told_and_tried_again(
    settings: Settings, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.estate.world.hosts.RETRY_SECONDS", 0.0)

    async def scenario(fleet: Fleet) -> None:
        taken = socket.create_server((f"{settings.network}.1", settings.ssh_port))
        with taken, pytest.raises(SettingsError, match="INTERLOCK_SSH_PORT"):
            await settle(fleet, instance(settings))
        await settle(fleet, instance(settings))
        assert await said(settings, f"{settings.network}.1", "echo here") == "here"

    run(scenario)


def test_host_that_is_booting_can_be_turned_off(settings: Settings, run: Callable[..., None]) -> None:
    begun = settings.host_folder("one") / "begun"

    async def scenario(fleet: Fleet) -> None:
        fleet.follow([instance(settings)])
        await asyncio.to_thread(wait_until, begun.exists, "the boot")
        await fleet.off()
        assert not list(processes.of_hosts(settings.state))
        assert not is_open(f"{settings.network}.1", settings.ssh_port)

    run(scenario, '#!/bin/sh\n: >"$HOME/begun"\nsleep 300\n')
