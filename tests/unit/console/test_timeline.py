"""Each lane of the timeline has what concerns it, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.adapters.calendars.schedule import Item
from tests.factories import releases

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with `starlette.testclient`"
)  # Airflow's routes import it
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def item(id: str, **scope: Any) -> Item:
    return Item(id=id, kind="freeze", title=id, start=NOW, end=NOW + timedelta(hours=1), scope=scope)


def test_a_lane_has_what_names_its_services_or_their_business_unit_once() -> None:
    from interlock.console.api.timeline import _lanes

    till, shop, bank = (
        releases.service().model_copy(
            update={"name": name, "title": name.title(), "owner": owner, "business_unit": unit}
        )
        for name, owner, unit in (("till", "a", "retail"), ("shop", "a", "retail"), ("bank", "b", "money"))
    )
    items = [
        item("both", services=("till", "shop")),
        item("unit", business_units=("retail",)),
        item("twice", services=("till",), business_units=("retail",)),
        item("all"),
        item("of money, in staging", services=("bank",), environments=("staging",)),
        item("of a stranger", services=("stranger",)),
    ]

    def lanes(by: Any) -> dict[str, list[str]]:
        return {key: [one.id for one in found] for key, _, found in _lanes(items, [till, shop, bank], by)}

    assert {key: set(found) for key, found in lanes("service").items()} == {
        "bank": {"of money, in staging"},
        "shop": {"both", "unit", "twice"},
        "till": {"both", "unit", "twice"},
    }
    assert {key: sorted(found) for key, found in lanes("owner").items()} == {
        "a": ["both", "twice", "unit"],
        "b": ["of money, in staging"],
    }
    assert [found for key, found in lanes("environment").items() if key == "production"] == [[]]
