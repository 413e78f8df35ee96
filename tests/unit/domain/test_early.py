"""What would refuse a wave, asked while there is time to change it: by ledger, catalogue and calendars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from interlock.domain.board.decision import APPROVE, count_votes
from interlock.domain.calendars.bookings import Booking, Standing
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.calendars.stops import STOPS
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, ServiceCatalogue
from interlock.domain.change.amended import rule_in_force
from interlock.domain.change.effective import bound_to
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import (
    BOARD_DECIDED,
    EMERGENCY_STOP_DECLARED,
    FINDING,
    PLAN_MADE,
    POLICY_RESOLVED,
    QUALITY_JUDGED,
    RELEASE_REQUESTED,
    ROLLOUT_FROZEN,
    VERSION_MARKED_BAD,
)
from interlock.domain.permits.early import KINDS, Early
from tests.clock import NOW
from tests.factories import releases
from tests.memory_ledger import MemoryLedger
from tests.unit.domain import samples
from tests.unit.domain.test_calendar import freeze, window

CHAIN = "release/release_bike_shop/r1"
DUE = NOW + timedelta(days=7)


def catalogue(members: str = "ben cora dan") -> ServiceCatalogue:
    cab = {"title": "CAB", "members": members.split(), "quorum": {"approvals": 2}}
    flows = {**samples.FLOWS, "emergency": {}}
    return ServiceCatalogue(samples.policy(change_types=flows), samples.book({"cab": cab}), samples.service())


@dataclass(frozen=True)
class World:
    """A release of the bike shop, as ledger, catalogue and calendars have it."""

    now: ServiceCatalogue = catalogue()  # noqa: RUF009
    frozen: bool = True
    decided: bool = True
    not_before: datetime | None = None
    calendars: tuple[Any, ...] = ()
    told: tuple[tuple[str, dict[str, Any]], ...] = ()
    booked: Booking | None = None

    def refusals(self, at: datetime = NOW) -> list[str]:
        ledger, in_force = MemoryLedger(), bound_to(catalogue(), ChangeType.NORMAL)
        report = releases.quality()
        plan = samples.rollout(
            policy_digest=in_force.digest, quality_digest=sha256_of(report), not_before=self.not_before
        )
        entries = [
            (RELEASE_REQUESTED, {"requested_by": "rita", "service": "bike-shop"}),
            (POLICY_RESOLVED, in_force.to_xcom()),
            (PLAN_MADE, samples.plan().to_xcom()),
            (QUALITY_JUDGED, report.to_xcom()),
            *([(ROLLOUT_FROZEN, plan.to_xcom())] if self.frozen else []),
        ]
        if self.decided and self.frozen:
            rule = rule_in_force(catalogue(), plan, ())
            assert rule is not None
            votes = [samples.vote(user, APPROVE, at=NOW) for user in ("ben", "cora")]
            decision = count_votes(rule, votes, digest=plan.digest, requester="rita", expired=True)
            assert decision is not None
            assert decision.approved
            entries.append((BOARD_DECIDED, decision.to_xcom()))
        for number, (kind, payload) in enumerate(entries):
            ledger.append(CHAIN, kind, payload, actor="a task", key=f"{number}", at=NOW)
        for number, (kind, payload) in enumerate(self.told):
            ledger.append(INSTALLATION, kind, payload, actor="a task", key=f"{number}", at=NOW)
        early = Early(
            chain=CHAIN,
            entries=ledger.entries(CHAIN),
            installation={kind: ledger.entries(INSTALLATION, kind=kind) for kind in KINDS},
            catalogue=self.now,
            calendars=Calendars(self.calendars),
            environment="production",
            bookings=Standing(booking=self.booked),
        )
        return [one.what for one in early.refusals(at)]


STOP = {
    "id": "1",
    "scope": "everything",
    "reason": "A fire",
    "by": "gus",
    "until": (NOW + timedelta(hours=1)).isoformat(),
}
MARK = {"service": "bike-shop", "environment": "production", "version": samples.rollout().version, "by": "rita"}
BOOKING = Booking(
    environment="production",
    service="bike-shop",
    holder="release/release_bike_shop/r0",
    version="1.0.0",
    by="sam",
    since=NOW,
    until=DUE,
)
FREEZE = freeze(f"{DUE - timedelta(days=1):%Y-%m-%dT%H:%M}", f"{DUE + timedelta(days=1):%Y-%m-%dT%H:%M}")


def test_nothing_refuses_a_release_of_which_all_holds() -> None:
    assert World().refusals() == []
    assert World(frozen=False).refusals() == []
    assert World(decided=False).refusals() == [], "an open vote is no objection"
    assert World(not_before=DUE).refusals() == [], "that it is early is what it waits for"


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "not frozen"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"told": ((EMERGENCY_STOP_DECLARED, STOP),)}, "Emergency stop: everything, by gus: A fire"),
        ({"told": ((FINDING, {"what": "It was cleared", "evidence": {"chain": CHAIN}}),)}, "It was cleared."),
        ({"now": catalogue("ben cora eve")}, "The rules of this release changed after it started"),
    ],
    ids=["a stop", "a finding", "other rules"],
)
def test_what_refuses_a_permit_is_said_early(frozen: bool, change: dict[str, Any], said: str) -> None:
    found = World(frozen=frozen, **change).refusals()
    assert any(said in one for one in found), found


def test_a_freeze_is_said_for_the_time_at_which_it_bites() -> None:
    world = World(calendars=(FREEZE,), not_before=DUE)
    assert world.refusals() == []
    (said,) = world.refusals(DUE)
    assert said.startswith("Calendar: bike-shop in production may not be changed: closed by Year's end")
    assert replace(world, frozen=False).refusals(DUE) == [said]


def test_that_a_window_opens_later_refuses_nothing_for_a_release_waits_for_it() -> None:
    tomorrow = NOW + timedelta(days=1)
    opens = window(f"{tomorrow:%Y-%m-%dT%H:%M}", f"{tomorrow + timedelta(hours=2):%Y-%m-%dT%H:%M}")
    assert World(calendars=(opens,)).refusals() == []


def test_votes_of_members_who_left_are_counted_again() -> None:
    found = World(now=catalogue("cora dan eve")).refusals()
    assert any(one.startswith("A recount of the votes does not approve the plan") for one in found), found


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "not frozen"])
def test_a_board_that_has_too_few_members_left_is_said_before_it_votes(frozen: bool) -> None:
    cab = {"title": "CAB", "members": ["ben", "rita"], "quorum": {"approvals": 2}}
    flows = {**samples.FLOWS, "emergency": {}}
    now = ServiceCatalogue(samples.policy(change_types=flows), samples.book({"cab": cab}), samples.service())
    found = World(now=now, frozen=frozen, decided=False).refusals()
    assert any("CAB cannot decide on this release" in one for one in found), found


def test_a_mark_and_a_booking_are_said_once_the_plan_is_frozen() -> None:
    told = ((VERSION_MARKED_BAD, {**MARK, "verdict": "bad", "reason": "It is slow"}),)
    (marked,) = World(told=told).refusals()
    assert "It is slow" in marked
    (booked,) = World(booked=BOOKING).refusals()
    assert "is booked by release_bike_shop/r0" in booked
    assert STOPS in KINDS
