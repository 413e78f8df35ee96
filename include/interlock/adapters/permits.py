"""Permits: given, signed, used once; and the admission without which nothing connects to a host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Self

from include.interlock.domain.calendar import Answer
from include.interlock.domain.canonical import Sha256, canonical_bytes
from include.interlock.domain.errors import AlreadyRecorded, DigestMismatch, PolicyViolation
from include.interlock.domain.ledger import Entry
from include.interlock.domain.permit import (
    LONGEST,
    PERMIT_TYPE,
    SANDBOXES,
    Permit,
    Purpose,
    refuse_other_host,
    refuse_unusable,
)

if TYPE_CHECKING:
    from .ledger import Ledger
    from .signing import Signer

Clock = Callable[[], datetime]
LOOK_AGAIN = timedelta(seconds=2)
"""After so long, what halts a rollout is looked for again before the next host."""


def _now() -> datetime:
    return datetime.now(UTC)


def signed_permits(entries: Iterable[Entry], key: bytes) -> tuple[Permit, ...]:
    """Return the permits in a chain that the installation signed: whoever may write to the ledger cannot make one.

    :param key: the installation's public key, PEM.
    """
    from .signing import verify

    found: list[Permit] = []
    for entry in entries:
        envelope = entry.payload.get("envelope") if entry.kind == "permit.issued" else None
        if isinstance(envelope, dict) and envelope.get("payloadType") == PERMIT_TYPE:
            with suppress(DigestMismatch):
                permit = Permit.model_validate(json.loads(verify(envelope, key)))
                found += [permit] if permit.chain == entry.chain else []
    return tuple(found)


class PermitOffice:
    """Gives permits and takes them back used; each is an entry in its release's chain.

    :param actor: the task that asks, for the ledger.
    """

    def __init__(self, signer: Signer, ledger: Ledger, *, actor: str, clock: Clock = _now) -> None:
        self._signer, self._ledger, self._actor, self._clock = signer, ledger, actor, clock

    def issue(
        self,
        *,
        purpose: Purpose,
        chain: str,
        environment: str,
        hosts: Sequence[str],
        catalogue: Sha256,
        wave: int | None = None,
        plan: Sha256 | None = None,
        bundle: Sha256 | None = None,
        calendar: Answer | None = None,
    ) -> dict[str, Any]:
        """Write, sign and record a permit; return its envelope. That it may be given is the caller's to have proven."""
        now = self._clock()
        permit = Permit(
            id=token_hex(16),
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
            expires_at=now + LONGEST,
        )
        envelope = self._signer.sign(canonical_bytes(permit), PERMIT_TYPE)
        self._ledger.append(
            chain,
            "permit.issued",
            {"permit": permit.model_dump(mode="json"), "envelope": envelope},
            actor=self._actor,
            key=f"permit.issued/{permit.id}",
        )
        return envelope

    def redeem(self, envelope: dict[str, Any], *, purposes: Sequence[Purpose], environment: str) -> Permit:
        """Return the permit in an envelope if it is ours, for this, in time and not used before; now it is used.

        :raises DigestMismatch: it was not signed with the installation's key, or is something else.
        :raises PolicyViolation: it is for something else, too old, or used.
        """
        from .signing import verify

        payload = verify(envelope, self._signer.public_key)
        if envelope.get("payloadType") != PERMIT_TYPE:
            raise DigestMismatch("What was shown as a permit is signed, and is something else.")
        permit = Permit.model_validate(json.loads(payload))
        refuse_unusable(permit, purposes=purposes, environment=environment, now=self._clock())
        try:
            self._ledger.append_once(
                permit.chain,
                "permit.used",
                {"permit": permit.model_dump(mode="json")},
                actor=self._actor,
                key=f"permit.used/{permit.id}",
            )
        except AlreadyRecorded as error:
            raise PolicyViolation(
                f"The permit {permit.id[:8]} was used already: by {error.entry.actor}, {error.entry.at:%H:%M:%S} UTC.",
                rule="a permit is used once",
                who="the release manager",
                next_step="run the task again: it asks for a new permit",
            ) from error
        return permit


class Admission:
    """What every connection to a host is asked for: made by :meth:`sandbox` or :meth:`by_permit`, and by nothing else.

    :param ask: asks for a permit; again when the one before has ended.
    :param halt: raises if what was begun must not go on; asked between two hosts.
    """

    def __init__(
        self,
        environment: str,
        *,
        office: PermitOffice | None = None,
        ask: Callable[[], dict[str, Any]] | None = None,
        purposes: Sequence[Purpose] = (),
        halt: Callable[[], None] | None = None,
        clock: Clock = _now,
    ) -> None:
        self.environment = environment
        self._office, self._ask, self._purposes, self._clock = office, ask, tuple(purposes), clock
        self._halt, self._looked = halt, datetime.min.replace(tzinfo=UTC)
        self._permit: Permit | None = None
        self._turn: asyncio.Lock | None = None

    @classmethod
    def sandbox(cls, environment: str) -> Self:
        """Admit to the hosts of an environment that nobody depends on.

        :raises PolicyViolation: it is not one of those.
        """
        if environment not in SANDBOXES:
            raise PolicyViolation(
                f"{environment} is not a sandbox: its hosts are reached with a permit only.",
                rule=f"without a permit only {', '.join(sorted(SANDBOXES))} is reached",
                who="nobody",
            )
        return cls(environment)

    @classmethod
    def by_permit(
        cls,
        environment: str,
        office: PermitOffice,
        ask: Callable[[], dict[str, Any]],
        *purposes: Purpose,
        halt: Callable[[], None] | None = None,
        clock: Clock = _now,
    ) -> Self:
        """Admit to the hosts that a permit names, for one of some purposes, until something halts it."""
        return cls(environment, office=office, ask=ask, purposes=purposes, halt=halt, clock=clock)

    def begin(self) -> None:
        """Get the permit before anything is prepared for its hosts; without one nothing is touched.

        :raises PolicyViolation: none is given, and why.
        """
        if self._office is not None and self._ask is not None:
            self._permit = self._redeemed(self._office, self._ask)
            self._looked = self._clock()  # all that a permit needs was looked at just now

    async def admit(self, address: str) -> None:
        """Let one connection to a host be opened, or raise: this is asked just before it is."""
        if self._office is None or self._ask is None:
            if self.environment not in SANDBOXES:
                raise PolicyViolation(f"No permit was shown for {address} of {self.environment}.")
            return
        self._turn = self._turn or asyncio.Lock()
        async with self._turn:
            if self._permit is None or self._clock() >= self._permit.expires_at:
                self._permit = await asyncio.to_thread(self._redeemed, self._office, self._ask)
                self._looked = self._clock()  # all that a permit needs was looked at just now
            await self._look_again()
        refuse_unusable(self._permit, purposes=self._purposes, environment=self.environment, now=self._clock())
        refuse_other_host(self._permit, address)

    async def _look_again(self) -> None:
        """Raise if something halts the rollout now; one look serves the hosts of the next two seconds."""
        if self._halt is not None and self._clock() - self._looked > LOOK_AGAIN:
            await asyncio.to_thread(self._halt)
            self._looked = self._clock()

    def _redeemed(self, office: PermitOffice, ask: Callable[[], dict[str, Any]]) -> Permit:
        return office.redeem(ask(), purposes=self._purposes, environment=self.environment)
