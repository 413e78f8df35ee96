"""Test cases that people run: planned from the repository, asked for, and recorded with who, when and on what."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.signing.signing import Signer
from interlock.adapters.signing.witness import as_witnessed
from interlock.domain.board.questions import ASK_TESTERS
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.policy import resolve_policy
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import (
    ARTIFACT_BUILT,
    CASE_ATTACHED,
    CASE_TESTED,
    DEFECT_OPENED,
    PATH_DEPLOYED,
    PLAN_MADE,
    POLICY_RESOLVED,
    QUESTION_WORDED,
    TEST_DEPLOYED,
    TEST_PLANNED,
)
from interlock.domain.quality.rows import rows_from_json
from interlock.domain.records import CaseRuns, PolicyInForce, ReleasePlan
from interlock.domain.testing.attachments import Attachment
from interlock.domain.testing.defects import new_defects
from interlock.domain.testing.planning import PlannedCase, TestPlan
from interlock.domain.testing.results import CaseRow
from interlock.locations import CATALOGUE
from interlock.stages.runtime import resources
from interlock.stages.testing import cases
from tests.airflow_server import RUN, AirflowServer
from tests.factories import evidence as make
from tests.factories import releases
from tests.git_project import GitProject, git_project
from tests.mailbox import Mailbox
from tests.running_task import RunningTask
from tests.unit.domain.test_test_matrix import result
from tests.witness import SIGNER

CASES = """\
cases:
  - id: basket-total
    title: The basket adds up
    proves: [SHOP-41]
    component: basket
    role: shop-tester
    severity: critical
    steps: [Add two bikes to the basket.]
    expected: The total is the sum of both prices.
  - id: repairs
    title: A repair can be booked
    component: repairs
    role: shop-tester
    steps: [Book a repair.]
    expected: It is on the list.
  - id: headings
    title: Each page has a heading
    role: shop-floor
    steps: [Look at each page.]
    expected: It has one.
"""
EXPECTED = "The total is the sum of both prices."
RULES = {
    "repository": ["qa/cases.yaml"],
    "components": {"basket": ["shop/basket*"], "repairs": ["shop/repairs*"]},
    "testers": {"shop-tester": ["sam", "audrey"], "shop-floor": ["sam"]},
    "within": "P2D",
    "defects_to": ["team@example.com"],
}
ARTIFACT = releases.artifact()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The bike shop with test cases, in a catalogue and a repository of the test's own; return its commits."""
    catalogue = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    path = catalogue / "services" / "bike-shop.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "cases": RULES}, sort_keys=False))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(catalogue))
    made = git_project(tmp_path / "shop")
    commits = {"1.0.0": made.commit({"qa/cases.yaml": CASES, "shop/basket.py": "1", "shop/repairs.py": "1"})}
    commits["1.1.0"] = made.commit({"shop/basket.py": "2"})
    commits["broken"] = made.commit({"qa/cases.yaml": CASES.replace("role: shop-floor", "role: shop-flour")})
    source = {"conn_type": "git", "host": str(tmp_path / "shop")}
    monkeypatch.setenv("AIRFLOW_CONN_BIKE_SHOP_SOURCE", json.dumps(source))
    store = ArtifactStore(Folder(tmp_path / "store"))
    monkeypatch.setattr(resources, "store", lambda: store)
    return commits


