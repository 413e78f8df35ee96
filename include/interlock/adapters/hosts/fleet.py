"""Deploying to hosts over SSH: many at a time, each whole at every instant, with a result for each."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from interlock.adapters.aws.load_balancer import Balancer
from interlock.adapters.permits.issuer import Admission
from interlock.domain.catalogue import Health
from interlock.domain.errors import DeployError, DigestMismatch, HostUnreachable, PolicyViolation
from interlock.domain.hosts.appspec import APPSPEC, AppSpec, parse_appspec
from interlock.domain.hosts.commands import Contents, HostState, Site
from interlock.domain.hosts.released_files import Expected
from interlock.domain.permits.on_hosts import ShownPermit
from interlock.domain.records import BackOutPlan, Host, HostResult, RunningRelease, Strategy
from interlock.domain.rollout.pace import Pace

from ._parcel import Parcel
from ._session import HostLook, ask_host, close_off_host, look_at_host
from ._visit import Delivery, Probe, StopFailure, Visit, VisitContext, visit_all, visit_at_pace
from .ssh import SshLogin, SshTransport, ssh_login
from .ssm import SsmLogin, SsmTransport
from .transport import Transport

__all__ = [
    "CONCURRENCY",
    "Deployment",
    "HostLogin",
    "HostLook",
    "SshLogin",
    "SsmLogin",
    "back_out_hosts",
    "close_off_hosts",
    "deploy_hosts",
    "has_releases",
    "look_at_hosts",
    "read_running",
    "restart_hosts",
    "ssh_login",
]

HostLogin = SshLogin | SsmLogin
"""How to reach the hosts of an environment."""

CONCURRENCY = 40
"""Hosts that are changed or asked at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(Site):
    """A release, and where and how to run it.

    :param on_stop_failure: what is done when a hook fails that is to stop what runs.
    """

    release: str
    version: str
    commit: str
    sha256: str
    bundle: Path
    keep_releases: int
    on_stop_failure: StopFailure = "go_on"


async def deploy_hosts(
    hosts: Sequence[Host],
    deployment: Deployment,
    *,
    login: HostLogin,
    admission: Admission,
    balancer: Balancer | None,
    pace: Pace | None = None,
) -> tuple[HostResult, ...]:
    """Deploy a release to hosts and return the result of each, in their order.

    A host that fails is put back on the release that it had, and its result says why. Whether others are begun after it
    is the pace's to say; those that are not are untouched. Doing it again changes only what is not done.

    :param pace: of these hosts; none: :data:`CONCURRENCY` at a time, and all of them, whatever fails.
    """
    delivery = await asyncio.to_thread(delivery_of, deployment)
    delivery.parcel.begin()
    async with _visit_context(deployment, transport_to(login, admission, hosts), balancer) as around:
        found = await visit_at_pace(lambda host: Visit(host, around).deploy(delivery), pace or _all_of(hosts))
    return tuple(found[host.instance_id] for host in hosts)


def transport_to(login: HostLogin, admission: Admission, hosts: Sequence[Host]) -> Transport:
    """Return the way to hosts by their login; each connection asks the admission."""
    if isinstance(login, SsmLogin):
        return SsmTransport(login, admission, {host.address: host.instance_id for host in hosts})
    return SshTransport(login, admission)


def _all_of(hosts: Sequence[Host]) -> Pace:
    every = Strategy(window=CONCURRENCY, max_failed=len(hosts), min_healthy=0, by_zone=False)
    return Pace(hosts, every, fleet=hosts)


async def back_out_hosts(
    hosts: Sequence[Host],
    plan: BackOutPlan,
    *,
    site: Site,
    login: HostLogin,
    admission: Admission,
    balancer: Balancer | None,
    concurrency: int = CONCURRENCY,
) -> tuple[HostResult, ...]:
    """Return hosts to the releases that the plan names for their addresses; nothing is transferred.

    A host that runs its release already is left alone; one that is to run none is stopped and emptied.
    """
    if strangers := sorted(host.address for host in hosts if host.address not in plan.releases):
        raise DeployError(
            f"The back-out plan does not name a release for {', '.join(strangers)}.",
            rule="a back-out follows its plan",
            who="the release manager",
        )
    async with _visit_context(site, transport_to(login, admission, hosts), balancer) as around:
        visits = [
            partial(Visit(host, around).back_out, plan.releases[host.address], plan.versions.get(host.address))
            for host in hosts
        ]
        return await visit_all([*visits], concurrency)


async def restart_hosts(
    hosts: Sequence[Host],
    releases: Mapping[str, str],
    *,
    site: Site,
    login: HostLogin,
    admission: Admission,
    balancer: Balancer | None,
    concurrency: int = CONCURRENCY,
) -> tuple[HostResult, ...]:
    """Restart what hosts run, drained meanwhile: afterwards they are as old as hosts that were changed just now.

    :param releases: a host's address: the release that it runs.
    """
    async with _visit_context(site, transport_to(login, admission, hosts), balancer) as around:
        visits = [partial(Visit(host, around).restart, releases[host.address]) for host in hosts]
        return await visit_all([*visits], concurrency)


