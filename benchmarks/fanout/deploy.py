"""Deploy a bundle to hosts with Interlock's engine, outside Airflow, or back out: the commands that are measured.

  python -m benchmarks.fanout.deploy              deploy
  python -m benchmarks.fanout.deploy back-out     go back to FANOUT_VERSION, which is on the hosts

What it needs stands in the environment:

  FANOUT_HOSTS        file, one address a line        FANOUT_BUNDLE   the .tar.gz to deploy
  FANOUT_PORT         the SSH port                    FANOUT_SHA256   its digest
  FANOUT_USER         the SSH user                    FANOUT_VERSION  the release's name
  FANOUT_KEY          the private key                 FANOUT_APP      the folder to deploy to; {host}: the address
  FANOUT_KNOWN_HOSTS  a known_hosts file with every host's key

The hosts count as a sandbox, so that no permit is asked for; everything else is what a wave does.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from interlock.adapters.hosts.fleet import Deployment, back_out_hosts, deploy_hosts
from interlock.adapters.hosts.ssh import SshLogin
from interlock.adapters.permits.issuer import Admission
from interlock.domain.hosts.commands import Site
from interlock.domain.permits.production import Production
from interlock.domain.records import BackOutPlan, Host, HostResult


def main(arguments: Sequence[str]) -> int:
    """Deploy or back out, say what failed, and return 1 if anything did."""
    work = _back_out if list(arguments) == ["back-out"] else _deploy
    results = asyncio.run(work(os.environ))
    for result in results:
        if result.outcome == "failed":
            sys.stderr.write(f"{result.host}: {result.outcome}: {result.error}\n")
        else:
            sys.stdout.write(f"{result.host}: {result.outcome} in {result.seconds} s: {result.steps}\n")
    return int(any(result.outcome == "failed" for result in results))


async def _deploy(environ: Mapping[str, str]) -> tuple[HostResult, ...]:
    release, digest = environ["FANOUT_VERSION"], environ["FANOUT_SHA256"]
    return await deploy_hosts(
        hosts_of(environ),
        Deployment(
            service="fanout",
            environment="test",
            deployment_id=release,
            deploy_root=environ["FANOUT_APP"],
            release=release,
            version=_version(release, digest),
            commit=hashlib.sha1(digest.encode()).hexdigest(),
            sha256=digest,
            bundle=Path(environ["FANOUT_BUNDLE"]),
            keep_releases=3,
            health=None,
            drain_timeout=timedelta(0),
        ),
        login=login_of(environ),
        admission=Admission.sandbox("test", production=Production()),
        balancer=None,
    )


async def _back_out(environ: Mapping[str, str]) -> tuple[HostResult, ...]:
    hosts, release = hosts_of(environ), environ["FANOUT_VERSION"]
    version = _version(release, environ["FANOUT_SHA256"])
    plan = BackOutPlan(
        releases={host.address: release for host in hosts},
        versions={host.address: version for host in hosts},
        on_hosts=True,
    )
    return await back_out_hosts(
        hosts,
        plan,
        site=Site(
            service="fanout",
            environment="test",
            deployment_id=f"back to {release}",
            deploy_root=environ["FANOUT_APP"],
            health=None,
            drain_timeout=timedelta(0),
        ),
        login=login_of(environ),
        admission=Admission.sandbox("test", production=Production()),
        balancer=None,
    )


def _version(release: str, digest: str) -> str:
    return release.removesuffix(f"-{digest[:12]}")


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
