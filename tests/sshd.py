"""Real OpenSSH daemons on loopback addresses, each a host of its own, and small releases for them.

::

    with sshd_fleet(tmp_path, 3) as fleet:
        deployment = make_release(fleet, tmp_path, "1.0.0")
        asyncio.run(deploy_hosts(fleet.hosts, deployment, login=fleet.login, balancer=None))

Every host has its own address, host key and folder, in which its SSH sessions start; its programs listen on
``fleet.health_port`` of that address. Everything started on a host, whatever it did to get away, ends with the fleet.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil

from interlock.adapters.artifacts.bundle import pack
from interlock.adapters.hosts.fleet import Deployment, SshLogin
from interlock.domain.catalogue import Health
from interlock.domain.records import Host, release_name

from .ports import free_network, free_port

DEPLOY_ROOT = "srv/shop"
_MARK = "INTERLOCK_TEST_HOST"
_STARTS_WITHIN = 20.0


@dataclass
class SshdHost:
    """One host: an sshd on an address of its own, and the folder that is its disk."""

    host: Host
    folder: Path
    port: int
    authorized_keys: Path
    limits: str = ""
    _daemon: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return self.host.address

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def mark(self) -> dict[str, str]:
        """The variable by which what runs on the host is known, and ended with it."""
        return {_MARK: str(self.folder)}

    @property
    def enrolment(self) -> Path:
        """What makes it a host of production, if it is there."""
        return self.folder / "enrolment"

    @property
    def root(self) -> Path:
        """The folder that is deployed to."""
        return self.home / DEPLOY_ROOT

    @property
    def current(self) -> str | None:
        """The release that the link names."""
        link = self.root / "current"
        return os.readlink(link).removeprefix("releases/") if link.is_symlink() else None

    @property
    def releases(self) -> set[str]:
        return set(os.listdir(self.root / "releases"))

    @property
    def public_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def make_key(self) -> None:
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink(missing_ok=True)
        keygen(self.folder / "host_key")

    def start(self) -> None:
        """Start the daemon; a command starts in the host's home, which its environment names."""
        config = self.folder / "sshd_config"
        inside = f"cd '{self.home}' && {self.limits} HOME='{self.home}' exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\""
        config.write_text(
            f"ListenAddress {self.address}\nPort {self.port}\nHostKey {self.folder}/host_key\n"
            f"AuthorizedKeysFile {self.authorized_keys}\nPidFile none\nUsePAM no\nStrictModes no\nUseDNS no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            # SHLVL keeps bash from reading what the person who runs the tests has in .bashrc.
            f"MaxStartups 500\nMaxSessions 100\nSetEnv {_MARK}={self.folder} SHLVL=2 "
            f"INTERLOCK_ENROLMENT={self.enrolment}\nForceCommand {inside}\n"
        )
        log = self.folder / "sshd.log"
        self._daemon = subprocess.Popen([_sshd(), "-D", "-f", str(config), "-E", str(log)], stdin=subprocess.DEVNULL)
        wait_until(lambda: _listens(self.address, self.port), f"sshd of {self.address}: {log}")

    def cut(self, *killed: str) -> None:
        """Break every connection to the host, as a network does; what runs there stays.

        :param killed: words in the command line of programs that end at the same moment: nobody connects in between.
        """
        if self._daemon is None:
            return
        daemon = psutil.Process(self._daemon.pid)
        daemon.suspend()
        try:
            connections = [child for child in daemon.children(recursive=True) if not self._is_inside(child)]
            for process in [*(self.processes(*killed) if killed else []), *connections]:
                kill(process)
        finally:
            daemon.resume()

    def stop(self) -> None:
        """Take the host off the network: its daemon, its connections."""
        if self._daemon is not None:
            self.cut()
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None
            # One that it was about to start for a connection may have its socket for a moment longer.
            wait_until(lambda: not _listens(self.address, self.port), f"the end of the sshd of {self.address}")

    def _is_inside(self, process: psutil.Process) -> bool:
        """Whether a process was started on the host, and is not its sshd."""
        try:
            return bool(process.environ().get(_MARK) == str(self.folder))
        except psutil.Error:
            return False

    def processes(self, *containing: str) -> list[psutil.Process]:
        """Return what runs on the host, whoever its parent is now, with all of these words in its command line."""
        found = []
        for process in psutil.process_iter():
            try:
                if self._is_inside(process) and process.status() != psutil.STATUS_ZOMBIE:
                    command = " ".join(process.cmdline())
                    found += [process] if all(word in command for word in containing) else []
            except psutil.Error:
                continue
        return found

    def turn_off(self) -> None:
        """Stop the host with everything that runs on it."""
        self.stop()
        while running := self.processes():
            for process in running:
                kill(process)
            time.sleep(0.02)


@dataclass(frozen=True)
class Fleet:
    """Hosts with one login."""

    machines: tuple[SshdHost, ...]
    login: SshLogin
    health_port: int

    @property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(machine.host for machine in self.machines)

    def write_known_hosts(self) -> None:
        self.login.known_hosts.write_text(
            "".join(f"[{one.address}]:{one.port} {one.public_key}\n" for one in self.machines)
        )


