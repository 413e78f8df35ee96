"""Fencing: which process may change an environment of a service now; all processes before it no longer may.

A process can be suspended between any two of its steps and resume an hour later, with outdated knowledge. So a process
that is to change an environment enters it first: an entry in the chain of its bookings, whose position in that chain is
the token. Tokens only grow. A host keeps the highest token that it has seen and refuses lower ones. The load balancer
cannot, so each call to it is preceded by the question whether the token is still the newest. What a try records carries
its token, which the ledger's database compares when it writes the entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import Field

from interlock.domain.calendars.bookings import Entered, booking_chain
from interlock.domain.canonical import Model
from interlock.domain.errors import LostRight
from interlock.domain.ledger.chain import END, Entry, instant
from interlock.domain.ledger.findings import Finding
from interlock.domain.ledger.kinds import (
    ENVIRONMENT_BOOKED,
    ENVIRONMENT_ENTERED,
    ENVIRONMENT_FREED,
    ENVIRONMENT_RECOVERED,
    family,
)

NEWS = family(ENVIRONMENT_ENTERED)
"""The kinds in the chain of an environment's bookings."""
RIGHT_LOST = "right_lost"
"""The kind of the finding about an attempt of a process that had lost its right."""

LOST_RULE = "only the last process to enter an environment may change it, and only while its release holds the booking"


class Admittance(Model):
    """A process enters an environment of a service in order to change it: the entry that gives the token."""

    holder: str = Field(description="The chain of the release")
    task: str = Field(description="The task, as the ledger names it")
    attempt: int = Field(ge=0, description="Which try of the task it is, by Airflow")
    purpose: str
    way_back: bool = Field(False, description="It takes back what the release changed")
    permit: str | None = Field(None, description="Id of the permit; none: a sandbox, which needs none")

    def __str__(self) -> str:
        """Say who enters."""
        return f"{self.holder.removeprefix('release/')} ({self.task}, try {self.attempt}, to {self.purpose})"


def place_of(environment: str, service: str) -> str:
    """Return where tokens for an environment of a service are given."""
    return booking_chain(environment, service)


def shared_token(newest: Entry | None, wanted: Admittance) -> int | None:
    """Return the token that a process takes over instead of entering again; none: it enters.

    A canary's end and a back-out, which may run at once, both give the traffic back: neither is to fence off the other.
    """
    if newest is None or not wanted.way_back or wanted.purpose != "traffic":
        return None
    there = Admittance.model_validate(newest.payload)
    return newest.sequence if there.way_back and there.holder == wanted.holder else None


def why_lost(entered: Entered, by: Admittance, since: Iterable[Entry], ends: Sequence[Entry]) -> str:
    """Return why a process that entered may no longer change anything; empty: it still may.

    :param since: what the chain of the place has after their token.
    :param ends: the entries with which the chain of their release ended, in order.
    """
    for entry in since:
        if problem := _ousted(entry, by):
            return problem
    if not ends or by.purpose == "return":
        return ""
    outcome = ends[-1].payload.get("outcome")
    if by.way_back and outcome == "failed":  # it may still be taken back
        return ""
    how = f" as {str(outcome).replace('_', ' ')}" if outcome else ""
    return f"its release ended{how} at {_shown(ends[-1].at)}"


def _ousted(entry: Entry, by: Admittance) -> str:
    holder, at = entry.payload.get("holder"), _shown(entry.at)
    if entry.kind == ENVIRONMENT_ENTERED:
        there = Admittance.model_validate(entry.payload)
        together = by.purpose == "traffic" and by.way_back and there.way_back and there.holder == by.holder
        return "" if together else f"{there} entered at {at} with the token {entry.sequence}"
    if entry.kind == ENVIRONMENT_BOOKED and holder != by.holder:
        return f"{str(holder).removeprefix('release/')} booked the environment at {at}"
    if entry.kind in (ENVIRONMENT_FREED, ENVIRONMENT_RECOVERED) and holder == by.holder:
        return f"its booking of the environment ended at {at}"
    return ""


def lost(entered: Entered, by: Admittance, what: str, why: str) -> LostRight:
    """Return the error of a process that is about to make a change and no longer may.

    :param what: the change that it was about to make.
    """
    return LostRight(
        f"{by} entered {where(entered.place)} with the token {entered.token} and may no longer change it: {why}. "
        f"It was about to {what}; that was not done.",
        rule=LOST_RULE,
        who="no user",
        next_step="no action is needed: the later process continues",
    )


def finding(by: Admittance, place: str, what: str, why: str, *, worker: str, token: int | None = None) -> Finding:
    """Return the finding about an attempt of a process that had lost its right: only what is known.

    It belongs to the installation, and names no chain as its evidence: another process may continue the release
    with the right, and the finding must not stop it.

    :param what: it was about to do. :param worker: the machine and the process.
    """
    held = f" with the token {token}" if token else ""
    return Finding(
        kind=RIGHT_LOST,
        what=f"A process without the right to continue was refused: {by}, on {worker}, in {where(place)}{held}. "
        f"It was about to {what}. Reason: {why}.",
        evidence={
            "release": by.holder,
            "task": by.task,
            "attempt": by.attempt,
            "place": place,
            "token": token,
            "worker": worker,
        },
    )


def where(place: str) -> str:
    """Return a place as people call it."""
    environment, _, service = place.partition("/")[2].partition("/")
    return f"{environment} of {service}"


def ended_with(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries with which a chain ended."""
    return tuple(entry for entry in entries if entry.kind in END)


def _shown(at: datetime) -> str:
    return f"{instant(at)[:19].replace('T', ' ')} UTC"
