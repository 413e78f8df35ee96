"""A deployment under a permit in a process of its own, which stops itself at a step, and can be told to go on later.

It does what a wave does: asks for a permit, visits hosts with a load balancer, reports to the ledger. The process that
started it does meanwhile what others would do, in its own name, and looks at what is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import psutil

from interlock.adapters.aws.load_balancer import TargetGroup, asking
from interlock.adapters.hosts.fleet import Deployment, SshLogin, back_out_hosts, deploy_hosts
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.permits.issuer import Admission, PermitIssuer
from interlock.adapters.signing.signing import load_signer
from interlock.domain.errors import ReleaseError
from interlock.domain.records import BackOutPlan, Host, HostResult
from tests.forked import context
from tests.integration.ledger_server import ledger_connection
from tests.sshd import Fleet, wait_until


@dataclass(frozen=True)
class World:
    """Where a deployment takes place."""

    hosts: tuple[Host, ...]
    login: SshLogin
    ledger: Mapping[str, Any]
    key: str
    endpoint: str
    group: str

    def elbv2(self) -> Any:
        """Return a client for the load balancer."""
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-west-3"}
        return boto3.session.Session().client("elbv2", endpoint_url=self.endpoint, **keys)

    def open_ledger(self) -> Ledger:
        """Open the ledger, as tasks do."""
        return open_ledger(SimpleNamespace(**self.ledger))


def world_of(fleet: Fleet, settings: Any, key: Path, endpoint: str, group: str) -> World:
    """Return the world of a fleet, a ledger and a load balancer."""
    return World(fleet.hosts, fleet.login, vars(ledger_connection(settings)), key.as_uri(), endpoint, group)


class Stopping(Admission):
    """An admission whose process stops at a step: before what may be done is asked, or just after the answer."""

    at, when = "", ""

    def _stop(self, what: str, when: str) -> None:
        if self.at and self.at in what and self.when == when:
            type(self).at = ""  # once
            os.kill(os.getpid(), signal.SIGSTOP)

    async def admit(self, address: str) -> None:
        self._stop("admit", "before")
        await super().admit(address)
        self._stop("admit", "after")

    async def hold(self, what: str) -> None:
        self._stop(what, "before")
        await super().hold(what)
        self._stop(what, "after")

    def refuse_lost(self, what: str) -> None:
        if "load balancer" in what:
            self._stop(what, "before")
        super().refuse_lost(what)


def work(
    world: World,
    deployment: Deployment,
    chain: str,
    *,
    task: str = "release_shop/implementation.wave_1",
    attempt: int = 1,
    back: Mapping[str, str | None] | None = None,
    purpose: Any = "deploy",
) -> tuple[HostResult, ...]:
    """Bring the hosts to a release, or back, under a permit, and report it, as a task of a release does."""
    with world.open_ledger() as ledger:
        office = PermitIssuer(load_signer(world.key), ledger, actor=task, attempt=attempt)

        def ask() -> dict[str, Any]:
            return office.issue(
                purpose=purpose,
                chain=chain,
                environment="production",
                hosts=[host.address for host in world.hosts],
                catalogue="c" * 64,
                service="shop",
                way_back=purpose == "back_out",
            )

        admission = Stopping.by_permit("production", office, ask, purpose)
        admission.begin()
        balancer = TargetGroup(asking(world.elbv2(), admission.refuse_lost), world.group)
        results = asyncio.run(_visit(world, deployment, admission, balancer, back))
        kind = "back_out.done" if purpose == "back_out" else "wave.deployed"
        assert admission.entered is not None
        told = {"entered": admission.entered.model_dump(mode="json"), "results": [one.outcome for one in results]}
        with office.reporting(admission.held, f"record {kind}"):
            admission._stop("record", "before")
            ledger.append(chain, kind, told, actor=task, key=f"{kind}/{attempt}")
    return results


async def _visit(
    world: World,
    deployment: Deployment,
    admission: Admission,
    balancer: TargetGroup,
    back: Mapping[str, str | None] | None,
) -> tuple[HostResult, ...]:
    if back is None:
        return await deploy_hosts(world.hosts, deployment, login=world.login, admission=admission, balancer=balancer)
    versions = {address: release and release.partition("-")[0] for address, release in back.items()}
    return await back_out_hosts(
        world.hosts,
        BackOutPlan(releases=dict(back), versions=versions, on_hosts=True),
        site=deployment,
        login=world.login,
        admission=admission,
        balancer=balancer,
    )


class Zombie:
    """The process."""

    def __init__(self, world: World, deployment: Deployment, chain: str, at: str = "", when: str = "before") -> None:
        self._said, theirs = context().Pipe(duplex=False)
        self._process = context().Process(target=_live, args=(theirs, world, deployment, chain, at, when), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self) -> None:
        """Stop it, wherever it is."""
        self._signal(signal.SIGSTOP)

    def await_stopped(self) -> None:
        """Wait until it has stopped."""
        process = psutil.Process(self._process.pid)
        wait_until(lambda: self._said.poll() or process.status() == "stopped", "the stop", 60)
        assert not self._said.poll(), f"it ended: {self.said()}"

    def go_on(self) -> str:
        """Let it go on, and return what came of it."""
        self._signal(signal.SIGCONT)
        return self.said()

    def said(self) -> str:
        """Wait for its end, and return what came of it."""
        assert self._said.poll(120), "it does not end"
        try:
            return str(self._said.recv())
        except EOFError:
            return "it was killed, or ended without a word"

    def end(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.join()
        self._said.close()

    def _signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _live(told: Connection, world: World, deployment: Deployment, chain: str, at: str, when: str) -> None:
    Stopping.at, Stopping.when = at, when
    try:
        results = work(world, deployment, chain)
    except ReleaseError as error:
        told.send(f"{type(error).__name__}: {error}")
    else:
        told.send("; ".join(f"{one.outcome} {one.error}".strip() for one in results))
