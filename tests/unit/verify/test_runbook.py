"""Steps of a runbook in an evidence pack: begun on record, done once, each with a permit of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.domain.records import (
    MigrationRehearsal,
    RehearsedVersion,
    RolloutPlan,
    StepDirection,
    StepIntent,
    StepReport,
)
from interlock.domain.runbook.planning import planned_steps, step_id
from interlock.domain.runbook.progress import Ended, left_out, report_of
from tests.factories import evidence as make
from tests.factories import releases
from tests.unit.domain.test_runbook import HOSTS, TELL, service, step
from tests.unit.verify.test_verify import changed, payload_of

RUNBOOK = planned_steps(
    service(step(), step("tell", "after", do=TELL, way_back="none", title="Tell the bank")), HOSTS, rehearsal=False
)
Doing = tuple[int, StepDirection]


def plan_of(many: list[make.Step]) -> RolloutPlan:
    return RolloutPlan.model_validate({k: v for k, v in payload_of(many, "rollout.frozen").items() if k != "digest"})


def entries_of(
    plan: RolloutPlan,
    number: int,
    at: int,
    direction: StepDirection = "forward",
    permit: dict[str, Any] | None = None,
    *,
    permitted: bool = True,
    begun: int = 1,
    ended: int = 1,
    why: str = "",
    **report: Any,
) -> list[make.Step]:
    """Return what a step leaves in the chain."""
    planned = plan.steps[number - 1]
    id = step_id(plan.digest, planned, direction)
    hosts = [planned.host.address] if planned.host else []
    usual = {
        **make.permit(plan, 1, at),
        "purpose": "step",
        "step": id,
        "wave": None,
        "hosts": hosts,
        "id": f"{number}{direction}".encode().hex().rjust(32, "0")[-32:],
    }
    action = planned.action(direction)
    intent = StepIntent(
        number=number, name=planned.name, direction=direction, id=id, plan=plan.digest, action="a" * 64
    ).to_xcom()
    done = report_of(
        planned, direction, id, Ended(why), began_at=releases.AT, now=releases.AT + timedelta(minutes=1)
    ).to_xcom()
    assert action is not None
    return [
        *(make.issued_and_used({**usual, **(permit or {})}, make.signer()) if permitted else []),
        *[("step.begun", intent)] * begun,
        *[("step.ended", {**done, **report})] * ended,
    ]


def doing(**second: Any) -> make.Change:
    """Do the first step before the waves, and the second one after them, in some way."""

    def change(many: list[make.Step]) -> list[make.Step]:
        plan = plan_of(many)
        many = [*many[:9], *entries_of(plan, 1, 9), *many[9:]]
        return [*many[:-2], *entries_of(plan, 2, len(many) - 2, **second), *many[-2:]]

    return change


def on_a_host(direction: StepDirection = "forward", **permit: Any) -> tuple[make.Change, tuple[Any, ...]]:
    """Return a release whose only step is a document of Systems Manager on a host, and its runbook."""
    document = {"connection": "x", "name": "Shop-Flush", "host": HOSTS[1].name, "ask": ["rita"]}
    runbook = planned_steps(service(step(do={"document": document}, way_back="none")), HOSTS, rehearsal=False)

    def change(many: list[make.Step]) -> list[make.Step]:
        return [*many[:9], *entries_of(plan_of(many), 1, 9, direction, permit), *many[9:]]

    return change, runbook


def test_the_permit_of_a_document_on_a_host_names_this_host(tmp_path: Path) -> None:
    change, runbook = on_a_host()
    proven, said = changed(tmp_path, change, runbook=runbook)
    assert proven, said
    change, runbook = on_a_host(hosts=[])
    proven, said = changed(tmp_path / "other", change, runbook=runbook)
    assert not proven
    assert "expected hosts " in said


def without_a_step(many: list[make.Step]) -> list[make.Step]:
    return [*many[:9], *entries_of(plan_of(many), 1, 9), *many[9:]]


def test_a_release_whose_steps_are_done_is_proven(tmp_path: Path) -> None:
    proven, said = changed(tmp_path, doing(), runbook=RUNBOOK)
    assert proven, said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (doing(permitted=False), "(step.ended): expected a permit for this step used before, found none"),
        (doing(begun=0), "(step.ended): expected that its beginning is on record before it, found 0"),
        (doing(ended=2), "(step.ended): expected one end of this step, found a second"),
        (doing(begun=2), "(step.ended): expected that its beginning is on record before it, found 2"),
        (doing(title="Tell nobody"), "(step.ended): expected title Tell the bank, found Tell nobody"),
        (doing(id="9" * 32), "(step.ended): expected a step of the plan, found 999"),
        (doing(permit={"step": "9" * 32}), "expected a permit for a step of the approved plan, found one for 999"),
        (doing(permit={"hosts": ["127.20.0.12"]}), "expected hosts "),
        (doing(permit={"catalogue": "9" * 64}), "expected catalogue "),
        (doing(outcome="failed", why="no"), "release.closed: expected that the step tell is done; found no record"),
        (doing(outcome="left_out"), "expected that a step that was left out did not begin, found 1"),
        (doing(outcome="left_out", begun=0), "expected a step that the plan leaves out, found Tell the bank"),
        (without_a_step, "release.closed: expected that the step tell is done; found no record of that"),
    ],
)
def test_a_step_that_its_record_does_not_bear_out_is_named(tmp_path: Path, change: make.Change, expected: str) -> None:
    proven, said = changed(tmp_path, change, runbook=RUNBOOK)
    assert not proven
    assert expected in said


def back(ways: Callable[[RolloutPlan, int], list[make.Step]]) -> make.Change:
    """Back the release out, with what the steps leave on their ways back."""

    def change(many: list[make.Step]) -> list[make.Step]:
        plan, closed = plan_of(many), many[-1]
        many = doing(outcome="failed", reason="no", why="no")(many)[:-2]
        many += ways(plan, len(many))
        permit = {**make.permit(plan, 1, len(many)), "purpose": "back_out", "wave": None, "id": "e" * 32}
        permit["hosts"] = list(releases.ADDRESSES)
        many += make.issued_and_used(permit, make.signer())
        many.append(("back_out.done", releases.back_out().model_dump(mode="json")))
        return [*many, ("release.closed", {**closed[1], "outcome": "backed_out"})]

    return change


def test_a_release_whose_steps_are_taken_back_is_proven_and_what_stays_is_told(tmp_path: Path) -> None:
    proven, said = changed(tmp_path, back(lambda plan, at: entries_of(plan, 1, at, "back")), runbook=RUNBOOK)
    assert proven, said
    assert "tell has no way back: what it did stays" in said


@pytest.mark.parametrize("why", ["", "the table is locked"])
def test_a_step_that_was_not_taken_back_is_named(tmp_path: Path, why: str) -> None:
    def ways(plan: RolloutPlan, at: int) -> list[make.Step]:
        return entries_of(plan, 1, at, "back", why=why) if why else []

    proven, said = changed(tmp_path, back(ways), runbook=RUNBOOK)
    assert not proven
    assert "release.closed: expected that the step migrate was taken back; found no record" in said


def test_a_rehearsal_leaves_steps_out_and_needs_no_permit(tmp_path: Path) -> None:
    (planned,) = planned_steps(service(step("tell", do=TELL, way_back="none")), HOSTS, rehearsal=True)

    def rehearsed(many: list[make.Step]) -> list[make.Step]:
        id = step_id(plan_of(many).digest, planned, "forward")
        report: StepReport = left_out(planned, "forward", id, planned.left_out)
        return [*many[:-2], ("step.ended", report.to_xcom()), *many[-2:]]

    proven, said = changed(tmp_path, rehearsed, runbook=(planned,))
    assert proven, said


MIGRATES = tuple(one.model_copy(update={"migrates": "shop"} if one.number == 1 else {}) for one in RUNBOOK)


def rehearsed(**changes: Any) -> MigrationRehearsal:
    plan = releases.rollout()
    runs = sorted({one for one in plan.back_out.releases.values() if one})
    usual: dict[str, Any] = {
        "environment": "test",
        "bundle": plan.bundle.sha256,
        "steps": "9" * 64,
        "before": tuple(
            RehearsedVersion(release=one, version="1.0.0", smoked=1, tests=1, rows=releases.blob()) for one in runs
        ),
        "tables": (),
        "seconds": {},
    }
    return MigrationRehearsal(**{**usual, **changes})


def on_record(found: MigrationRehearsal) -> make.Change:
    def change(many: list[make.Step]) -> list[make.Step]:
        done = doing()(many)
        frozen = [kind for kind, _ in done].index("rollout.frozen")
        return [*done[:frozen], ("migration.rehearsed", found.to_xcom()), *done[frozen:]]

    return change


@pytest.mark.parametrize(
    ("planned", "recorded", "expected"),
    [
        (rehearsed(), rehearsed(), ""),
        (rehearsed(), rehearsed(notes=("other",)), "names another rehearsal of database changes"),
        (None, rehearsed(), "names another rehearsal of database changes"),
        (rehearsed(before=()), rehearsed(before=()), "expected a rehearsal with ['"),
        (rehearsed(bundle="8" * 64), rehearsed(bundle="8" * 64), "rehearsal: expected bundle"),
    ],
    ids=["good", "another", "not-in-plan", "without-what-runs", "of-another-bundle"],
)
def test_a_plan_whose_database_changes_were_not_rehearsed_is_named(
    tmp_path: Path, planned: MigrationRehearsal | None, recorded: MigrationRehearsal, expected: str
) -> None:
    proven, said = changed(tmp_path, on_record(recorded), runbook=MIGRATES, migrations=planned)
    assert proven is not bool(expected), said
    assert expected in said
