"""Who holds an environment, who waits for it, and when a holder holds nothing any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.calendars.bookings import Booking, booking_chain, held_by_other, refuse_taken, standing, verdict
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry, next_entry
from interlock.domain.ledger.kinds import (
    ENVIRONMENT_BOOKED,
    ENVIRONMENT_EXTENDED,
    ENVIRONMENT_FREED,
    ENVIRONMENT_QUEUED,
    ENVIRONMENT_RECOVERED,
)

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CHAIN = booking_chain("production", "bike-shop")


class Chain:
    """The chain of an environment, and what releases do to it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.now = NOW

    def add(self, kind: str, payload: dict[str, object]) -> None:
        last = self.entries[-1] if self.entries else None
        key = f"{kind}/{len(self.entries)}"
        self.entries.append(next_entry(last, chain=CHAIN, at=self.now, actor="x", kind=kind, key=key, payload=payload))

    def book(self, holder: str, hours: int = 6) -> None:
        booking = Booking(
            environment="production",
            service="bike-shop",
            holder=holder,
            version="1.1.0",
            by="rita",
            since=self.now,
            until=self.now + hours * HOUR,
        )
        self.add(ENVIRONMENT_BOOKED, booking.model_dump(mode="json"))


def test_a_free_environment_is_booked_and_then_held() -> None:
    chain = Chain()
    assert verdict(standing([]), "release/a/1", lambda _: True).then == "book"
    chain.book("release/a/1")
    found = standing(chain.entries)
    assert verdict(found, "release/a/1", lambda _: True).then == "held"
    waits = verdict(found, "release/b/1", lambda _: True)
    assert waits.then == "wait"
    assert waits.why == (
        "production of bike-shop is booked by a/1 (1.1.0, requested by rita) since 2027-03-01 12:00 UTC, "
        "until 2027-03-01 18:00 UTC."
    )
    with pytest.raises(PolicyViolation, match="is booked by another release: production of bike-shop is booked by a/1"):
        refuse_taken(waits.why)


def test_who_came_first_is_next_and_the_dead_in_line_hold_up_nobody() -> None:
    chain = Chain()
    chain.book("release/a/1")
    for waiting in ("release/b/1", "release/c/1"):
        chain.add(ENVIRONMENT_QUEUED, {"holder": waiting})
    chain.add(ENVIRONMENT_FREED, {"holder": "release/a/1"})
    found = standing(chain.entries)
    assert found.line == ("release/b/1", "release/c/1")
    assert verdict(found, "release/c/1", lambda _: True).why == "b/1 is ahead of it in the queue."
    assert verdict(found, "release/b/1", lambda _: True).then == "book"
    assert verdict(found, "release/c/1", lambda one: one != "release/b/1").then == "book"
    assert verdict(found, "release/d/1", lambda _: True).then == "wait", "whoever is not in line yet comes last"


def test_a_booking_is_recovered_when_its_holder_is_dead_and_only_then() -> None:
    chain = Chain()
    chain.book("release/a/1", hours=0)
    late = verdict(standing(chain.entries), "release/b/1", lambda _: True)
    assert (late.then, late.dead) == ("wait", None), "its time is up, but it changes the environment still"
    found = verdict(standing(chain.entries), "release/b/1", lambda _: False)
    assert found.then == "book"
    assert found.dead is not None
    chain.add(ENVIRONMENT_RECOVERED, {"holder": "release/a/1"})
    assert standing(chain.entries).booking is None


def test_an_extension_is_the_holders_own() -> None:
    chain = Chain()
    chain.book("release/a/1")
    chain.add(ENVIRONMENT_EXTENDED, {"holder": "release/b/1", "until": "2030-01-01T00:00:00Z"})
    assert "until 2027-03-01 18:00 UTC" in held_by_other(standing(chain.entries), "release/b/1")
    chain.add(ENVIRONMENT_EXTENDED, {"holder": "release/a/1", "until": (NOW + 7 * HOUR).isoformat()})
    assert "until 2027-03-01 19:00 UTC" in held_by_other(standing(chain.entries), "release/b/1")
    assert not held_by_other(standing(chain.entries), "release/a/1")


STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["try", "free", "die", "later"])), max_size=60)


@given(steps=STEPS)
def test_never_do_two_living_releases_hold_an_environment(steps: list[tuple[int, str]]) -> None:
    """Let four releases try, free, die and wait in any order: who may book does so at once."""
    chain, dead = Chain(), set()
    held: set[str] = set()
    for number, step in steps:
        name = f"release/r/{number}"
        found = standing(chain.entries)
        if step == "later":
            chain.now += HOUR
        elif step == "die":
            dead.add(name)
        elif step == "free" and found.booking is not None and found.booking.holder == name:
            chain.add(ENVIRONMENT_FREED, {"holder": name})
            held.discard(name)
        elif step == "try" and name not in dead:
            said = verdict(found, name, lambda one: one not in dead)
            if said.then == "wait":
                chain.add(ENVIRONMENT_QUEUED, {"holder": name})
            elif said.then == "book":
                if said.dead is not None:
                    chain.add(ENVIRONMENT_RECOVERED, {"holder": said.dead.holder})
                    held.discard(said.dead.holder)
                chain.book(name)
                held.add(name)
        assert len(held - dead) <= 1
    found = standing(chain.entries)
    alive = [f"release/r/{number}" for number in range(4) if f"release/r/{number}" not in dead]
    holder = found.booking.holder if found.booking else ""
    if alive and (not holder or holder in dead):
        assert any(verdict(found, one, lambda each: each not in dead).then == "book" for one in alive)
