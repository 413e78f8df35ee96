"""Semantic versions (semver.org): whether a text is a version, and the step from one version to another."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints
from semver import Version

from interlock.domain.errors import RequestRefused

Bump = Literal["major", "minor", "patch", "first", "same", "downgrade"]

MAX_VERSION_LENGTH = 64
"""A version becomes part of folder names on hosts."""


def is_version(text: str) -> bool:
    """Tell whether a text is exactly a semantic version."""
    return len(text) <= MAX_VERSION_LENGTH and Version.is_valid(text)


def _semantic(text: str) -> str:
    if text and not is_version(text):
        raise ValueError("not a semantic version, such as 1.4.0")
    return text


OptionalVersion = Annotated[str, StringConstraints(max_length=MAX_VERSION_LENGTH), AfterValidator(_semantic)]
"""A semantic version, or an empty text."""


def parse_version(text: str) -> Version:
    """Return a semantic version; RequestRefused if it is not one."""
    if not is_version(text):
        raise RequestRefused(
            f"{text[:MAX_VERSION_LENGTH]!r} is not a semantic version.",
            rule="major.minor.patch, such as 1.4.0 or 2.0.0-rc.1 (semver.org)",
            who="the release manager",
            next_step="trigger the release again with a semantic version",
        )
    return Version.parse(text)


TAGS, BRANCHES = "refs/tags/", "refs/heads/"
_BEFORE = re.compile(r"(?:^|[^0-9.]|(?<![0-9])\.)$")
"""What may stand before a version in a tag: nothing, or what is no part of its numbers (``v``, ``shop-``)."""
_NUMBERS = re.compile(r"(?<![0-9])([0-9]+)[._]([0-9]+)(?:[._]([0-9]+))?")


def version_in(ref: str) -> str | None:
    """Return the version that the name of a tag says, such as 1.2.0 of ``v1.2.0``, ``shop/v1.2.0`` or ``shop-1.2.0``.

    None if it says none. A branch says none, if it is written as one (``refs/heads/…``).
    """
    if ref.startswith(BRANCHES):
        return None
    name = ref.removeprefix(TAGS)
    begins = (place for place, sign in enumerate(name) if sign.isascii() and sign.isdigit())
    found = (name[place:] for place in begins if _BEFORE.search(name[:place]))
    return next(filter(is_version, found), None)


def contradicts(ref: str, version: str) -> bool:
    """Say whether a ref is the tag of another version.

    :param ref: as people wrote it; a name that begins with ``refs/tags/`` is a tag for certain, and its numbers count
        in other spellings, too: ``v1.2`` is any 1.2, ``REL_1_2_0`` is 1.2.0.
    """
    if (said := version_in(ref)) is not None:
        return said != version
    if not ref.startswith(TAGS) or not (numbers := _NUMBERS.findall(ref.removeprefix(TAGS))):
        return False
    wanted = parse_version(version)
    given = [int(number) for number in numbers[-1] if number]
    return given != [wanted.major, wanted.minor, wanted.patch][: len(given)]


def bump(previous: str | None, new: str) -> Bump:
    """Return the size of the step from the running version to a release.

    Build metadata (``+…``) does not count, as semver.org has it. A pre-release is on its way to its version, so each
    step from one on counts at least as that version does: 2.0.0-rc.1 to 2.0.0 is major, because 2.0.0 was not approved.
    What runs under a name that is no semantic version cannot be compared; a change from it is taken for major.

    :param previous: what runs now; none: nothing does.
    """
    after = parse_version(new)
    if previous is None:
        return "first"
    if not is_version(previous):
        return "major"
    before = parse_version(previous)
    if after.compare(before) <= 0:
        return "same" if after.compare(before) == 0 else "downgrade"
    return _step_up(before, after)


def _step_up(before: Version, after: Version) -> Bump:
    if after.major != before.major or _announces(before, "major"):
        return "major"
    return "minor" if after.minor != before.minor or _announces(before, "minor") else "patch"


def _announces(version: Version, step: Bump) -> bool:
    """Say whether a version is a pre-release of a major (x.0.0) or a minor (x.y.0) release."""
    return bool(version.prerelease) and version.patch == 0 and (step == "minor" or version.minor == 0)
