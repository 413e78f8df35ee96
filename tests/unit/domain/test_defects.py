"""Defects live in a chain of their service: opened once, accepted for a time, closed by a release that proves it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from interlock.domain.ledger.kinds import DEFECT_ACCEPTED, DEFECT_CLOSED, DEFECT_OPENED
from interlock.domain.testing.defects import (
    AcceptedDefect,
    ClosedDefect,
    accepted_with,
    by_case,
    chain_of_defects,
    judged_in,
    limit_of,
    lines_of,
    new_defects,
    open_defects,
    other_than_accepted,
)
from interlock.domain.testing.results import CaseRow
from tests.clock import NOW
from tests.factories import releases
from tests.memory_ledger import MemoryLedger
from tests.unit.domain.test_attachments import attached
from tests.unit.domain.test_test_matrix import result

STEP = "Open /."
CHAIN = chain_of_defects("bike-shop")
OF = {"service": "bike-shop", "owner": "the shop's team"}


def row(case: str, found: Any, *, defect: str = "", step: str = "Open /.") -> CaseRow:
    """Return the row of a case that was run."""
    about: dict[str, Any] = {"title": case, "role": "tester", "proves": (), "expected_artifact": "a" * 64}
    return CaseRow(case=case, result=found, step=step, defect=defect, **about)


class Book:
    """The defects of a service."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()

    @property
    def entries(self) -> Any:
        return self.ledger.entries(CHAIN)

    def put(self, kind: str, what: Any) -> None:
        key = f"{kind}/{len(self.entries)}"
        self.ledger.append(CHAIN, kind, what.to_xcom(), actor="a task", key=key)

    def fail(self, *cases: str, release: str = "r1", version: str = "1.1.0", known: bool = False) -> list[str]:
        """Let cases fail, each at the same step as ever.

        :param known: whether the testers recognise the first defect of each.
        """
        results = [result(case, "failed", step=STEP, defect=f"{case}-1" if known else "") for case in cases]
        found = new_defects(self.entries, results, version=version, release=release, **OF)
        for defect in found:
            self.put(DEFECT_OPENED, defect)
        return [defect.id for defect in found]

    def accept(self, name: str, hours: int) -> None:
        until = NOW + timedelta(hours=hours)
        self.put(DEFECT_ACCEPTED, AcceptedDefect(id=name, by="dan", reason="Known", until=until, release="r1"))

    def close(self, name: str) -> None:
        self.put(DEFECT_CLOSED, ClosedDefect(id=name, version="1.2.0", release="r2", artifact="a" * 64))

    def lines(
        self, *passed: str, release: str = "r2", failed: tuple[str, ...] = (), **stopped_by: Any
    ) -> list[tuple[str, str, bool]]:
        of = {
            **{(case, "test"): row(case, "failed", defect=f"{case}-1") for case in failed},
            **{(case, "test"): row(case, "passed") for case in passed},
        }
        limit = limit_of(stopped_by, ("test", "production"))
        lines = lines_of(open_defects(self.entries), of, release=release, limit=limit, now=NOW)
        return [(one.id, one.state, bool(one.stops)) for one in lines]


def test_a_case_that_fails_again_has_one_defect_until_it_is_closed() -> None:
    book = Book()
    assert book.fail("basket", "menu") == ["basket-1", "menu-1"]
    assert book.fail("basket", release="r2", known=True) == [], "it is open: its id survives the next release"
    assert book.fail("basket") == [], "a retry opens none again"
    book.close("basket-1")
    assert [one.defect.id for one in open_defects(book.entries)] == ["menu-1"]
    assert book.fail("basket", release="r3") == ["basket-2"]
    assert by_case(open_defects(book.entries), "test") == {"menu": ["menu-1"], "basket": ["basket-2"]}
    assert by_case(open_defects(book.entries), "staging") == {}


def test_a_defect_names_what_the_tester_attached_to_the_failed_case() -> None:
    shot = attached("shot.png", case="basket")
    failed = [result("basket", "failed").model_copy(update={"files": (shot,)}), result("menu", "failed")]
    basket, menu = new_defects([], failed, version="1.1.0", release="r1", **OF)
    assert basket.files == (shot,)
    assert "files" not in menu.to_xcom(), "an entry without files is as it was before there were any"


OTHERS = {
    "another step": {"step": "Open /menu."},
    "no step": {"step": ""},
    "the tester did not recognise it": {"defect": ""},
    "another defect": {"defect": "basket-7"},
}


@pytest.mark.parametrize("said", OTHERS.values(), ids=OTHERS)
def test_a_case_that_fails_in_another_way_has_another_defect(said: dict[str, str]) -> None:
    book = Book()
    book.fail("basket")
    failed = result("basket", "failed", **{"step": STEP, "defect": "basket-1", **said})
    (defect,) = new_defects(book.entries, [failed], version="1.2.0", release="r2", **OF)
    assert (defect.id, defect.step) == ("basket-2", failed.step)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, None),
        (
            {"step": "Open /menu."},
            "basket-1 is accepted as known at the step “Open /.”, but this failed at the step “O",
        ),
        ({"step": ""}, "but this failed at a step that the tester did not name"),
        ({"defect": ""}, "basket-1 is accepted as known, but the tester did not see it again"),
    ],
)
def test_an_acceptance_covers_only_the_failure_that_was_accepted(said: dict[str, str], why: str | None) -> None:
    book = Book()
    book.fail("basket", "menu")
    book.accept("basket-1", hours=1)
    failure = row("basket", "failed", **{"defect": "basket-1", **said})
    opened = open_defects(book.entries)
    found = other_than_accepted(opened, failure, "test", NOW)
    assert found == why or (why and why in (found or ""))
    assert other_than_accepted(opened, failure, "staging", NOW) == "", "it was accepted where it was found"
    assert other_than_accepted(opened, row("menu", "failed", defect="menu-1"), "test", NOW) == ""
    (line, _) = lines_of(opened, {("basket", "test"): failure}, release="r2", limit=None, now=NOW)
    assert line.failed == (why is None), "who waives the failure of this release has not seen the other one"


