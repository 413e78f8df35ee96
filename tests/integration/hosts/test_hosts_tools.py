"""Hosts whose tools are BusyBox's, as Alpine's are, and hosts that lack one."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from interlock.adapters.artifacts.bundle import list_files
from interlock.adapters.hosts._session import look_at_host
from interlock.domain.canonical import sha256_of
from interlock.domain.hosts.released_files import Expected, anchors, differences, expected_files
from tests.local_host import LocalHost, LocalRelease, make_local_release, tree_of

NOISE = {"noise": random.Random(1).randbytes(300_000).hex()}


@pytest.fixture
def busybox(tmp_path: Path) -> LocalHost:
    """A host with nothing but BusyBox, and what Alpine's has and Debian's has not."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = shutil.which("busybox")
    assert program, "apt-get install busybox-static"
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        (tools / name).symlink_to(program)
    for name in ("comm", "flock"):
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(shutil.which(name) or name)
    return LocalHost(tmp_path, path=str(tools), shell=str(tools / "sh"))


def release(host: LocalHost, version: str, *, fails: str = "", **files: str) -> LocalRelease:
    spec = f"""files: [{{source: web, destination: '{host.www}'}}]
file_exists_behavior: OVERWRITE
permissions:
  - {{object: '{host.www}', mode: 640, type: [file]}}
  - {{object: '{host.www}', mode: 750, type: [directory]}}
"""
    web = {f"web/{name}": text for name, text in files.items()}
    return make_local_release(
        host.folder, version, {**NOISE, **web, "web/deep/er": "", "web/version": version}, spec, fails=fails
    )


def test_releases_go_to_a_host_with_busybox_and_back(busybox: LocalHost) -> None:
    old, new = release(busybox, "1.0.0", leaves="x"), release(busybox, "1.1.0", theirs="ours")
    result = busybox.deploy(old)
    assert (result.outcome, result.error) == ("deployed", "")
    (busybox.www / "theirs").write_text("theirs")
    result = busybox.deploy(new)
    assert (result.outcome, result.error, result.warnings) == ("deployed", "", ())
    assert "patch" in dict(result.steps)
    assert result.sent < 50_000, "only what differs travels"
    assert tree_of(busybox.www) == {"version": "1.1.0", "theirs": "ours", "deep/er": ""}
    assert (busybox.www / "version").stat().st_mode & 0o777 == 0o640
    assert (busybox.www / "deep").stat().st_mode & 0o777 == 0o750
    result = busybox.deploy(release(busybox, "1.2.0", fails="ValidateService"))
    assert (result.outcome, result.after) == ("failed", new.contents.release)
    assert "the hook ValidateService (hook) of 1.2.0-" in result.error
    result = busybox.back_out(old)
    assert (result.outcome, result.error, busybox.current) == ("backed_out", "", old.contents.release)
    assert tree_of(busybox.www) == {"version": "1.0.0", "leaves": "x", "theirs": "theirs", "deep/er": ""}


def test_the_files_of_a_host_with_busybox_are_looked_at(busybox: LocalHost) -> None:
    odd = "web/system-getty\\x2d1.service"
    new = make_local_release(busybox.folder, "1.0.0", {**NOISE, odd: "x", "now": "-> noise", "gone": "z"}, "")
    assert busybox.deploy(new).outcome == "deployed"
    name = new.contents.release
    expected = [*anchors(name), *expected_files(list_files(new.bundle), name)]

    async def choose(release: str) -> list[Expected]:
        return expected

    def differ() -> dict[str, str]:
        seen = asyncio.run(look_at_host(busybox, "localhost", str(busybox.root), choose))
        assert len(seen.seen) == len(expected)
        return {one.expected.path: one.seen.in_words for one in differences(seen.asked, seen.seen)}

    assert differ() == {}
    folder = busybox.root / "current"
    (folder / odd).write_text("y")
    (folder / "gone").unlink()
    (folder / "noise").write_bytes(b"x" * 2_000_000)
    assert differ() == {odd: f"SHA-256 {sha256_of(b'y')}", "gone": "nothing", "noise": "a larger file"}


def without_its_own_tools(host: LocalHost) -> None:
    """Give a host a shell that has no tools in itself, as Debian's BusyBox has."""
    for name, own in (("sh", "dash"), ("env", "env")):
        (Path(host.path) / name).unlink()
        (Path(host.path) / name).symlink_to(shutil.which(own) or own)


@pytest.mark.parametrize("tool", ["flock", "comm", "dd"])
def test_a_host_that_lacks_a_tool_is_refused_before_anything_is_done(busybox: LocalHost, tool: str) -> None:
    without_its_own_tools(busybox)
    (Path(busybox.path) / tool).unlink()
    result = busybox.deploy(release(busybox, "1.0.0"))
    assert result.outcome == "failed"
    assert f"the host lacks the command {tool}" in result.error
    assert not busybox.root.exists()


def test_a_host_whose_tools_are_too_old_is_refused_with_what_they_cannot_do(busybox: LocalHost) -> None:
    without_its_own_tools(busybox)
    old = Path(busybox.path) / "timeout"
    old.unlink()
    old.write_text("#!/bin/sh\necho 'Usage: timeout [-t SECS] PROG ARGS' >&2\nexit 1\n")
    old.chmod(0o755)
    result = busybox.deploy(release(busybox, "1.0.0"))
    assert "the host lacks a tool that can do this: timeout -k 1 60 true" in result.error
    assert not busybox.root.exists()


def test_releases_that_ran_stay_and_those_that_failed_go_first(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    ran = [release(host, version) for version in ("0.8.0", "0.9.0", "1.0.0")]
    for one in ran:
        assert host.deploy(one).outcome == "deployed"
    for event in ("BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"):
        failed = release(host, f"1.0.{len(event)}", fails=event)
        assert host.deploy(failed).outcome == "failed"
        there = {path.name for path in (host.root / "releases").iterdir()}
        assert there == {one.contents.release for one in (*ran, failed)}, "the last that failed stays for a retry"
    new = release(host, "1.1.0")
    assert host.deploy(new).outcome == "deployed"
    there = {path.name for path in (host.root / "releases").iterdir()}
    assert there == {one.contents.release for one in (*ran[1:], new)}


def test_what_is_on_a_host_from_before_there_was_a_list_counts_as_what_ran(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    ran = [release(host, version) for version in ("0.8.0", "0.9.0")]
    for one in ran:
        host.deploy(one)
    (host.root / ".interlock/ran").unlink()
    failed = release(host, "1.0.0", fails="AfterInstall")
    host.deploy(failed)
    host.deploy(release(host, "1.0.1", fails="AfterInstall"))
    there = {path.name.partition("-")[0] for path in (host.root / "releases").iterdir()}
    assert there == {"0.8.0", "0.9.0", "1.0.1"}
