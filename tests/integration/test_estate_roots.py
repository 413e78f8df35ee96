"""A host's own root, as bubblewrap mounts it for whoever runs the estate."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock.domain.errors import TransientError
from interlock.estate.world import roots

Host = Callable[[str], str]


@pytest.fixture(params=[(), ("--unshare-user",)], ids=["as the machine gives it", "in a user namespace"])
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Give what runs a command on a host with its own root."""
    bubblewrap = roots.bubblewrap()
    monkeypatch.setattr(roots, "bubblewrap", lambda: tuple(dict.fromkeys((*bubblewrap, *request.param))))
    home = tmp_path / "home"
    home.mkdir()
    environ = {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    root = roots.open_root(tmp_path / "root", home, environ)

    def said(command: str) -> str:
        done = subprocess.run(
            [*root.enter, "/bin/sh", "-c", command], env=environ, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    yield said
    root.close()


def test_what_is_written_there_is_in_the_hosts_folder(host: Host, tmp_path: Path) -> None:
    assert host("mkdir -p /data /var/www; echo a >/data/a; echo b >/var/www/b; echo c >c; pwd") == f"{tmp_path}/home\n"
    assert (tmp_path / "root/data/a").read_text() == "a\n"
    assert (tmp_path / "root/var/www/b").read_text() == "b\n"
    assert (tmp_path / "home/c").read_text() == "c\n"
    assert not Path("/data/a").exists()


def test_the_machines_programs_are_there_and_cannot_be_changed(host: Host) -> None:
    assert host("python3 -c 'import sys; print(sys.version_info.major)'") == "3\n"
    assert host("echo yes | cat /dev/stdin /dev/fd/0") == "yes\n"
    assert "Read-only file system" in host("touch /usr/ours")
    assert "Read-only file system" in host(f"touch {sys.prefix}/ours")
    assert host(f"id -u; touch /etc/ours; test -e {Path(__file__)} || echo not here") == f"{os.getuid()}\nnot here\n"


def test_what_one_session_starts_another_one_sees(host: Host) -> None:
    started = host("MARK=of-this-host sleep 60 >/dev/null 2>&1 & echo $!").strip()
    try:
        look = (
            f"tr '\\0' '\\n' </proc/{started}/environ | grep MARK; echo ok >/dev/null; ls /dev/stdin >/dev/null && pwd"
        )
        assert host(look).startswith("MARK=of-this-host\n")
    finally:
        os.kill(int(started), 9)


def test_a_root_that_cannot_be_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="The root of home cannot be mounted: bwrap: Can't find source path"):
        roots.open_root(tmp_path / "root", tmp_path / "home", {})


@pytest.fixture
def untried() -> Iterator[None]:
    """Let the machine be tried in the test, and again after it."""
    for tried in (roots.bubblewrap, roots._trial):
        tried.cache_clear()
    yield
    for tried in (roots.bubblewrap, roots._trial):
        tried.cache_clear()


@pytest.mark.usefixtures("untried")
def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert roots.why_not() == "bwrap is not installed (Debian and Ubuntu: apt-get install bubblewrap)"
    (tmp_path / "bwrap").symlink_to("/usr/bin/bwrap")
    assert roots.why_not() == "nsenter is not installed (Debian and Ubuntu: apt-get install util-linux)"


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("refuses", ["bwrap", "nsenter"])
def test_a_kernel_that_gives_no_namespaces_is_told_before_a_host_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    (tmp_path / refuses).write_text("#!/bin/sh\necho not permitted >&2\nexit 1\n")
    (tmp_path / refuses).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert roots.why_not().endswith("no namespaces: not permitted")


def test_this_machine_gives_hosts_their_own_roots() -> None:
    assert roots.why_not() == ""
