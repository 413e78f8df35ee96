"""When the Dag that overtakes releases is started: with the request of a release that may go first, never in vain."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock.console.record.overtaking import overtake_others
from interlock.domain.ledger.witness import AskedRun

CATALOGUE = Path(__file__).parents[3] / "include" / "catalogue"
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
URGENT = {"ref": "1.1.1", "version": "1.1.1", "summary": "Payments fail", "change_type": "emergency"}
OTHERS = frozenset({"release_bike_shop/one", "release_bike_shop/urgent"})


def started(
    form: dict[str, Any],
    under_way: frozenset[str] = OTHERS,
    *,
    dag_id: str = "release_bike_shop",
    folder: Path = CATALOGUE,
) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    asked = AskedRun(dag_id=dag_id, run_id="urgent", user="rita", conf="0" * 64)
    overtake_others(asked, form, NOW, folder=folder, under_way=lambda: under_way, start=lambda *run: found.append(run))
    return found


def test_with_an_emergency_the_dag_that_overtakes_is_started_in_the_name_of_who_requested_it() -> None:
    assert started(URGENT) == [("bike-shop-1.1.1__2026-12-01T12-00-00.000Z", "bike-shop", "rita")]


@pytest.mark.parametrize(
    ("changes", "under_way"),
    [
        ({"change_type": "normal"}, OTHERS),
        ({"rehearsal": True}, OTHERS),
        ({}, frozenset({"release_bike_shop/urgent", "rollback_bike_shop/one", "release_bike_shop_two/one"})),
        ({"version": "no version"}, OTHERS),
    ],
)
def test_nothing_is_started_in_vain(changes: dict[str, Any], under_way: frozenset[str]) -> None:
    assert started({**URGENT, **changes}, under_way) == []


def test_a_rollback_overtakes_nothing() -> None:
    assert started(URGENT, frozenset({"rollback_bike_shop/one"}), dag_id="rollback_bike_shop") == []


def test_a_catalogue_that_cannot_be_read_does_not_keep_a_release_from_being_requested(tmp_path: Path) -> None:
    assert started(URGENT, folder=tmp_path) == []
