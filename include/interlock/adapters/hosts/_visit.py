"""One host's deployment from start to end: the steps, their order, and the handling of failures.

Bytes travel and are checked while the host still serves; only then it is drained, switched, checked and given back.
Every visit goes on from what the host says, so that a visit can be made again after any interruption.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from interlock.adapters.aws.load_balancer import Balancer
from interlock.domain.errors import (
    DeployError,
    HeldBack,
    HostUnreachable,
    LostRight,
    PolicyViolation,
    ReleaseError,
    TransientError,
)
from interlock.domain.hosts.appspec import AppSpec, Event, parse_appspec
from interlock.domain.hosts.commands import Contents, HostState, Site
from interlock.domain.records import Host, HostResult
from interlock.domain.rollout.pace import Pace

from ._parcel import Parcel
from ._session import AS_NOTED, HostSession, Stopwatch, host_session
from .transport import Transport

log = logging.getLogger(__name__)

StopFailure = Literal["go_on", "refuse"]
"""The action if a hook that stops the running release fails, which the new release cannot fix."""

_Outcome = Literal["deployed", "unchanged", "backed_out", "failed"]
_MARGIN = 360.0  # seconds that a host waits for a command beyond what drain and health checks may take


class Probe(Protocol):
    """Checks the health of hosts."""

    async def version(self, address: str) -> str | None:
        """Return the version that a host reports; None if it is not healthy."""

    async def await_version(self, address: str, version: str | None) -> None:
        """Wait until a host is healthy and runs a version; DeployError after the timeout."""


@dataclass(frozen=True, slots=True)
class VisitContext:
    """The context that all visits of one deployment share.

    :param probe: none: a release's hooks alone say whether it is well.
    """

    site: Site
    transport: Transport
    balancer: Balancer | None
    probe: Probe | None

    @property
    def patience(self) -> float:
        """Seconds without a command after which a host releases its lock."""
        healthy = self.site.health.timeout.total_seconds() if self.site.health else 0
        return self.site.drain_timeout.total_seconds() + 2 * healthy + _MARGIN


@dataclass(frozen=True, slots=True)
class Delivery:
    """A release on its way to hosts."""

    parcel: Parcel
    appspec: AppSpec
    keep_releases: int
    on_stop_failure: StopFailure = "go_on"


class Visit:
    """A deployment to one host, or a back-out of one."""

    def __init__(self, host: Host, around: VisitContext) -> None:
        self._host = host
        self._around = around
        self._watch = Stopwatch()
        self._state = HostState()
        self._before: str | None = None
        self._after: str | None = None
        self._was_there = False
        self._drained = False
        self._may_serve = True
        self._sent = 0
        self._warnings: list[str] = []

    async def deploy(self, delivery: Delivery) -> HostResult:
        """Bring the host to a release; if that fails, the host is put back on the release that it had."""

        async def bring(session: HostSession) -> _Outcome:
            try:
                return await self._bring(session, delivery)
            except (HostUnreachable, LostRight):  # who has lost the right does not put back either
                raise
            except ReleaseError as error:
                back = await self._put_back(session, self._specs(delivery))
                raise DeployError(f"{error} {back}") from error

        return await self._result(delivery.parcel.contents, bring)

    async def back_out(self, release: str | None, version: str | None) -> HostResult:
        """Take the host back to a release that it still has, or to none."""

        async def take_back(session: HostSession) -> _Outcome:
            try:
                return await self._take_back(session, release, version)
            except HostUnreachable:
                raise
            except ReleaseError as error:
                if not self._still_runs_what_ran(session):
                    raise  # an unhealthy host with the release stays there: the next try continues from that
                raise DeployError(f"{error} {await self._put_back(session, self._specs())}") from error

        return await self._result(release, take_back)

    async def restart(self, release: str) -> HostResult:
        """Restart the release that the host runs and return it to service; a host with another release fails."""

        async def again(session: HostSession) -> _Outcome:
            if session.current != release:
                raise DeployError(
                    f"{self._host.address} runs {session.current or 'no release'} instead of {release}, which should "
                    "be restarted.",
                    rule="the baseline restarts the release that the frozen plan names",
                    who="the release manager",
                    next_step="have the change of the host investigated, then trigger the release again",
                )
            await self._drain()
            await session.settle(release, self._specs())
            await self._check(self._version(release))
            await self._restore()
            await session.finish(keep=0)
            return "unchanged"

        return await self._result(release, again)

    async def _bring(self, session: HostSession, delivery: Delivery) -> _Outcome:
        release, version = delivery.parcel.contents.release, delivery.parcel.contents.version
        arrived = session.current == release
        if arrived and session.is_settled and self._is_whole(release) and await self._is_well(version):
            return await self._confirm(session, delivery)
        if not self._is_whole(release):
            await session.receive(delivery.parcel)
        specs = self._specs(delivery)
        await session.prepare(delivery.appspec)
        await self._around.transport.admit(self._host.address)  # an emergency stop may have come during the transfer
        await self._drain_with_hooks(session, specs, delivery.on_stop_failure)
        await self._around.transport.admit(self._host.address)  # and while it was taken out of service
        await (session.settle(release, specs) if arrived else session.activate(specs, delivery.on_stop_failure))
        await self._check(version)
        await self._restore_with_hooks(session, specs)
        await session.finish(keep=delivery.keep_releases, previous=self._ran_before(release))
        return "deployed"

    async def _confirm(self, session: HostSession, delivery: Delivery) -> _Outcome:
        """The release already runs: do nothing, or complete an earlier try."""
        release = delivery.parcel.contents.release
        await (self._restore_with_hooks(session, self._specs(delivery)) if self._state.begun else self._restore())
        if self._state.begun is not None:
            await session.finish(keep=delivery.keep_releases, previous=self._ran_before(release))
        return "unchanged" if self._before == release else "deployed"

    def _ran_before(self, release: str) -> str | None:
        return AS_NOTED if self._before == release else self._before

    async def _put_back(self, session: HostSession, specs: Mapping[str, AppSpec]) -> str:
        """Make sure that the host runs its previous release, return it to the balancer, and report that."""
        before, version = self._before, self._version(self._before)
        try:
            if session.current != before or not session.is_settled or not await self._is_well(version, before):
                await self._drain_again()
                await session.restore(before, specs)
            if before is not None:
                await self._check(version)
                await self._restore()
            if session.has_begun and not session.has_left:
                await session.finish(keep=0)
        except (HostUnreachable, LostRight):
            raise
        except ReleaseError as error:
            return f"The previous state ({before or 'no release'}) could not be restored: {error}"
        return f"The host still runs {before} and is healthy." if before else "The host still runs no release."

    async def _take_back(self, session: HostSession, release: str | None, version: str | None) -> _Outcome:
        if session.current == release and session.is_settled and await self._is_well(version, release):
            return await self._confirm_back(session)
        if release is not None and not self._is_whole(release):
            raise DeployError(
                f"{self._host.address} no longer has {release}, to which it should return.",
                rule="a back-out uses the releases that are on the hosts",
                who="the release manager",
                next_step="release that version again",
            )
        specs = self._specs()
        await self._drain()
        await session.settle(release, specs)
        if release is not None:
            await self._check(version)
            await self._restore_with_hooks(session, specs)
        await session.finish(keep=0, previous=None)
        return "backed_out"

    def _still_runs_what_ran(self, session: HostSession) -> bool:
        """Say whether the host was taken out of service for a way back that it did not go."""
        return session.current is not None and session.current == self._before and (self._drained or session.has_begun)

    async def _confirm_back(self, session: HostSession) -> _Outcome:
        """The host already returned to its release: do nothing, or complete an earlier try."""
        if session.current is not None:
            await (self._restore_with_hooks(session, self._specs()) if self._state.begun else self._restore())
        if self._state.begun is not None:
            await session.finish(keep=0, previous=None)
        return "unchanged" if self._before == session.current else "backed_out"

    async def _drain_with_hooks(
        self, session: HostSession, specs: Mapping[str, AppSpec], on_failure: StopFailure
    ) -> None:
        """Take the host out of the balancer; the hooks around it are the running release's, as in CodeDeploy."""
        if self._around.balancer is not None:
            await self._block(session, Event.BEFORE_BLOCK_TRAFFIC, specs, on_failure)
            await self._drain()
            await self._block(session, Event.AFTER_BLOCK_TRAFFIC, specs, on_failure)

    async def _block(
        self, session: HostSession, event: Event, specs: Mapping[str, AppSpec], on_failure: StopFailure
    ) -> None:
        try:
            await session.traffic(event, session.current, specs)
        except HostUnreachable:
            raise
        except DeployError as error:
            if on_failure == "refuse":
                raise
            session.warn(f"The deployment continued after this error: {error}")

    async def _restore_with_hooks(self, session: HostSession, specs: Mapping[str, AppSpec]) -> None:
        if self._around.balancer is not None:
            await session.traffic(Event.BEFORE_ALLOW_TRAFFIC, session.current, specs)
            await self._restore()
            await session.traffic(Event.AFTER_ALLOW_TRAFFIC, session.current, specs)

    async def _drain(self) -> None:
        if self._around.balancer is not None:
            self._watch.begin("drain")
            self._drained = True
            await self._around.balancer.drain(self._host.instance_id, self._around.site.drain_timeout)
            self._may_serve = False
            self._watch.end()

    async def _drain_again(self) -> None:
        """Drain a host that is to go back, if it may be in service; a balancer that fails does not keep it from it."""
        try:
            if self._may_serve:
                await self._drain()
        except LostRight:
            raise
        except ReleaseError as error:
            log.warning("%s is backed out while it may be in service: %s", self._host.address, error)

    async def _restore(self) -> None:
        if self._around.balancer is not None:
            self._watch.begin("restore")
            self._may_serve = True
            await self._around.balancer.restore(self._host.instance_id)
            self._drained = False
            self._watch.end()

    async def _check(self, version: str | None) -> None:
        if self._around.probe is not None:
            self._watch.begin("health")
            await self._around.probe.await_version(self._host.address, version)
            self._watch.end()

    async def _is_well(self, version: str | None, release: str | None = "") -> bool:
        if release is None or self._around.probe is None:  # without a probe, the completed hooks prove its health
            return True
        try:
            await self._check(version)
        except DeployError:
            return False
        return True

    def _is_whole(self, release: str) -> bool:
        found = self._state.releases.get(release)
        return found is not None and found.is_whole

    def _version(self, release: str | None) -> str | None:
        found = self._state.releases.get(release or "")
        return found.version if found else None

    def _specs(self, delivery: Delivery | None = None) -> dict[str, AppSpec]:
        """Return the hooks of every release that the visit may start or stop."""
        installed = {name: found.appspec for name, found in self._state.releases.items() if found.appspec}
        specs = {name: parse_appspec(text, installed=True) for name, text in installed.items()}
        return specs | ({delivery.parcel.contents.release: delivery.appspec} if delivery else {})

    async def _result(
        self, contents: Contents | str | None, visit: Callable[[HostSession], Awaitable[_Outcome]]
    ) -> HostResult:
        """Make the visit, and repeat it once if the connection was lost; every outcome becomes the result."""
        try:
            try:
                outcome = await self._once(contents, visit)
            except HostUnreachable:
                if not self._was_there:
                    raise
                outcome = await self._once(contents, visit)
            return self._as_result(outcome)
        except ReleaseError as error:
            if isinstance(error, HostUnreachable | LostRight):
                self._after = None  # unknown: the host may have continued by itself, or been changed by another process
            if not isinstance(error, LostRight):
                await self._serve_again()
            return self._as_result("failed", str(error), may_pass=_may_pass(error), held_back=_is_held_back(error))
        except Exception as error:
            # An unexpected error of one host must not end the connections to the others.
            log.exception("The deployment to %s ended unexpectedly", self._host.address)
            return self._as_result("failed", f"{self._host.address}: {type(error).__name__}: {error}")

    async def _once(
        self, contents: Contents | str | None, visit: Callable[[HostSession], Awaitable[_Outcome]]
    ) -> _Outcome:
        around = self._around
        async with host_session(
            around.transport, self._host.address, around.site, contents, patience=around.patience, watch=self._watch
        ) as session:
            self._note(session.state, contents.release if isinstance(contents, Contents) else contents)
            self._warnings += refuse_unverified(around.transport, self._host.address, session)
            try:
                return await visit(session)
            finally:
                self._after = session.current
                self._sent += session.sent
                self._warnings += session.warnings

    def _note(self, state: HostState, target: str | None) -> None:
        """Record the previous release: before this visit, or before an earlier interrupted visit."""
        self._state = state
        self._after = state.current
        if not self._was_there:
            ours = state.begun is not None and state.begun[1] == state.current == target
            self._before = state.begun[0] if ours and state.begun else state.current
        self._was_there = True

    async def _serve_again(self) -> None:
        """Return a host to the balancer that is no longer reachable over SSH, but runs its previous release."""
        if not self._drained or self._before is None or self._around.probe is None:
            return
        try:
            version = await self._around.probe.version(self._host.address)
            if version is not None and version == self._version(self._before):
                await self._restore()
        except ReleaseError as error:
            log.warning("%s stays out of the load balancer: %s", self._host.address, error)

    def _as_result(
        self, outcome: _Outcome, error: str = "", *, may_pass: bool = False, held_back: bool = False
    ) -> HostResult:
        self._watch.end()
        return HostResult(
            host=self._host.address,
            instance_id=self._host.instance_id,
            outcome=outcome,
            before=self._before,
            after=self._after,
            seconds=self._watch.seconds,
            error=error,
            steps=self._watch.steps,
            sent=self._sent,
            warnings=tuple(self._warnings),
            may_pass=may_pass,
            held_back=held_back,
        )


