"""Emergency stops: what the form takes, what is in force, what is lifted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.calendars.stops import (
    EVERYTHING,
    all_in_force,
    parse_stop,
    refuse_halted,
    refuse_stopped_release,
    scopes_of,
    stop_to_lift,
    stops_in_force,
)
from interlock.domain.catalogue import Catalogue
from interlock.domain.errors import HeldBack, PolicyViolation, RequestRefused
from interlock.domain.ledger.chain import INSTALLATION, Entry, next_entry
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, EMERGENCY_STOP_LIFTED
from tests.unit.domain.samples import book, policy, service

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SCOPES = (EVERYTHING, "retail", "bike-shop")
FORM = {"scope": "bike-shop", "reason": "Payments fail", "incident": "INC-7", "hours": 2, "lift": ""}


def entry(kind: str, payload: dict[str, Any]) -> Entry:
    return next_entry(None, chain=INSTALLATION, at=NOW, actor="olga", kind=kind, key=f"{kind}/1", payload=payload)


def declared(id: str = "a1", **changes: Any) -> Entry:
    stop = parse_stop({**FORM, **changes}, SCOPES).declared(id, "olga", NOW)
    return entry(EMERGENCY_STOP_DECLARED, stop.model_dump(mode="json"))


def in_force(*entries: Entry, now: datetime = NOW) -> list[str]:
    return [stop.id for stop in stops_in_force(entries, service(name="bike-shop", business_unit="retail"), now)]


@pytest.mark.parametrize(("scope", "held"), [(EVERYTHING, True), ("retail", True), ("bike-shop", True)])
def test_a_stop_holds_back_what_is_in_its_scope(scope: str, held: bool) -> None:
    assert bool(in_force(declared(scope=scope))) == held


def test_a_stop_of_another_service_holds_nothing_back() -> None:
    stop = parse_stop({**FORM, "scope": "car-shop"}, ("car-shop",)).declared("a1", "olga", NOW)
    assert in_force(entry(EMERGENCY_STOP_DECLARED, stop.model_dump(mode="json"))) == []


@given(st.integers(1, 336), st.integers(-10, 340))
def test_a_stop_lifts_itself_after_its_hours(hours: int, later: int) -> None:
    assert bool(in_force(declared(hours=hours), now=NOW + timedelta(hours=later))) == (later < hours)


def test_a_lifted_stop_holds_nothing_back_and_the_others_do() -> None:
    lifted = entry(EMERGENCY_STOP_LIFTED, {"id": "a1", "by": "maya"})
    assert in_force(declared("a1"), declared("b2"), lifted) == ["b2"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"reason": "  no "}, "reason"),
        ({"hours": 0}, "hours"),
        ({"hours": 10_000}, "hours"),
        ({"scope": "car-shop"}, "The scope 'car-shop' does not exist. Available: everything, retail, bike-shop"),
    ],
)
def test_a_form_that_is_wrong_is_refused_with_the_field(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestRefused, match=problem):
        parse_stop({**FORM, **changes}, SCOPES)


def test_what_a_form_has_beyond_is_not_read_and_a_lift_needs_no_scope() -> None:
    assert parse_stop({**FORM, "lift": " a1 ", "scope": "gone", "other": 1}, SCOPES).lift == "a1"


def test_a_stop_is_lifted_once_and_by_an_id_that_is_known() -> None:
    entries = [declared("a1"), declared("b2")]
    assert stop_to_lift(entries, "a1", NOW).id == "a1"
    with pytest.raises(PolicyViolation, match=r"The emergency stop c3 is not known\. In force: a1 \(bike-shop\), b2"):
        stop_to_lift(entries, "c3", NOW)
    with pytest.raises(PolicyViolation, match="was already lifted by maya"):
        stop_to_lift([*entries, entry(EMERGENCY_STOP_LIFTED, {"id": "a1", "by": "maya"})], "a1", NOW)


def test_a_stop_is_lifted_by_its_scope_if_it_is_the_only_one_of_it() -> None:
    entries = [declared("a1", hours=1), declared("b2"), declared("c3", scope=EVERYTHING)]
    assert stop_to_lift(entries, EVERYTHING, NOW).id == "c3"
    with pytest.raises(PolicyViolation, match="2 stops have this scope"):
        stop_to_lift(entries, "bike-shop", NOW)
    assert stop_to_lift(entries, "bike-shop", NOW + timedelta(minutes=90)).id == "b2", "the other is over"
    with pytest.raises(PolicyViolation, match="is not known"):
        stop_to_lift(entries, "retail", NOW)


def test_what_can_be_stopped_is_everything_and_what_the_catalogue_names() -> None:
    catalogue = Catalogue(
        policy=policy(business_units={"retail": {}}),
        board=book({"cab": {"title": "CAB", "members": ["ben"], "quorum": {"approvals": 1}}}),
        services={"bike-shop": service()},
    )
    assert scopes_of(catalogue) == SCOPES


def test_a_wave_is_halted_by_a_stop_or_a_freeze_and_by_nothing_else() -> None:
    refuse_halted([], [])
    stop = parse_stop(FORM, SCOPES).declared("a1", "olga", NOW)
    with pytest.raises(HeldBack, match=r"The wave is halted: emergency stop of bike-shop, by olga: Payments"):
        refuse_halted([stop], [])
    with pytest.raises(HeldBack, match="calendar: Christmas"):
        refuse_halted([], ["Christmas"])


@pytest.mark.parametrize(
    ("not_before", "refused"),
    [
        pytest.param(None, True, id="as soon as it is approved"),
        pytest.param(NOW + timedelta(hours=1), True, id="while the stop lasts"),
        pytest.param(NOW + timedelta(hours=2), False, id="when the stop is over"),
    ],
)
def test_a_release_is_stopped_if_it_could_begin_while_the_stop_lasts(
    not_before: datetime | None, refused: bool
) -> None:
    stops = list(all_in_force([declared()], NOW))
    if not refused:
        refuse_stopped_release(stops, not_before)
        return
    with pytest.raises(PolicyViolation, match="An emergency stop is in force: bike-shop, by olga: Payments fail"):
        refuse_stopped_release(stops, not_before)


def test_all_stops_in_force_are_those_of_every_scope() -> None:
    known = [declared("a1"), declared("a2", scope=EVERYTHING), declared("a3", hours=1)]
    lifted = entry(EMERGENCY_STOP_LIFTED, {"id": "a1", "by": "maya"})
    assert [stop.id for stop in all_in_force([*known, lifted], NOW)] == ["a2", "a3"]
    assert [stop.id for stop in all_in_force(known, NOW + timedelta(minutes=90))] == ["a1", "a2"]
    refuse_stopped_release([], None)
