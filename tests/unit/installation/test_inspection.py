from __future__ import annotations

from collections.abc import Iterator

from interlock.domain.errors import AssetMissing
from interlock.installation.doctor.inspection import Finding, inspect, well


def refuses() -> Iterator[Finding]:
    raise AssetMissing("There is no key.", next_step="make one")


def breaks() -> Iterator[Finding]:
    yield well("half", "The first half is well.")
    raise ZeroDivisionError("by\n  zero")


def test_a_check_that_fails_is_a_finding_and_the_others_run() -> None:
    found = list(inspect([("key", refuses), ("half", breaks), ("last", lambda: [well("last", "Fine.")])]))
    assert found == [
        Finding("key", "wrong", "There is no key.", "make one"),
        Finding("half", "well", "The first half is well."),
        Finding("half", "wrong", "ZeroDivisionError: by zero", "see docs/platform-engineer.md"),
        Finding("last", "well", "Fine."),
    ]