@contextmanager
def sshd_fleet(folder: Path, count: int = 1, *, limits: str = "") -> Iterator[Fleet]:
    """Start hosts under a folder, and stop everything that they started.

    :param limits: shell that is put before each command, such as ``ulimit -f 100 &&``.
    """
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    network = free_network()
    addresses = [f"{network}.{number}" for number in range(11, 11 + count)]
    ssh_port, health_port = free_port(addresses[0]), free_port(addresses[0])
    folder = folder / "hosts"
    folder.mkdir()
    keygen(folder / "id")
    login = SshLogin(
        username=getpass.getuser(),
        known_hosts=folder / "known_hosts",
        client_key=folder / "id",
        port=ssh_port,
        connect_timeout=15,
    )
    machines = tuple(
        _host(folder, address, number, ssh_port, health_port, limits) for number, address in enumerate(addresses, 1)
    )
    fleet = Fleet(machines, login, health_port)
    fleet.write_known_hosts()
    try:
        for machine in machines:
            machine.start()
        yield fleet
    finally:
        for machine in machines:
            machine.turn_off()


def _host(folder: Path, address: str, number: int, ssh_port: int, health_port: int, limits: str) -> SshdHost:
    host = Host(instance_id=f"i-{number:017x}", name=f"shop-{number}", address=address, zone="eu-central-1a")
    machine = SshdHost(host, folder / host.name, ssh_port, folder / "id.pub", limits)
    shared = machine.root / "shared"
    shared.mkdir(parents=True)
    (shared / "address").write_text(address)
    (shared / "port").write_text(str(health_port))
    machine.make_key()
    return machine


def keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def wait_until(condition: object, what: str, within: float = _STARTS_WITHIN) -> None:
    """Wait until a condition holds; fail the test, saying what was waited for, when it does not."""
    assert callable(condition)
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {within:g} s in vain for {what}")
        time.sleep(0.02)


def _sshd() -> str:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise RuntimeError("sshd is missing: apt-get install openssh-server")
    return found


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def kill(process: psutil.Process) -> None:
    """End a process that may have ended already."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


# --- releases --------------------------------------------------------------------------------------------------------

_SERVER = """
import http.server, json, os, pathlib, sys
here, shared = pathlib.Path(__file__).parent, pathlib.Path(os.environ["INTERLOCK_SHARED"])
version, status = (here / "version").read_text(), int((here / "status").read_text())

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "ok", "version": version}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

address, port = (shared / "address").read_text(), int((shared / "port").read_text())
server = http.server.ThreadingHTTPServer((address, port), Handler)
(shared / "pid").write_text(str(os.getpid()))
server.serve_forever()
"""

_START = f"""#!/bin/sh
rm -f "$INTERLOCK_SHARED/pid"
setsid {sys.executable} -S server.py </dev/null >server.log 2>&1 &
for try in $(seq 300); do
    [ -s "$INTERLOCK_SHARED/pid" ] && exit 0
    sleep 0.05
done
cat server.log
exit 1
"""

_STOP = """#!/bin/sh
[ -s "$INTERLOCK_SHARED/pid" ] || exit 0
pid=$(cat "$INTERLOCK_SHARED/pid")
kill "$pid" 2>/dev/null
for try in $(seq 100); do
    grep -qs server.py "/proc/$pid/cmdline" || break
    sleep 0.05
done
rm -f "$INTERLOCK_SHARED/pid"
"""

_NOTE = '#!/bin/sh\necho "$LIFECYCLE_EVENT $APPLICATION_NAME $DEPLOYMENT_ID $PWD" >> "$INTERLOCK_SHARED/events"\n'


def make_release(
    fleet: Fleet,
    folder: Path,
    version: str,
    *,
    hooks: Mapping[str, str] | None = None,
    timeouts: Mapping[str, int] | None = None,
    status: int = 200,
    padding: int = 0,
    deployment_id: str = "release_shop/manual__1",
    keep_releases: int = 3,
    healthy_within: float = 15.0,
) -> Deployment:
    """Build a release that answers ``GET /health`` with its version, and describe its deployment.

    :param hooks: event: the script that is run instead of the usual one.
    :param padding: bytes of noise in the bundle.
    """
    scripts = {
        "ApplicationStop": _STOP,
        "BeforeInstall": _NOTE,
        "AfterInstall": _NOTE,
        "ApplicationStart": _START,
        "ValidateService": _NOTE,
    } | dict(hooks or {})
    tree = folder / f"build-{version}-{random.getrandbits(32):08x}"
    (tree / "hooks").mkdir(parents=True)
    contents = {
        "server.py": _SERVER,
        "version": version,
        "status": str(status),
        "appspec.yml": _appspec(scripts, timeouts),
    }
    for name, text in contents.items():
        (tree / name).write_text(text)
    for event, script in scripts.items():
        (tree / "hooks" / f"{event}.sh").write_text(script)
    if padding:
        (tree / "noise").write_bytes(random.randbytes(padding))
    bundle = tree.with_suffix(".tar.gz")
    pack(tree, bundle)
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    return Deployment(
        service="shop",
        environment="production",
        deployment_id=deployment_id,
        deploy_root=DEPLOY_ROOT,
        release=release_name(version, digest),
        version=version,
        commit=hashlib.sha1(version.encode()).hexdigest(),
        sha256=digest,
        bundle=bundle,
        keep_releases=keep_releases,
        health=Health(port=fleet.health_port, timeout=timedelta(seconds=healthy_within)),
        drain_timeout=timedelta(seconds=5),
    )


def _appspec(scripts: Mapping[str, str], timeouts: Mapping[str, int] | None) -> str:
    lines = ["version: 0.0", "os: linux", "hooks:"]
    for event in scripts:
        lines += [
            f"  {event}:",
            f"    - location: hooks/{event}.sh",
            f"      timeout: {(timeouts or {}).get(event, 20)}",
        ]
    return "\n".join(lines) + "\n"
