"""The counts of a JUnit report, compared with the listed test cases.

A reporter may count less than it lists: hooks that broke, disabled tests, a test that failed twice. It may not count
more: what was counted and is not listed is lost, and nobody knows how it ended. What each real reporter's counts are is
known from samples (``tests/unit/adapters/reports``):

- Surefire counts each attempt of a test that it runs again.
- pytest counts a test once more if its tear-down breaks, and lists a test twice that fails and breaks. Its tests are
  what it reported, subtests and reruns included, of which it lists those that failed: so more is no contradiction.
- PHPUnit's outer suites count those inside them; Node's count a suite inside as one test.
- GoogleTest and CTest count disabled tests apart from skipped ones.
- mocha-junit-reporter counts pending tests in the root, as skipped, and does not list them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ._numbers import count

_BAD = ("failures", "failed", "errors")
_SKIPPED = ("skipped", "skips", "disabled", "ignored", "pending", "notrun")
Status = Literal["passed", "failed", "error", "skipped"]


@dataclass(slots=True)
class Tally:
    """A suite: what it claims, and what it lists, with the suites inside it.

    :param root: it only holds suites: its counts are of all that is in them.
    :param said: what its attributes say of how it ended.
    :param lists_all: it lists whatever it counts as a test.
    """

    COUNTS: ClassVar[tuple[str, ...]] = ("tests", *_BAD, *_SKIPPED)

    name: str
    root: bool
    said: Sequence[tuple[Status, str]] = ()
    lists_all: bool = True
    claimed: dict[str, int] = field(default_factory=dict)
    cases: int = 0
    own: int = 0  # cases and suites directly in it
    itself: int = 0
    bad: int = 0
    bad_suites: int = 0
    broken: int = 0  # cases with an error
    failures: int = 0  # elements that say so: a case may have several
    skipped: int = 0
    attempts: int = 0
    again: int = 0
    unlisted: int = 0
    where: str = ""  # of the first suite that counts more tests than it lists
    skips_inside: int = 0

    def claims(self, key: str, text: str) -> bool:
        """Take a count; False if it is none."""
        value = count(text)
        if value is None:
            return False
        self.claimed[key] = value
        return True

    def add_case(self, status: Status, *, failures: int, attempts: int, again: bool) -> None:
        """Take a test case as the reporter counts it."""
        self.cases += 1
        self.own += 1
        self.bad += status in ("failed", "error")
        self.broken += status == "error"
        self.skipped += status == "skipped"
        self.skips_inside += status == "skipped"
        self.failures += failures
        self.attempts += attempts
        self.again += again

    def add_itself(self, status: Status) -> None:
        """Take the counts of the suite itself."""
        self.itself += 1
        self.bad += status in ("failed", "error")
        self.failures += status in ("failed", "error")
        self.skipped += status == "skipped"
        self.skips_inside += status == "skipped"

    def take(self, inner: Tally) -> None:
        """Take a nested suite."""
        self.own += 1
        for name in ("cases", "itself", "bad", "bad_suites", "broken", "failures", "skipped", "attempts", "again"):
            setattr(self, name, getattr(self, name) + getattr(inner, name))
        self.bad_suites += inner.bad > 0
        self.unlisted += inner.unlisted
        self.where = self.where or inner.where
        self.skips_inside += inner.skips

    @property
    def skips(self) -> int:
        """How many skipped tests it claims: its own counts, or those inside it, whichever say more."""
        return max(sum(self.claimed.get(key, 0) for key in _SKIPPED), self.skips_inside)

    def shows(self, status: Status) -> bool:
        """Say whether something in it ended like that, or worse."""
        return self.bad > 0 or (status == "skipped" and self.cases + self.itself > 0)

    def contradiction(self) -> str:
        """Return what its counts claim beyond its list; empty: nothing."""
        bad = sum(self.claimed.get(key, 0) for key in _BAD)
        if bad > self.failures:
            claims = ", ".join(f"{key}={self.claimed[key]}" for key in _BAD if key in self.claimed)
            return f"it counts more failures ({claims}) than it lists ({self.failures})"
        tests = self.claimed.get("tests")
        if tests is not None and tests < self._fewest():
            return f"it counts {tests} tests and lists {self.cases}"
        return ""

    def _fewest(self) -> int:
        """Return how few tests it may count, by any reporter's way."""
        listed = self.cases if self.root and self.own else min(self.cases, self.own)
        if not self.root and self.own < self.cases:
            listed = 0  # it counts what stands directly in it, and suites inside count for themselves
        return listed - self.bad - self.again - self.skipped

    def note_unlisted(self, place: str) -> None:
        """Note how many tests it counts and does not list."""
        most = self.cases + self.itself + self.attempts + self.broken + self.unlisted
        if self.lists_all and (missing := self.claimed.get("tests", 0) - most) > 0:
            self.unlisted += missing
            self.where = self.where or place

    def unexplained(self) -> tuple[str, str]:
        """Say what the whole report counts and does not list, and where; two empty texts: nothing.

        Tests that are missing are explained if the counts say that as many more were skipped.
        """
        more_skipped = self.skips - self.skipped
        if more_skipped > self.unlisted:
            return f"it counts {self.skips} skipped tests and lists {self.skipped}", ""
        if self.unlisted > max(more_skipped, 0):
            return f"it counts more tests than it lists: {self.unlisted} are missing", self.where
        return "", ""
