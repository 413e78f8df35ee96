"""Permits: issued, signed and used once; and the admission that every connection to a host needs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Self

from interlock.domain.calendars.bookings import Entered
from interlock.domain.calendars.calendar import Answer
from interlock.domain.canonical import Sha256, canonical_bytes
from interlock.domain.catalogue import PRODUCTION
from interlock.domain.errors import AlreadyRecorded, DigestMismatch, LostRight, PolicyViolation, ReleaseError
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.kinds import ENVIRONMENT_ENTERED, FINDING, PERMIT_ISSUED, PERMIT_USED, RELEASE_CLOSED
from interlock.domain.permits.fencing import (
    NEWS,
    Admittance,
    ended_with,
    finding,
    lost,
    place_of,
    shared_token,
    where,
    why_lost,
)
from interlock.domain.permits.on_hosts import NAMESPACE, ShownPermit, closing_text, permit_text
from interlock.domain.permits.permit import (
    MAX_PERMIT_AGE,
    PERMIT_TYPE,
    Permit,
    Purpose,
    refuse_other_host,
    refuse_unusable,
)
from interlock.domain.permits.production import Kind, Production

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger
    from interlock.adapters.signing.signing import Signer

log = logging.getLogger(__name__)
Clock = Callable[[], datetime]
POLL_INTERVAL = timedelta(seconds=2)
"""After so long, what halts a rollout is looked for again before the next host."""


def _now() -> datetime:
    return datetime.now(UTC)


def signed_permits(entries: Iterable[Entry], key: bytes) -> tuple[Permit, ...]:
    """Return the permits in a chain that the installation signed; write access to the ledger cannot issue one.

    :param key: the installation's public key, PEM.
    """
    from interlock.adapters.signing.signing import said

    issued = [entry for entry in entries if entry.kind == PERMIT_ISSUED]
    signed = [(entry.chain, said(entry.payload.get("envelope"), key, PERMIT_TYPE)) for entry in issued]
    permits = [(chain, Permit.model_validate(about)) for chain, about in signed if about is not None]
    return tuple(permit for chain, permit in permits if permit.chain == chain)


@dataclass(frozen=True, slots=True)
class Held:
    """The right of a process to make a change: who entered, and with which token."""

    entered: Entered
    by: Admittance


@dataclass(frozen=True, slots=True)
class Closing:
    """What hosts are told when a release is closed.

    :param later: the place, and the lowest token that a later permit can have.
    """

    later: Entered
    shown: ShownPermit


class PermitIssuer:
    """Issues permits and records their use; each is an entry in its release's chain.

    :param actor: the task that asks, for the ledger; ``attempt``: which try of it.
    :param run: its run, if that is not the release's own: tries of several runs are not tries of one task.
    """

    def __init__(
        self, signer: Signer, ledger: Ledger, *, actor: str, attempt: int = 1, run: str = "", clock: Clock = _now
    ) -> None:
        self._signer, self._ledger, self._actor, self._clock = signer, ledger, actor, clock
        self._attempt, self._task = attempt, f"{actor} in {run}" if run else actor

    def enter(
        self, *, environment: str, service: str, chain: str, purpose: str, way_back: bool, permit: str | None
    ) -> Held:
        """Enter an environment of a service: from now on its newest token is this one's.

        :raises LostRight: the release has ended, or another try or another release came after; that is a finding.
        """
        place = place_of(environment, service)
        by = Admittance(
            holder=chain, task=self._task, attempt=self._attempt, purpose=purpose, way_back=way_back, permit=permit
        )
        before = self._ledger.entries(place, kind=ENVIRONMENT_ENTERED)
        if token := shared_token(before[-1] if before else None, by):
            return Held(Entered(place=place, token=token), by)
        try:
            entry = self._ledger.append_once(
                place,
                ENVIRONMENT_ENTERED,
                by.model_dump(mode="json"),
                actor=self._actor,
                key=f"{ENVIRONMENT_ENTERED}/{permit or token_hex(16)}",
            )
        except LostRight as error:
            self._report(by, place, f"enter {where(place)}", str(error.what).rstrip("."))
            raise
        return Held(Entered(place=place, token=entry.sequence), by)

    def refuse_lost(self, held: Held, what: str) -> datetime:
        """Return the ledger's time, if no later process came and the release is open; otherwise leave a finding.

        :param what: the next action. :raises LostRight: a later process came, or the release has ended.
        """
        entered, by = held.entered, held.by
        now, (news, ends) = self._ledger.look((entered.place, NEWS, entered.token), (by.holder, RELEASE_CLOSED, 0))
        if why := why_lost(entered, by, news, ended_with(ends)):
            self._report(by, entered.place, what, why, entered.token)
            raise lost(entered, by, what, why)
        return now

    @contextmanager
    def reporting(self, held: Held | None, what: str) -> Iterator[None]:
        """Leave a finding if the ledger refuses an entry because its writer has lost the right to it."""
        try:
            yield
        except LostRight as error:
            if held is not None:
                self._report(held.by, held.entered.place, what, error.what.rstrip("."), held.entered.token)
            raise

    def _report(self, by: Admittance, place: str, what: str, why: str, token: int | None = None) -> None:
        worker = f"{socket.gethostname()}, process {os.getpid()}"
        found = finding(by, place, what, why, worker=worker, token=token)
        log.warning("%s", found.what)
        with suppress(ReleaseError):  # what cannot be put on record is refused all the same
            self._ledger.append_once(INSTALLATION, FINDING, found.payload, actor=self._actor, key=found.key)

    def issue(
        self,
        *,
        purpose: Purpose,
        chain: str,
        environment: str,
        hosts: Sequence[str],
        catalogue: Sha256,
        service: str = "",
        way_back: bool = False,
        wave: int | None = None,
        step: str | None = None,
        plan: Sha256 | None = None,
        bundle: Sha256 | None = None,
        calendar: Answer | None = None,
    ) -> dict[str, Any]:
        """Write, sign and record a permit; return its envelope. The caller has proven that it may be issued.

        :param service: whose hosts it is to change; none: it changes nothing, and gets no token.
        """
        id, held = token_hex(16), None
        if service:
            held = self.enter(
                environment=environment, service=service, chain=chain, purpose=purpose, way_back=way_back, permit=id
            )
        now = self._clock()
        permit = Permit(
            id=id,
            purpose=purpose,
            chain=chain,
            environment=environment,
            wave=wave,
            hosts=tuple(hosts),
            plan=plan,
            bundle=bundle,
            catalogue=catalogue,
            calendar=calendar,
            issued_at=now,
            expires_at=now + MAX_PERMIT_AGE,
            entered=held.entered if held else None,
            step=step,
        )
        envelope = self._signer.sign(canonical_bytes(permit), PERMIT_TYPE)
        told = {"permit": permit.model_dump(mode="json"), "envelope": envelope}
        with self.reporting(held, "be given a permit"):
            self._ledger.append(chain, PERMIT_ISSUED, told, actor=self._actor, key=f"{PERMIT_ISSUED}/{permit.id}")
        return envelope

    def shown(self, permit: Permit, *, must_verify: bool = False) -> ShownPermit | None:
        """Return a used permit as hosts verify it; none: it changes nothing, so no host is to be shown it."""
        if permit.entered is None:
            return None
        text = permit_text(permit)
        return ShownPermit(text, self._signer.sign_for_ssh(text.encode(), NAMESPACE), must_verify)

    def closing(self, *, environment: str, service: str, chain: str, hosts: Iterable[str]) -> Closing | None:
        """Return what tells hosts that the permits of a closed release are void; none: it never had one.

        The lowest token that a later permit can have follows the release's last one.
        """
        place = place_of(environment, service)
        entered = self._ledger.entries(place, kind=ENVIRONMENT_ENTERED)
        last = max((entry.sequence for entry in entered if entry.payload.get("holder") == chain), default=None)
        if last is None:
            return None
        later = Entered(place=place, token=last + 1)
        text = closing_text(token_hex(16), later, hosts, self._clock())
        return Closing(later, ShownPermit(text, self._signer.sign_for_ssh(text.encode(), NAMESPACE)))

    def held_by(self, permit: Permit) -> Held | None:
        """Return the right that a permit gives to its holder; none: it changes nothing."""
        if permit.entered is None:
            return None
        _, (there,) = self._ledger.look((permit.entered.place, ENVIRONMENT_ENTERED, permit.entered.token - 1))
        if not there or there[0].sequence != permit.entered.token:
            raise DigestMismatch(f"The permit {permit.id[:8]} has a token that the ledger did not issue.")
        by = Admittance.model_validate(there[0].payload)
        mine = {"task": self._task, "attempt": self._attempt, "purpose": permit.purpose, "permit": permit.id}
        return Held(permit.entered, by.model_copy(update=mine))

    def redeem(self, envelope: dict[str, Any], *, purposes: Sequence[Purpose], environment: str) -> Permit:
        """Return the permit in an envelope if it is ours, for this, in time and not used before; now it is used.

        :raises DigestMismatch: it was not signed with the installation's key, or is something else.
        :raises PolicyViolation: it is for something else, too old, or used.
        """
        from interlock.adapters.signing.signing import verify

        payload = verify(envelope, self._signer.public_key)
        if envelope.get("payloadType") != PERMIT_TYPE:
            raise DigestMismatch("The signed document is not a permit.")
        permit = Permit.model_validate(json.loads(payload))
        refuse_unusable(permit, purposes=purposes, environment=environment, now=self._clock())
        try:
            with self.reporting(self.held_by(permit), "use a permit"):
                self._ledger.append_once(
                    permit.chain,
                    PERMIT_USED,
                    {"permit": permit.model_dump(mode="json")},
                    actor=self._actor,
                    key=f"{PERMIT_USED}/{permit.id}",
                )
        except AlreadyRecorded as error:
            raise PolicyViolation(
                f"The permit {permit.id[:8]} was already used by {error.entry.actor}, {error.entry.at:%H:%M:%S} UTC.",
                rule="a permit can be used once",
                who="the release manager",
                next_step="trigger the release again: its tasks request new permits",
            ) from error
        return permit


class Admission:
    """What every connection to a host is asked for: made by :meth:`sandbox` or :meth:`by_permit`, and by nothing else.

    It is asked three things: whether a host may be changed (:meth:`admit`), whether what was begun may go on
    (:meth:`hold`), and, by what cannot wait, the same again (:meth:`refuse_lost`).

    :param ask: asks for a permit; again when the one before has ended.
    :param enter: enters a sandbox, which asks for no permit.
    :param halt: raises if what was begun must not go on; asked between two hosts.
    :param must_verify: hosts that cannot verify the permit themselves are not changed.
    """

    def __init__(
        self,
        environment: str,
        *,
        office: PermitIssuer | None = None,
        ask: Callable[[], dict[str, Any]] | None = None,
        enter: Callable[[], Held] | None = None,
        purposes: Sequence[Purpose] = (),
        halt: Callable[[], None] | None = None,
        production: Production | None = None,
        must_verify: bool = False,
        clock: Clock = _now,
    ) -> None:
        self._must_verify = must_verify
        self.environment = environment
        self._production = production
        self._office, self._ask, self._enter = office, ask, enter
        self._purposes, self._clock = tuple(purposes), clock
        self._halt, self._looked = halt, datetime.min.replace(tzinfo=UTC)
        self._permit: Permit | None = None
        self._shown: ShownPermit | None = None
        self._held: Held | None = None
        self._one = threading.Lock()
        self._turn: asyncio.Lock | None = None
        self._coming: dict[Callable[[str], None], asyncio.Task[None]] = {}

    @classmethod
    def sandbox(
        cls,
        environment: str,
        office: PermitIssuer | None = None,
        enter: Callable[[], Held] | None = None,
        *,
        production: Production,
    ) -> Self:
        """Admit to the hosts of a sandbox.

        :param production: the resources of production, which are refused under any name.
        :raises PolicyViolation: the environment is production.
        """
        if environment == PRODUCTION:
            raise PolicyViolation(
                f"{environment} is not a sandbox: its hosts are accessed only with a permit.",
                rule="only environments before production are accessed without a permit",
                who="no user",
            )
        return cls(environment, office=office, enter=enter, production=production)

    @classmethod
    def by_permit(
        cls,
        environment: str,
        office: PermitIssuer,
        ask: Callable[[], dict[str, Any]],
        *purposes: Purpose,
        halt: Callable[[], None] | None = None,
        must_verify: bool = False,
        clock: Clock = _now,
    ) -> Self:
        """Admit to the hosts that a permit names, for one of some purposes, until something halts it."""
        return cls(
            environment, office=office, ask=ask, purposes=purposes, halt=halt, must_verify=must_verify, clock=clock
        )

    @property
    def held(self) -> Held | None:
        """The process that entered, the place and the token; none: none yet, or no change is planned."""
        return self._held

    @property
    def entered(self) -> Entered | None:
        """Where something is changed, and with which token: what is recorded of it carries this."""
        return self._held.entered if self._held else None

    @property
    def token(self) -> int:
        """The token for hosts; 0: none, with which a host that has seen a token refuses changes."""
        return self._held.entered.token if self._held else 0

    @property
    def shown(self) -> ShownPermit | None:
        """The permit as hosts verify it; none: there is none, which hosts of production refuse."""
        return self._shown

    def begin(self) -> None:
        """Get the permit before the hosts are prepared; without a permit nothing is changed.

        :raises PolicyViolation: none is given, and why.
        """
        self._ready("begin")

    def refuse_production(self, kind: Kind, name: str, what: str) -> None:
        """Raise a PolicyViolation if there is no permit, and something belongs to production.

        :param what: says in words what it is.
        """
        if self._production is not None:
            self._production.refuse(kind, name, what)

    async def admit(self, address: str) -> None:
        """Allow a connection to a host, or the start of its change, or raise; called immediately before it."""
        if self._office is None and (self._production is None or self.environment == PRODUCTION):
            raise PolicyViolation(f"No permit was shown for {address} of {self.environment}.")
        self.refuse_production("address", address, f"the address {address}")
        if self._office is not None:
            await self._asked(self._ready, f"change {address}")
        if self._permit is not None:
            async with self._queue():
                await self._look_again()
            refuse_unusable(self._permit, purposes=self._purposes, environment=self.environment, now=self._clock())
            refuse_other_host(self._permit, address)

    async def hold(self, what: str) -> None:
        """Raise a LostRight if a started change may not continue: another process came after, or the release has ended.

        What halts a rollout, and the end of a permit, is not asked here: a host that is being changed comes to an end.

        :param what: is about to be done.
        """
        if self._office is not None:
            await self._asked(self.refuse_lost, what)

    def refuse_lost(self, what: str) -> None:
        """Do as :meth:`hold` does, at once and in any thread.

        :param what: is about to be done.
        """
        with self._one:
            self._stand(what)

    def _ready(self, what: str) -> None:
        with self._one:
            self._renew(self._stand(what))

    def _stand(self, what: str) -> datetime:
        """Return what time it is by the ledger, if the right is still there; if there is none yet, any time."""
        if self._office is None or self._held is None:
            return datetime.min.replace(tzinfo=UTC)
        return self._office.refuse_lost(self._held, what)

    def _renew(self, now: datetime) -> None:
        """Get the first permit, or a new one if the previous has expired by this machine's clock or the ledger's."""
        if self._office is None:
            return
        if self._enter is not None:
            self._held = self._held or self._enter()
        elif self._ask is not None and (self._permit is None or max(now, self._clock()) >= self._permit.expires_at):
            self._permit = self._office.redeem(self._ask(), purposes=self._purposes, environment=self.environment)
            self._held = self._office.held_by(self._permit)
            self._shown = self._office.shown(self._permit, must_verify=self._must_verify)
            self._looked = self._clock()  # all that a permit needs was looked at just now

    async def _asked(self, look: Callable[[str], None], what: str) -> None:
        """Check once for all waiting callers: each gets a result from after its call."""
        if look not in self._coming:
            self._coming[look] = asyncio.ensure_future(self._look(look, what))
        await asyncio.shield(self._coming[look])

    async def _look(self, look: Callable[[str], None], what: str) -> None:
        async with self._queue():
            del self._coming[look]  # callers from now on need a new check
            await asyncio.to_thread(look, what)

    def _queue(self) -> asyncio.Lock:
        self._turn = self._turn or asyncio.Lock()
        return self._turn

    async def _look_again(self) -> None:
        """Raise if the rollout is halted now; one check covers the hosts of the next two seconds."""
        if self._halt is not None and self._clock() - self._looked > POLL_INTERVAL:
            await asyncio.to_thread(self._halt)
            self._looked = self._clock()
