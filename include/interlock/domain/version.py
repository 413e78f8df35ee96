"""Semantic versions (semver.org): what is one, and how far one is from another."""

from __future__ import annotations

from typing import Literal

from semver import Version

from .errors import RequestRefused

Bump = Literal["major", "minor", "patch", "first", "same", "downgrade"]

LONGEST_VERSION = 64
"""A version becomes part of folder names on hosts."""


def is_version(text: str) -> bool:
    """Say whether a text is a semantic version, with nothing before or after it."""
    return len(text) <= LONGEST_VERSION and Version.is_valid(text)


def parse_version(text: str) -> Version:
    """Return a semantic version; RequestRefused if it is not one."""
    if not is_version(text):
        raise RequestRefused(
            f"{text[:LONGEST_VERSION]!r} is not a semantic version.",
            rule="major.minor.patch, such as 1.4.0 or 2.0.0-rc.1 (semver.org)",
            who="the release manager",
            next_step="trigger the release again with a semantic version",
        )
    return Version.parse(text)


def bump(previous: str | None, new: str) -> Bump:
    """Say how far a release goes from what runs now.

    Build metadata (``+…``) does not count, as semver.org has it. A pre-release is on its way to its version, so each
    step from one on counts at least as that version does: 2.0.0-rc.1 to 2.0.0 is major, for nobody has approved 2.0.0.
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