def refuse_unverified(transport: Transport, address: str, session: HostSession) -> list[str]:
    """Refuse, or return as a warning, that a host did not verify the permit it was shown, because it has no keys."""
    permit = transport.permit
    if permit is None or session.state.has_verified:
        return []
    what = f"{address} did not verify the permit: it has no /etc/interlock/permit-keys"
    if permit.must_verify:
        raise PolicyViolation(
            f"{what}.",
            rule="hosts verify permits themselves (policy.yaml, permits.hosts_without_keys)",
            who="the platform engineer (host); the owner of policy.yaml",
            next_step="enrol the host as docs/platform-engineer.md says, then trigger the release again",
        )
    return [what]


def _may_pass(error: ReleaseError) -> bool:
    """Tell whether a system did not answer, even if the host was restored after that."""
    passing = (HostUnreachable, TransientError)
    return isinstance(error, passing) or isinstance(error.__cause__, passing)


def _is_held_back(error: ReleaseError) -> bool:
    """Tell whether the host was held back, whether or not it was restored after that."""
    return isinstance(error, HeldBack) or isinstance(error.__cause__, HeldBack)


async def visit_at_pace(visit: Callable[[Host], Awaitable[HostResult]], pace: Pace) -> dict[str, HostResult]:
    """Make visits by the pace: the next one starts as soon as the pace allows it; return the results by instance.

    A host that the pace did not let begin is untouched, which is a result, too.
    """
    under_way: dict[asyncio.Task[HostResult], Host] = {}
    found: dict[str, HostResult] = {}
    try:
        while True:
            while (host := pace.begin()) is not None:
                under_way[asyncio.ensure_future(visit(host))] = host
            if not under_way:
                break
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                host = under_way.pop(one)
                result = found[host.instance_id] = one.result()
                pace.end(host, failed=result.outcome == "failed")
    finally:
        for one in under_way:
            one.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    return found | {host.instance_id: _untouched(host) for host in pace.untouched}


def _untouched(host: Host) -> HostResult:
    return HostResult(
        host=host.address,
        instance_id=host.instance_id,
        outcome="untouched",
        before=None,
        after=None,
        seconds=0,
        error="Not started: too many hosts had failed, or too few would have stayed in service.",
    )


async def visit_all(visits: list[Callable[[], Awaitable[HostResult]]], concurrency: int) -> tuple[HostResult, ...]:
    """Make visits, with a limited number at a time; each gives a result."""
    slots = asyncio.Semaphore(concurrency)

    async def one(visit: Callable[[], Awaitable[HostResult]]) -> HostResult:
        async with slots:
            return await visit()

    return tuple(await asyncio.gather(*(one(visit) for visit in visits)))
