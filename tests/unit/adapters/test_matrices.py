"""The test matrix of a release, from its chain and the tables in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.testing.matrices import matrix_of
from interlock.domain.board.questions import ASK_TESTERS
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    CASE_ATTACHED,
    CASE_TAKEN,
    CASE_TESTED,
    CASES_RUN,
    PLAN_MADE,
    TEST_PLANNED,
)
from interlock.domain.ledger.witness import GivenAnswer
from interlock.domain.quality.rows import rows_as_json
from interlock.domain.records import CaseRuns
from interlock.domain.testing.planning import TestPlan
from interlock.domain.testing.takers import Taking
from tests.factories import releases
from tests.memory_ledger import MemoryLedger
from tests.unit.domain.test_attachments import attached
from tests.unit.domain.test_test_matrix import planned, result

CHAIN = "release/release_bike_shop/r1"
NOTHING_YET = {"basket": "not_run", "SHOP-9": "no_case", "left": "not_demanded"}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(Folder(tmp_path))


def planned_tests(ledger: MemoryLedger, store: ArtifactStore) -> None:
    cases = [planned("basket"), planned("left", demanded=False), planned("menu", proves=[])]
    tests = TestPlan(
        environment="test",
        version="1.1.0",
        artifact="a" * 64,
        cases=store.put_bytes(rows_as_json(cases), "cases.json"),
        files={},
        demanded=2,
        left_out=1,
        unproven=(),
    )
    put(ledger, PLAN_MADE, releases.plan(tickets=("SHOP-41", "SHOP-9")).to_xcom())
    put(ledger, TEST_PLANNED, tests.to_xcom())


def put(ledger: MemoryLedger, kind: str, payload: dict[str, Any], actor: str = "a task") -> None:
    ledger.append(CHAIN, kind, payload, actor=actor, key=f"{kind}/{len(ledger.entries(CHAIN))}")


def states(ledger: MemoryLedger, store: ArtifactStore) -> dict[str, str] | None:
    rows = matrix_of(ledger.entries(CHAIN), store)
    return None if rows is None else {row.case or row.ticket: f"{row.state} {row.by}".strip() for row in rows}


def test_a_release_without_test_cases_has_no_matrix(store: ArtifactStore) -> None:
    ledger = MemoryLedger()
    put(ledger, PLAN_MADE, releases.plan().to_xcom())
    assert states(ledger, store) is None


def test_the_matrix_has_what_was_recorded_and_what_was_not_run(store: ArtifactStore) -> None:
    ledger = MemoryLedger()
    planned_tests(ledger, store)
    put(ledger, CASE_TESTED, result("basket", "failed").to_xcom(), actor="tess")
    other = result("menu").model_copy(update={"artifact": "b" * 64})
    put(ledger, CASE_TESTED, other.to_xcom(), actor="tess")
    expected = {"basket": "failed tess", "SHOP-9": "no_case", "left": "not_demanded", "menu": "not_run"}
    assert states(ledger, store) == expected, "a result on other bytes is none of this release"


def test_an_answer_is_shown_as_it_comes_in_until_all_are_recorded(store: ArtifactStore) -> None:
    ledger = MemoryLedger()
    planned_tests(ledger, store)
    menu = planned("menu", proves=[])
    shot = attached(case="menu", binds=menu.digest("a" * 64))
    put(ledger, CASE_ATTACHED, shot.model_dump(mode="json"), actor="tess")
    at_menu = Taking(environment="test", case="menu", by="tom", binds=menu.digest("a" * 64))
    put(ledger, CASE_TAKEN, at_menu.model_dump(mode="json"), actor="tom")
    assert states(ledger, store) == {**NOTHING_YET, "menu": "not_run"}, "who takes a case has given no result"
    assert [row.taker.user for row in matrix_of(ledger.entries(CHAIN), store) or () if row.taker] == ["tom"]
    for user, index in (("tess", 1), ("mallory", 0), ("tess", 7)):
        given = GivenAnswer(user=user, task_id=ASK_TESTERS, map_index=index, choice="Passed")
        put(ledger, ANSWER_GIVEN, given.model_dump(mode="json"), actor=user)
    assert states(ledger, store) == {**NOTHING_YET, "menu": "passed tess"}, "of another tester than the taker"
    (row,) = [one for one in matrix_of(ledger.entries(CHAIN), store) or () if one.case == "menu"]
    assert (row.files, row.taker) == ((shot,), None)
    table = store.put_bytes(rows_as_json([]), "rows.json")
    put(ledger, CASES_RUN, CaseRuns(environment="test", artifact="a" * 64, rows=table, counts={}).to_xcom())
    assert states(ledger, store) == {**NOTHING_YET, "menu": "not_run"}, "what was recorded counts, and nothing else"
    assert not any(row.taker for row in matrix_of(ledger.entries(CHAIN), store) or ()), "nobody is at what is closed"
