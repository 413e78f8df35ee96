from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.domain.catalogue import ChangeType
from interlock.domain.change.policy import flows_of
from interlock.domain.errors import PolicyViolation, RequestRefused
from interlock.domain.outcome.review import find_ended, parse_review, refuse_unreviewed
from interlock.domain.records import PastRelease
from tests.unit.domain.samples import FLOWS, policy, service

FLOWS_OF_ALL = flows_of(policy(change_types={**FLOWS, "emergency": {"review_within": "P5D"}}), service())
THEN = datetime(2026, 5, 4, 12, tzinfo=UTC)


def past(**changes: Any) -> PastRelease:
    fields = {
        "service": "bike-shop",
        "run": "run 1",
        "version": "1.1.1",
        "change_type": "emergency",
        "outcome": "deployed",
        "at": THEN,
    }
    return PastRelease.model_validate({**fields, **changes})


def ask(*previous: PastRelease, kind: str = "normal", days: int = 1) -> None:
    refuse_unreviewed(
        previous,
        service="bike-shop",
        change_type=ChangeType(kind),
        flows=FLOWS_OF_ALL,
        now=THEN + timedelta(days=days),
    )


@pytest.mark.parametrize("kind", ["normal", "standard"])
def test_an_emergency_that_was_not_reviewed_stops_the_services_next_release(kind: str) -> None:
    with pytest.raises(PolicyViolation) as refused:
        ask(past(run="run 2", version=""), past(), kind=kind)
    assert str(refused.value).startswith(
        f"bike-shop cannot have a {kind} release yet: the emergency release 1.1.1 (run run 1) has not been reviewed "
        "(the review is due on 2026-05-09 12:00 UTC); the emergency release of the run run 2 has not"
    )
    assert "review_within" in str(refused.value)


def test_a_review_that_is_late_is_said_to_be() -> None:
    with pytest.raises(PolicyViolation, match="the review was due on 2026-05-09 12:00 UTC"):
        ask(past(), days=6)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({"reviewed": True}, "normal", id="reviewed"),
        pytest.param({}, "emergency", id="the next emergency"),
        pytest.param({"outcome": "backed_out"}, "normal", id="not deployed"),
        pytest.param({"change_type": "normal"}, "normal", id="a flow without review"),
        pytest.param({"service": "car-shop"}, "normal", id="another service"),
    ],
)
def test_nothing_else_stops_a_release(changes: dict[str, Any], kind: str) -> None:
    ask(past(**changes), kind=kind)


FORM = {
    "service": "bike-shop",
    "run": "run 1",
    "went_well": "Quick and whole.",
    "to_change": "Ben writes the test.",
    "participants": "Ben Adler\n\n Cora Lindqvist ",
}


def test_a_review_is_read_from_its_form() -> None:
    review = parse_review(FORM, "rita")
    assert (review.participants, review.reviewer) == (("Ben Adler", "Cora Lindqvist"), "rita")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"went_well": " "}, "went_well"), ({"participants": "\n \n"}, "participants"), ({"run": None}, "run")],
)
def test_a_review_that_lacks_something_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestRefused, match=problem):
        parse_review({**FORM, **changes}, "rita")


def test_what_is_reviewed_has_ended() -> None:
    ended = past(run="release_bike_shop/run 1")
    for run in ("run 1", "release_bike_shop/run 1"):
        assert find_ended([ended], "bike-shop", run) == ended
    with pytest.raises(RequestRefused, match="releases without a review: run 1"):
        find_ended([ended], "bike-shop", "run 2")
