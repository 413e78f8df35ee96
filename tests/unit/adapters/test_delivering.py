"""A release is told to a system in order and with effect once, whatever becomes of requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.outbox.delivering import deliver
from interlock.domain.errors import ConditionUnmet, DeliveryRefused, ReleaseError, TransientError
from interlock.domain.outbox.delivery import Cursor, Delivery, Remote, correlation_of
from interlock.domain.outbox.facts import Statement, gathered, statements
from tests.factories.told_releases import chain_of, chained, signed, steps

CHAIN = chain_of(1)
ENTRIES = chained(CHAIN, steps())
TOLD = statements(ENTRIES, signed(ENTRIES))
FRESH = Delivery(system="snow", chain=CHAIN, correlation=correlation_of("snow", CHAIN))


class Clock:
    """A clock that each reading advances by a second."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Records:
    """A system in memory. ``faults`` says of each write: well, lost (not done), unheard (done, no answer), twice."""

    def __init__(self, faults: Sequence[str] = (), *, gathers: bool = False) -> None:
        self.faults, self.gathers = [*faults], gathers
        self.records: dict[str, Remote] = {}
        self.events: list[str] = []
        self.withdrawn: list[str] = []

    def _fault(self) -> str:
        return self.faults.pop(0) if self.faults else "well"

    def find(self, correlation: str) -> Sequence[Remote]:
        return [one for one in self.records.values() if one.reference not in self.withdrawn]

    def create(self, correlation: str, statement: Statement) -> Remote:
        fault = self._fault()
        if fault == "lost":
            raise TransientError("lost")
        made = [self._made() for _ in range(2 if fault == "twice" else 1)]
        if fault == "unheard":
            raise TransientError("unheard")
        return made[-1]

    def _made(self) -> Remote:
        name = f"CHG{len(self.records) + 1}"
        self.records[name] = Remote(reference=name, number=name)
        return self.records[name]

    def change(self, remote: Remote, statement: Statement) -> Remote:
        fault = self._fault()
        if fault == "lost":
            raise TransientError("lost")
        self.events += [*statement.before, statement.event]
        self.records[remote.number] = self.records[remote.number].model_copy(update={"told": statement.told})
        if fault == "unheard":
            raise TransientError("unheard")
        return self.records[remote.number]

    def withdraw(self, duplicate: Remote, original: Remote) -> None:
        self.withdrawn.append(duplicate.reference)


def told_until_done(system: Records, limit: int = 60) -> Delivery:
    """Deliver as often as it takes; each time at the time that the delivery names."""
    clock, kept = Clock(), [FRESH]
    for _ in range(limit):
        now = deliver(kept[-1], TOLD, system, kept.append, now=clock)
        assert now == kept[-1]
        if now.confirmed:
            return now
        assert now.next_at is not None
        clock.now = max(clock.now, now.next_at)
    raise AssertionError(f"not told after {limit} attempts: {kept[-1]}")


EVENTS = [one.event for one in TOLD]


def test_each_statement_is_told_once_and_the_number_is_kept() -> None:
    system = Records()
    done = told_until_done(system)
    assert system.events == EVENTS
    assert (done.number, done.told, done.error) == ("CHG1", TOLD[-1].told, "")


def test_a_record_whose_answer_was_lost_is_found_and_not_made_again() -> None:
    system = Records(["unheard"])
    assert told_until_done(system).number == "CHG1"
    assert len(system.records) == 1


def test_a_lost_request_is_not_sent_again_before_it_cannot_arrive_any_more() -> None:
    system, clock, kept = Records(["lost"]), Clock(), [FRESH]
    deliver(FRESH, TOLD, system, kept.append, now=clock)
    again = deliver(kept[-1], TOLD, system, kept.append, now=clock)
    assert again.intent is not None
    assert again.next_at == again.intent.at + timedelta(seconds=90)
    assert not system.records
    clock.now = again.next_at
    assert deliver(again, TOLD, system, kept.append, now=clock).number == "CHG1"


@pytest.mark.parametrize("gathers", [False, True])
def test_a_lost_statement_is_not_told_again_before_it_cannot_arrive_any_more(gathers: bool) -> None:
    system, clock, kept = Records(["well", "lost"], gathers=gathers), Clock(), [FRESH]
    waits = deliver(FRESH, TOLD, system, kept.append, now=clock)
    assert waits.intent is not None
    assert (waits.number, waits.intent.told) == ("CHG1", TOLD[-1 if gathers else 0].told)
    again = deliver(waits, TOLD, system, kept.append, now=clock)
    assert (again.next_at, system.events) == (waits.intent.at + timedelta(seconds=90), [])


def test_a_record_that_a_repeated_request_made_is_withdrawn() -> None:
    system = Records(["twice"])
    done = told_until_done(system)
    assert len(system.records) == 2
    assert system.withdrawn == [one for one in system.records if one != done.number]


@given(st.lists(st.sampled_from(["well", "lost", "unheard", "twice"]), max_size=25), st.booleans())
def test_whatever_is_lost_or_repeated_everything_is_told_once_in_order(faults: list[str], gathers: bool) -> None:
    system = Records(faults, gathers=gathers)
    done = told_until_done(system)
    assert system.events == EVENTS
    assert len(system.records) - len(system.withdrawn) == 1
    assert done.number not in system.withdrawn


def test_what_waited_is_told_at_once_and_one_by_one_if_that_is_refused() -> None:
    class Unapproved(Records):
        """Goes no further than what needs an approval there."""

        def change(self, remote: Remote, statement: Statement) -> Remote:
            if statement.change.phase not in ("planned", "assessed"):
                raise ConditionUnmet("not approved")
            return super().change(remote, statement)

    kept = [FRESH]
    system = Unapproved(gathers=True)
    waits = deliver(FRESH, TOLD, system, kept.append, now=Clock())
    assert system.events == ["planned", "frozen"]
    assert (waits.told, waits.intent, waits.error) == (TOLD[1].told, None, kept[-1].error)
    assert "not approved" in waits.error
    system = Records(gathers=True)
    assert deliver(FRESH, TOLD, system, kept.append, now=Clock()).told == TOLD[-1].told
    assert system.events == EVENTS


def test_texts_of_facts_are_told_whole_whatever_their_length() -> None:
    parts = [*gathered(TOLD, 2 * len(TOLD[0].text))]
    assert len(parts) > 2
    assert "\n\n".join(one.text for one in parts) == "\n\n".join(one.text for one in TOLD)
    assert [event for one in parts for event in (*one.before, one.event)] == EVENTS
    assert [one for part in parts for one in part.documents] == [one for told in TOLD for one in told.documents]
    assert parts[-1].told == TOLD[-1].told


def test_a_refusal_is_kept_for_people_and_does_not_raise() -> None:
    class Refusing(Records):
        def change(self, remote: Remote, statement: Statement) -> Remote:
            raise DeliveryRefused("close_code is mandatory", who="the administrator")

    kept = [FRESH]
    result = deliver(FRESH, TOLD, Refusing(), kept.append, now=Clock())
    assert (result.state, result.number, result.told) == ("refused", "CHG1", Cursor())
    assert "close_code is mandatory" in result.error


def test_a_process_that_lost_the_delivery_stops_before_it_writes() -> None:
    system = Records()

    def taken(delivery: Delivery) -> None:
        raise LookupError("another process has it")

    with pytest.raises(LookupError):
        deliver(FRESH, TOLD, system, taken, now=Clock())
    assert not system.records
    assert issubclass(TransientError, ReleaseError)
