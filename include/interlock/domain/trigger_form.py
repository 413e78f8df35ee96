"""Trigger forms: the model that reads a form also describes its fields, so that no limit is written twice."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION
from interlock.domain.errors import RequestRefused

END = r"(?![\s\S])"
"""The end of the text; a dollar sign would let a line break through."""
_INSTANT_PATTERN = (
    r"^20[0-9]{2}-(?:0[1-9]|1[0-2])-[0-3][0-9]T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    rf"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]){END}"
)
MAX_START_IN_PAST, MAX_START_AHEAD = timedelta(days=1), timedelta(days=366)
"""An instant outside of these limits is most likely a mistake."""
MULTILINE: JsonDict = {"format": "multiline"}
"""Airflow's word for a text of several lines."""

Reason = Annotated[str, StringConstraints(min_length=5, max_length=1000)]
"""Why a person asks for something; recorded in the ledger."""
Incident = Annotated[str, Field(max_length=100, description="The incident number, if there is one.")]


def _instant(value: object) -> object:
    """Read an instant as RFC 3339 writes it."""
    if not isinstance(value, str):
        return value if value is None or isinstance(value, datetime) else ""
    if not re.search(_INSTANT_PATTERN, value):
        raise ValueError("not a time with a time zone, such as 2026-05-04T22:00:00Z")
    return datetime.fromisoformat(value)


Instant = Annotated[
    AwareDatetime | None,
    BeforeValidator(_instant),
    WithJsonSchema({"type": ["string", "null"], "format": "date-time", "pattern": _INSTANT_PATTERN}),
]
"""An instant, or none."""


def is_near(instant: datetime, now: datetime) -> bool:
    """Tell whether an instant is at most a day ago and a year ahead."""
    return now - MAX_START_IN_PAST <= instant <= now + MAX_START_AHEAD


class Form(Model):
    """Base of what a person enters at a trigger form; spaces around a text are not part of it."""

    model_config = ConfigDict(str_strip_whitespace=True)


class OfEnvironment(Protocol):
    """A form that names an environment of a service."""

    @property
    def service(self) -> str: ...  # noqa: D102
    @property
    def environment(self) -> str: ...  # noqa: D102


F = TypeVar("F", bound=Form)


def fields_of(model: type[Model], **changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Describe a form: a JSON schema for each field, in their order; a field without ``default`` must be filled in.

    :param changes: by field: what depends on the catalogue, such as the choices.
    """
    return {name: _nullable({**field, **changes.get(name, {})}) for name, field in _described(model).items()}


@cache  # a Dag of each service has the same form
def _described(model: type[Model]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = model.model_json_schema()["properties"]
    return found


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    """Airflow's form sends null for a text or a list that is left empty."""
    may_be_empty = "default" in field and field.get("type") in ("string", "array") and "enum" not in field
    return {**field, "type": [field["type"], "null"]} if may_be_empty else field


def read_form(model: type[F], form: Mapping[str, Any], what: str) -> F:
    """Read what was entered; RequestRefused with every field that is wrong. A field with null has its default.

    :param what: what is asked for, such as ``the mark``.
    """
    try:
        return model.model_validate({name: value for name, value in form.items() if value is not None})
    except ValidationError as error:
        said = ((problem["loc"][0], problem["msg"]) for problem in error.errors(include_input=False))
        wrong = "; ".join(f"{name}: {message.removeprefix('Value error, ')}" for name, message in said)
        raise RequestRefused(
            f"The form of {what} is not valid: {wrong}.",
            rule="the limits of the fields, as the form shows them",
            who="the person who triggers the Dag",
            next_step="correct these fields and trigger the Dag again",
        ) from None


def refuse_unknown_environment(request: OfEnvironment, environments: Mapping[str, Collection[str]]) -> None:
    """Raise RequestRefused if a service does not have the environment that a form names.

    :param environments: each service, and its environments.
    """
    if request.environment not in environments.get(request.service, ()):
        known = "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in sorted(environments.items()))
        raise RequestRefused(
            f"{request.service} has no environment {request.environment}. Available: {known or 'none'}.",
            next_step="correct service and environment",
        )


def environment_choices(environments: Mapping[str, Collection[str]]) -> dict[str, dict[str, Any]]:
    """Return the choices of service and environment, as :func:`fields_of` takes them."""
    names = {name for found in environments.values() for name in found} or {PRODUCTION}
    return {"service": {"enum": sorted(environments)}, "environment": {"enum": sorted(names)}}
