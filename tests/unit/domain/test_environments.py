"""The environments between test and production: which a release goes through, and what a permit proves of each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from interlock.domain.board.decision import count_votes
from interlock.domain.board.voting import sign_off_rule
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, Policy, Service, Tightening
from interlock.domain.catalogue.environment_path import later_on_path
from interlock.domain.change.environments import (
    Stop,
    refusals_of_environment,
    steps_of,
    stops_of,
    thresholds_in,
)
from interlock.domain.change.policy import resolve_policy
from interlock.domain.errors import PolicyViolation
from interlock.domain.permits.objections import FoundOnPath
from interlock.domain.records import (
    CaseRuns,
    Decision,
    DefectLine,
    EnvironmentPassed,
    EnvironmentTested,
    QualityReport,
    RollBack,
    RolloutPlan,
    SoakReport,
)
from tests.factories import releases
from tests.unit.domain.samples import FLOWS, book, policy, service, vote
from tests.unit.domain.test_catalogue_models import SIGN_OFF, environments, suites
from tests.unit.domain.test_permit import FAILURE, NOW, OTHER, planned, report, said, waiver

TWO_HOURS = timedelta(hours=2)


def shop(**changes: Any) -> Service:
    between: dict[str, Any] = {
        "integration": {"after": ["test"]},
        "uat": {"after": ["test"], "sign_off": SIGN_OFF},
        "staging": {"after": ["integration", "uat"], "soak": "PT2H"},
        **changes,
    }
    return service(environments=environments(**between), suites=suites("api"))


def flows(kind: str, **more: Any) -> Policy:
    return policy(change_types={**FLOWS, kind: {**FLOWS.get(kind, {}), **more}})


def stops(rules: Policy, kind: str = "normal", step: Any = "minor", **more: Any) -> dict[str, Stop]:
    found = stops_of(rules, shop(), change_type=ChangeType(kind), step=step, **more)
    return {one.environment: one for one in found}


# --- through which a release goes ------------------------------------------------------------------------------------


def test_a_release_goes_through_all_environments_of_its_service() -> None:
    found = stops(policy())
    assert list(found) == ["integration", "uat", "staging"]
    assert not any(one.left_out for one in found.values())
    assert [one.soak for one in found.values()] == [None, None, TWO_HOURS]
    assert stops_of(policy(), service(), change_type=ChangeType.NORMAL, step="minor") == ()


def test_the_policy_lets_a_change_type_go_over_some_only() -> None:
    found = stops(flows("emergency", environments=["staging"]), "emergency")
    why = "policy.yaml change_types.emergency.environments names staging only"
    assert [one.left_out for one in found.values()] == [why, why, ""]
    assert not any(one.left_out for one in stops(flows("emergency", environments=["staging"])).values())
    assert all(one.left_out for one in stops(flows("emergency", environments=["test"]), "emergency").values())


def test_a_policy_that_names_none_of_the_environments_shortens_nothing() -> None:
    found = stops(flows("emergency", environments=["stagging"]), "emergency")
    assert not any(one.left_out for one in found.values())


def test_the_policy_lets_a_step_skip_the_soak_and_an_unknown_step_soaks() -> None:
    rules = flows("normal", without_soak=["patch"])
    assert [stops(rules, step=step)["staging"].soak for step in ("patch", "minor", None)] == [
        None,
        TWO_HOURS,
        TWO_HOURS,
    ]


def test_lower_levels_make_the_path_longer_again_and_never_shorter() -> None:
    def stops_for(rules: Policy, **asked: list[str]) -> dict[str, tuple[bool, timedelta | None]]:
        asking = shop().model_copy(update={"policy": Tightening.model_validate({"change_types": {"normal": asked}})})
        found = stops_of(rules, asking, change_type=ChangeType.NORMAL, step="patch")
        return {one.environment: (bool(one.left_out), one.soak) for one in found}

    shorter = flows("normal", environments=["staging"], without_soak=["patch", "same"])
    assert stops_for(shorter) == {"integration": (True, None), "uat": (True, None), "staging": (False, None)}
    assert stops_for(shorter, environments=["uat"], without_soak=["same"]) == {
        "integration": (True, None),
        "uat": (False, None),
        "staging": (False, TWO_HOURS),
    }
    for asked in ({"without_soak": ["minor"]}, {"without_soak": ["patch", "minor"]}):
        with pytest.raises(PolicyViolation, match="allowed is some of patch, same"):
            stops_for(shorter, **asked)
    for asked in ({"without_soak": ["patch"]}, {"environments": ["staging"]}):
        with pytest.raises(PolicyViolation, match="the level above makes the path of no release shorter"):
            stops_for(policy(), **asked)


def test_a_rehearsal_goes_to_test_and_nowhere_else() -> None:
    assert all(one.left_out for one in stops(policy(), rehearsal=True).values())


def test_thresholds_of_an_environment_may_only_tighten() -> None:
    tight, loose = ({"after": ["test"], "thresholds": {"max_p95_ms": value}} for value in (100, 5000))
    assert thresholds_in(policy(), shop(uat=tight), "uat").max_p95_ms == 100
    assert thresholds_in(policy(), shop(uat=tight), "staging").max_p95_ms == 1000
    assert refusals_of_environment(policy(), shop(uat=tight), "uat") == []
    (refused,) = refusals_of_environment(policy(), shop(uat=loose), "uat")
    assert str(refused) == (
        "services/bike-shop.yaml environments.uat sets max_p95_ms to 5000; allowed is 1000 or less, as policy.yaml "
        "has it"
    )
    with pytest.raises(PolicyViolation, match="max_p95_ms to 5000"):
        thresholds_in(policy(), shop(uat=loose), "uat")


def test_the_policy_in_force_names_the_path_and_is_what_it_was_without_one() -> None:
    plain = resolve_policy(policy(), service(), ChangeType.NORMAL)
    assert "path" not in plain.model_dump(mode="json")
    assert not {"change_types.normal.environments", "change_types.normal.without_soak"} & {*plain.further_sources}
    found = resolve_policy(policy(), shop(), ChangeType.NORMAL, steps_of(shop()))
    assert found.path is not None
    assert [(one.environment, one.after) for one in found.path] == [
        ("integration", ("test",)),
        ("uat", ("test",)),
        ("staging", ("integration", "uat")),
    ]
    assert found.digest != resolve_policy(policy(), shop(), ChangeType.NORMAL).digest


# --- the sign-off ----------------------------------------------------------------------------------------------------


def test_an_environment_is_signed_off_by_its_quorum_and_not_by_who_asked_for_the_release() -> None:
    people = book({"cab": {"title": "CAB", "members": ["ben"], "quorum": {"approvals": 1}}})
    rule = sign_off_rule(people, shop(), "uat")
    assert rule is not None
    assert sign_off_rule(people, shop(), "staging") is None

    def decided(*votes: Any, requester: str = "rita", excluded: tuple[str, ...] = ()) -> Decision:
        found = count_votes(
            rule, votes, digest=OTHER, requester=requester, excluded=excluded, expired=True, subject="sign_off"
        )
        assert found is not None
        return found

    both = (vote("ben", "Approve"), vote("cora", "Approve"))
    found = decided(*both)
    assert (found.subject, found.approved) == ("sign_off", True)
    assert found.reason.startswith("User acceptance testers: approved by ")
    assert not decided(both[0]).approved
    assert not decided(both[0], vote("dan", "Approve")).approved
    assert not decided(*both, requester="cora").approved
    assert not decided(*both, excluded=("ben",)).approved


# --- what a permit proves --------------------------------------------------------------------------------------------


def of_uat(*failures: Any) -> QualityReport:
    return report(*failures).model_copy(update={"environment": "uat"})


def came_to(plan: RolloutPlan, **changes: Any) -> EnvironmentTested:
    fields: dict[str, Any] = {
        "environment": "uat",
        "service": plan.service,
        "version": plan.version,
        "release": plan.release,
        "bundle": plan.bundle.sha256,
        "quality": sha256_of(of_uat()),
        "soak": SoakReport(
            environment="uat", release=plan.release, since=NOW - TWO_HOURS, until=NOW, hosts=("127.20.0.51",)
        ),
        "requested_by": "rita",
        "decide_by": NOW,
    }
    return EnvironmentTested(**{**fields, **changes})


CASES = CaseRuns(environment="uat", artifact="a" * 64, rows=releases.blob("rows"), counts={"passed": 1})
TESTED = came_to(planned())
PASSED = EnvironmentPassed(environment="uat", tested=TESTED.digest, quality=TESTED.quality)
PLAN = planned(environments=(PASSED,))
SIGNED = Decision(subject="sign_off", digest=TESTED.digest, approved=True, required=True, reason="Ben and Cora.")


def found(**changes: Any) -> FoundOnPath:
    """What is found of the one environment when all is as it should be."""
    fields: dict[str, Any] = {
        "environment": "uat",
        "soak": TWO_HOURS,
        "must_be_signed": True,
        "passed": PASSED,
        "tested": TESTED,
        "quality": of_uat(),
        "decision": SIGNED,
    }
    return FoundOnPath(**{**fields, **changes})


def against(plan: RolloutPlan = PLAN, **changes: Any) -> str:
    return said(plan, environments=(found(**changes),))


def plan_of(test: EnvironmentTested, **passed: Any) -> tuple[RolloutPlan, dict[str, Any]]:
    """Return a plan that names other tests, and what is found of them."""
    named = PASSED.model_copy(update={"tested": test.digest, "quality": test.quality, **passed})
    signed = SIGNED.model_copy(update={"digest": test.digest})
    return planned(environments=(named,)), {"passed": named, "tested": test, "decision": signed}


def test_nothing_is_said_against_a_plan_whose_environments_are_proven() -> None:
    assert against() == ""


def test_the_plan_names_the_environments_that_the_catalogue_asks_and_no_other() -> None:
    assert "The plan names no environment between test and production, but the path is uat." in said(
        planned(), environments=(found(),)
    )
    assert "The plan names uat between test and production, but the path is none." in said(PLAN)


def test_a_rollback_and_a_rehearsal_are_not_held_to_the_path() -> None:
    back = RollBack(chain="release/release_bike_shop/earlier", closed=OTHER, template="rollback")
    assert "path" not in said(planned(rolls_back=back), environments=(found(),), ran_before=True)
    assert "path" not in said(planned(rehearsal=True, environment="test"), environments=(found(),))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"passed": None}, "uat: what the plan says of it is not what the ledger has."),
        ({"passed": PASSED.model_copy(update={"signed_off": "Ben"})}, "is not what the ledger has"),
        ({"left_out": "policy.yaml names staging only"}, "the plan goes there, but the policy leaves it out"),
        ({"quality": None}, "the quality report that the plan names is not the one in the ledger"),
        ({"quality": report()}, "the quality report that the plan names is not the one in the ledger"),
        ({"quality": of_uat(FAILURE)}, "the quality report that the plan names is not the one in the ledger"),
        ({"quality": of_uat().model_copy(update={"cases": CASES})}, "is not the one in the ledger"),
        ({"tested": None}, "what its tests came to is not in the ledger as the plan names it"),
        ({"tested": came_to(planned(), version="9.9.9")}, "what its tests came to is not in the ledger"),
        ({"soak": timedelta(hours=3)}, "the release did not run there for 3 hours, as the service's file asks."),
        ({"decision": None}, "uat: it was not signed off."),
        ({"decision": SIGNED.model_copy(update={"digest": OTHER})}, "uat: it was not signed off."),
        ({"decision": SIGNED.model_copy(update={"approved": False, "reason": "Cora rejected."})}, "Cora rejected."),
    ],
)
def test_what_is_not_proven_of_an_environment_refuses_the_permit(changes: dict[str, Any], words: str) -> None:
    assert words in against(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"bundle": OTHER}, {"release": "1.0.0-000000000000"}, {"quality": OTHER}],
    ids=lambda one: next(iter(one)),
)
def test_an_environment_was_tested_with_the_bytes_and_judged_by_the_report_of_the_plan(changes: dict[str, str]) -> None:
    other = came_to(planned(), **changes)
    plan, there = plan_of(other, quality=TESTED.quality)
    assert "it was tested with other bytes, or judged by another report, than the plan names." in against(plan, **there)


def test_the_plan_shows_the_cases_and_the_defects_that_the_report_of_the_environment_has() -> None:
    ended = NOW - timedelta(hours=1)
    line = DefectLine(
        id="basket-1",
        title="Basket",
        severity="major",
        environment="uat",
        version="1.0.0",
        state="accepted",
        until=ended,
        stops="the policy stops releases to production by open defects from major on",
    )
    quality = of_uat().model_copy(update={"cases": CASES, "defects": (line,)})
    test = came_to(planned(), quality=sha256_of(quality))
    plan, circumstances = plan_of(test, cases=CASES, defects=(line,))
    assert against(plan, quality=quality, **circumstances).startswith("The defect basket-1 was accepted as known until")
    for other in ({"cases": None}, {"defects": ()}):
        plan, circumstances = plan_of(test, **{"cases": CASES, "defects": (line,), **other})
        words = against(plan, quality=quality, **circumstances)
        assert "uat: what the plan says of its test cases and defects is not what the quality report has." in words


def test_later_environments_are_those_that_a_release_reaches_only_after_this_one() -> None:
    def later(name: str) -> tuple[str, ...]:
        return later_on_path(shop().environments, name)

    assert set(later("test")) == {"integration", "uat", "staging"}
    assert (later("uat"), later("integration"), later("staging")) == (("staging",), ("staging",), ())


def test_an_environment_without_a_soak_on_record_did_not_soak() -> None:
    plan, there = plan_of(came_to(planned(), soak=None))
    assert "did not run there for 2 hours" in against(plan, **there)
    assert against(plan, **there, soak=None) == ""


def test_nobody_need_sign_off_what_the_catalogue_asks_of_nobody() -> None:
    assert against(decision=None, must_be_signed=False) == ""


def test_a_failure_needs_a_waiver_of_the_environment_that_the_board_saw_and_that_holds() -> None:
    failed = of_uat(FAILURE)
    known = waiver(environment="uat")
    plan, there = plan_of(came_to(planned(), quality=sha256_of(failed)), waivers=(known,))
    assert against(plan, **there, quality=failed, waivers=(known,)) == ""
    words = "the quality review failed without a waiver in force: performance: p95 of each path at most 800."
    assert words in against(plan, **there, quality=failed)
    later = waiver(environment="uat", reason="Another")
    assert words in against(plan, **there, quality=failed, waivers=(later,))
    ended = waiver(environment="uat", until=NOW)
    plan, there = plan_of(came_to(planned(), quality=sha256_of(failed)), waivers=(ended,))
    assert words in against(plan, **there, quality=failed, waivers=(ended,))


def test_a_review_that_failed_as_a_whole_cannot_be_waived() -> None:
    failed = report(success=False).model_copy(update={"environment": "uat"})
    plan, there = plan_of(came_to(planned(), quality=sha256_of(failed)))
    assert "failed without a waiver in force: the review as a whole." in against(plan, **there, quality=failed)


def test_only_the_policy_leaves_an_environment_out() -> None:
    out = EnvironmentPassed(environment="uat", left_out="policy.yaml names staging only")
    plan = planned(environments=(out,))
    nothing = {"tested": None, "quality": None, "decision": None, "passed": out}
    assert against(plan, **nothing, left_out="policy.yaml names staging only") == ""
    assert "the plan leaves it out (policy.yaml names staging only), but the policy does not." in against(
        plan, **nothing
    )


def test_old_plans_keep_their_digests() -> None:
    assert "environments" not in planned().model_dump(mode="json")
    assert "environment" not in waiver().model_dump(mode="json")
    assert "environment" not in report().model_dump(mode="json")
