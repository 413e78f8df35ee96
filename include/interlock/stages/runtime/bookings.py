"""Book an environment for the running release, and free it again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from interlock.domain.calendars import bookings
from interlock.domain.calendars.bookings import DEAD, Booking, Entered, Standing, booking_chain
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Policy
from interlock.domain.errors import AlreadyRecorded, TransientError
from interlock.domain.ledger.kinds import (
    ENVIRONMENT_BOOKED,
    ENVIRONMENT_EXTENDED,
    ENVIRONMENT_FREED,
    ENVIRONMENT_QUEUED,
    ENVIRONMENT_RECOVERED,
    PERMITS_VOIDED,
    RELEASE_CLOSED,
)
from interlock.domain.ledger.runs import run_of
from interlock.domain.records import RolloutPlan

from . import resources
from .calendars import await_window, wait
from .evidence import this_chain, this_task
from .taskflow import stage_task
from .triggers import UNDER_WAY

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)
POLL_INTERVAL = timedelta(seconds=15)
"""How often a release in the queue checks again."""
MAX_ATTEMPTS = 8


@stage_task(task_display_name="Book the environment")
def book_environment(service: str, rollout: RolloutPlan) -> dict[str, Any]:
    """Book the environment for this release until its verification has ended. No other release can change it meanwhile.

    While no change window is open, the task waits without a worker slot and books nothing. If another release holds
    the environment, this release waits in the queue or is refused, as the policy says. The booking of a release that
    has died is released.
    """
    catalogue = resources.catalogue_of(service)
    await_window(catalogue, rollout.environment)
    return hold(catalogue.policy, rollout).model_dump(mode="json")


def hold(policy: Policy, rollout: RolloutPlan) -> Booking:
    """Return the running release's booking of its target: made now, or extended if it has it already.

    :raises AirflowRescheduleException: another release holds it, and this release checks again later.
    :raises PolicyViolation: another release holds it, and the policy does not allow waiting.
    """
    return hold_for(
        policy,
        environment=rollout.environment,
        service=rollout.service,
        version=rollout.version,
        requested_by=rollout.requested_by,
    )


def hold_for(policy: Policy, *, environment: str, service: str, version: str, requested_by: str) -> Booking:
    """Return the running release's booking of an environment, as :func:`hold` does."""
    chain, holder = booking_chain(environment, service), this_chain()
    with resources.ledger() as ledger:
        for _ in range(MAX_ATTEMPTS):
            now = datetime.now(UTC)
            found = bookings.standing(ledger.entries(chain))
            verdict = bookings.verdict(found, holder, is_under_way)
            if verdict.then == "wait":
                _stand_in_line(ledger, policy, chain, found, verdict.why)
            if verdict.then == "held" and found.booking is not None:
                return _extended(ledger, policy, chain, found.booking, now)
            if verdict.dead is not None:
                _recover(ledger, chain, verdict.dead, key=f"{ENVIRONMENT_RECOVERED}/{found.count}")
            booking = Booking(
                environment=environment,
                service=service,
                holder=holder,
                version=version,
                by=requested_by,
                since=now,
                until=now + policy.bookings.longest,
            )
            try:
                # Another release that saw it free at the same time uses the same key: only one append succeeds.
                ledger.append_once(
                    chain,
                    ENVIRONMENT_BOOKED,
                    booking.model_dump(mode="json"),
                    actor=this_task(),
                    key=f"{ENVIRONMENT_BOOKED}/{found.count + 1}",
                )
            except AlreadyRecorded:
                continue
            ledger.sign_head(chain, resources.signer())
            return booking
    raise TransientError(f"{environment} of {service} could not be booked: other releases were faster each time.")


def _recover(ledger: Ledger, chain: str, dead: Booking, *, key: str) -> None:
    with suppress(AlreadyRecorded):  # another release was faster; the first to book gets it
        ledger.append_once(
            chain, ENVIRONMENT_RECOVERED, {"holder": dead.holder, "because": DEAD}, actor=this_chain(), key=key
        )
        log.warning("%s, but %s. The booking was released.", dead, DEAD)


