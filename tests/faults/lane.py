"""A small fleet of real SSH hosts on which trials are made, one after the other."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread

from interlock.adapters.artifacts.bundle import pack
from interlock.adapters.hosts.fleet import Deployment
from interlock.domain.catalogue import Health
from interlock.domain.records import release_name
from tests.sshd import DEPLOY_ROOT, Fleet, SshdHost, sshd_fleet

HOSTS = 2
DISK = 12 * 1024 * 1024
_QUIET_WITHIN = 60.0

# What runs is a file: which release was started. The host's web server answers with it.
_HOOKS = {
    "ApplicationStop": 'rm -f "$INTERLOCK_SHARED/running"',
    "BeforeInstall": "true",
    "AfterInstall": "test -f version",
    "ApplicationStart": 'cd "$INTERLOCK_SHARED" && cp "$OLDPWD/version" starting && mv starting running',
    "ValidateService": 'cmp version "$INTERLOCK_SHARED/running"',
}  # fmt: skip


@dataclass(frozen=True)
class Release:
    """A release, and what its folder on a host must hold."""

    deployment: Deployment
    files: dict[str, str]

    @property
    def name(self) -> str:
        return self.deployment.release

    @property
    def version(self) -> str:
        return self.deployment.version


@dataclass
class Lane:
    """A fleet, and what runs on it."""

    fleet: Fleet
    folder: Path
    has_disks: bool
    running: Release | None = None
    seconds: float = 1.0
    made: int = 0
    tokens: Iterator[int] = field(default_factory=lambda: count(1))
    noise: bytes = field(default_factory=lambda: os.urandom(300_000))

    def make(self, rng: random.Random, hooks: dict[str, str] | None = None, timeout: int = 20) -> Release:
        """Build the next release: a good one, if no hooks are given."""
        self.made += 1
        version = f"{self.made}.0.0"
        tree = self.folder / version
        (tree / "hooks").mkdir(parents=True)
        (tree / "version").write_text(version)
        (tree / "same").write_bytes(self.noise)  # so that sometimes only what differs travels
        (tree / "other").write_bytes(rng.randbytes(rng.choice([100, 50_000, 600_000])))
        (tree / "appspec.yml").write_text(_appspec(timeout))
        for event, script in (_HOOKS | (hooks or {})).items():
            (tree / f"hooks/{event}").write_text(f"#!/bin/sh\n{script}\n")
        bundle = self.folder / f"{version}.tar.gz"
        pack(tree, bundle)
        digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
        files = {str(one.relative_to(tree)): _sha256(one) for one in tree.rglob("*") if one.is_file()}
        return Release(
            Deployment(
                service="shop",
                environment="production",
                deployment_id=f"release_shop/{version}",
                deploy_root=DEPLOY_ROOT,
                release=release_name(version, digest),
                version=version,
                commit="c" * 40,
                sha256=digest,
                bundle=bundle,
                keep_releases=4,
                health=Health(port=self.fleet.health_port, timeout=timedelta(seconds=5)),
                drain_timeout=timedelta(seconds=5),
            ),
            files,
        )

    def boot(self, machine: SshdHost) -> None:
        """Do what an init system does when a host starts: start what is current."""
        running = machine.root / "shared/running"
        if machine.current is None:
            running.unlink(missing_ok=True)
        else:
            running.write_text((machine.root / "current/version").read_text())

    def await_quiet(self) -> None:
        """Wait until every host has ended by itself what was begun on it."""
        give_up = time.monotonic() + _QUIET_WITHIN
        for machine in self.fleet.machines:
            while not _is_free(machine.root / ".interlock/lock"):
                if time.monotonic() > give_up:
                    raise AssertionError(f"{machine.host.name} is still locked after {_QUIET_WITHIN:g} s")
                time.sleep(0.02)


def wrong_with(machine: SshdHost, *releases: Release | None, runs: bool = True) -> str:
    """Say what is wrong with a host that is to run one of these releases, whole; nothing: all is well."""
    allowed = {release.name if release else None: release for release in releases}
    if machine.current not in allowed:
        return f"{machine.host.name}: current is {machine.current}, not one of {sorted(map(str, allowed))}"
    release, running = allowed[machine.current], machine.root / "shared/running"
    if release is None:
        return f"{machine.host.name}: runs something, and nothing is current" if running.exists() and runs else ""
    folder = machine.root / "current"
    found = {str(one.relative_to(folder)): _sha256(one) for one in folder.rglob("*") if one.is_file()}
    found.pop(".interlock.json", None)
    if found != release.files:
        different = {name for name in found | release.files if found.get(name) != release.files.get(name)}
        return f"{machine.host.name}: {release.name} is not what was packed: {sorted(different)}"
    started = running.read_text() if running.exists() else None
    if runs and started != release.version:
        return f"{machine.host.name}: {release.name} is current, and {started} runs"
    return ""


def _is_free(lock: Path) -> bool:
    if not lock.exists():
        return True
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _appspec(timeout: int) -> str:
    hooks = "".join(f"  {event}: [{{location: hooks/{event}, timeout: {timeout}}}]\n" for event in _HOOKS)
    return f"version: 0.0\nos: linux\nhooks:\n{hooks}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def lane(folder: Path) -> Iterator[Lane]:
    """Start a fleet, with disks of a known size if that may be done here."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        fleet = stack.enter_context(sshd_fleet(folder, HOSTS))
        disks = all([stack.enter_context(_disk(machine)) for machine in fleet.machines])
        for machine in fleet.machines:
            stack.enter_context(_web_server(machine, fleet.health_port))
        stack.callback(lambda: [machine.turn_off() for machine in fleet.machines])
        yield Lane(fleet, folder, disks)


@contextmanager
def _disk(machine: SshdHost) -> Iterator[bool]:
    place = machine.root.parent
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "interlock-faults", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        (machine.root / "shared").mkdir(parents=True)
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def _web_server(machine: SshdHost, port: int) -> Iterator[None]:
    running = machine.root / "shared/running"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = None
            with suppress(FileNotFoundError):
                version = running.read_text()
            body = json.dumps({"version": version}).encode()
            with suppress(OSError):  # whoever asked was killed
                self.send_response(200 if version else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((machine.address, port), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
