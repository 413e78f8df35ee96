"""How far a release was told to a system, what is being attempted, and when it is tried again.

Nothing is posted blindly again. Before each attempt, an intent is kept. If its answer is lost, the record is looked up
after the request cannot arrive any more. The record itself says up to which statement it was told, because that is
written together with the statement.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AwareDatetime, Field, StringConstraints

from interlock.domain.canonical import Model
from interlock.domain.errors import ConditionUnmet, ReleaseError, SystemBusy, TransientError

SETTLES_AFTER = timedelta(seconds=90)
"""So long after a request without an answer, it cannot take effect any more; longer than any timeout between here and
the system."""
CONFIRM_AFTER = timedelta(minutes=10)
"""So long after the last statement of a release, its record is read again: a request that came late shows by then."""
REFUSED_AGAIN = timedelta(hours=1)
"""A system that refused a statement is asked again so often, without anybody asking for it."""
LONGEST_WAIT = timedelta(seconds=30)
"""A system that does not answer is asked at least so often about each release: what was kept back is told soon after an
outage. The system as a whole is spared by its pauses (adapters/ledger/deliveries.py)."""
UNMET_AGAIN = timedelta(minutes=5)
"""The same, for what a condition in the system keeps back."""
MAX_ERROR = 2000
"""Characters of an error that are kept."""


class Cursor(NamedTuple):
    """Up to where a release was told: an entry of its chain, and one of the installation's, for emergency stops."""

    entry: int = 0
    stop: int = 0

    def covers(self, other: Cursor) -> bool:
        """Tell whether everything up to another cursor was told, too."""
        return self.entry >= other.entry and self.stop >= other.stop

    def __str__(self) -> str:
        """Write it as records have it."""
        return f"{self.entry}.{self.stop}"

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Read what a record has; what is not a cursor was not written by Interlock, and says nothing was told."""
        entry, _, stop = (text or "").rpartition(" ")[2].partition(".")
        return cls(int(entry), int(stop)) if entry.isdecimal() and stop.isdecimal() else cls()

    def with_all_of(self, other: Cursor) -> Cursor:
        """Return the cursor that covers both."""
        return Cursor(max(self.entry, other.entry), max(self.stop, other.stop))


class Remote(Model):
    """A record in a system, as it was read there."""

    reference: str = Field(min_length=1, max_length=500, description="How the system's API names it")
    number: str = Field(min_length=1, max_length=200, description="How people name it, such as CHG0030001")
    told: Cursor = Field(Cursor(), description="Up to where the record says that it was told")
    state: str = Field("", description="In the system's own words")
    url: str = Field("", description="The page of the record, for people")
    is_new: bool = Field(False, description="It was made just now, so that it has no documents and no tasks")


class Intent(Model):
    """What was about to be written when no answer came, or has not come yet."""

    does: Literal["create", "change"]
    told: Cursor
    at: AwareDatetime


def correlation_of(system: str, chain: str) -> str:
    """Return the id by which the record of a release is found in a system: 71 characters, the same each time."""
    return f"interlock-{sha256(f'{system} {chain}'.encode()).hexdigest()}"[:71]


class Delivery(Model):
    """A release and a system that is told of it: a row of the outbox."""

    system: str
    chain: str
    correlation: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    reference: str = ""
    number: str = ""
    url: str = ""
    told: Cursor = Cursor()
    intent: Intent | None = None
    attempts: int = Field(0, ge=0, description="Without success, since the last success")
    next_at: AwareDatetime | None = Field(None, description="When it is tried again; none: there is nothing to tell")
    error: str = Field("", max_length=MAX_ERROR, description="Of the last attempt; empty: it succeeded")
    refused: bool = Field(False, description="The system refused it; people have to correct something")
    confirm_at: AwareDatetime | None = Field(
        None, description="When the record is read again after the end of the release was told; none: it was not told"
    )
    confirmed: bool = Field(False, description="The record was read again after that")

    @property
    def ended(self) -> bool:
        """Whether the end of the release was told."""
        return self.confirm_at is not None

    @property
    def state(self) -> Literal["told", "waiting", "failing", "refused"]:
        """In a word, for people."""
        if self.refused:
            return "refused"
        if self.error:
            return "failing"
        return "told" if self.next_at is None or self.ended else "waiting"

    def intends(self, does: Literal["create", "change"], told: Cursor, now: datetime) -> Delivery:
        """Return it with what is written next."""
        return self.model_copy(update={"intent": Intent(does=does, told=told, at=now)})

    def found(self, remote: Remote) -> Delivery:
        """Return it with the record that was found or made."""
        return self.model_copy(
            update={
                "reference": remote.reference,
                "number": remote.number,
                "url": remote.url,
                "told": self.told.with_all_of(remote.told),
                "intent": None if self.intent is None or remote.told.covers(self.intent.told) else self.intent,
            }
        )

    def settles_at(self, now: datetime, settles_after: timedelta = SETTLES_AFTER) -> datetime | None:
        """Return until when a request without an answer may still take effect; None: there is none."""
        if self.intent is None:
            return None
        until = self.intent.at + settles_after
        return until if until > now else None

    def waits(self, until: datetime) -> Delivery:
        """Return it with the next attempt at a time, which is no failure."""
        return self.model_copy(update={"next_at": until})

    def is_to_be_confirmed(self, now: datetime) -> bool:
        """Tell whether the record is to be read again."""
        return self.confirm_at is not None and not self.confirmed and now >= self.confirm_at

    def succeeded(self, now: datetime, *, ended: bool, confirmed: bool = False) -> Delivery:
        """Return it after everything was told.

        :param ended: the end of the release was told now, or something after it.
        :param confirmed: the record was read again.
        """
        confirm_at = now + CONFIRM_AFTER if ended else self.confirm_at
        confirmed = confirm_at is not None and not ended and (confirmed or self.confirmed)
        return self.model_copy(
            update={
                "attempts": 0,
                "error": "",
                "refused": False,
                "intent": None,
                "confirm_at": confirm_at,
                "confirmed": confirmed,
                "next_at": None if confirmed else confirm_at,
            }
        )

    def failed(self, error: ReleaseError, now: datetime) -> Delivery:
        """Return it after an attempt that failed: when it is tried again, and what people are shown."""
        attempts = self.attempts + 1
        passing = isinstance(error, TransientError)
        longest = UNMET_AGAIN if isinstance(error, ConditionUnmet) else LONGEST_WAIT
        wait = min(longest, timedelta(seconds=2 ** min(attempts, 12))) if passing else REFUSED_AGAIN
        if isinstance(error, SystemBusy):
            wait = max(timedelta(), error.until - now)
        return self.model_copy(
            update={
                "attempts": attempts,
                "error": str(error)[:MAX_ERROR],
                "refused": not passing,
                "next_at": now + wait,
                # A refusal is an answer: nothing of it is still on its way.
                "intent": self.intent if passing and not isinstance(error, (SystemBusy, ConditionUnmet)) else None,
            }
        )

    def retried(self, now: datetime) -> Delivery:
        """Return it after a person asked for another attempt."""
        return self.model_copy(update={"next_at": now, "attempts": 0})
