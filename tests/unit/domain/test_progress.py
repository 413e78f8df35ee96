"""How far a release has come in each environment and in its runbook, by its chain alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from interlock.domain.board.questions import ASK_TESTERS
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import SignOff
from interlock.domain.ledger import kinds
from interlock.domain.ledger.witness import GivenAnswer
from interlock.domain.outcome.progress import EnvironmentProgress, Progress, StepProgress, progress_of
from interlock.domain.records import EnvironmentTested, PathStep, PlannedStep
from interlock.domain.runbook.progress import Ended
from tests.factories import releases
from tests.factories.journeys import Journey, case, defect, emergency, report, result, vote
from tests.unit.domain.samples import book

NAMES = {"rita": "Rita Reyes", "sam": "Sam Novak"}
ALL = ["test", "integration", "user-acceptance", "staging", "production"]


def seen(journey: Journey) -> Progress:
    return progress_of(journey.entries, NAMES)


def one(journey: Journey, environment: str) -> EnvironmentProgress:
    return next(found for found in seen(journey).environments if found.environment == environment)


def states(journey: Journey) -> dict[str, str]:
    return {found.environment: found.state for found in seen(journey).environments}


def step(journey: Journey, number: int) -> StepProgress:
    return seen(journey).steps[number - 1]


def test_nothing_is_known_before_the_policy_is_resolved() -> None:
    assert seen(Journey()) == Progress(environments=(), steps=(), defects=())


def test_the_rehearsal_of_database_changes_is_shown_with_its_copy_and_its_time() -> None:
    assert seen(Journey().planned()).rehearsal is None
    done = seen(Journey().planned().rehearsed()).rehearsal
    assert done is not None
    assert (done.databases, done.tables, done.rows, done.gone) == (("repairs",), 2, 1234, ("old_prices",))
    assert [(each.version, each.smoked, each.tests) for each in done.before] == [("1.9.0", 4, 12)]
    assert (done.environment, done.took, len(done.notes)) == ("test", timedelta(seconds=93), 1)
    first = seen(Journey().planned().rehearsed(before=(), tables=(), notes=())).rehearsal
    assert first is not None
    assert (first.databases, first.before, first.notes) == ((), (), ())


def test_the_whole_path_is_shown_from_the_beginning_in_its_order() -> None:
    journey = Journey().planned()
    assert states(journey) == dict.fromkeys(ALL, "pending")
    assert one(journey, "staging").after == ("integration", "user-acceptance")
    assert one(journey, "integration").beside == ("user-acceptance",)
    assert one(journey, "user-acceptance").beside == ("integration",)
    assert one(journey, "staging").beside == ()


def test_each_environment_goes_its_own_way() -> None:
    journey = Journey().planned().deployed("test").judged("test").deployed("integration")
    journey.tested("user-acceptance")
    assert states(journey) == {
        "test": "passed",
        "integration": "deployed",
        "user-acceptance": "asked",
        "staging": "pending",
        "production": "pending",
    }
    asked = one(journey, "user-acceptance")
    assert asked.hosts is not None
    assert (asked.hosts.done, asked.hosts.of) == (1, 1)
    assert asked.suites is not None
    assert (asked.suites.passed, asked.suites.of) == (5, 5)
    assert asked.report == sha256_of(report("user-acceptance")), "the digest by which the frozen plan names it"
    assert asked.approval is not None
    assert (asked.approval.title, asked.approval.people) == ("User acceptance testers", ("fay", "sam", "dan"))
    assert (asked.approval.quorum, asked.approval.until) == (2, releases.AT + timedelta(days=2))
    assert asked.approval.approved is None
    assert one(journey, "integration").approval is None, "nobody signs it off"


def test_a_sign_off_says_who_decided_what() -> None:
    journey = Journey().planned().deployed("test").judged("test").tested("user-acceptance")
    assert one(journey.signed("user-acceptance"), "user-acceptance").state == "judged"
    approval = one(journey.concluded("user-acceptance"), "user-acceptance").approval
    assert approval is not None
    assert approval.approved is True
    assert [(cast.user, cast.choice, cast.at) for cast in approval.votes] == [
        ("fay", "Approve", releases.AT),
        ("sam", "Approve", releases.AT),
    ]
    refused = Journey().planned().tested("user-acceptance")
    refused.signed("user-acceptance", vote("fay", "Reject"), approved=False)
    found = one(refused, "user-acceptance")
    assert found.state == "rejected"
    assert found.approval is not None
    assert found.approval.approved is False


def test_an_environment_without_hosts_goes_its_way_without_a_deployment() -> None:
    path = (PathStep(environment="lab", after=("test",), sign_off=SignOff(title="Security", people=("cora",))),)
    journey = Journey()
    journey.put(kinds.POLICY_RESOLVED, releases.policy().model_copy(update={"path": path}))
    assert one(journey, "lab").state == "pending"
    judged = releases.quality().model_copy(update={"environment": "lab"})
    journey.put(kinds.PATH_JUDGED, judged)
    assert one(journey, "lab").state == "judged"
    tested = EnvironmentTested(
        environment="lab",
        service="repair-shop",
        version="2.0.0",
        release="2.0.0-a",
        bundle="a" * 64,
        quality=sha256_of(judged),
        requested_by="rita",
        excluded=(),
        decide_by=releases.AT,
    )
    journey.put(kinds.PATH_TESTED, tested)
    asked = one(journey, "lab")
    assert (asked.state, asked.hosts, asked.deployed_at) == ("asked", None, None)


def test_a_sign_off_by_a_role_names_the_people_who_have_it() -> None:
    people = {one.user: one.model_dump(mode="json") for one in book({}).people if one.user in ("ben", "cora")}
    asked = SignOff(title="Testers", roles=(people["ben"]["role"],))
    policy = releases.policy().model_copy(
        update={
            "path": (PathStep(environment="uat", after=("test",), sign_off=asked),),
            "rules": {"board.yaml": {"people": people, "boards": {}, "senior_management": [], "delegates": {}}},
        }
    )
    journey = Journey()
    journey.put(kinds.POLICY_RESOLVED, policy)
    approval = one(journey, "uat").approval
    assert approval is not None
    assert approval.people == ("ben",)


def test_a_soak_is_counted_from_the_deployment_and_ends_with_its_record() -> None:
    journey = Journey().planned().deployed("staging").judged("staging")
    soaking = one(journey, "staging")
    assert soaking.state == "soaking"
    assert soaking.soak is not None
    assert soaking.deployed_at is not None
    assert soaking.soak.until == soaking.deployed_at + timedelta(hours=2)
    assert not soaking.soak.over
    over = one(journey.closed("staging"), "staging")
    assert over.state == "judged"
    assert over.soak is not None
    assert over.soak.over
    assert one(journey.concluded("staging"), "staging").state == "passed"


def test_what_the_policy_leaves_out_says_so_before_the_release_comes_there() -> None:
    journey = Journey(in_force=emergency()).planned()
    left = one(journey, "integration")
    assert left.state == "left_out"
    assert left.left_out == "policy.yaml change_types.emergency.environments names staging only"
    assert one(journey, "staging").state == "pending"
    journey.deployed("staging").judged("staging")
    assert one(journey, "staging").soak is None, "the policy spares this release the soak"


def test_a_rehearsal_goes_to_test_and_nowhere_else() -> None:
    journey = Journey().planned(rehearsal=True, target="test")
    assert [*states(journey)] == ["test", "integration", "user-acceptance", "staging"]
    assert "a rehearsal" in one(journey, "staging").left_out


def test_a_rollback_goes_through_no_environment() -> None:
    journey = Journey()
    journey.put("release.requested", {"service": "repair-shop", "rollback": True})
    journey.put("policy.resolved", journey.in_force)
    journey.put("plan.made", journey.plan)
    assert [*states(journey)] == ["production"]


def test_a_report_with_failures_names_the_suites_and_counts_what_was_waived() -> None:
    journey = Journey().planned().deployed("test").judged("test", releases.failure())
    found = one(journey, "test")
    assert found.state == "not_met"
    assert found.suites is not None
    assert (found.suites.passed, found.suites.failed) == (4, ("Response times and errors",))
    journey.deployed("staging").judged("staging", releases.failure())
    waiver = {"environment": "staging", "expectation": "p95_ms is at most 800"}
    journey.put("path.waived", waiver)
    suites = one(journey, "staging").suites
    assert suites is not None
    assert suites.waived == 1
    assert one(journey, "test").suites == found.suites, "a waiver counts where it was given"


@pytest.mark.parametrize(("environment", "task"), [("test", ASK_TESTERS), ("staging", "quality.staging.run_case")])
def test_test_cases_are_counted_as_answers_come_in_and_by_their_results_in_the_end(environment: str, task: str) -> None:
    cases = [case("basket", environment), case("menu", environment), case("bill", environment)]
    journey = Journey().planned().deployed(environment)
    for number, user in ((0, "sam"), (0, "fay"), (2, "sam")):
        given = GivenAnswer(user=user, task_id=task, map_index=number, choice="Passed")
        journey.put("answer.given", given.model_dump(mode="json"), actor=user)
    other = GivenAnswer(user="sam", task_id="rollout.cast_ballot", map_index=1, choice="Approve")
    journey.put("answer.given", other.model_dump(mode="json"), actor="sam")
    assert one(journey, environment).cases is None, "none are planned"
    tests = Journey().cases(environment, cases, []).entries[0]
    journey.put("test.planned", tests.payload)
    count = one(journey, environment).cases
    assert count is not None
    assert (count.run, count.demanded, count.results) == (2, 3, {})
    journey.cases(environment, cases, [result(cases[0]), result(cases[1], "failed")])
    count = one(journey, environment).cases
    assert count is not None
    assert (count.run, count.demanded) == (2, 3)
    assert count.results == {"passed": 1, "failed": 1, "not_run": 1}


def test_production_is_the_last_environment() -> None:
    journey = Journey().through()
    assert states(journey) == {**dict.fromkeys(ALL, "passed"), "production": "asked"}
    journey.approved().wave(1, 1)
    production = one(journey, "production")
    assert production.state == "deployed"
    assert production.hosts is not None
    assert (production.hosts.done, production.hosts.of) == (1, 3)
    journey.wave(2, 2, 3, outcome="failed")
    hosts = one(journey, "production").hosts
    assert hosts is not None
    assert (hosts.done, hosts.failed) == (1, ("127.20.0.12", "127.20.0.13"))
    journey.put("back_out.done", releases.back_out())
    assert one(journey, "production").state == "backed_out"


def test_a_release_that_the_board_rejected_stays_out_of_production() -> None:
    journey = Journey().through()
    refused = releases.decision("board", digest=journey.rollout.digest, approved=False, reason="Rejected by cora.")
    journey.put("board.decided", refused, board=None)
    assert one(journey, "production").state == "rejected"


def test_steps_are_planned_against_actual() -> None:
    journey = Journey().through()
    tell, expand, contract = seen(journey).steps
    assert (tell.when, tell.kind, tell.estimate) == ("before the first wave", "manual", timedelta(minutes=10))
    assert "by hand: Rita Reyes or Sam Novak" in tell.does
    assert (expand.needs, expand.irreversible) == (("Tell the bank that payments pause",), False)
    assert "scripts/back.sh" in expand.way_back
    assert (contract.irreversible, contract.way_back) == (True, "none: it cannot be taken back")
    assert [found.runs for found in (tell, expand, contract)] == [(), (), ()]
    (running,) = step(journey.step_begun(1), 1).runs
    assert (running.outcome, running.ended_at) == ("running", None)
    assert running.began_at is not None
    assert running.until == running.began_at + timedelta(hours=4)
    (done,) = step(journey.step_ended(1, Ended(by="sam", evidence="INC-7")), 1).runs
    assert (done.outcome, done.by, done.evidence) == ("done", "sam", "INC-7")
    journey.step_begun(2).step_ended(2, Ended("the disk is full"))
    journey.step_begun(1, "back")
    forward, back = step(journey, 1).runs
    assert (forward.direction, back.direction, back.outcome) == ("forward", "back", "running")
    assert step(journey, 2).runs[0].reason == "the disk is full"


def test_steps_of_a_plan_that_was_frozen_anew_begin_anew() -> None:
    journey = Journey().through().step_begun(1)
    journey.frozen(summary="Another")
    assert step(journey, 1).runs == ()


def lines(journey: Journey) -> dict[str, Any]:
    return {found.id: found.state for found in seen(journey).defects}


def test_what_one_environment_proves_to_be_fixed_is_fixed() -> None:
    journey = Journey().planned().judged("test", defects=(defect("total-1", "open"), defect("menu-1", "open")))
    assert lines(journey) == {"total-1": "open", "menu-1": "open"}
    journey.judged("user-acceptance", defects=(defect("total-1", "fixed"), defect("menu-1", "accepted")))
    journey.judged("staging", defects=(defect("total-1", "open"), defect("bill-1", "new")))
    assert lines(journey) == {"total-1": "fixed", "menu-1": "accepted", "bill-1": "new"}


@pytest.mark.parametrize(
    ("do", "does", "way_back"),
    [
        ({"dag_run": {"dag": "refresh"}}, "a run of the Dag refresh", "none: it cannot be taken back"),
        (
            {"document": {"name": "AWS-RestartApp", "connection": "shop_aws"}},
            "the Systems Manager document AWS-RestartApp",
            "none: it cannot be taken back",
        ),
        (
            {"function": {"name": "switch", "connection": "shop_aws", "ask": ["sam"]}},
            "the Lambda function switch, $LATEST; asked if in doubt: Sam Novak",
            "none: it cannot be taken back",
        ),
        (
            {"snapshot": {"instance": "shop", "connection": "shop_aws"}},
            "a snapshot of the database shop",
            "none: it changes nothing",
        ),
    ],
    ids=["dag_run", "document", "function", "snapshot"],
)
def test_steps_of_every_kind_are_described(do: dict[str, Any], does: str, way_back: str) -> None:
    about = {"number": 1, "name": "one", "title": "One", "when": "before", "estimate": "PT1M", "way_back": None}
    journey = Journey().planned().frozen(runbook=(PlannedStep.model_validate({**about, "do": do}),))
    found = step(journey, 1)
    assert (found.kind, found.does, found.way_back) == (*do, does, way_back)
    assert found.irreversible == ("snapshot" not in do)
