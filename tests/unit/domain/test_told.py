"""What other systems are told of a release: from its chain alone, in order, and only what is signed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from interlock.domain.catalogue import ChangeType, Flow
from interlock.domain.errors import ConditionUnmet, DeliveryRefused, SystemBusy, TransientError
from interlock.domain.ledger import kinds
from interlock.domain.ledger.chain import INSTALLATION, next_entry
from interlock.domain.outbox.delivery import (
    CONFIRM_AFTER,
    LONGEST_WAIT,
    REFUSED_AGAIN,
    UNMET_AGAIN,
    Cursor,
    Delivery,
    Remote,
    correlation_of,
)
from interlock.domain.outbox.facts import Phase, records_of, statements
from interlock.domain.outbox.systems_file import States
from interlock.domain.outbox.way import next_state, states_ahead
from tests.factories.told_releases import chain_of, chained, signed, steps

CHAIN = chain_of(1)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("end", "events", "phase"),
    [
        ("deployed", "planned frozen decided begun wave wave verified closed", "closed"),
        ("backed_out", "planned frozen decided begun wave wave verified backed_out closed", "closed"),
        ("rejected", "planned frozen decided closed", "cancelled"),
        ("expired", "planned frozen decided closed", "cancelled"),
        ("withdrawn", "planned frozen decided closed", "cancelled"),
        ("failed", "planned closed", "cancelled"),
    ],
)
def test_each_fact_is_told_in_its_order(end: str, events: str, phase: str) -> None:
    entries = chained(CHAIN, steps(end))
    told = statements(entries, signed(entries))
    assert [one.event for one in told] == events.split()
    assert told[-1].change.phase == phase
    assert told[-1].change.outcome == end
    assert [one.told.entry for one in told] == sorted({one.told.entry for one in told})
    assert all(entries[one.told.entry - 1].hash[:16] in one.text for one in told)


def test_each_statement_has_everything_that_is_known_by_then() -> None:
    entries = chained(CHAIN, steps())
    told = {one.event: one for one in statements(entries, signed(entries))}
    assert told["planned"].change.plan is None
    assert told["frozen"].change.phase == "assessed"
    assert told["decided"].change.plan == told["frozen"].change.plan
    assert told["decided"].change.phase == "scheduled"
    assert "ben: Approve" in told["decided"].text
    assert told["begun"].change.began == told["begun"].at
    assert [one.done for one in told["closed"].change.waves] == [True, True]


def test_the_attached_plan_has_the_digest_that_the_ballots_named() -> None:
    entries = chained(CHAIN, steps())
    (document,) = next(one for one in statements(entries, signed(entries)) if one.event == "frozen").documents
    assert hashlib.sha256(document.content).hexdigest() == entries[2].payload["digest"]


def test_what_is_not_signed_yet_is_told_later() -> None:
    entries = chained(CHAIN, steps())
    assert [one.event for one in statements(entries, 0)] == ["planned"]
    assert [one.event for one in statements(entries, signed(entries[:3]))] == ["planned", "frozen"]


def test_a_rehearsal_is_told_to_nobody() -> None:
    entries = chained(CHAIN, steps(rehearsal=True, records={"snow": "mirror"}))
    assert statements(entries, signed(entries)) == ()
    assert records_of(entries) == {}
    assert records_of(chained(CHAIN, steps(records={"snow": "authority"}))) == {"snow": "authority"}
    assert records_of(chained(CHAIN, steps())) == {}


def test_an_emergency_stop_is_told_to_the_releases_that_were_under_way() -> None:
    entries = chained(CHAIN, steps())
    stop = {"id": "abcd1234", "scope": "everything", "reason": "Payments fail", "by": "rita", "until": "2026-03-03"}
    lifted = {"id": "abcd1234", "by": "rita", "reason": "Payments work"}
    first = next_entry(
        None,
        chain=INSTALLATION,
        at=entries[3].at + timedelta(seconds=1),
        actor="rita",
        kind=kinds.EMERGENCY_STOP_DECLARED,
        key="a",
        payload=stop,
    )
    second = next_entry(
        first,
        chain=INSTALLATION,
        at=entries[-1].at + timedelta(hours=1),
        actor="rita",
        kind=kinds.EMERGENCY_STOP_LIFTED,
        key="b",
        payload=lifted,
    )
    told = statements(entries, signed(entries), [first, second])
    assert [one.event for one in told][3:5] == ["stop", "begun"]
    assert told[3].told == Cursor(4, 1)
    assert "Payments fail" in told[3].text
    elsewhere = first.model_copy(update={"payload": {**stop, "scope": "other-service"}})
    assert "stop" not in {one.event for one in statements(entries, signed(entries), [elsewhere], ["bike-shop"])}


def test_a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    assert Cursor.read(str(Cursor(12, 3))) == Cursor(12, 3)
    assert Cursor.read("interlock 12.3") == Cursor(12, 3)
    assert {Cursor.read(text) for text in (None, "", "x", "1", "1.x", "-1.2")} == {Cursor()}
    assert Cursor(3, 1).covers(Cursor(3, 0))
    assert not Cursor(3, 0).covers(Cursor(3, 1))


def test_a_correlation_id_fits_and_differs_by_release_and_system() -> None:
    ids = {correlation_of(system, chain_of(number)) for system in ("snow", "jira") for number in (1, 2)}
    assert len(ids) == 4
    assert all(len(one) <= 100 for one in ids)


def delivery(**changes: object) -> Delivery:
    fields = {"system": "snow", "chain": CHAIN, "correlation": correlation_of("snow", CHAIN)}
    return Delivery.model_validate({**fields, **changes})


def test_a_failure_waits_longer_each_time_and_a_refusal_waits_for_people() -> None:
    one, waits = delivery(), []
    for _ in range(12):
        one = one.failed(TransientError("no answer"), NOW)
        assert one.next_at is not None
        waits.append(one.next_at - NOW)
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT == timedelta(seconds=30), "what an outage kept back follows soon after it"
    kept = one.failed(ConditionUnmet("not approved yet"), NOW)
    assert (kept.next_at, kept.refused) == (NOW + UNMET_AGAIN, False)
    refused = one.failed(DeliveryRefused("close_code is mandatory"), NOW)
    assert (refused.state, refused.next_at) == ("refused", NOW + REFUSED_AGAIN)
    assert refused.retried(NOW).next_at == NOW
    busy = one.failed(SystemBusy("429", until=NOW + timedelta(seconds=7)), NOW)
    assert busy.next_at == NOW + timedelta(seconds=7)


def test_only_a_request_without_an_answer_may_still_take_effect() -> None:
    asked = delivery().intends("change", Cursor(3, 0), NOW)
    assert asked.failed(TransientError("cut"), NOW).intent == asked.intent
    assert asked.failed(DeliveryRefused("no"), NOW).intent is None
    assert asked.failed(SystemBusy("429", until=NOW), NOW).intent is None
    assert asked.settles_at(NOW) is not None
    assert asked.settles_at(NOW + timedelta(hours=1)) is None
    there = Remote(reference="a", number="CHG1", told=Cursor(3, 0))
    assert asked.found(there).intent is None
    assert asked.found(there.model_copy(update={"told": Cursor(2, 0)})).intent == asked.intent


def test_a_record_is_read_again_after_the_end() -> None:
    ended = delivery().succeeded(NOW, ended=True)
    assert ended.next_at == NOW + CONFIRM_AFTER
    assert not ended.is_to_be_confirmed(NOW)
    assert ended.succeeded(NOW, ended=False).next_at == NOW + CONFIRM_AFTER
    assert ended.is_to_be_confirmed(NOW + CONFIRM_AFTER)
    assert ended.succeeded(NOW + CONFIRM_AFTER, ended=False, confirmed=True).next_at is None


def test_systems_are_part_of_the_flow_only_where_a_policy_names_some() -> None:
    assert "records" not in Flow().model_dump(mode="json")
    assert Flow.model_validate({"records": {"snow": "mirror"}}).model_dump(mode="json")["records"] == {"snow": "mirror"}
    assert ChangeType.NORMAL in ChangeType


def test_the_defects_of_a_release_are_those_of_its_quality_reports() -> None:
    found = {"id": "bike-shop-1", "title": "A", "severity": "major", "environment": "test", "version": "1.1.0"}
    both = [{**found, "state": "open"}, {**found, "id": "bike-shop-2", "state": "new"}]
    many = [*steps()]
    judged = (kinds.QUALITY_JUDGED, {"defects": both})
    later = (kinds.PATH_JUDGED, {"environment": "staging", "defects": [{**found, "state": "fixed"}]})
    entries = chained(CHAIN, [*many[:2], judged, later, *many[2:]])
    told = {one.event: one for one in statements(entries, signed(entries))}
    assert told["planned"].change.defects == ()
    known = {one.id: one.state for one in told["frozen"].change.defects}
    assert known == {"bike-shop-1": "fixed", "bike-shop-2": "new"}


STATES = States.model_validate(
    {
        **{"planned": "new", "assessed": ["assess", "authorize"], "scheduled": "scheduled"},
        **{"implementing": "implement", "review": "review", "closed": "closed", "cancelled": ["stop", "cancelled"]},
    }
)


@pytest.mark.parametrize(
    ("phase", "at", "ahead"),
    [
        ("scheduled", "new", ("assess", "authorize", "scheduled")),
        ("assessed", "assess", ("authorize",)),
        ("assessed", "authorize", ()),
        ("assessed", "review", ()),
        ("assessed", "on hold", ("new", "assess", "authorize")),
        ("cancelled", "review", ("stop", "cancelled")),
        ("cancelled", "cancelled", ()),
    ],
)
def test_the_states_ahead_of_a_record_are_those_to_its_phase(phase: Phase, at: str, ahead: tuple[str, ...]) -> None:
    assert states_ahead(STATES, phase, at) == ahead


def test_a_record_goes_as_far_as_it_may_and_not_in_circles() -> None:
    ahead = ("assess", "authorize", "scheduled")
    assert next_state(ahead, lambda _: True, {"new"}) == "scheduled"
    assert next_state(ahead, {"assess", "authorize"}.__contains__, {"new"}) == "authorize"
    assert next_state(ahead, {"assess"}.__contains__, {"new", "assess"}) == ""


def test_a_passenger_has_no_change_where_its_train_has_one() -> None:
    (resolved, *_) = chained(CHAIN, steps(records={"snow": "mirror", "erp": "mirror"}))
    assert records_of([resolved]) == {"snow": "mirror", "erp": "mirror"}
    payload = {**resolved.payload, "on_train": ["snow"]}
    assert records_of([resolved.model_copy(update={"payload": payload})]) == {"erp": "mirror"}
