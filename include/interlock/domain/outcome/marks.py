"""Marks: which versions are marked bad in an environment, and which version an environment is pinned to.

A version that is marked bad is not rolled out to the environment. If a version is pinned, no other version is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from semver import Version

from interlock.domain.canonical import Model
from interlock.domain.change.semver import is_version
from interlock.domain.errors import PolicyViolation, RequestRefused
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    VERSION_MARKED_BAD,
    VERSION_MARKED_GOOD,
    VERSION_PINNED,
    VERSION_UNPINNED,
    family,
)

MARKS = family(VERSION_PINNED)
"""The kinds of entries about versions in the installation's chain."""
_KINDS = {"bad": VERSION_MARKED_BAD, "good": VERSION_MARKED_GOOD, "pin": VERSION_PINNED, "unpin": VERSION_UNPINNED}
_RULE = "a version that is marked bad is not deployed; a pinned environment only gets the pinned version"
_WHO = "the release manager, with the Dag mark_version"


class Mark(Model):
    """A mark or a pin of a version in an environment."""

    service: str
    environment: str
    version: str
    verdict: Literal["bad", "good", "pin", "unpin"]
    reason: str = Field(min_length=5, max_length=1000)
    by: str

    @field_validator("reason", mode="before")
    @classmethod
    def _stripped(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    @field_validator("version")
    @classmethod
    def _is_a_version(cls, value: str) -> str:
        if not is_version(value):
            raise ValueError("not a semantic version, such as 1.4.0")
        return value

    @property
    def kind(self) -> str:
        """The kind of the entry that it becomes."""
        return _KINDS[self.verdict]


def parse_mark(form: Mapping[str, Any], by: str, places: Mapping[str, Sequence[str]]) -> Mark:
    """Read the form of ``mark_version``; RequestRefused with every field that is wrong.

    :param by: user name of who marks.
    :param places: each service, and its environments.
    """
    fields = ("service", "environment", "version", "verdict", "reason")
    try:
        mark = Mark.model_validate({**{name: form[name] for name in fields if name in form}, "by": by})
    except ValidationError as error:
        wrong = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_input=False))
        raise RequestRefused(f"The form of the mark is not valid: {wrong}.", next_step="correct the form") from error
    if mark.environment not in places.get(mark.service, ()):
        known = ", ".join(f"{name} ({', '.join(places[name])})" for name in sorted(places)) or "no service"
        raise RequestRefused(
            f"{mark.service} has no environment {mark.environment}. Available: {known}.", next_step="correct the form"
        )
    return mark


def describe_block(entries: Iterable[Entry], service: str, environment: str, version: str) -> str:
    """Return, in words, why a version must not be rolled out to an environment; empty: it may.

    :param entries: of the installation's chain; the last entry counts.
    """
    said: dict[str, Entry] = {}
    for entry in entries:
        about = entry.payload
        if (about.get("service"), about.get("environment")) != (service, environment):
            continue
        if entry.kind in (VERSION_PINNED, VERSION_UNPINNED):
            said["pin"] = entry
        elif entry.kind in (VERSION_MARKED_BAD, VERSION_MARKED_GOOD) and _is_same_version(
            str(about.get("version")), version
        ):
            said["mark"] = entry
    reasons = []
    if (mark := said.get("mark")) and mark.kind == VERSION_MARKED_BAD:
        reasons.append(f"{version} of {service} is marked bad in {environment} {_describe_author(mark)}")
    if (
        (pin := said.get("pin"))
        and pin.kind == VERSION_PINNED
        and not _is_same_version(str(pin.payload["version"]), version)
    ):
        reasons.append(f"{environment} of {service} is pinned to {pin.payload['version']} {_describe_author(pin)}")
    return " ".join(reasons)


def refuse_marked(entries: Iterable[Entry], service: str, environment: str, version: str) -> None:
    """Raise a PolicyViolation if a version must not be rolled out to an environment."""
    if reason := describe_block(entries, service, environment, version):
        raise PolicyViolation(
            reason, rule=_RULE, who=_WHO, next_step="choose another version, or have the mark removed"
        )


def _describe_author(entry: Entry) -> str:
    return f"by {entry.payload['by']} on {entry.at:%Y-%m-%d}: {str(entry.payload['reason']).rstrip('.')}."


def _is_same_version(one: str, other: str) -> bool:
    """Tell whether two versions are equal; build metadata is ignored, as semver.org requires."""
    if not (is_version(one) and is_version(other)):
        return one == other
    return Version.parse(one).compare(Version.parse(other)) == 0
