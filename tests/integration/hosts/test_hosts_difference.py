"""What travels to a host that has the release before: only what differs, and what comes out is the release."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from interlock.adapters.artifacts.bundle import pack, unpack
from interlock.adapters.hosts.fleet import Deployment, SshLogin, deploy_hosts
from interlock.domain.records import HostResult, release_name
from tests.deployments import ADMITTED
from tests.sshd import DEPLOY_ROOT, Fleet, SshdHost, make_release

MIB = 1024 * 1024
RELAY = "127.31.0.1"


def tree_of(folder: Path) -> dict[str, tuple[str, int, str]]:
    """Return what a folder holds: kind, mode, and content or target, by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = "link", 0, os.readlink(path)
        elif path.is_dir():
            found[name] = "folder", 0, ""
        elif name != ".interlock.json":
            mode = stat.S_IMODE(path.stat().st_mode)
            found[name] = "file", mode, hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def write_release(folder: Path) -> Path:
    """Write 20 MiB: one large file and many small ones, folders, links and a script."""
    tree = folder / "tree"
    (tree / "lib/empty").mkdir(parents=True)
    (tree / "appspec.yml").write_text("version: 0.0\nos: linux\n")
    (tree / "big file").write_bytes(random.randbytes(10 * MIB))
    for number in range(100):
        (tree / f"lib/part {number}").write_bytes(random.randbytes(MIB // 10))
    (tree / "lib/tool").write_text("#!/bin/sh\n")
    (tree / "lib/tool").chmod(0o755)
    (tree / "latest").symlink_to("lib/part 1")
    (tree / "leaves").write_text("only in the first one")
    return tree


def change_a_hundredth(tree: Path) -> None:
    with (tree / "big file").open("r+b") as file:
        file.seek(3 * MIB)
        file.write(random.randbytes(MIB // 10))
    (tree / "lib/part 7").write_bytes(random.randbytes(MIB // 10))
    (tree / "lib/part 8").chmod(0o755)
    (tree / "leaves").unlink()
    (tree / "comes").write_text("only in the second one")
    (tree / "latest").unlink()
    (tree / "latest").symlink_to("lib/part 2")


def deployment_of(tree: Path, version: str) -> Deployment:
    bundle = tree.parent / f"{version}.tar.gz"
    pack(tree, bundle)
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    return Deployment(
        service="shop",
        environment="production",
        deployment_id="release_shop/manual__1",
        deploy_root=DEPLOY_ROOT,
        release=release_name(version, digest),
        version=version,
        commit="c" * 40,
        sha256=digest,
        bundle=bundle,
        keep_releases=3,
        health=None,
        drain_timeout=timedelta(seconds=5),
    )


class Relay:
    """Passes a host's connections on, and counts their bytes."""

    def __init__(self, machine: SshdHost) -> None:
        self._machine = machine
        self.bytes = 0
        self._under_way: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._pass_on, RELAY, self._machine.port)
        async with server:
            yield
        await asyncio.gather(*self._under_way)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._under_way.append(done := asyncio.get_running_loop().create_future())
        there, back = await asyncio.open_connection(self._machine.address, self._machine.port)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        for one in (back, writer):
            with suppress(OSError):
                one.close()
                await one.wait_closed()
        done.set_result(None)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.bytes += len(data)
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()


def through_relay(fleet: Fleet, deployment: Deployment) -> tuple[HostResult, int]:
    """Deploy through the relay; return what came of it, and the bytes that it cost, both ways."""
    machine = fleet.machines[0]
    login = replace(fleet.login, known_hosts=fleet.login.known_hosts.with_name("relay_known_hosts"))
    login.known_hosts.write_text(f"[{RELAY}]:{machine.port} {machine.public_key}\n")
    return asyncio.run(_through_relay(machine, deployment, login))


async def _through_relay(machine: SshdHost, deployment: Deployment, login: SshLogin) -> tuple[HostResult, int]:
    relay, host = Relay(machine), machine.host.model_copy(update={"address": RELAY})
    async with relay.open():
        (result,) = await deploy_hosts([host], deployment, login=login, admission=ADMITTED, balancer=None)
    return result, relay.bytes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_release(tmp_path)


def test_of_a_release_that_changes_a_hundredth_a_twentieth_travels(fleet: Fleet, machine: SshdHost, tree: Path) -> None:
    first, whole = through_relay(fleet, deployment_of(tree, "1.0.0"))
    change_a_hundredth(tree)
    new = deployment_of(tree, "1.1.0")
    second, travelled = through_relay(fleet, new)
    assert (first.outcome, second.outcome) == ("deployed", "deployed")
    assert whole > 20 * MIB
    assert travelled <= whole // 20
    assert second.sent <= travelled
    assert "patch" in dict(second.steps)
    unpack(new.bundle, tree.parent / "expected")
    assert tree_of(machine.root / "releases" / new.release) == tree_of(tree.parent / "expected")
    assert machine.current == new.release


def damage_a_file(root: Path, release: str) -> None:
    (root / "releases" / release / "lib/part 3").write_text("a program wrote to it")


def lose_a_file(root: Path, release: str) -> None:
    (root / "releases" / release / "lib/part 3").unlink()


def damage_the_manifest(root: Path, release: str) -> None:
    (root / ".interlock/manifests" / f"{release}.gz").write_bytes(b"nothing that can be read")


def damage_a_block(root: Path, release: str) -> None:
    with (root / "releases" / release / "big file").open("r+b") as file:
        file.write(b"a program wrote to it")


@pytest.mark.parametrize("damage", [damage_a_file, lose_a_file, damage_the_manifest, damage_a_block])
def test_the_whole_bundle_travels_if_the_release_before_is_not_what_it_was(
    fleet: Fleet, machine: SshdHost, tree: Path, damage: Callable[[Path, str], None]
) -> None:
    old = deployment_of(tree, "1.0.0")
    through_relay(fleet, old)
    damage(machine.root, old.release)
    change_a_hundredth(tree)
    new = deployment_of(tree, "1.1.0")
    result, travelled = through_relay(fleet, new)
    assert result.outcome == "deployed"
    assert travelled > 20 * MIB
    unpack(new.bundle, tree.parent / "expected")
    assert tree_of(machine.root / "releases" / new.release) == tree_of(tree.parent / "expected")


def test_a_program_that_writes_to_its_files_changes_its_own_release_only(
    fleet: Fleet, machine: SshdHost, tree: Path
) -> None:
    old = deployment_of(tree, "1.0.0")
    through_relay(fleet, old)
    before = tree_of(machine.root / "releases" / old.release)
    change_a_hundredth(tree)
    new = deployment_of(tree, "1.1.0")
    through_relay(fleet, new)
    for path in (machine.root / "releases" / new.release / "lib").glob("part*"):
        path.write_text("overwritten")
        path.chmod(0o600)
    assert tree_of(machine.root / "releases" / old.release) == before


def test_a_difference_that_the_disk_cannot_hold_leaves_the_old_release_and_says_so(
    fleet: Fleet, machine: SshdHost, tree: Path
) -> None:
    old = deployment_of(tree, "1.0.0")
    through_relay(fleet, old)
    for number in range(20):
        (tree / f"lib/part {number}").write_bytes(random.randbytes(MIB // 10))
    machine.stop()
    machine.limits = "ulimit -f 256 &&"
    machine.start()
    result, travelled = through_relay(fleet, deployment_of(tree, "1.1.0"))
    assert (result.outcome, result.after, machine.current) == ("failed", old.release, old.release)
    assert "the bundle cannot be written" in result.error
    assert f"The host still runs {old.release} and is healthy." in result.error
    assert [name for name, _ in result.steps].count("connect") == 1
    assert travelled < 4 * MIB, "the whole bundle is not tried after it"


def test_a_small_release_travels_whole(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        result, _ = through_relay(fleet, replace(make_release(fleet, tmp_path, version), health=None))
    assert result.outcome == "deployed"
    assert "patch" not in dict(result.steps)
