"""Looking at the files of real OpenSSH hosts: what was changed in place is seen, and nothing is changed by looking."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from interlock.adapters.artifacts.bundle import list_files
from interlock.adapters.hosts import _session
from interlock.adapters.hosts.fleet import Deployment, HostLook, look_at_hosts
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import HostUnreachable
from interlock.domain.hosts.released_files import Expected, anchors, differences, expected_files
from tests.deployments import ADMITTED, deploy, deploy_one
from tests.integration.hosts.test_hosts_difference import deployment_of
from tests.local_host import LocalHost, LocalRelease, make_local_release
from tests.sshd import DEPLOY_ROOT, Fleet, SshdHost, make_release, sshd_fleet

ODD = "lib/system-getty\\x2d1.service"


def answers(fleet: Fleet, deployment: Deployment) -> Mapping[str, HostLook | Exception]:
    """Ask hosts about every file of a release."""

    async def choose(host: str, release: str) -> Sequence[Expected]:
        return [*anchors(release), *expected_files(list_files(deployment.bundle), deployment.release)]

    return asyncio.run(look_at_hosts(fleet.hosts, DEPLOY_ROOT, choose, login=fleet.login, admission=ADMITTED))


def look(fleet: Fleet, deployment: Deployment) -> HostLook:
    (answer,) = answers(fleet, deployment).values()
    assert isinstance(answer, HostLook), answer
    return answer


def found(fleet: Fleet, deployment: Deployment) -> dict[str, str]:
    """Return what differs on the one host: path, and what is there instead."""
    seen = look(fleet, deployment)
    return {one.expected.path: one.seen.in_words for one in differences(seen.asked, seen.seen)}


@pytest.fixture
def release(fleet: Fleet, tmp_path: Path) -> Deployment:
    """A release with some odd names, which runs on the host."""
    tree = tmp_path / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "appspec.yml").write_text("version: 0.0\nos: linux\n")
    (tree / "lib" / "shop.py").write_text("print('bikes')\n")
    (tree / "lib" / "other.py").write_text("print('other')\n")
    (tree / ODD).write_text("[Unit]\n")
    (tree / "a name with spaces").write_text("x")
    (tree / "-n").write_text("y")
    (tree / "näme").write_text("z")
    (tree / "empty").write_text("")
    (tree / "noise").write_bytes(os.urandom(1_500_000))
    (tree / "now").symlink_to("lib/shop.py")
    deployment = deployment_of(tree, "1.0.0")
    result = deploy_one(fleet, deployment)
    assert (result.outcome, result.error) == ("deployed", "")
    return deployment


def look_locally(host: LocalHost, release: LocalRelease) -> HostLook:
    async def choose(name: str) -> Sequence[Expected]:
        return [*anchors(name), *expected_files(list_files(release.bundle), name)]

    return asyncio.run(_session.look_at_host(host, "localhost", str(host.root), choose))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")
    }


def test_nothing_differs_on_a_host_that_nobody_touched_and_looking_changes_nothing(
    fleet: Fleet, machine: SshdHost, release: Deployment
) -> None:
    before = snapshot(machine.home)
    seen = look(fleet, release)
    assert seen.state.current == release.release
    assert len(seen.seen) == len(seen.asked) == 12, "ten files and links, and the two that lead to them"
    assert [*differences(seen.asked, seen.seen)] == []
    assert snapshot(machine.home) == before


def replace(path: Path, put: Callable[[Path], object]) -> None:
    path.unlink()
    put(path)


def elsewhere(folder: Path) -> None:
    """Put a link to a copy in the place of the release's folder."""
    shutil.copytree(folder, folder.parents[1] / "mine", symlinks=True)
    shutil.rmtree(folder)
    folder.symlink_to("../mine")