def test_a_defect_of_which_no_step_is_on_record_covers_no_failure() -> None:
    book = Book()
    for defect in new_defects([], [result("basket", "failed")], version="1.1.0", release="r1", **OF):
        book.put(DEFECT_OPENED, defect)
    book.accept("basket-1", hours=1)
    failure = row("basket", "failed", defect="basket-1", step="")
    found = other_than_accepted(open_defects(book.entries), failure, "test", NOW)
    assert found == "basket-1 is accepted as known, but at which step it fails is not on record"


def test_only_what_failed_becomes_a_defect_and_says_who_found_what_where() -> None:
    other = [result("basket", found) for found in ("passed", "blocked", "not_applicable")]
    assert new_defects([], other, version="1.1.0", release="r1", **OF) == ()
    (defect,) = new_defects([], [result("basket", "failed")], version="1.1.0", release="r1", **OF)
    assert (defect.found_by, defect.environment, defect.severity, defect.owner) == (
        "tess",
        "test",
        "major",
        "the shop's team",
    )
    assert (defect.artifact, defect.at) == ("a" * 64, releases.AT)


def test_a_release_shows_what_it_fixes_brings_along_and_what_is_open_from_before() -> None:
    book = Book()
    book.fail("basket", "menu", "search")
    book.fail("prices", release="r2")
    book.accept("search-1", hours=1)
    assert book.lines("basket", production="major") == [
        ("basket-1", "fixed", False),
        ("menu-1", "open", True),
        ("search-1", "accepted", True),
        ("prices-1", "new", False),
    ]


@pytest.mark.parametrize(
    ("limits", "stops"),
    [
        ({"production": "minor"}, True),
        ({"production": "major"}, True),
        ({"production": "critical"}, False),
        ({"staging": "minor"}, False),
        ({}, False),
    ],
)
def test_the_policy_says_from_which_severity_on_a_defect_stops_a_release_where(
    limits: dict[str, str], stops: bool
) -> None:
    book = Book()
    book.fail("basket")
    assert book.lines(**limits) == [("basket-1", "open", stops)]


def test_a_case_that_fails_again_because_of_a_known_defect_counts_until_the_acceptance_ends() -> None:
    book = Book()
    book.fail("basket", "menu")
    book.accept("basket-1", hours=1)
    assert book.lines(failed=("basket", "menu")) == [("basket-1", "accepted", True), ("menu-1", "open", False)]
    assert book.lines() == [("basket-1", "accepted", False), ("menu-1", "open", False)]


def test_a_defect_counts_once_where_it_was_found_or_on_test_if_the_release_does_not_go_there() -> None:
    found = [result("basket", "failed"), result("menu", "failed").model_copy(update={"environment": "uat"})]
    book = Book()
    for defect in new_defects([], found, version="1.1.0", release="r1", **OF):
        book.put(DEFECT_OPENED, defect)
    opened = open_defects(book.entries)

    def judged(environment: str, *goes: str) -> list[str]:
        return [one.defect.id for one in judged_in(environment, goes, opened)]

    assert judged("test", "test", "uat") == ["basket-1"], "what was found in uat can only be proven there"
    assert judged("uat", "test", "uat") == ["menu-1"]
    assert judged("test", "test") == ["basket-1", "menu-1"]
    assert judged("staging", "test", "uat", "staging") == []


def test_the_lowest_severity_of_all_environments_that_are_yet_to_come_stops_a_release() -> None:
    by = {"staging": "critical", "production": "blocker", "uat": "minor"}
    limit = limit_of(by, ("test", "staging", "production"))
    assert limit is not None
    assert limit.reason == "the policy stops releases to staging by open defects from critical on"
    assert limit_of(by, ("test",)) is None


def test_a_defect_stops_again_when_its_acceptance_has_ended() -> None:
    book = Book()
    book.fail("basket")
    book.accept("basket-1", hours=0)
    assert book.lines(production="major") == [("basket-1", "open", True)]
    book.accept("basket-1", hours=2)
    assert book.lines(production="major") == [("basket-1", "accepted", True)], "it stops when the time is over"
    assert book.lines(production="critical") == [("basket-1", "accepted", False)]


def test_who_waives_a_failure_accepts_the_defects_behind_it() -> None:
    book = Book()
    book.fail("basket", "prices", "search")
    book.fail("menu", release="r2")
    book.accept("search-1", hours=1)
    limit = limit_of({"production": "major"}, ["production"])
    failing = {(name, "test"): row(name, "failed", defect=f"{name}-1") for name in ("menu", "basket", "search")}
    failing["prices", "uat"] = row("prices", "failed")
    lines = lines_of(open_defects(book.entries), failing, release="r2", limit=limit, now=NOW)
    stopped = releases.failure().model_copy(update={"suite": "defects", "expected": "no open defect stops the release"})
    failed = stopped.model_copy(update={"suite": "cases", "expected": "no test case failed"})
    not_run = stopped.model_copy(update={"suite": "cases", "expected": "each test case was run"})
    assert accepted_with(stopped, lines) == ("basket-1", "prices-1")
    assert accepted_with(failed, lines) == ("basket-1", "menu-1"), "the case of prices-1 did not fail here"
    assert accepted_with(not_run, lines) == ()
