"""Who may override what closes an environment, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.domain.calendars.calendar import Answer
from interlock.domain.calendars.entries import Entry
from interlock.domain.calendars.overrides import overridden, override
from interlock.domain.catalogue import Person
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import INSTALLATION, next_entry
from interlock.domain.ledger.chain import Entry as LedgerEntry
from interlock.domain.ledger.kinds import FREEZE_OVERRIDDEN

NOW = datetime(2026, 12, 13, 12, tzinfo=UTC)
BEN = Person(user="ben", name="Ben", email="ben@example.com", role="operations")
TRADE = Entry(
    calendar="calendars/x.yaml", key="trade", title="Trade", kind="freeze", effect="deny", override_by=("operations",)
)
CLOSED = Answer(open=False, service="bike-shop", environment="production", at=NOW, by=TRADE, title="Trade")
ASKED: dict[str, Any] = {"reason": "The till is broken", "lasts": timedelta(hours=2), "now": NOW}


def recorded(**changes: Any) -> LedgerEntry:
    given = override(CLOSED, BEN, **ASKED).model_copy(update=changes).model_dump(mode="json")
    return next_entry(None, chain=INSTALLATION, at=NOW, actor="ben", kind=FREEZE_OVERRIDDEN, key="1", payload=given)


def test_an_override_names_the_entry_the_person_and_its_end() -> None:
    one = override(CLOSED, BEN, **ASKED)
    assert (one.place, one.by, one.role, one.until) == (TRADE.place, "ben", "operations", NOW + timedelta(hours=2))


@pytest.mark.parametrize(
    ("answer", "changes", "why"),
    [
        (CLOSED.model_copy(update={"by": TRADE.model_copy(update={"override_by": ()})}), {}, "may not override Trade"),
        (CLOSED.model_copy(update={"by": TRADE.model_copy(update={"override_by": ("security",)})}), {}, "security"),
        (CLOSED.model_copy(update={"by": None, "open": True}), {}, "is open for bike-shop"),
        (CLOSED.model_copy(update={"by": None, "faults": ("broken",)}), {}, "calendars cannot be read"),
        (CLOSED, {"requester": "ben"}, "requested the release"),
        (CLOSED, {"lasts": timedelta(hours=25)}, "at most 24 hours"),
        (CLOSED, {"lasts": timedelta()}, "at most 24 hours"),
    ],
)
def test_nobody_else_overrides_and_nothing_else(answer: Answer, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PolicyViolation, match=why):
        override(answer, BEN, **{**ASKED, **changes})


def test_an_override_holds_for_its_service_environment_and_time_only() -> None:
    entries = [recorded()]
    assert overridden(entries, "bike-shop", "production", NOW) == {TRADE.place}
    assert not overridden(entries, "bike-shop", "production", NOW + timedelta(hours=2))
    assert not overridden(entries, "till", "production", NOW)
    assert not overridden(entries, "bike-shop", "test", NOW)


def test_what_somebody_overrode_does_not_count_for_their_own_release_whichever_came_first() -> None:
    entries = [recorded()]
    assert overridden(entries, "bike-shop", "production", NOW, requester="rita") == {TRADE.place}
    assert not overridden(entries, "bike-shop", "production", NOW, requester="ben")
