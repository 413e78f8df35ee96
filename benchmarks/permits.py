"""Measure what a permit costs: its check on a host, and the comparison of connections and instances before it is given.

  python -m benchmarks.permits [--checks 200] [--hosts 1000] [--write PAGE]

The check on a host is the time of the program there that verifies a signature and closes a release, with keys, less
that without keys. The comparison is what each permit of a large fleet reads and computes on the worker, without the
time in which AWS answers.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import quantiles

import asyncssh

from benchmarks.table import machine, publish
from interlock.adapters.aws.production import ShownLogin
from interlock.adapters.hosts._session import program
from interlock.adapters.hosts.ssh import SshLogin
from interlock.adapters.signing.signing import generate_key, load_signer, ssh_key
from interlock.domain.calendars.bookings import Entered
from interlock.domain.hosts.commands import Site, close_command
from interlock.domain.permits.connections import changes, digests_of
from interlock.domain.permits.hosts import host_changes
from interlock.domain.permits.on_hosts import NAMESPACE, ShownPermit, allowed_signer, closing_text
from interlock.domain.records import Host
from tests.factories import releases

HERE = "localhost"


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as name:
        folder = Path(name)
        rows = {**_on_a_host(folder, options.checks), **_on_the_worker(folder, options.hosts)}
    lines = ["| What | Median | p95 |", "| --- | --- | --- |"]
    for what, seconds in rows.items():
        cuts = quantiles(seconds, n=20)
        lines.append(f"| {what} | {1000 * cuts[9]:.0f} | {1000 * cuts[18]:.0f} |")
    text = f"{options.checks} checks on a host; a fleet of {options.hosts:,} hosts. {machine()}\n\n"
    publish(text + "\n".join(lines) + "\n", options.write, "permits")
    return 0


def _on_a_host(folder: Path, checks: int) -> dict[str, Sequence[float]]:
    """Return how many seconds longer the host's program takes with a check than without one."""
    generate_key(folder / "key")
    signer, now = load_signer((folder / "key").as_uri()), datetime.now(UTC)
    text = closing_text("1" * 32, Entered(place="booking/production/shop", token=1), [HERE], now)
    shown = ShownPermit(text, signer.sign_for_ssh(text.encode(), NAMESPACE))
    (folder / "root" / ".interlock").mkdir(parents=True)
    enrolment = folder / "enrolment"
    enrolment.mkdir()
    (enrolment / "permit-keys").write_text(allowed_signer(ssh_key(signer.public_key)))
    (enrolment / "names").write_text(f"{HERE}\n")
    site = Site(
        service="shop",
        environment="production",
        deployment_id="release_shop/bench",
        deploy_root=str(folder / "root"),
        health=None,
        drain_timeout=timedelta(seconds=1),
    )
    command = shlex.split(close_command(program(), HERE, site, token=1, permit=shown))

    def run(keys: Path, says: str) -> tuple[float, float]:
        environ = {"PATH": os.environ["PATH"], "INTERLOCK_ENROLMENT": str(keys)}
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, input="mark\n", capture_output=True, text=True, env=environ, check=True)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if not done.stdout.startswith(says):
            raise RuntimeError(f"the host's program says {done.stdout!r} {done.stderr!r}")
        return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(run(folder / "none", "mark done"), run(enrolment, "mark verified")) for _ in range(checks)]
    return {
        "The check on a host (ms)": [with_keys[0] - without[0] for without, with_keys in pairs],
        "The check on a host (ms of a processor)": [with_keys[1] - without[1] for without, with_keys in pairs],
    }


def _on_the_worker(folder: Path, count: int) -> dict[str, Sequence[float]]:
    """Return the seconds that a permit of a large fleet costs on the worker."""
    hosts = [
        Host(instance_id=f"i-{n:017x}", name=f"shop-{n}", address=f"10.{n >> 8}.{n & 255}.7", zone="eu-central-1a")
        for n in range(count)
    ]
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(folder / "id"))
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    named: dict[str, Callable[[str], str]] = {"plain": lambda name: name, "hashed": _hashed}
    found: dict[str, Sequence[float]] = {}
    for kind, written in named.items():
        known = folder / kind
        known.write_text("".join(f"{written(f'[{host.address}]:2222')} {key}\n" for host in hosts))
        login = SshLogin(username="deploy", known_hosts=known, client_key=folder / "id", port=2222)
        found[f"Comparing host keys, {kind} known_hosts (ms of a processor)"] = _timed(partial(_compare, login, hosts))
    plan = releases.rollout(waves=(tuple(hosts),))
    found["Comparing instances (ms of a processor)"] = _timed(lambda: host_changes(plan, [hosts], has_begun=False))
    return found


def _compare(login: SshLogin, hosts: Sequence[Host]) -> None:
    shown = ShownLogin(login)
    fields = {f"the host key of {host.address}": " ".join(shown.keys_of(host.address)) for host in hosts}
    now = digests_of({"interlock_hosts": fields}, b"k" * 32)
    if not all(fields.values()) or changes(now, now):
        raise RuntimeError("a host is not known")


def _hashed(name: str) -> str:
    salt = os.urandom(20)
    said = (salt, hmac.new(salt, name.encode(), hashlib.sha1).digest())
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in said)


def _timed(what: Callable[[], object], rounds: int = 5) -> list[float]:
    """Return the seconds of a processor."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        what()
        seconds.append(time.process_time() - began)
    return seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.permits", description=__doc__)
    parser.add_argument("--checks", type=int, default=200)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
