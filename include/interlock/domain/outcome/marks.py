"""Marks: which versions are marked bad in an environment, and which version an environment is pinned to.

A version that is marked bad is not rolled out to the environment. If a version is pinned, no other version is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from semver import Version

from interlock.domain.catalogue import PRODUCTION
from interlock.domain.change.semver import OptionalVersion, is_version
from interlock.domain.errors import PolicyViolation, RequestRefused
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    BASELINE_SEEN,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    VERSION_MARKED_BAD,
    VERSION_MARKED_GOOD,
    VERSION_PINNED,
    VERSION_UNPINNED,
    family,
)
from interlock.domain.trigger_form import Form, Reason, read_form, refuse_unknown_environment

MARKS = family(VERSION_PINNED)
"""The kinds of entries about versions in the installation's chain."""
_KINDS = {"bad": VERSION_MARKED_BAD, "good": VERSION_MARKED_GOOD, "pin": VERSION_PINNED, "unpin": VERSION_UNPINNED}
MAX_SHOWN = 20
"""How many of the known versions a refusal names."""
_RULE = "a version that is marked bad is not deployed; a pinned environment only gets the pinned version"
_WHO = "the release manager, with the Dag mark_version"
Verdict = Literal["bad", "good", "pin", "unpin"]


class MarkRequest(Form):
    """The form of ``mark_version``."""

    service: str = Field(description="The service whose version you mark.")
    environment: str = Field(PRODUCTION, description="The environment to which the mark applies.")
    version: OptionalVersion = Field(min_length=1, description="The version to mark, such as 1.4.0.")
    verdict: Verdict = Field(
        "bad",
        description="The mark to set or remove. The latest mark applies.",
        json_schema_extra={
            "values_display": {
                "bad": "bad: do not deploy this version, and do not roll back to it",
                "good": "good: remove the mark bad",
                "pin": "pin: deploy only this version",
                "unpin": "unpin: allow other versions again",
            }
        },
    )
    reason: Reason = Field(
        description="Why you mark it. The reason appears in each refusal and is recorded in the ledger."
    )


class Mark(MarkRequest):
    """A mark or a pin of a version in an environment."""

    environment: str
    verdict: Verdict
    by: str

    @property
    def kind(self) -> str:
        """The kind of the entry that it becomes."""
        return _KINDS[self.verdict]


def parse_mark(form: Mapping[str, Any], by: str, environments: Mapping[str, Collection[str]]) -> Mark:
    """Read the form of ``mark_version``; RequestRefused with every field that is wrong.

    :param by: user name of who marks.
    :param environments: each service, and its environments.
    """
    request = read_form(MarkRequest, form, "the mark")
    refuse_unknown_environment(request, environments)
    return Mark(**request.model_dump(), by=by)


def known_versions(entries: Iterable[Entry], service: str) -> tuple[str, ...]:
    """Return the versions of a service that the ledger knows, the one that was named last first.

    :param entries: how releases ended, marks and what hosts ran before any release, of the installation's chain; and
        the requests of releases of the service that have not ended, of their own chains.
    """
    found: dict[str, datetime] = {}
    for entry in entries:
        about = entry.payload
        if entry.kind == RELEASE_REQUESTED or about.get("service") == service:
            if entry.kind == BASELINE_SEEN:  # version and digest, as in the folder of a release on a host
                version = str(about["release"] or "").rpartition("-")[0]
            elif entry.kind in (RELEASE_ENDED, RELEASE_REQUESTED, *_KINDS.values()):
                version = str(about.get("version") or "")
            else:
                continue
            if version:
                found[version] = max(entry.at, found.get(version, entry.at))
    return tuple(sorted(found, key=lambda one: found[one], reverse=True))


def refuse_never_released(mark: MarkRequest, known: Sequence[str]) -> None:
    """Raise a RequestRefused for a mark of a version that the service never had.

    A wrong digit in a mark would leave the bad version free to be deployed, and its author would believe otherwise.

    :param known: the versions of the service, as :func:`known_versions` returns them.
    """
    if any(_is_same_version(mark.version, one) for one in known):
        return
    shown = f"{', '.join(known[:MAX_SHOWN])}{' and others' if len(known) > MAX_SHOWN else ''}" or "none"
    raise RequestRefused(
        f"{mark.service} has no version {mark.version} that could be marked. Known versions, latest first: {shown}.",
        rule="a mark is of a version that was requested, released, or found on a host, by the ledger",
        who="the release manager",
        next_step="correct the version; a version is known from the request of its first release on",
    )


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
