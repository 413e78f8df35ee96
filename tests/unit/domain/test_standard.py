from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from interlock.domain.change.standard import template_for
from interlock.domain.errors import PolicyViolation
from tests.unit.domain.samples import policy, service

NOW = datetime(2026, 3, 4, 23, tzinfo=UTC)
QUESTIONS = [{"key": key, "question": f"Does it touch {key}?", "points": 5} for key in ("customer_data", "speed")]


def template(name: str = "patch", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "title": "A patch",
        "authorised_by": "the board, 2026-01-15",
        "steps": ["patch"],
        "risk_up_to": 30,
        "answered_no": ["customer_data"],
        **changes,
    }


def found(*templates: dict[str, Any], **changes: Any) -> str:
    rules = policy(standard_changes=list(templates), risk={"questions": QUESTIONS})
    asked: dict[str, Any] = {"bump": "patch", "risk": 30, "answers": {"customer_data": False, "speed": True}}
    described = service(tier=changes.pop("tier", 2))
    return template_for(rules, described, **{**asked, "now": NOW, **changes}).name


def test_a_release_that_is_like_a_template_is_a_standard_change() -> None:
    assert found(template()) == "patch"
    assert found(template("other", services=["till"]), template()) == "patch"
    assert found(template(services=["bike-shop"], tiers=[2, 3], until="2026-03-04")) == "patch"


@pytest.mark.parametrize(
    ("limits", "asked", "why"),
    [
        ({"services": ["till"]}, {}, "allows only till"),
        ({"tiers": [3, 4]}, {}, "does not allow services of tier 2"),
        ({}, {"bump": "minor"}, "allows only steps of the kind patch, but this step is minor"),
        ({}, {"bump": "major"}, "but this step is major"),
        ({}, {"bump": "downgrade"}, "but this step is downgrade"),
        ({}, {"risk": 31}, "allows a risk of 30 at most, but the risk is 31"),
        ({}, {"answers": {"customer_data": True, "speed": False}}, "customer_data was answered with yes"),
        ({}, {"answers": {}}, "customer_data was not answered"),
        ({"until": "2026-03-03"}, {}, "expired on 2026-03-03"),
    ],
)
def test_a_release_that_differs_in_one_thing_is_none(limits: dict[str, Any], asked: dict[str, Any], why: str) -> None:
    with pytest.raises(PolicyViolation, match=why) as refused:
        found(template(**limits), **asked)
    assert "release it as a normal change" in refused.value.next_step


def test_without_a_template_nothing_is_a_standard_change() -> None:
    with pytest.raises(PolicyViolation, match="The policy has no template"):
        found()


def test_a_template_names_questions_that_are_asked() -> None:
    with pytest.raises(ValueError, match="names the question weather"):
        found(template(answered_no=["weather"]))
    with pytest.raises(ValueError, match="patch is named twice"):
        found(template(), template())


@pytest.mark.usefixtures("far_east")
def test_the_last_day_of_a_template_ends_at_midnight_utc() -> None:
    last = template(until="2026-03-04")
    assert found(last, now=datetime(2026, 3, 4, 23, 59, 59, tzinfo=UTC)) == "patch"
    assert found(last, now=datetime.fromisoformat("2026-03-05T08:59:59+09:00")) == "patch"
    with pytest.raises(PolicyViolation, match="expired on 2026-03-04"):
        found(last, now=datetime.fromisoformat("2026-03-05T09:00+09:00"))


def test_of_several_templates_the_first_that_fits_counts() -> None:
    assert found(template("strict", risk_up_to=29), template("first"), template("second")) == "first"