EVIL = "print('evil!')\n"
CHANGES: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "a file of the same size": (
        lambda folder: (folder / "lib/shop.py").write_text(EVIL),
        {"lib/shop.py": f"SHA-256 {sha256_of(EVIL.encode())}"},
    ),
    "a larger file": (
        lambda folder: (folder / "noise").write_bytes(b"x" * 2_000_000),
        {"noise": f"SHA-256 {sha256_of(b'x' * 2_000_000)}"},
    ),
    "a file that is gone": (lambda folder: (folder / "lib/shop.py").unlink(), {"lib/shop.py": "nothing"}),
    "a folder that is gone": (
        lambda folder: shutil.rmtree(folder / "lib"),
        {"lib/shop.py": "nothing", "lib/other.py": "nothing", ODD: "nothing"},
    ),
    "a file with an odd name": (lambda folder: (folder / ODD).unlink(), {ODD: "nothing"}),
    "a link in the place of a file": (
        lambda folder: replace(folder / "lib/shop.py", lambda path: path.symlink_to("other.py")),
        {"lib/shop.py": "a link to other.py"},
    ),
    "a link that leads elsewhere": (
        lambda folder: replace(folder / "now", lambda path: path.symlink_to("lib/other.py")),
        {"now": "a link to lib/other.py"},
    ),
    "a link to a name with an end of line": (
        lambda folder: replace(folder / "now", lambda path: path.symlink_to("lib/shop.py\n")),
        {"now": "neither a file nor a folder nor a link"},
    ),
    "a folder in the place of a file": (lambda folder: replace(folder / "empty", Path.mkdir), {"empty": "a folder"}),
    "a pipe in the place of a file": (
        lambda folder: replace(folder / "empty", os.mkfifo),
        {"empty": "neither a file nor a folder nor a link"},
    ),
    "a file without end": (lambda folder: os.truncate(folder / "empty", 1 << 40), {"empty": "a larger file"}),
    "the folder of the release": (elsewhere, {"releases/RELEASE": "a link to ../mine"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_in_place_differs_and_nothing_else_does(
    fleet: Fleet, machine: SshdHost, release: Deployment, what: str
) -> None:
    do, expected = CHANGES[what]
    do(machine.root / "releases" / release.release)
    assert found(fleet, release) == {path.replace("RELEASE", release.release): is_ for path, is_ in expected.items()}


def test_a_link_to_a_copy_of_the_release_elsewhere_is_seen(
    fleet: Fleet, machine: SshdHost, release: Deployment, tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / release.release
    shutil.copytree(machine.root / "current", mine, symlinks=True)
    (machine.root / "current").unlink()
    (machine.root / "current").symlink_to(mine)
    assert found(fleet, release) == {"current": f"a link to {mine}"}


def test_what_a_release_makes_on_a_host_is_nobodys_concern(
    fleet: Fleet, machine: SshdHost, release: Deployment
) -> None:
    (machine.root / "releases" / release.release / "server.log").write_text("started")
    assert found(fleet, release) == {}


def test_files_that_were_put_in_their_places_are_looked_at_there(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    tree, www = tmp_path / "tree", tmp_path / "var/www shop"
    (tree / "web").mkdir(parents=True)
    (tree / "web" / "index").write_text("bikes")
    (tree / "appspec.yml").write_text(f"version: 0.0\nos: linux\nfiles: [{{source: web, destination: '{www}'}}]\n")
    deployment = deployment_of(tree, "1.0.0")
    assert deploy_one(fleet, deployment).outcome == "deployed"
    assert found(fleet, deployment) == {}
    (www / "index").unlink()
    assert found(fleet, deployment) == {f"{www}/index": "nothing"}


def test_what_the_login_cannot_read_is_not_known_to_differ(tmp_path: Path) -> None:
    shell = tmp_path / "shell"  # root reads everything, unless it lacks what lets it
    as_anybody = "setpriv --inh-caps=-all --bounding-set=-dac_override,-dac_read_search" if os.getuid() == 0 else "exec"
    shell.write_text(f'#!/bin/sh\n{as_anybody} sh "$@"\n')
    shell.chmod(0o755)
    host = LocalHost(tmp_path / "host", shell=str(shell))
    host.folder.mkdir()
    release = make_local_release(host.folder, "1.0.0", {"lib/shop.py": "x", "secret": "y", "read": "z"}, "")
    assert host.deploy(release).outcome == "deployed"
    folder = host.root / "releases" / release.contents.release
    (folder / "secret").chmod(0)
    (folder / "lib").chmod(0)
    try:
        seen = look_locally(host, release)
    finally:
        (folder / "lib").chmod(0o755)
    assert [*differences(seen.asked, seen.seen)] == []
    assert {one.path for one in seen.asked if seen.seen[one.name].kind == "hidden"} == {"lib/shop.py", "secret"}


def test_an_empty_host_and_one_that_is_off_keep_no_other_from_being_looked_at(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        deployment = make_release(fleet, tmp_path, "1.0.0")
        deploy(Fleet(fleet.machines[:1], fleet.login, fleet.health_port), deployment)
        fleet.machines[2].turn_off()
        running, empty, off = answers(fleet, deployment).values()
    assert isinstance(running, HostLook)
    assert isinstance(empty, HostLook)
    assert (running.state.current, empty.state.current, empty.asked) == (deployment.release, None, ())
    assert [*differences(running.asked, running.seen)] == []
    assert isinstance(off, HostUnreachable)


def liar(fleet: Fleet, machine: SshdHost, says: str) -> None:
    """Have the host run something else than the program that it is given."""
    script = machine.home / "liar"
    script.write_text(f"#!/bin/sh\nIFS= read -r mark\n{says}\n")
    script.chmod(0o755)
    machine.stop()
    machine.limits = f"exec {script};"
    machine.start()


DONE = 'echo "$mark done {}"; read -r line;'
LIES = {
    "digests of other files": f'{DONE} echo "$mark sum {"a" * 64}  /etc/shadow"; echo "$mark done {{}}"',
    "a word too many": f'{DONE} echo "$mark gone 1"; echo "$mark gone 1"; echo "$mark done {{}}"',
    "no end": f'{DONE} yes "$mark gone 1"',
    "a release with a way out": 'echo "$mark done ../../etc"',
    "nothing more": DONE,
    "a failure": f'{DONE} echo "$mark failed {{}} I do not like it"',
}


@pytest.mark.parametrize("lie", LIES)
def test_a_host_that_lies_about_its_files_is_not_believed_and_hides_no_other(
    tmp_path: Path, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "_ANSWER_LIMIT", 1_000_000)
    with sshd_fleet(tmp_path, 2) as fleet:
        deployment = make_release(fleet, tmp_path, "1.0.0")
        deploy(fleet, deployment)
        liar(fleet, fleet.machines[0], LIES[lie].replace("{}", deployment.release))
        asked: list[str] = []

        async def choose(host: str, release: str) -> Sequence[Expected]:
            asked.append(release)
            return anchors(release) if release == deployment.release else ()

        lying, honest = asyncio.run(
            look_at_hosts(fleet.hosts, DEPLOY_ROOT, choose, login=fleet.login, admission=ADMITTED)
        ).values()
    assert isinstance(honest, HostLook)
    assert [*differences(honest.asked, honest.seen)] == []
    if lie == "a release with a way out":
        assert "../../etc" in asked
        assert isinstance(lying, HostLook)
        assert lying.asked == (), "nothing is asked about what was not released"
    else:
        assert isinstance(lying, Exception)
        assert fleet.machines[0].address in str(lying)
