"""The rehearsal of database changes: what refuses a release, what people are told, and what a permit asks of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from interlock.domain.catalogue import Service
from interlock.domain.errors import PolicyViolation, QualityRejected
from interlock.domain.permits.objections import objections
from interlock.domain.quality.rows import TestRow
from interlock.domain.records import BackOutPlan, MigrationRehearsal, RehearsedVersion, RolloutPlan, SmokeResult
from interlock.domain.runbook import rehearsal
from interlock.domain.runbook.planning import describe_steps, planned_steps
from interlock.domain.runbook.rehearsal import Rows, judge_back, judge_forward
from tests.factories import releases
from tests.unit.domain.test_permit import NOW, circumstances, planned, said
from tests.unit.domain.test_runbook import HOSTS, TELL, service, step

DATABASES = {"shop": {"connection": "shop_test_db", "restore": {"script": "scripts/restore.sh"}}}


def migrates(*steps: dict[str, Any], databases: dict[str, Any] = DATABASES) -> Service:
    return Service.model_validate({**service().model_dump(mode="json"), "runbook": steps, "databases": databases})


EXPAND = migrates(step(migrates="shop"), step("tell", do=TELL, way_back="none"))
STEPS = planned_steps(EXPAND, HOSTS, rehearsal=False)


def rows(count: int = 3, *columns: str, contents: str = "7") -> Rows:
    return Rows(columns=columns or ("name", "price"), count=count, contents=contents)


def rehearsed(**changes: Any) -> MigrationRehearsal:
    usual: dict[str, Any] = {
        "environment": "test",
        "bundle": planned().bundle.sha256,
        "steps": rehearsal.digest_of(rehearsal.migrating(STEPS)),
        "before": (),
        "tables": (),
        "seconds": {},
    }
    return MigrationRehearsal(**{**usual, **changes})


def plan_with(found: MigrationRehearsal | None) -> RolloutPlan:
    return planned(runbook=STEPS, migrations=found)


def test_a_service_without_databases_and_its_plans_keep_their_digests() -> None:
    assert "databases" not in service().model_dump(mode="json")
    assert "migrates" not in str(service(step()).model_dump(mode="json"))
    assert "migrations" not in releases.rollout().model_dump(mode="json")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([step(migrates="orders")], "migrate migrates orders, which is not one of databases: shop"),
        ([step(migrates="shop", do=TELL)], "migrate migrates a database; do is a command, or way_back none"),
        ([step(migrates="shop", way_back=TELL)], "migrate migrates a database; way_back is a command"),
    ],
    ids=["unknown", "by-hand", "back-by-hand"],
)
def test_a_change_that_cannot_be_rehearsed_is_refused(steps: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        migrates(*steps)
    assert words in str(error.value)


def test_a_change_without_a_way_back_may_be_rehearsed() -> None:
    assert migrates(step(migrates="shop", way_back="none")).runbook[0].migrates == "shop"


def test_in_a_rehearsal_of_a_release_the_change_is_left_to_the_quality_review() -> None:
    (first, _) = planned_steps(EXPAND, HOSTS, rehearsal=True)
    assert "quality review has changed the database of test already" in first.left_out
    assert rehearsal.migrating([first]) == ()
    assert "changes the database shop" in describe_steps(STEPS, {})[0][2]


def test_what_is_rehearsed_does_not_depend_on_the_host_and_does_on_the_program() -> None:
    digest = rehearsal.digest_of(rehearsal.migrating(STEPS))
    elsewhere = planned_steps(EXPAND, HOSTS[1:], rehearsal=False)
    assert rehearsal.digest_of(rehearsal.migrating(elsewhere)) == digest
    other = planned_steps(
        migrates(step(migrates="shop", do={"command": {"script": "scripts/other.sh"}})), HOSTS, rehearsal=False
    )
    assert rehearsal.digest_of(other) != digest


def refusal_of(judge: Any, *given: Any, **how: Any) -> str:
    with pytest.raises(QualityRejected) as error:
        judge("shop", *given, **how)
    assert error.value.rule == rehearsal.RULE
    assert "release a new version" in error.value.next_step
    return error.value.what


def test_an_expansion_may_add_and_must_not_lose_or_take_away() -> None:
    before = {"public.bikes": rows(), "public.empty": rows(0)}
    assert judge_forward("shop", before, before, contracts=False) == ()
    changed = {**before, "public.bikes": rows(contents="8")}
    assert judge_forward("shop", before, changed, contracts=False) == (
        "shop: the contents of public.bikes are changed",
    )
    fewer = {**before, "public.bikes": rows(2)}
    for contracts in (False, True):
        said = refusal_of(judge_forward, before, fewer, contracts=contracts)
        assert said == "The change of shop loses rows: public.bikes had 3 rows and has 2."
    narrower = {"public.bikes": rows(3, "name")}
    said = refusal_of(judge_forward, before, narrower, contracts=False)
    assert said.startswith("The change of shop takes away public.bikes.price; public.empty, which the version")
    assert judge_forward("shop", before, narrower, contracts=True) == (
        "shop: public.bikes.price is taken away",
        "shop: public.empty is taken away",
    )


def test_people_are_told_of_a_copy_without_rows() -> None:
    for nothing in ({}, {"public.bikes": rows(0)}):
        assert judge_forward("shop", nothing, nothing, contracts=False) == (
            "shop: the restored copy has no row, so it is not shown that rows are kept",
        )


def test_a_way_back_brings_back_what_was_there_and_loses_no_row() -> None:
    first, written = {"public.bikes": rows()}, {"public.bikes": rows(5, contents="9")}
    assert judge_back("shop", first, first, written, written) == ()
    said = refusal_of(judge_back, first, first, written, {"public.bikes": rows(5, "name")})
    assert said == "The way back of shop does not bring back public.bikes.price."
    said = refusal_of(judge_back, first, first, written, {"public.bikes": rows(4)})
    assert said == "The way back of shop loses rows: public.bikes had 5 rows and has 4."
    spoilt = {"public.bikes": rows(5, contents="10")}
    assert "changes the contents of public.bikes" in refusal_of(judge_back, first, first, written, spoilt)
    forward = {"public.bikes": rows(contents="8")}
    assert judge_back("shop", first, forward, written, spoilt) == (
        "shop: the way back changes the contents of public.bikes, too",
    )


def test_what_production_runs_has_to_work_after_the_change() -> None:
    good = SmokeResult(host="h", path="/", expected="status 200", found="status 200", passed=True)
    passed = TestRow(suite="s", classname="shop", name="buys", status="passed", seconds=0)
    skipped = passed.model_copy(update={"status": "skipped"})
    rehearsal.refuse_broken("1.0.0", [good], [passed, skipped], "after it")
    for smoked, test in (
        (good.model_copy(update={"passed": False, "found": "status 500"}), passed),
        (good, passed.model_copy(update={"status": "error"})),
        (good, passed.model_copy(update={"status": "failed"})),
    ):
        with pytest.raises(QualityRejected, match=r"1\.0\.0, which production runs, does not work after it: "):
            rehearsal.refuse_broken("1.0.0", [smoked], [test], "after it")


def test_a_permit_proves_the_rehearsal_again() -> None:
    good = rehearsed()
    assert objections(plan_with(good), circumstances(plan_with(good), migrations=good), NOW) == ()
    assert said(plan_with(None)) == "The database changes of the release were not rehearsed."
    assert "not what the ledger has" in said(plan_with(good))
    assert "not what the ledger has" in said(plan_with(good), migrations=rehearsed(tables=(), seconds={"x": 1.0}))
    assert "not what the ledger has" in said(plan_with(None), migrations=good)
    for other in (rehearsed(bundle="9" * 64), rehearsed(steps="9" * 64)):
        assert said(plan_with(other), migrations=other) == (
            "Other database changes were rehearsed than those that the plan has."
        )
    runs = BackOutPlan(releases={"a": "1.0.0-old", "b": None}, versions={"a": "1.0.0"}, on_hosts=True)
    other = planned(runbook=STEPS, migrations=good, back_out=runs)
    assert said(other, migrations=good) == (
        "The database changes were not rehearsed with 1.0.0-old, which hosts of the plan run."
    )
    old = RehearsedVersion(release="1.0.0-old", version="1.0.0", smoked=2, tests=9, rows=releases.blob())
    with_it = rehearsed(before=(old,))
    assert said(planned(runbook=STEPS, migrations=with_it, back_out=runs), migrations=with_it) == ""


def test_a_plan_is_frozen_only_with_its_rehearsal() -> None:
    rehearsal.refuse_unproven(planned(), None)
    rehearsal.refuse_unproven(plan_with(rehearsed()), rehearsed())
    with pytest.raises(PolicyViolation, match="were not rehearsed"):
        rehearsal.refuse_unproven(plan_with(None), None)


def test_the_board_is_told_whether_the_way_back_was_tried() -> None:
    assert "taken back on the copy without losing a row" in rehearsal.describe_way_back(STEPS)
    none = planned_steps(migrates(step(migrates="shop", way_back="none")), HOSTS, rehearsal=False)
    assert rehearsal.describe_way_back(none) == "No way back was tried, because there is none: Migrate."
