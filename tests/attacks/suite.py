"""The list of attacks, what became of each, and the page about them.

An attack is a test: it passes if the product withstood the attack, and fails if the attack got through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

ADMIN = "an administrator of Airflow"
AUTHOR = "whoever may commit to a service's repository"
AWS = "an administrator of the AWS account"
CLERK = "whoever has the password of the board's clerk"
CONDUCTOR = "whoever has the password of the trains' conductor"
ENGINEER = "whoever may write the platform's files"
FREE = "whoever has the key that signs tasks' tokens"
HOST = "whoever may write to the artifact store"
KEEPER = "whoever keeps the catalogue"
LEDGER_OWNER = "the superuser of the ledger's database"
LEDGER_WRITER = "whoever has the password of the ledger's writer"
MANAGER = "the release manager"
MEMBER = "a member of the board"
OWNER = "the superuser of Airflow's database"
NAMES = "whoever keeps the DNS"
SHELL = "whoever has the login of a host"
WORKER = "whoever may read the memory of a worker"

WRITTEN = "an answer counts as it came in at the API, which is on record in the ledger; what was written is a finding"
"""What stops answers that were written into Airflow's database."""

GUARD = "the guard at the API refuses it, and records the attempt"
"""What stops requests that would change a run."""

SANDBOX = "a build runs in a sandbox, in which nothing of the platform is"
"""What stops the code of a commit."""

Way = Literal["API", "database", "catalogue", "store", "ledger", "code", "clock", "host"]

PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"
INTRODUCTION = """\
# Attacks

What somebody would try who wants a release in production that the board did not approve, and what became of it. Each
attack runs on a real Airflow with a real fleet, by the strongest role that should not succeed: an administrator at the
API, the superuser of a database. It is withstood if every production host still answers with the version it had, and if
a person can read why, and it is on record: the attempt that the guard refused, the permit that was refused with its
reasons, how the release ended, or a finding in the ledger.

This page is written by `make attacks`, which runs all of it. When what got through has been mended, it is tried again
by itself, and its row is written anew.

"""
WITHSTOOD = "withstood"
HEADINGS = ("Attack", "By", "Through", "What stops it", "Result")
CLASSES = ("Through", "Tried", "Got through")
FINDINGS = "findings"
"""The property of a test that counted what the bypass detector and the tasks found: true ones, and false ones."""
_FOUND = re.compile(r"found (\d+) times what .* and (\d+) times what")


@dataclass(frozen=True)
class Attack:
    """Something that must not succeed.

    :param what: what is tried.
    :param by: the strongest role that should not succeed with it.
    :param way: through what.
    :param stopped: what stops it.
    """

    what: str
    by: str
    way: Way
    stopped: str


def attack(what: str, *, by: str, way: Way, stopped: str) -> Callable[[Any], Any]:
    """Make a test an attack."""
    return _marked(Attack(what, by, way, stopped))


def case(*values: Any, what: str, by: str, way: Way, stopped: str) -> Any:
    """Make a case of a test with parameters an attack of its own."""
    marks = [pytest.mark.attacks, pytest.mark.attack(Attack(what, by, way, stopped))]
    return pytest.param(*values, marks=marks, id=what.replace(" ", "-"))


def by_admin(what: str, method: str, path: str, content: Any = None) -> Any:
    """Make a case an attack: an administrator sends a request about a run."""
    return case(method, path, content, what=what, by=ADMIN, way="API", stopped=GUARD)


def _marked(one: Attack) -> Callable[[Any], Any]:
    def mark(function: Any) -> Any:
        return pytest.mark.attacks(pytest.mark.attack(one)(function))

    return mark


def attack_of(item: pytest.Item) -> Attack | None:
    """Return the attack that a test is, if it is one."""
    mark = item.get_closest_marker("attack")
    return mark.args[0] if mark else None


class Results:
    """A pytest plugin that keeps what became of each attack; several tests may be one attack."""

    def __init__(self) -> None:
        self.known: set[Attack] = set()
        self.withstood: dict[Attack, bool] = {}
        self.found: tuple[int, int] | None = None
        """Findings that are true, and findings that are false; none: they were not counted."""
        self.untried: set[Attack] = set()
        """What did not come so far that it could be tried."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which attacks there are, before any is deselected."""
        self.known |= {one for item in items if (one := attack_of(item))}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Keep what became of a test."""
        outcome: Any = yield
        one, report = attack_of(item), outcome.get_result()
        self.found = next((value for name, value in report.user_properties if name == FINDINGS), self.found)
        if one and report.failed and report.when == "setup":
            self.untried.add(one)
        elif one and report.when != "setup":
            self.withstood[one] = self.withstood.get(one, True) and not report.failed

    @property
    def is_complete(self) -> bool:
        """Say whether every attack was tried."""
        return bool(self.known) and not self.untried and self.known == self.withstood.keys()

    def since(self, before: Iterable[tuple[Attack, bool]]) -> list[tuple[Attack, bool]]:
        """Return what became of attacks before, with those that were tried again, or are new, as they ended now."""
        now = {one.what: (one, withstood) for one, withstood in self.withstood.items()}
        return [*({one.what: (one, withstood) for one, withstood in before} | now).values()]

    def sentence(self) -> str:
        """Say how many attacks were tried and how many got through."""
        return sentence(self.withstood.values())


def sentence(results: Iterable[bool]) -> str:
    """Say how many attacks were tried and how many got through.

    :param results: of each attack, whether it was withstood.
    """
    told = list(results)
    return f"{len(told)} attacks tried, {told.count(False)} got through"


def page(results: Iterable[tuple[Attack, bool]], found: tuple[int, int] | None = None) -> str:
    """Return the page about attacks, each with whether it was withstood.

    :param found: how many findings are true, and how many are false; none: that is not known.
    """
    told = list(results)
    attacks = [
        (one.what, one.by, one.way, one.stopped, WITHSTOOD if withstood else "**got through**")
        for one, withstood in told
    ]
    parts = [f"{sentence(withstood for _, withstood in told)}.", _table(CLASSES, _by_class(told))]
    if found is not None:
        parts.append(_of_findings(*found))
    return INTRODUCTION + "\n\n".join([*parts, _table(HEADINGS, attacks)]) + "\n"


def _by_class(told: Sequence[tuple[Attack, bool]]) -> Iterator[tuple[str, ...]]:
    for way in get_args(Way):
        results = [withstood for one, withstood in told if one.way == way]
        yield way, str(len(results)), str(results.count(False))


def _of_findings(true: int, false: int) -> str:
    return (
        f"In these attacks, tasks and the bypass detector found {true} times what had been changed past the process, "
        f"and {false} times what nobody had changed."
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, ("---",) * len(headings), *rows))


def rows_of(text: str) -> list[tuple[Attack, bool]]:
    """Read a page again: each attack, and whether it was withstood."""
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    ways: dict[str, Way] = {str(way): way for way in get_args(Way)}
    return [
        (Attack(row[0], row[1], ways[row[2]], row[3]), row[4] == WITHSTOOD)
        for row in rows
        if len(row) == len(HEADINGS) and row[2] in ways
    ]


def findings_of(text: str) -> tuple[int, int] | None:
    """Read a page again: how many findings were true, and how many were false; none: it does not say."""
    said = _FOUND.search(" ".join(text.split()))
    return (int(said[1]), int(said[2])) if said else None
