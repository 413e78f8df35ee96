"""What stages hand on: XComs, edited where nobody guards them, in Airflow's database and at the API that tasks use."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.people import DAG, Release, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import APPROVER, NEW, OTHER_PLAN, TAMPERED, approved, as_task, go, reason_of
from .suite import FREE, OWNER, attack, case

pytestmark = pytest.mark.timeout(1800)
DECIDE, FREEZE, BASELINE = "acceptance.decide_acceptance", "rollout.freeze_plan", "implementation.measure_baseline"
ASSETS = "design.check_assets"
BOOKING = "implementation.book_environment"
NOT_ON_RECORD = "the next task compares it with what the stage left in the ledger, and leaves a finding"


def of_owner(what: str, *values: Any) -> Any:
    """Return a case: the superuser of Airflow's database edits an XCom."""
    return case(*values, what=what, by=OWNER, way="database", stopped=NOT_ON_RECORD)


def edited(value: Any, change: dict[str, Any]) -> Any:
    """Return a record with some of its fields changed, each by its dotted path."""
    if not isinstance(value, dict):
        return change
    result = dict(value)
    for path, new in change.items():
        head, _, rest = path.partition(".")
        result[head] = edited(result[head], {rest: new}) if rest else new
    return result


@pytest.fixture(scope="module")
def misread(stack: Stack, database: AirflowDatabase) -> Release:
    """A release whose quality report was edited while it was being accepted; it has ended."""
    release = stack.person("rita").release(NEW)
    until("the approver to be asked", lambda: release.states().get(APPROVER) == "awaiting_input")
    report = database.xcom(release, "quality.judge_quality")
    TAMPERED["a report"] = release
    database.write_xcom(release, "quality.judge_quality", {**report, "docs": "file:///tmp/another"})
    stack.person("fay").decide(release, APPROVER, "Approve", "Works as we asked")
    release.finish()
    database.write_xcom(release, "quality.judge_quality", report)
    return release


@attack(
    "edit the XCom of the quality report while the release is accepted", by=OWNER, way="database", stopped=NOT_ON_RECORD
)
def test_a_release_with_an_edited_report_ends(misread: Release) -> None:
    assert misread.state == "failed"
    outcome = misread.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "acceptance")
    assert "received a QualityReport that differs from the record in the ledger" in outcome["reason"]
    assert "an edited XCom is void" in outcome["reason"]
    assert any("QualityReport" in what for what in wave.findings(misread))


@pytest.mark.parametrize(
    ("task", "change", "kind"),
    [
        of_owner(
            "edit the XCom of the release plan: another requester",
            "planning.plan_release",
            {"requested_by": "maya"},
            "ReleasePlan",
        ),
        of_owner(
            "edit the XCom of the release plan: another target",
            "planning.plan_release",
            {"target": "production", "rehearsal": True},
            "ReleasePlan",
        ),
        of_owner(
            "edit the XCom of the artifact: another digest",
            "build.build_artifact",
            {"bundle.sha256": OTHER_PLAN},
            "Artifact",
        ),
        of_owner(
            "edit the XCom of the policy: no board",
            "policy.resolve_policy",
            {"flow.board": None, "flow.acceptance": False},
            "PolicyInForce",
        ),
    ],
)
def test_an_edited_record_is_void(
    misread: Release, database: AirflowDatabase, task: str, change: dict[str, Any], kind: str
) -> None:
    refused_after_edit(misread, database, task, change, kind, consumer=DECIDE)


@attack("edit the XCom of the hosts before the plan is frozen", by=OWNER, way="database", stopped=NOT_ON_RECORD)
def test_edited_hosts_are_void(stack: Stack, misread: Release, database: AirflowDatabase) -> None:
    misread.finish()  # it would be in the way
    release = stack.person("rita").release(NEW)
    until("the hosts to be found", lambda: release.states().get(ASSETS) == "success")
    report = database.xcom(release, ASSETS)
    hosts = {**report["hosts"], "production": report["hosts"]["test"]}
    database.write_xcom(release, ASSETS, {**report, "hosts": hosts})
    TAMPERED["the hosts"] = release
    assert release.finish() == "failed"
    assert "received a AssetReport that differs from the record in the ledger" in release.outcome()["reason"]
    assert any("AssetReport" in what for what in wave.findings(release))