def _stand_in_line(ledger: Ledger, policy: Policy, chain: str, found: Standing, why: str) -> NoReturn:
    if policy.bookings.second == "refuse":
        bookings.refuse_taken(why)
    holder = this_chain()
    if holder not in found.line:
        # Once for each turn: a release that lost the environment goes to the end of the queue.
        key = f"{ENVIRONMENT_QUEUED}/{holder}/{found.count}"
        with suppress(AlreadyRecorded):
            ledger.append_once(chain, ENVIRONMENT_QUEUED, {"holder": holder}, actor=this_task(), key=key)
    wait(why, datetime.now(UTC) + POLL_INTERVAL)


def _extended(ledger: Ledger, policy: Policy, chain: str, booking: Booking, now: datetime) -> Booking:
    """Extend a booking of which less than half is left."""
    if booking.until - now > policy.bookings.longest / 2:
        return booking
    until = now + policy.bookings.longest
    told = {"holder": booking.holder, "until": until.isoformat()}
    ledger.append(
        chain,
        ENVIRONMENT_EXTENDED,
        told,
        actor=this_task(),
        key=f"{ENVIRONMENT_EXTENDED}/{booking.holder}/{until.isoformat()}",
    )
    return booking.model_copy(update={"until": until})


def free(service: str, environment: str) -> None:
    """Free the environment that the running release holds, or its place in the queue."""
    chain, holder = booking_chain(environment, service), this_chain()
    with resources.ledger() as ledger:
        found = bookings.standing(ledger.entries(chain))
        holds = found.booking is not None and found.booking.holder == holder
        if holds or holder in found.line:
            ledger.append(
                chain,
                ENVIRONMENT_FREED,
                {"holder": holder},
                actor=this_task(),
                key=f"{ENVIRONMENT_FREED}/{holder}/{found.count}",
            )
            ledger.sign_head(chain, resources.signer())


def note_voided(later: Entered, hosts: Sequence[str], missed: Mapping[str, str]) -> None:
    """Record, in the chain of the environment, which hosts refuse the permits of the running release, which is closed.

    :param later: the place, and the lowest token that the hosts take from now on.
    :param hosts: their addresses; ``missed``: those that did not hear it, and why.
    """
    heard = sorted(set(hosts) - missed.keys())
    told = {"holder": this_chain(), "token": later.token, "hosts": heard, "missed": dict(missed)}
    with resources.ledger() as ledger, suppress(AlreadyRecorded):
        key = f"{PERMITS_VOIDED}/{later.token}/{sha256_of(told)[:32]}"
        ledger.append_once(later.place, PERMITS_VOIDED, told, actor=this_task(), key=key)
        ledger.sign_head(later.place, resources.signer())
    for host, why in missed.items():
        log.warning("%s did not hear that the release is closed; its permits expire by themselves: %s", host, why)


def taken(service: str, environment: str, holder: str) -> str:
    """Describe the other release that holds an environment now; empty if there is none, or if its run has died."""
    with resources.ledger() as ledger:
        found = bookings.standing(ledger.entries(booking_chain(environment, service)))
    other = bookings.held_by_other(found, holder)
    return other if other and found.booking is not None and is_under_way(found.booking.holder) else ""


def make_way(service: str, environment: str) -> None:
    """Free an environment whose release has died."""
    chain = booking_chain(environment, service)
    with resources.ledger() as ledger:
        found = bookings.standing(ledger.entries(chain))
        booking = found.booking
        if booking is not None and booking.holder != this_chain() and not is_under_way(booking.holder):
            _recover(ledger, chain, booking, key=f"{ENVIRONMENT_RECOVERED}/{found.count}")


def await_others(policy: Policy, service: str, environment: str) -> None:
    """Put the running task off, without a worker, while another release holds an environment.

    A plan that is made before the other release has ended gets no permit: it would name outdated versions.

    :raises AirflowRescheduleException: another release holds it, and this release checks again later.
    :raises PolicyViolation: another release holds it, and the policy does not allow waiting.
    """
    if why := taken(service, environment, this_chain()):
        if policy.bookings.second == "refuse":
            bookings.refuse_taken(why)
        wait(why, datetime.now(UTC) + POLL_INTERVAL)


def is_under_way(chain: str) -> bool:
    """Tell whether the release of a chain is still under way, according to the ledger and Airflow."""
    run = run_of(chain)
    if run is None:
        return False
    with resources.ledger() as ledger:
        if ledger.entries(chain, kind=RELEASE_CLOSED):
            return False
    with resources.airflow_api() as api:
        return api.run_state(*run) in UNDER_WAY