async def read_running(
    hosts: Sequence[Host],
    deploy_root: str,
    *,
    login: HostLogin,
    admission: Admission,
    concurrency: int = CONCURRENCY,
) -> tuple[RunningRelease, ...]:
    """Return which releases hosts run; HostUnreachable names the hosts that do not report it."""
    states = await _ask_all(hosts, deploy_root, {}, transport_to(login, admission, hosts), concurrency)
    return tuple(state.running(host.address) for host, state in zip(hosts, states, strict=True))


async def look_at_hosts(
    hosts: Sequence[Host],
    deploy_root: str,
    choose: Callable[[str, str], Awaitable[Sequence[Expected]]],
    *,
    login: HostLogin,
    admission: Admission,
    concurrency: int = CONCURRENCY,
) -> dict[str, HostLook | Exception]:
    """Ask hosts what they run, and about files of it; by address, what each says, or why it cannot be asked.

    :param choose: returns the files to ask about, by a host's address and the release that it runs.
    :raises PolicyViolation: the admission does not let us.
    """
    transport = transport_to(login, admission, hosts)
    slots = asyncio.Semaphore(concurrency)

    async def look(host: Host) -> HostLook | Exception:
        async with slots:
            try:
                return await look_at_host(transport, host.address, deploy_root, partial(choose, host.address))
            except PolicyViolation:
                raise
            except Exception as error:  # one host's surprise must not hide the others
                return error

    answers = await asyncio.gather(*map(look, hosts))
    return {host.address: answer for host, answer in zip(hosts, answers, strict=True)}


async def close_off_hosts(
    hosts: Sequence[Host],
    site: Site,
    *,
    token: int,
    closing: ShownPermit,
    login: HostLogin,
    admission: Admission,
    concurrency: int = CONCURRENCY,
) -> dict[str, str]:
    """Have hosts refuse the permits of a release that is closed; return the hosts that did not hear it, and why.

    :param token: the lowest that a later permit can have.
    :param closing: what hosts of production verify.
    """
    transport = transport_to(login, admission, hosts)
    slots = asyncio.Semaphore(concurrency)

    async def close_off(host: Host) -> str:
        async with slots:
            try:
                await close_off_host(transport, host.address, site, token=token, closing=closing)
            except Exception as error:  # one host's surprise must not keep the others from hearing it
                return str(error) or type(error).__name__
        return ""

    problems = await asyncio.gather(*map(close_off, hosts))
    return {host.address: problem for host, problem in zip(hosts, problems, strict=True) if problem}


async def has_releases(
    hosts: Sequence[Host],
    deploy_root: str,
    releases: Mapping[str, str | None],
    *,
    login: HostLogin,
    admission: Admission,
    concurrency: int = CONCURRENCY,
) -> dict[str, bool]:
    """Say of each host's address whether the release that ``releases`` names for it is there, whole.

    A host for which it names none needs none.
    """
    states = await _ask_all(hosts, deploy_root, releases, transport_to(login, admission, hosts), concurrency)
    return {host.address: _has(state, releases.get(host.address)) for host, state in zip(hosts, states, strict=True)}


def _has(state: HostState, release: str | None) -> bool:
    return release is None or (release in state.releases and state.releases[release].is_whole)


async def _ask_all(
    hosts: Sequence[Host], deploy_root: str, releases: Mapping[str, str | None], transport: Transport, concurrency: int
) -> list[HostState]:
    slots = asyncio.Semaphore(concurrency)

    async def ask(host: Host) -> HostState | DeployError:
        async with slots:
            try:
                return await ask_host(transport, host.address, deploy_root, [releases.get(host.address)])
            except DeployError as error:
                return error

    answers = await asyncio.gather(*(ask(host) for host in hosts))
    failed = [answer for answer in answers if isinstance(answer, DeployError)]
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise HostUnreachable(
            f"{len(failed)} of {len(hosts)} hosts do not report which release they run: {' '.join(map(str, failed))}"
        )
    return [answer for answer in answers if isinstance(answer, HostState)]


@asynccontextmanager
async def _visit_context(site: Site, transport: Transport, balancer: Balancer | None) -> AsyncIterator[VisitContext]:
    async with _probe(site.health) as probe:
        yield VisitContext(site, transport, balancer, probe)


def _probe(health: Health | None) -> AbstractAsyncContextManager[Probe | None]:
    if health is None:
        return nullcontext()
    from .health import health_probe

    return health_probe(health)


def delivery_of(deployment: Deployment) -> Delivery:
    """Read the bundle once for all hosts; that its bytes are right is checked on each host."""
    bundle = deployment.bundle.read_bytes()
    return Delivery(
        parcel=Parcel(
            Contents(
                release=deployment.release,
                version=deployment.version,
                commit=deployment.commit,
                sha256=deployment.sha256,
                size=len(bundle),
            ),
            bundle,
        ),
        appspec=_appspec(deployment.bundle),
        keep_releases=deployment.keep_releases,
        on_stop_failure=deployment.on_stop_failure,
    )


def _appspec(bundle: Path) -> AppSpec:
    try:
        with tarfile.open(bundle, "r:gz") as archive:
            for member in archive:
                if member.name.removeprefix("./") == APPSPEC and (file := archive.extractfile(member)):
                    return parse_appspec(file.read().decode())
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DigestMismatch(f"{bundle.name} is not a bundle: {error}.", next_step="build the release again") from error
    raise DigestMismatch(f"{bundle.name} is not a bundle: it has no {APPSPEC}.", next_step="build the release again")