def refused_after_edit(
    release: Release, database: AirflowDatabase, task: str, change: dict[str, Any], kind: str, *, consumer: str
) -> None:
    """Edit an XCom of a release, have Airflow run its consumer, and check that this is found and refused."""
    before = database.xcom(release, task)
    found = len(wave.findings(release))
    database.write_xcom(release, task, edited(before, change))
    try:
        database.run_again(release, consumer)
        until(f"{consumer} to refuse", lambda: release.states()[consumer] == "failed")
        reason = reason_of(release, consumer)
    finally:
        database.write_xcom(release, task, before)
        release.finish()
    assert f"received a {kind} that differs from the record in the ledger" in reason, reason
    assert "trigger the release again" in reason
    assert len(wave.findings(release)) == found + 1


# --- the frozen plan, when the board has approved it -----------------------------------------------------------------


@pytest.fixture(scope="module")
def misled(stack: Stack, database: AirflowDatabase) -> Release:
    """An approved release whose plan was replaced in its own task's name, at the API that tasks use; it has ended."""
    release = approved(stack)
    plan = database.xcom(release, FREEZE)
    everywhere = edited(plan, {"waves": [[host for each in plan["waves"] for host in each], []]})
    path = f"xcoms/{DAG}/{release.id}/{FREEZE}/return_value"
    for task in ("closure.pack_evidence", "rollout.prepare_ballots"):
        reply = as_task(stack, "POST", path, database.instance(release, task), everywhere)
        assert reply.status_code == 403, reply.text
        assert database.xcom(release, FREEZE) == plan
    reply = as_task(stack, "POST", path, database.instance(release, FREEZE), everywhere)
    TAMPERED["a plan"] = release
    assert reply.is_success, reply.text
    assert database.xcom(release, FREEZE) != plan
    go(stack, release)
    release.finish()
    database.write_xcom(release, FREEZE, plan)
    return release


@attack(
    "write the XCom of the frozen plan as another task, which is refused, and in its own task's name, after the vote",
    by=FREE,
    way="API",
    stopped=NOT_ON_RECORD,
)
def test_a_release_with_another_plan_ends(misled: Release) -> None:
    assert misled.state == "failed"
    outcome = misled.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "implementation")
    assert "received a RolloutPlan that differs from the record in the ledger" in outcome["reason"]
    assert any("RolloutPlan" in what for what in wave.findings(misled))
    assert "The release has a finding" in wave.refusal(misled)


@pytest.mark.parametrize(
    ("change", "consumer"),
    [
        of_owner(
            "edit the XCom of the frozen plan: a rehearsal in production asks no board", {"rehearsal": True}, BOOKING
        ),
        of_owner("edit the XCom of the frozen plan: an earlier start", {"not_before": "2026-01-01T00:00:00Z"}, BOOKING),
        of_owner(
            "edit the XCom of the frozen plan: another bundle", {"bundle.sha256": OTHER_PLAN}, "implementation.wave_1"
        ),
        of_owner(
            "edit the XCom of the frozen plan: test in production's place",
            {"environment": "test", "rehearsal": True},
            "implementation.wave_1",
        ),
    ],
)
def test_an_edited_plan_is_void(
    misled: Release, database: AirflowDatabase, change: dict[str, Any], consumer: str
) -> None:
    if consumer != BOOKING:
        database.set_state(misled, "success", BOOKING, BASELINE)
    refused_after_edit(misled, database, FREEZE, change, "RolloutPlan", consumer=consumer)


@attack("edit the XCom of the board's decision", by=OWNER, way="database", stopped=NOT_ON_RECORD)
def test_an_edited_decision_is_void(misled: Release, database: AirflowDatabase) -> None:
    change = {"digest": OTHER_PLAN, "reason": "Everybody is in favour."}
    refused_after_edit(
        misled, database, "rollout.await_board", change, "Decision", consumer="communication.write_notes"
    )
