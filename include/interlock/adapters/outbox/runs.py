"""A round of deliveries to one system: what is new in the ledger, and everything that is due."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from threading import Event
from typing import NamedTuple, TypeVar

from interlock.adapters.ledger.deliveries import Outbox
from interlock.adapters.ledger.ledger import Ledger
from interlock.domain.calendars.stops import STOPS
from interlock.domain.canonical import Model
from interlock.domain.errors import (
    ConditionUnmet,
    DeliveryRefused,
    LedgerBroken,
    ReleaseError,
    SystemBusy,
    TransientError,
)
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.kinds import MANIFEST_FROZEN, POLICY_RESOLVED
from interlock.domain.outbox.delivery import SETTLES_AFTER, Delivery, Remote
from interlock.domain.outbox.facts import Statement, records_of, statements, unsigned_in
from interlock.domain.trains.manifest import services_in

from .delivering import deliver
from .system import System

T = TypeVar("T")
SIGNED_WITHIN = timedelta(minutes=5)
"""A task signs what it recorded within seconds; what is not signed after this time is a failure that people see."""
SIGNED_AGAIN = timedelta(seconds=5)
"""What is not signed yet is looked at again after this time."""
BATCH = 200
"""Deliveries that are read at a time."""

Scopes = Callable[[str], tuple[str, ...]]
"""What an emergency stop names to concern a service: itself, and its business unit."""


class Round(Model):
    """What became of a round."""

    told: int = 0
    failing: int = 0
    refused: tuple[Delivery, ...] = ()


class Told(NamedTuple):
    """What is said of a release, and from which entry on nothing is said, because that is not signed."""

    statements: tuple[Statement, ...]
    unsigned: Entry | None = None


class _Superseded(ReleaseError):
    """Another process has the delivery now."""


def deliver_due(
    name: str,
    system: System,
    ledger: Ledger,
    scopes: Scopes,
    keys: Sequence[bytes],
    *,
    parallel: int = 4,
    until: datetime | None = None,
    settles_after: timedelta = SETTLES_AFTER,
) -> Round:
    """Tell a system everything that is due, in order for each release; return what became of it.

    Another process that does the same at this time is not disturbed: then nothing is done here.

    :param name: of the system, in systems.yaml.
    :param keys: the installation's public keys, PEM: what none of them signed is not told.
    :param parallel: releases that are told at once.
    :param until: when to stop with what is left for the next round; None: when nothing is due.
    """
    outbox, found, scopes = Outbox(ledger), Round(), cache(scopes)
    with ledger.alone(f"delivery/{name}") as is_alone:
        if not is_alone:
            return found
        outbox.discover(name, lambda chains: _told_chains(ledger, chains, name))
        with ThreadPoolExecutor(parallel) as pool:
            while due := outbox.due(name, BATCH):
                watched, stops = _Watched(system, name, outbox), _stops(ledger)

                def tell(
                    one: tuple[int, Delivery], watched: _Watched = watched, stops: Sequence[Entry] = stops
                ) -> Delivery | None:
                    if watched.is_paused.is_set():
                        return None
                    return _tell(
                        one, watched, outbox, lambda chain: told_of(ledger, chain, scopes, keys, stops), settles_after
                    )

                for delivery in filter(None, pool.map(tell, due)):
                    found = _counted(found, delivery)
                if until is not None and datetime.now(UTC) >= until:
                    break
    return found


def _counted(found: Round, delivery: Delivery) -> Round:
    if delivery.refused:
        return found.model_copy(update={"refused": (*found.refused, delivery)})
    if delivery.error:
        return found.model_copy(update={"failing": found.failing + 1})
    return found.model_copy(update={"told": found.told + (delivery.state == "told")})


def _tell(
    due: tuple[int, Delivery],
    system: System,
    outbox: Outbox,
    told_of: Callable[[str], Told],
    settles_after: timedelta,
) -> Delivery | None:
    version, delivery = due

    def keep(changed: Delivery) -> None:
        nonlocal version
        new = outbox.keep(version, changed)
        if new is None:
            raise _Superseded(f"Another process delivers {changed.chain} to {changed.system} now.")
        version = new

    try:
        try:
            told = told_of(delivery.chain)
        except LedgerBroken as error:  # people see it; nothing is told of a chain that does not hold
            failed = delivery.failed(error, datetime.now(UTC))
            keep(failed)
            return failed
        result = deliver(delivery, told.statements, system, keep, settles_after=settles_after)
        if told.unsigned is not None and not result.error:
            result = _awaits_signature(result, told.unsigned)
            keep(result)
    except _Superseded:
        return None
    return result


def _awaits_signature(delivery: Delivery, entry: Entry) -> Delivery:
    now = datetime.now(UTC)
    if now < entry.at + SIGNED_WITHIN:
        return delivery.waits(now + SIGNED_AGAIN)
    return delivery.failed(
        TransientError(
            f"Entry {entry.sequence} of {entry.chain} ({entry.kind}) is not signed by the key of this installation, so "
            "it is not told, nor what follows it.",
            rule="what others read can be proven (include/interlock/domain/outbox/facts.py)",
            who="the platform engineer",
            next_step="run interlock ledger check",
        ),
        now,
    )


def _stops(ledger: Ledger) -> tuple[Entry, ...]:
    return ledger.entries(INSTALLATION, kind=STOPS)


def told_of(
    ledger: Ledger, chain: str, scopes: Scopes, keys: Sequence[bytes], stops: Sequence[Entry] | None = None
) -> Told:
    """Return everything that is said of a release by the ledger now.

    :param keys: as for :func:`deliver_due`.
    :param stops: emergency stops and their ends; None: they are read.
    """
    entries = ledger.entries(chain)
    concern = {scope for service in services_in(entries) for scope in scopes(service)}
    signed = ledger.signed_up_to(chain, keys)
    known = _stops(ledger) if stops is None else stops
    return Told(statements(entries, signed, known, concern), unsigned_in(entries, signed))


def _told_chains(ledger: Ledger, chains: Collection[str], system: str) -> set[str]:
    """Return the chains of whose releases a system has a record. What else they say is checked when it is told."""
    try:
        found = ledger.among(chains, (POLICY_RESOLVED, MANIFEST_FROZEN))
    except LedgerBroken:  # people see it; it keeps no other release back
        return set().union(*(_told_chains(ledger, [one], system) for one in chains)) if len(chains) > 1 else set()
    by_chain: dict[str, list[Entry]] = {}
    for entry in found:
        by_chain.setdefault(entry.chain, []).append(entry)
    return {chain for chain, entries in by_chain.items() if system in records_of(entries)}


class _Watched:
    """A system that is left alone once it says that it is busy, or does not answer at all."""

    def __init__(self, system: System, name: str, outbox: Outbox) -> None:
        self._system, self._name, self._outbox = system, name, outbox
        self.is_paused, self._failing = Event(), True

    @property
    def gathers(self) -> bool:
        return self._system.gathers

    def find(self, correlation: str) -> Sequence[Remote]:
        return self._watched(lambda: self._system.find(correlation))

    def create(self, correlation: str, statement: Statement) -> Remote:
        return self._watched(lambda: self._system.create(correlation, statement))

    def change(self, remote: Remote, statement: Statement) -> Remote:
        return self._watched(lambda: self._system.change(remote, statement))

    def withdraw(self, duplicate: Remote, original: Remote) -> None:
        self._watched(lambda: self._system.withdraw(duplicate, original))

    def close(self) -> None:
        self._system.close()

    def _watched(self, call: Callable[[], T]) -> T:
        try:
            result = call()
        except SystemBusy as error:
            self._left_alone(error, error.until)
            raise
        except (ConditionUnmet, DeliveryRefused):
            self._answered()
            raise
        except TransientError as error:
            self._left_alone(error)
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        if self._failing:  # a lock would not help: another thread's failure may be noted before or after this
            self._failing = False
            self._outbox.answered(self._name)

    def _left_alone(self, error: TransientError, until: datetime | None = None) -> None:
        self._failing = True
        if self._outbox.pause(self._name, str(error), until):
            self.is_paused.set()