@pytest.fixture
def _state(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    state = SimpleNamespace(get=kept.get, set=kept.__setitem__)
    monkeypatch.setattr(cases, "get_current_context", lambda: {"task_state_store": state})
    monkeypatch.setattr(cases, "before_asking", lambda *_: "")


def plan_of(project: dict[str, str], **changes: Any) -> ReleasePlan:
    usual = {"commit": releases.commit(sha=project["1.1.0"]), "previous_commit": project["1.0.0"], "tickets": ()}
    return releases.plan(**{**usual, **changes})


def in_force_of(kind: ChangeType = ChangeType.NORMAL) -> PolicyInForce:
    policy, _, service = resources.catalogue_of("bike-shop")
    return resolve_policy(policy, service, kind)


def planned(running: RunningTask, plan: ReleasePlan) -> tuple[TestPlan, dict[str, PlannedCase]]:
    in_force = in_force_of()
    for kind, one in ((POLICY_RESOLVED, in_force), (PLAN_MADE, plan), (ARTIFACT_BUILT, ARTIFACT)):
        running.knows(kind, one)
    found = TestPlan.from_xcom(cases.plan_cases.function("bike-shop", "test", in_force, plan, ARTIFACT))
    rows = rows_from_json(PlannedCase, resources.store().get_bytes(found.cases))
    return found, {row.case.id: row for row in rows}


def test_what_must_be_run_follows_from_the_commit_that_is_released(
    running: RunningTask, project: dict[str, str]
) -> None:
    tests, found = planned(running, plan_of(project, tickets=("SHOP-99",)))
    assert {name: one.because for name, one in found.items()} == {
        "basket-total": ("the release changes basket",),
        "repairs": (),
        "headings": ("it concerns every release",),
    }
    assert (tests.demanded, tests.left_out, tests.unproven) == (2, 1, ("SHOP-99",))
    assert tests.artifact == ARTIFACT.bundle.sha256
    assert tests.files.keys() == {"qa/cases.yaml"}


def test_of_a_first_release_everything_must_be_run(running: RunningTask, project: dict[str, str]) -> None:
    assert planned(running, plan_of(project, previous_commit=None))[0].demanded == 3


def test_a_rehearsal_asks_nobody(running: RunningTask, project: dict[str, str]) -> None:
    assert planned(running, plan_of(project, rehearsal=True, target="test"))[0].demanded == 0


def test_a_file_with_a_mistake_ends_the_release_with_its_line(running: RunningTask, project: dict[str, str]) -> None:
    plan = plan_of(project, commit=releases.commit(sha=project["broken"]))
    with pytest.raises(AirflowFailException, match=r'line 18, cases\.2\.role: found "shop-flour"; allowed: one of'):
        planned(running, plan)


def test_who_asked_for_the_release_or_wrote_it_does_not_run_its_cases(
    running: RunningTask, project: dict[str, str]
) -> None:
    plan = plan_of(project, authors=("sam@example.com",), tickets=("shop-41",))
    with pytest.raises(AirflowFailException, match=r"Nobody may run the test case headings.*sam: wrote a commit"):
        planned(running, plan)
    with pytest.raises(
        AirflowFailException, match=r"Nobody may run the test case headings.*sam: requested the release"
    ):
        planned(running, plan_of(project, requested_by="sam"))


def asked(running: RunningTask, project: dict[str, str]) -> tuple[ReleasePlan, TestPlan, list[dict[str, Any]]]:
    plan = plan_of(project)
    tests, _ = planned(running, plan)
    deployment = releases.deployment()
    running.knows(TEST_DEPLOYED, deployment)
    return plan, tests, cases.prepare_cases.function("bike-shop", plan, tests, deployment)


@pytest.mark.usefixtures("_state")
def test_each_tester_gets_one_mail_and_each_case_is_a_question(
    running: RunningTask, project: dict[str, str], mailbox: Mailbox
) -> None:
    _, _, questions = asked(running, project)
    assert [question["subject"] for question in questions] == [
        "The basket adds up (basket-total): Bike shop 1.1.0 in test",
        "Each page has a heading (headings): Bike shop 1.1.0 in test",
    ]
    assert [[user["id"] for user in one["assigned_users"]] for one in questions] == [
        ["sam", "audrey", "board_clerk"],
        ["sam", "board_clerk"],
    ]
    assert "Add two bikes to the basket." in questions[0]["body"]
    assert ARTIFACT.bundle.sha256 in questions[0]["body"]
    assert "| 2 | Expected: " in questions[0]["body"], "a tester says at which number it failed"
    assert Counter(mailbox.to) == {"sam": 1, "audrey": 1}
    assert "has 2 test cases for you" in mailbox.words(mailbox.to.index("sam"))
    asked(running, project)
    assert len(mailbox.to) == 2, "a retry sends no mail again"


def attached_payload(name: str, tests: TestPlan, *, by: str = "sam", signer: Signer = SIGNER) -> dict[str, Any]:
    """Return what the API server records of a file that a tester attached to the case of the basket."""
    (basket, *_) = cases.planned_cases(tests)
    file = Attachment(
        environment="test",
        case=basket.case.id,
        by=by,
        name=name,
        kind="png",
        file=releases.blob(name),
        binds=basket.digest(tests.artifact),
    )
    return as_witnessed(CASE_ATTACHED, release_chain(*RUN), file, RunningTask.began, signer)


@pytest.mark.usefixtures("_state")
def test_each_result_is_recorded_with_who_when_and_on_which_artifact(
    running: RunningTask, project: dict[str, str], airflow: AirflowServer, mailbox: Mailbox
) -> None:
    plan, tests, questions = asked(running, project)
    assigned = [question["assigned_users"] for question in questions]
    open_ = [
        airflow.ask(
            ASK_TESTERS,
            "sam",
            body=one["body"],
            map_index=index,
            subject=one["subject"],
            assigned_users=assigned[index],
        )
        for index, one in enumerate(questions)
    ]
    said = {"comment": "It says 0", "evidence": "https://files.example/basket.png"}
    forged = attached_payload("forged.png", tests, by="audrey", signer=make.signer(9))
    for payload in (attached_payload("shot.png", tests, by="audrey"), attached_payload("of-sam.png", tests), forged):
        running.recorded.append((CASE_ATTACHED, payload))
    airflow.answer(open_[0], "audrey", "Failed", params_input={**said, "step": "2", "defect": "basket-total-7"})
    results = CaseRuns.from_xcom(cases.record_cases.function("bike-shop", in_force_of(), plan, tests))
    (payload,) = [payload for kind, payload in running.recorded if kind == CASE_TESTED]
    assert {key: payload[key] for key in ("case", "result", "by", "severity", "comment", "evidence", "artifact")} == {
        "case": "basket-total",
        "result": "failed",
        "by": "audrey",
        "severity": "critical",
        **said,
        "artifact": ARTIFACT.bundle.sha256,
    }
    assert (payload["step"], payload["defect"]) == (EXPECTED, "basket-total-7")
    assert [one["name"] for one in payload["files"]] == ["shot.png"], "what audrey attached at Airflow's API server"
    assert payload["at"] == open_[0]["responded_at"].replace("+00:00", "Z")
    assert results.counts == {"failed": 1, "not_run": 1}
    (defect,) = [payload for kind, payload in running.recorded if kind == DEFECT_OPENED]
    assert {key: defect[key] for key in ("id", "severity", "environment", "found_by", "owner", "version")} == {
        "id": "basket-total-1",
        "severity": "critical",
        "environment": "test",
        "found_by": "audrey",
        "owner": "the bike shop's development team",
        "version": "1.1.0",
    }
    assert defect["files"] == payload["files"]
    told = mailbox.words(mailbox.to.index("team"))
    for part in (
        "basket-total-1",
        "severity critical, in test",
        f"Failed at: {EXPECTED}",
        "What happened: It says 0",
        "shot.png",
    ):
        assert part in told, part
    again = cases.record_cases.function("bike-shop", in_force_of(), plan, tests)
    assert CaseRuns.from_xcom(again) == results
    assert len([kind for kind, _ in running.recorded if kind == DEFECT_OPENED]) == 1
    assert mailbox.to.count("team") == 1, "a retry opens no defect and sends no mail again"
    rows = {row.case: row for row in rows_from_json(CaseRow, resources.store().get_bytes(results.rows))}
    assert (rows["basket-total"].by, rows["headings"].result) == ("audrey", "not_run")


@pytest.mark.usefixtures("_state", "mailbox")
def test_an_answer_of_the_clerk_is_no_result(
    running: RunningTask, project: dict[str, str], airflow: AirflowServer
) -> None:
    plan, tests, questions = asked(running, project)
    first = airflow.ask(ASK_TESTERS, "sam", **{key: questions[0][key] for key in ("subject", "body", "assigned_users")})
    airflow.answer(first, "board_clerk", "Blocked", "Closed by board_clerk")
    results = CaseRuns.from_xcom(cases.record_cases.function("bike-shop", in_force_of(), plan, tests))
    assert results.counts == {"not_run": 2}


def test_a_case_with_an_open_defect_must_be_run_again(running: RunningTask, project: dict[str, str]) -> None:
    found = result("repairs", "failed")
    opened = new_defects(
        [],
        [found.model_copy(update={"step": "Open /"})],
        service="bike-shop",
        owner="us",
        version="1.0.0",
        release="r0",
    )
    running.knows(DEFECT_OPENED, opened[0])
    _, planned_ = planned(running, plan_of(project))
    assert planned_["repairs"].because == ("the defect repairs-1 is open",)


UAT = {
    "after": ["test"],
    "hosts": {"Service": "bike-shop", "Environment": "uat"},
    "count": 1,
    "ssh": "interlock_test_hosts",
    "deploy_root": "srv/bike-shop",
}


@pytest.fixture
def on_path(project: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The bike shop with an environment between test and production, where the case of the basket is run."""
    path = tmp_path / "catalogue" / "services" / "bike-shop.yaml"
    data = yaml.safe_load(path.read_text())
    data["environments"]["uat"] = UAT
    data["cases"]["testers"]["uat-tester"] = ["audrey"]
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    severe = "    role: shop-tester\n    severity"
    assert severe in CASES
    made = GitProject(tmp_path / "shop", count=4)
    text = CASES.replace(severe, "    environment: uat\n    role: uat-tester\n    severity")
    return {**project, "1.1.0": made.commit({"qa/cases.yaml": text})}


@pytest.mark.usefixtures("_state")
def test_each_environment_before_production_asks_its_own_cases(
    running: RunningTask, on_path: dict[str, str], airflow: AirflowServer, mailbox: Mailbox
) -> None:
    plan, in_force = plan_of(on_path, tickets=("SHOP-41", "SHOP-99")), in_force_of()
    on_test, _ = planned(running, plan)
    assert on_test.unproven == ("SHOP-99",), "a case of uat proves the other"
    uat = TestPlan.from_xcom(cases.plan_cases.function("bike-shop", "uat", in_force, plan, ARTIFACT))
    deployment = releases.deployment().model_copy(update={"environment": "uat"})
    running.knows(PATH_DEPLOYED, deployment)
    (asked,) = cases.prepare_cases.function("bike-shop", plan, uat, deployment)
    assert asked["subject"] == "The basket adds up (basket-total): Bike shop 1.1.0 in uat"
    (worded,) = [payload for kind, payload in running.recorded if kind == QUESTION_WORDED]
    assert worded["task_id"] == "quality.uat.run_case"
    about = {key: asked[key] for key in ("subject", "body", "assigned_users")}
    airflow.answer(airflow.ask("quality.uat.run_case", "sam", **about), "audrey", "Failed", "It says 0")
    results = CaseRuns.from_xcom(cases.record_cases.function("bike-shop", in_force, plan, uat))
    assert (results.environment, results.counts) == ("uat", {"failed": 1})
    (defect,) = [payload for kind, payload in running.recorded if kind == DEFECT_OPENED]
    assert (defect["id"], defect["environment"]) == ("basket-total-1", "uat")
    assert mailbox.messages[-1][1]["Subject"] == "Bike shop 1.1.0: 1 test case failed in uat"


def test_who_may_run_the_cases_of_later_environments_is_known_before_the_first(
    running: RunningTask, on_path: dict[str, str]
) -> None:
    plan = plan_of(on_path, requested_by="audrey")
    with pytest.raises(AirflowFailException, match="Nobody may run the test case basket-total"):
        planned(running, plan)


def test_results_of_another_plan_are_refused(running: RunningTask, project: dict[str, str]) -> None:
    tests, _ = planned(running, plan := plan_of(project))
    running.knows(TEST_PLANNED, tests)
    other = tests.model_copy(update={"artifact": "0" * 64})
    with pytest.raises(AirflowFailException, match="received a TestPlan that differs from the record in the ledger"):
        cases.record_cases.function("bike-shop", in_force_of(), plan, other)
