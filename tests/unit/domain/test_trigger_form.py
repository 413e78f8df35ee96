"""The fields of a trigger form and what is read of it: both come from one model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from interlock.domain.board.accounts import ConfirmationRequest
from interlock.domain.board.forms import AnswerForm
from interlock.domain.calendars.overrides import OverrideRequest
from interlock.domain.calendars.stops import StopRequest
from interlock.domain.errors import RequestRefused
from interlock.domain.outcome.marks import MarkRequest
from interlock.domain.outcome.review import ReviewRequest
from interlock.domain.outcome.rollback import RollbackRequest
from interlock.domain.permits.withdrawal import WithdrawalRequest
from interlock.domain.testing.known_defects import AcceptanceRequest
from interlock.domain.trains.departures import TrainRequest
from interlock.domain.trigger_form import Form, environment_choices, fields_of, read_form

WORDS = "It cannot wait"
FORMS: dict[type[Form], dict[str, Any]] = {
    ConfirmationRequest: {"user": "ben", "reason": WORDS},
    AnswerForm: {},
    OverrideRequest: {"service": "shop", "reason": WORDS},
    StopRequest: {"reason": WORDS},
    MarkRequest: {"service": "shop", "version": "1.4.0", "reason": WORDS},
    AcceptanceRequest: {"service": "shop", "defect": "basket-total-1", "reason": WORDS},
    ReviewRequest: {"service": "shop", "run": "1", "went_well": WORDS, "to_change": WORDS, "participants": "ben"},
    RollbackRequest: {"reason": WORDS},
    WithdrawalRequest: {"service": "shop", "reason": WORDS},
    TrainRequest: {},
}


def is_read(model: type[Form], **changes: Any) -> bool:
    try:
        read_form(model, {**FORMS[model], **changes}, "this")
    except RequestRefused:
        return False
    return True


@pytest.mark.parametrize("model", FORMS, ids=lambda model: model.__name__)
def test_a_form_shows_the_limits_by_which_it_is_read(model: type[Form]) -> None:
    assert is_read(model)
    for name, field in fields_of(model).items():
        Draft202012Validator.check_schema(field)
        form = Draft202012Validator(field)
        assert field["title"]
        assert field["description"], name
        assert ("default" in field) == (name not in FORMS[model]), "what has no default must be filled in"
        tried = [None, 0, 1, field.get("maximum", 0), field.get("maximum", 0) + 1, [], True, "departing soon"]
        tried += [
            "x" * (field[limit] + more) for limit in ("minLength", "maxLength") if limit in field for more in (-1, 1)
        ]
        for value in tried:
            accepted = form.is_valid(value) or (value is None and "default" in field)
            if name == "version":  # that it is a version, the form cannot say
                accepted = accepted and not value
            if isinstance(value, bool | int) and field["type"] in ("integer", "boolean"):
                continue  # pydantic takes yes for 1
            assert is_read(model, **{name: value}) == accepted, (name, value)


def test_every_wrong_field_is_named_at_once_and_an_unknown_one_is_wrong() -> None:
    with pytest.raises(RequestRefused) as error:
        read_form(MarkRequest, {"version": "one", "reason": "  no  ", "enviroment": "test"}, "the mark")
    said = str(error.value)
    assert said.startswith(
        "The form of the mark is not valid: service: Field required; version: not a semantic version"
    )
    for name in ("reason: String should have at least 5 characters", "enviroment: Extra inputs are not permitted"):
        assert name in said


def test_an_empty_field_has_its_default_and_spaces_around_a_text_are_left_out() -> None:
    stop = read_form(StopRequest, {"reason": f"  {WORDS} ", "hours": None, "lift": None}, "the stop")
    assert (stop.reason, stop.hours, stop.lift) == (WORDS, 24, "")


def test_the_hours_of_an_override_end_where_the_form_says() -> None:
    assert fields_of(OverrideRequest)["hours"]["maximum"] == 24
    assert is_read(OverrideRequest, hours=24)
    assert not is_read(OverrideRequest, hours=25)
    assert not is_read(OverrideRequest, hours=0)


@pytest.mark.parametrize(("days", "accepted"), [(-2, False), (0, True), (365, True), (367, False)])
def test_a_train_departs_within_a_year(days: int, accepted: bool) -> None:
    at = datetime.now(UTC) + timedelta(days=days)
    assert is_read(TrainRequest, departure=at.isoformat()) is accepted
    assert not is_read(TrainRequest, departure=at.replace(tzinfo=None).isoformat())


def test_a_form_offers_what_the_catalogue_has() -> None:
    fields = fields_of(MarkRequest, **environment_choices({"till": ["production"], "shop": ["test", "production"]}))
    assert fields["service"]["enum"] == ["shop", "till"]
    assert (fields["environment"]["enum"], fields["environment"]["default"]) == (["production", "test"], "production")
    assert fields["environment"]["type"] == "string", "nothing is no choice"
    assert environment_choices({})["environment"]["enum"] == ["production"]
