"""Which releases are overtaken: by the policy, in the order of the requests, until they have a permit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.domain.catalogue import ChangeType, Flow
from interlock.domain.ledger.kinds import BASELINE_MEASURED, PERMIT_ISSUED, RELEASE_OVERTAKEN
from interlock.domain.permits.overtaking import QueuedRelease, find_overtaken, has_begun, overtaking_in
from tests.factories.releases import OVERTAKING
from tests.unit.domain.test_withdrawal import chained

FLOWS = {
    ChangeType.STANDARD: Flow(),
    ChangeType.NORMAL: Flow(),
    ChangeType.EMERGENCY: Flow(overtakes=(ChangeType.NORMAL, ChangeType.STANDARD)),
}
OVERTAKEN = (RELEASE_OVERTAKEN, OVERTAKING.model_dump(mode="json"))


def permit(purpose: str) -> tuple[str, dict[str, Any]]:
    return PERMIT_ISSUED, {"permit": {"purpose": purpose}, "envelope": {}}


def queued(place: int, kind: str = "normal", **changes: Any) -> QueuedRelease:
    return QueuedRelease(
        dag_id="release_bike_shop",
        run_id=f"run-{place}",
        asked_at=datetime(2026, 3, 4, 12, tzinfo=UTC) + timedelta(minutes=place),
        requested_by="rita",
        change_type=ChangeType(kind),
        version=f"1.0.{place}",
        summary="Sell bikes",
        **changes,
    )


def pairs(*queue: QueuedRelease) -> list[tuple[str, str]]:
    return [(ahead.run_id, by.run_id) for ahead, by in find_overtaken(queue, FLOWS)]


def test_an_emergency_overtakes_all_before_it_that_the_policy_names() -> None:
    found = pairs(queued(3, "emergency"), queued(1), queued(2, "standard"), queued(4))
    assert found == [("run-1", "run-3"), ("run-2", "run-3")], "what was requested after it waits in any case"


def test_of_two_emergencies_the_second_waits_for_the_first() -> None:
    assert pairs(queued(1), queued(2, "emergency"), queued(3, "emergency")) == [("run-1", "run-2")]
    assert not pairs(queued(2, "emergency"), queued(3, "emergency"))


@pytest.mark.parametrize("changes", [{"begun": True}, {"called_off": True}])
def test_what_has_begun_or_was_called_off_is_not_overtaken(changes: dict[str, Any]) -> None:
    assert pairs(queued(1, **changes), queued(2), queued(3, "emergency")) == [("run-2", "run-3")]


@pytest.mark.parametrize("changes", [{"rehearsal": True}, {"called_off": True}])
def test_a_rehearsal_and_what_was_called_off_overtake_nothing(changes: dict[str, Any]) -> None:
    assert not pairs(queued(1), queued(2, "emergency", **changes))


def test_a_rehearsal_is_overtaken_like_a_release() -> None:
    assert pairs(queued(1, rehearsal=True), queued(2, "emergency")) == [("run-1", "run-2")]


@pytest.mark.parametrize("purpose", ["deploy", "restart", "traffic"])
def test_a_release_with_a_permit_to_change_something_has_begun_and_is_not_overtaken(purpose: str) -> None:
    assert has_begun(chained(permit("inspect"), permit(purpose)))
    assert overtaking_in(chained(permit(purpose), OVERTAKEN)) is None
    assert overtaking_in(chained(OVERTAKEN, permit(purpose))) == OVERTAKING


def test_a_look_at_production_begins_nothing() -> None:
    assert not has_begun(chained(permit("inspect")))
    assert overtaking_in(chained(permit("inspect"), OVERTAKEN)) == OVERTAKING
    assert overtaking_in(chained()) is None


def test_a_rehearsal_needs_no_permit_and_begins_with_its_baseline() -> None:
    measured = chained((BASELINE_MEASURED, {}))
    assert has_begun(measured, rehearsal=True)
    assert not has_begun(measured), "a release may wait for its window after that"


def test_an_overtaking_is_a_sentence() -> None:
    assert OVERTAKING.sentence == (
        "The emergency release 1.1.1 (run 1.1.1__2026-11-23T06-20-00.000Z), requested by olga, overtook this normal "
        "release: Payments fail. Rule: change_types.emergency.overtakes, in policy.yaml."
    )
