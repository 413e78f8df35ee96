"""Deployments to real OpenSSH hosts, as the tests ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

from interlock.adapters.aws.load_balancer import Balancer
from interlock.adapters.hosts.fleet import Deployment, back_out_hosts, deploy_hosts
from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import TransientError
from interlock.domain.permits.production import Production
from interlock.domain.records import BackOutPlan, HostResult
from tests.sshd import Fleet, SshdHost

FAIL = "#!/bin/sh\necho the database is locked >&2\nexit 3\n"
ADMITTED = Admission.sandbox("test", production=Production())
"""To every host: permits are what other tests are about."""


class WithToken(Admission):
    """An admission with a token that asks nobody whether it still holds: what refuses it then is the host."""

    def __init__(self, token: int) -> None:
        super().__init__("test", production=Production())
        self._token = token

    @property
    def token(self) -> int:
        return self._token


@dataclass
class Balance:
    """A load balancer that remembers what it was told."""

    serving: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    broken: bool = False

    async def drain(self, instance_id: str, timeout: timedelta) -> None:
        self.told.append("drain")
        self.serving.discard(instance_id)
        if self.broken:
            raise TransientError("The load balancer does not answer.")

    async def restore(self, instance_id: str) -> None:
        self.told.append("restore")
        self.serving.add(instance_id)


def deploy(fleet: Fleet, deployment: Deployment, balancer: Balancer | None = None) -> tuple[HostResult, ...]:
    return asyncio.run(deploy_hosts(fleet.hosts, deployment, login=fleet.login, admission=ADMITTED, balancer=balancer))


def deploy_one(fleet: Fleet, deployment: Deployment, balancer: Balancer | None = None) -> HostResult:
    (result,) = deploy(fleet, deployment, balancer)
    return result


def back_out(
    fleet: Fleet, was: Deployment, releases: Mapping[str, str | None], balancer: Balancer | None = None
) -> tuple[HostResult, ...]:
    versions = {address: release and release.partition("-")[0] for address, release in releases.items()}
    return asyncio.run(
        back_out_hosts(
            fleet.hosts,
            BackOutPlan(releases=dict(releases), versions=versions, on_hosts=True),
            site=was,
            login=fleet.login,
            admission=ADMITTED,
            balancer=balancer,
        )
    )


def served(fleet: Fleet, machine: SshdHost) -> str | None:
    """Return the version that a host serves."""
    try:
        answer = httpx.get(f"http://{machine.address}:{fleet.health_port}/health", trust_env=False, timeout=5)
    except httpx.HTTPError:
        return None
    return str(answer.json()["version"])
