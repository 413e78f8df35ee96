"""Bookings: only one release at a time changes an environment of a service, from implementation to verification.

A booking is an entry of the chain ``booking/<environment>/<service>``: who holds it, since when, until when. The next
release waits in the queue. If the holder's run no longer exists, its booking is void: the next release records this and
takes its place. The end of a booking is an estimate for others: a release that is still under way, such as one that
waits in a freeze, keeps its booking beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Break, Chains, Entry, broken_by
from interlock.domain.ledger.kinds import (
    ENVIRONMENT_BOOKED,
    ENVIRONMENT_EXTENDED,
    ENVIRONMENT_FREED,
    ENVIRONMENT_QUEUED,
    ENVIRONMENT_RECOVERED,
)

PREFIX = "booking/"
DEAD = "its release is no longer in progress"
"""Why a booking is recovered."""


class Booking(Model):
    """The booking of an environment of a service by a release, for a time."""

    environment: str
    service: str
    holder: str = Field(description="The chain of the release")
    version: str
    by: str = Field(description="User name of the requester of that release")
    since: AwareDatetime
    until: AwareDatetime = Field(description="Expected end; the holder keeps the booking until its release has ended")

    def __str__(self) -> str:
        """Describe the booking: its holder, its start and its end."""
        return (
            f"{self.environment} of {self.service} is booked by {self.holder.removeprefix('release/')} "
            f"({self.version}, requested by {self.by}) since {_shown(self.since)}, until {_shown(self.until)}"
        )


class Entered(Model):
    """The place that a process may change, and its fencing token, which the records of the change contain."""

    place: str = Field(description="The chain of the environment's bookings")
    token: int = Field(ge=1)


class Standing(Model):
    """The state of the bookings of one environment of a service."""

    booking: Booking | None = Field(None, description="The last one that was neither freed nor recovered")
    line: tuple[str, ...] = Field((), description="The chains of the releases that wait, the first one first")
    count: int = Field(0, description="How many bookings there were")


class BookingDecision(Model):
    """What a release that wants an environment is to do."""

    then: Literal["held", "book", "wait"]
    why: str = Field("", description="What it waits for")
    dead: Booking | None = Field(None, description="A booking that is void: the run of its holder no longer exists")


def booking_chain(environment: str, service: str) -> str:
    """Return the name of the chain with an environment's bookings."""
    return f"{PREFIX}{environment}/{service}"


def standing_bookings(ledger: Chains) -> Iterator[tuple[str, Booking]]:
    """Yield the chain of each environment that is booked, and its booking.

    :raises LedgerBroken: such a chain is not intact.
    """
    there = ledger.open_chains(PREFIX, ENVIRONMENT_BOOKED, (ENVIRONMENT_FREED, ENVIRONMENT_RECOVERED), field="holder")
    for chain, entries in ledger.whole(there).items():
        if isinstance(entries, Break):
            raise broken_by(entries)
        if booking := standing(entries).booking:
            yield chain, booking


def standing(entries: Iterable[Entry]) -> Standing:
    """Return the state of the bookings by the chain of an environment."""
    booking: Booking | None = None
    line: list[str] = []
    count = 0
    for entry in entries:
        holder = str(entry.payload.get("holder"))
        if entry.kind == ENVIRONMENT_BOOKED:
            booking, count = Booking.model_validate(entry.payload), count + 1
        elif entry.kind == ENVIRONMENT_EXTENDED and booking is not None and booking.holder == holder:
            booking = booking.model_copy(update={"until": datetime.fromisoformat(entry.payload["until"])})
        elif (
            entry.kind in (ENVIRONMENT_FREED, ENVIRONMENT_RECOVERED)
            and booking is not None
            and booking.holder == holder
        ):
            booking = None
        if entry.kind == ENVIRONMENT_QUEUED and holder not in line:
            line.append(holder)
        elif entry.kind in (ENVIRONMENT_BOOKED, ENVIRONMENT_FREED) and holder in line:
            line.remove(holder)
    return Standing(booking=booking, line=tuple(line), count=count)


def verdict(found: Standing, holder: str, is_alive: Callable[[str], bool]) -> BookingDecision:
    """Return what a release does next.

    :param holder: the release's chain.
    :param is_alive: says whether the release of a chain is still under way.
    """
    booking = found.booking
    if booking is not None and booking.holder == holder:
        return BookingDecision(then="held")
    if booking is not None and is_alive(booking.holder):
        return BookingDecision(then="wait", why=f"{booking}.")
    before = _first(found.line, holder, is_alive)
    if before:
        return BookingDecision(then="wait", why=f"{before.removeprefix('release/')} is ahead of it in the queue.")
    return BookingDecision(then="book", dead=booking)


def _first(line: Sequence[str], holder: str, is_alive: Callable[[str], bool]) -> str:
    """Return the release ahead in the queue; empty: no release that is in progress."""
    before = line[: line.index(holder)] if holder in line else line
    return next((one for one in before if is_alive(one)), "")


def held_by_other(found: Standing, holder: str) -> str:
    """Describe another release that holds the booking, in progress or not; empty: none."""
    booking = found.booking
    return f"{booking}." if booking is not None and booking.holder != holder else ""


def refuse_taken(why: str) -> None:
    """Raise a PolicyViolation: the environment is booked, and the policy allows no waiting."""
    raise PolicyViolation(
        f"The environment is booked by another release: {why}",
        rule="bookings.second of policy.yaml: a second release is refused",
        who="the requester of the release that holds the booking",
        next_step="trigger the release again when the other one has ended",
    )


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
