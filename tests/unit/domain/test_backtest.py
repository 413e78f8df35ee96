from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.catalogue import Catalogue
from interlock.domain.change.backtest import Comparison, ReleaseFacts, backtest, endings
from tests.unit.domain.samples import FLOWS, book, policy, service

NOW = datetime(2026, 5, 4, tzinfo=UTC)
CAB = {"title": "CAB", "members": ["ben", "cora", "dan"], "quorum": {"approvals": 2}}


def catalogue(*, rules: list[dict[str, Any]] | None = None, **changes: Any) -> Catalogue:
    boards = {"cab": CAB, "ecab": {**CAB, "title": "ECAB"}}
    return Catalogue(
        policy=policy(**changes), board=book(boards, rules=rules or []), services={"bike-shop": service(tier=4)}
    )


def facts(day: int = 0, **changes: Any) -> ReleaseFacts:
    fields = {
        "service": "bike-shop",
        "run": f"run {day}",
        "change_type": "normal",
        "outcome": "deployed",
        "at": NOW + timedelta(days=day),
        "tier": 4,
    }
    return ReleaseFacts.model_validate({**fields, **changes})


def compared(new: Catalogue, *releases: ReleaseFacts, old: Catalogue | None = None) -> list[Comparison]:
    return list(backtest(old or catalogue(), new, releases))


def test_the_same_policy_changes_nothing() -> None:
    (found,) = compared(catalogue(), facts())
    assert not found.differs
    assert found.new.asked == ("a functional approver accepts the release", "CAB: 2 approvals of 3")


@pytest.mark.parametrize(
    ("thresholds", "quality", "why"),
    [
        ({"min_tests": 20}, {"min_tests": 10}, "min_tests is 20, found was 10"),
        ({"max_p95_ms": 500}, {"max_p95_ms": 700.5}, "max_p95_ms is 500, found was 700.5"),
        (
            {"allowed_licences": ["MIT"]},
            {"allowed_licences": ["MIT", "ISC"]},
            "allowed_licences is MIT, found was MIT, ISC",
        ),
        ({"max_p95_ratio": 1.5}, {"max_p95_ratio": 1.8}, "max_p95_ratio is 1.5, found was 1.8"),
        ({"max_p95_ratio": 1.5}, {"max_p95_ratio": 1.8, "max_p95_rise_ms": 20.0}, ""),
        ({"min_tests": 20}, {}, ""),
    ],
)
def test_a_tighter_threshold_stops_what_was_below_it(
    thresholds: dict[str, Any], quality: dict[str, Any], why: str
) -> None:
    (found,) = compared(catalogue(thresholds=thresholds), facts(quality=quality, outcome="backed_out"))
    assert found.newly_stopped is bool(why)
    assert found.new.stopped == ((why,) if why else ())
    (back,) = compared(catalogue(), facts(quality=quality), old=catalogue(thresholds=thresholds))
    assert back.no_longer_stopped is bool(why)


def test_more_people_are_asked_by_a_rule_or_a_lower_limit() -> None:
    risky = {"name": "risky", "when": {"risk_from": 20}, "members": ["maya"], "quorum": {}}
    normal = {"normal": {"board": "cab", "plan_approval_from_risk": 20}}
    new = catalogue(rules=[risky], change_types={**FLOWS, **normal})
    harmless, risky_one = compared(new, facts(0, commits=2), facts(1, commits=20))
    assert not harmless.differs
    assert risky_one.asked_more == ("senior management approves the plan", "Rule risky: 1 approval of 1")
    (less,) = compared(catalogue(), facts(commits=20), old=new)
    assert less.asked_less == risky_one.asked_more


def test_the_services_own_record_is_that_of_then() -> None:
    releases = [facts(2), facts(0, outcome="failed"), facts(1, outcome="failed", service="car-shop")]
    found = compared(catalogue(), *releases)
    assert [one.new.risk for one in found] == [one.old.risk for one in found] == [0, 0, 5]


def test_an_emergency_without_review_would_stop_the_next_release() -> None:
    emergency = {"emergency": {"board": "ecab", "review_within": "P5D"}}
    new = catalogue(change_types={**FLOWS, **emergency})
    first, after = compared(new, facts(0, change_type="emergency"), facts(1))
    assert not first.new.stopped
    assert after.newly_stopped
    assert "has not been reviewed" in after.new.stopped[0]


def test_a_service_that_is_no_more_is_judged_by_its_business_unit() -> None:
    unit = {"retail": {"thresholds": {"max_p95_ms": 300}}}
    gone = facts(service="old-shop", business_unit="retail", quality={"max_p95_ms": 400.0})
    (found,) = compared(catalogue(business_units=unit), gone)
    assert found.newly_stopped
    (unknown,) = compared(catalogue(), gone.model_copy(update={"business_unit": "nobody"}))
    assert not unknown.differs


def test_a_question_that_was_not_asked_then_is_a_no() -> None:
    asked = {"questions": [{"key": "data", "question": "Is data touched?", "points": 50}]}
    (found,) = compared(catalogue(risk=asked), facts(answers={"weather": True}))
    assert found.new.risk == 0


def test_how_they_ended_is_counted_most_frequent_first() -> None:
    found = compared(catalogue(), facts(0), facts(1, outcome="failed"), facts(2))
    assert list(endings(found).items()) == [("deployed", 2), ("failed", 1)]


@given(st.permutations([facts(0, outcome="failed"), facts(1), facts(2, outcome="backed_out"), facts(3)]))
def test_rows_may_come_in_any_order(releases: list[ReleaseFacts]) -> None:
    assert compared(catalogue(), *releases) == compared(catalogue(), *sorted(releases, key=lambda one: one.at))
