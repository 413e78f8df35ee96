"""Types of values in the catalogue's files: names, addresses, durations, lists without duplicates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)

PRODUCTION = "production"
"""The environment that a release is for; a rehearsal is for any other."""

UserName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,62}$"),
    Field(description="An Airflow user name: lower case, such as rita"),
]
"""An Airflow user name: the one name that a person has everywhere."""
Identifier = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$"),
    Field(description="A name of lower-case letters, digits and hyphens, such as bike-shop"),
]
"""A name that becomes part of Dag ids, paths and tags."""
ConnectionId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,200}$"), Field(description="The id of an Airflow connection")
]


def _not_the_platforms(value: str) -> str:
    if value.lower().startswith(("interlock_", "airflow_", "aws_")):
        raise ValueError("is a connection of the platform, which is not available to builds")
    return value


RegistryId = Annotated[
    ConnectionId, AfterValidator(_not_the_platforms), Field(description="The Airflow connection of a package registry")
]
Line = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    ),
    Field(description="One line of text"),
]
"""Text for people that ends up in titles and in the headers of mails: one line."""
Email = Annotated[
    str,
    StringConstraints(pattern=r"^[^@\s,;<>\x00-\x1f\x7f]+@[^@\s,;<>\x00-\x1f\x7f]+$", max_length=254),
    Field(description="An e-mail address, such as rita@example.com"),
]
Argument = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
UrlPath = Annotated[
    str,
    # A second slash at the start would name another host.
    StringConstraints(pattern=r"^/([^/\s#\x00-\x1f\x7f][^\s#\x00-\x1f\x7f]*)?$", max_length=2048),
    Field(description="The path of a URL on the service's own host, such as /health"),
]
TagName = Annotated[
    str,
    StringConstraints(pattern=r"^[^*?\\\x00-\x1f\x7f]{1,128}$"),
    Field(description="The name of an EC2 tag, without wildcards"),
]
TagValue = Annotated[
    str,
    StringConstraints(pattern=r"^[^*?\\\x00-\x1f\x7f]{1,256}$"),
    Field(description="The value of an EC2 tag, without wildcards"),
]
EnvironmentVariable = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200),
    Field(description="The name of an environment variable that holds no secret of Airflow, AWS or Interlock"),
]
MAX_DURATION = timedelta(weeks=52)
"""Maximum duration in the catalogue; a longer value is most likely a mistake."""
_ISO_DURATION = r"^P(?=.)(\d{1,4}W|(\d{1,4}D)?(T(?=.)(\d{1,6}H)?(\d{1,6}M)?(\d{1,8}(\.\d{1,6})?S)?)?)$"


_ANY_DURATION = TypeAdapter(timedelta)


def _iso_8601(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and re.fullmatch(_ISO_DURATION, value, re.ASCII):
        return _ANY_DURATION.validate_python(value)
    raise ValueError("must be an ISO 8601 duration, such as PT48H, P2D or PT30S")


def _sensible(value: timedelta) -> timedelta:
    if not timedelta(0) < value <= MAX_DURATION:
        raise ValueError(f"must be longer than zero and at most {MAX_DURATION.days} days")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_iso_8601),
    AfterValidator(_sensible),
    WithJsonSchema(
        {"type": "string", "pattern": _ISO_DURATION, "description": "An ISO 8601 duration, such as PT48H, P2D or PT30S"}
    ),
]


_UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}


def in_words(length: timedelta) -> str:
    """Return a duration as people say it, in the largest unit that it is a whole number of: *2 days*, *90 minutes*."""
    for unit, one in _UNITS.items():
        number, rest = divmod(length, one)
        if number and not rest:
            return f"{number} {unit}{'' if number == 1 else 's'}"
    seconds = length.total_seconds()
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"


def roughly(length: timedelta) -> str:
    """Return how long something took, in its two largest units and rounded down: *2 hours 5 minutes*, *40 seconds*."""
    found, rest = [], length
    for unit, one in {**_UNITS, "second": timedelta(seconds=1)}.items():
        number, rest = divmod(rest, one)
        if number:
            found.append(f"{number} {unit}{'' if number == 1 else 's'}")
    return " ".join(found[:2]) or "less than a second"


def _relative(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/") or not value:
        raise ValueError("must be a path inside the checkout, such as build/output")
    if PurePosixPath(value) == PurePosixPath("."):
        raise ValueError("must not be the checkout itself: name a path in it, such as build/output")
    return value


RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"),
    AfterValidator(_relative),
    Field(description="A path inside the checkout, such as build/output"),
]


def named_twice(names: Iterable[str]) -> str:
    """Return the duplicates of a list, separated by commas."""
    return ", ".join(sorted(name for name, times in Counter(names).items() if times > 1))


def each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a list with duplicates."""
    if twice := named_twice(value):
        raise ValueError(f"{twice} is named twice")
    return value


People = Annotated[tuple[UserName, ...], AfterValidator(each_once)]
"""Some people, each named once."""
Roles = Annotated[tuple[Identifier, ...], AfterValidator(each_once)]
"""Some roles of people, each named once."""


class ChangeType(StrEnum):
    """ITIL's change types; each determines the flow of a release."""

    STANDARD = "standard"
    NORMAL = "normal"
    EMERGENCY = "emergency"


_INSTANT = r"^20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d(:[0-5]\d)?(Z|[+-][01]\d:[0-5]\d)$"


def _written_out(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(_INSTANT, value, re.ASCII):
        return datetime.fromisoformat(value)  # what is no day of any month is an error of its own
    if isinstance(value, datetime):
        return value
    raise ValueError("must be an instant with its time zone, such as 2026-12-01T18:00:00Z")


Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_written_out),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _INSTANT,
            "description": "An instant with its time zone, such as 2026-12-01T18:00:00Z",
        }
    ),
]
"""A moment, written with its offset from UTC."""
Day = Annotated[
    str,
    StringConstraints(pattern=r"^20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"),
    AfterValidator(lambda text: date.fromisoformat(text).isoformat()),
    Field(description="A day, such as 2026-12-01"),
]
