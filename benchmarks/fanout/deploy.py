"""Deploy a bundle to hosts with Interlock's engine, outside Airflow: the command that a benchmark measures.

What it needs stands in the environment:

  FANOUT_HOSTS        file, one address a line        FANOUT_BUNDLE   the .tar.gz to deploy
  FANOUT_PORT         the SSH port                    FANOUT_SHA256   its digest
  FANOUT_USER         the SSH user                    FANOUT_VERSION  the release's name
  FANOUT_KEY          the private key                 FANOUT_APP      the folder to deploy to; {host}: the address
  FANOUT_KNOWN_HOSTS  a known_hosts file with every host's key

A bundle without an appspec.yml gets one put in front of it, with one hook that touches FANOUT_APP/restarted: this
stands for a restart. The hosts count as a sandbox, so that no permit is asked for; everything else is what a wave does.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from include.interlock.adapters.hosts import Deployment, deploy_hosts
from include.interlock.adapters.permits import Admission
from include.interlock.adapters.ssh import SshLogin
from include.interlock.domain.appspec import APPSPEC
from include.interlock.domain.records import Host, HostResult

_APPSPEC = (
    b"version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: interlock-restart\n      timeout: 60\n"
)
_RESTART = b'#!/bin/sh\ntouch "$INTERLOCK_SHARED/../restarted"\n'


def main() -> int:
    """Deploy, say what failed, and return 1 if anything did."""
    results = asyncio.run(_deploy(os.environ))
    for result in results:
        if result.outcome not in ("deployed", "unchanged"):
            sys.stderr.write(f"{result.host}: {result.outcome}: {result.error}\n")
        elif os.environ.get("FANOUT_STEPS"):
            sys.stdout.write(f"{result.host} {result.seconds} {result.steps}\n")
    return int(any(result.outcome == "failed" for result in results))


async def _deploy(environ: Mapping[str, str]) -> tuple[HostResult, ...]:
    with tempfile.TemporaryDirectory() as folder:
        bundle, digest = _with_appspec(Path(environ["FANOUT_BUNDLE"]), environ["FANOUT_SHA256"], Path(folder))
        return await deploy_hosts(
            hosts_of(environ),
            Deployment(
                service="fanout",
                environment="test",
                deployment_id=environ["FANOUT_VERSION"],
                deploy_root=environ["FANOUT_APP"],
                release=environ["FANOUT_VERSION"],
                version=environ["FANOUT_VERSION"],
                commit=hashlib.sha1(digest.encode()).hexdigest(),
                sha256=digest,
                bundle=bundle,
                keep_releases=3,
                health=None,
                drain_timeout=timedelta(0),
            ),
            login=login_of(environ),
            admission=Admission.sandbox("test"),
            balancer=None,
        )


def hosts_of(environ: Mapping[str, str]) -> tuple[Host, ...]:
    """Return the hosts that a file names."""
    addresses = Path(environ["FANOUT_HOSTS"]).read_text().split()
    return tuple(
        Host(instance_id=f"i-{number:017x}", name=f"host-{number}", address=address, zone="a")
        for number, address in enumerate(addresses, 1)
    )


def login_of(environ: Mapping[str, str]) -> SshLogin:
    """Return how to log in to the hosts."""
    return SshLogin(
        username=environ["FANOUT_USER"],
        known_hosts=Path(environ["FANOUT_KNOWN_HOSTS"]),
        client_key=Path(environ["FANOUT_KEY"]),
        port=int(environ["FANOUT_PORT"]),
        connect_timeout=60,
    )


def _with_appspec(bundle: Path, digest: str, folder: Path) -> tuple[Path, str]:
    """Return a bundle that has an AppSpec, and its digest."""
    content = bundle.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{bundle} does not have the digest {digest}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        first = archive.next()
        if first is None or first.name == APPSPEC or (not first.isreg() and APPSPEC in archive.getnames()):
            return bundle, digest
    content = _front() + content  # gzip's members follow one another, and so do an archive's entries
    whole = folder / "bundle.tar.gz"
    whole.write_bytes(content)
    return whole, hashlib.sha256(content).hexdigest()


def _front() -> bytes:
    """Return the beginning of an archive, without the end that would hide what follows."""
    entries = b""
    for name, content, mode in ((APPSPEC, _APPSPEC, 0o644), ("interlock-restart", _RESTART, 0o755)):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), mode
        entries += entry.tobuf() + content + b"\0" * (-len(content) % tarfile.BLOCKSIZE)
    return gzip.compress(entries, 1, mtime=0)


if __name__ == "__main__":
    sys.exit(main())
