from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Action
from interlock.domain.catalogue.runbook_file import CommandStep
from interlock.domain.outcome.outcome import STAGES, FailedTask, decide_outcome
from interlock.domain.permits.withdrawal import Withdrawal
from interlock.domain.records import (
    BackOutPlan,
    Communication,
    FailedExpectation,
    Outcome,
    PlannedStep,
    QualityReport,
    RolloutPlan,
    SmokeResult,
    StepDirection,
    StepReport,
    Strategy,
    Waiver,
)
from tests.factories.releases import OVERTAKING
from tests.unit.domain.samples import (
    BLOB,
    DIGEST,
    back_out,
    decision,
    decisions,
    host_result,
    rollout,
    verification,
    waves,
)

TOLD = Communication(notes=BLOB, sent={}, acknowledged={})
QUALITY = QualityReport(success=True, suites=(), failures=(), results=BLOB, docs="x")


def frozen(number: int = 2, **changes: Any) -> RolloutPlan:
    """The rollout plan of a release that goes from 1.0.0 to 1.1.0."""
    versions: dict[str, str | None] = {host.address: "1.0.0" for host in rollout(number).hosts}
    before = BackOutPlan(releases={}, versions=versions, on_hosts=True)
    return rollout(number, **{"quality_digest": sha256_of(QUALITY), "back_out": before, **changes})


def replanned(**changes: Any) -> dict[str, Any]:
    """The same with a changed rollout plan, on which the board decided."""
    planned = frozen(**changes)
    return {"rollout": planned, "decisions": decisions(planned), "waves": waves(planned)}


def answering(version: str | None) -> dict[str, str | None]:
    return {host.name: version for host in frozen().hosts}


def arrived(number: int = 2, *, rehearsal: bool = False) -> dict[str, Any]:
    """What the stages leave of a release that went well."""
    planned = frozen(number, rehearsal=rehearsal, environment="test" if rehearsal else "production")
    return {
        "failed": (),
        "decisions": decisions(planned),
        "quality": QUALITY,
        "communication": TOLD,
        "rollout": planned,
        "waves": waves(planned),
        "verification": verification(),
        "back_out": None,
        "running": {host.name: "1.1.0" for host in planned.hosts},
    }


def decided(**changes: Any) -> Outcome:
    return decide_outcome(**{"service": "bike-shop", "version": "1.1.0", **arrived(), **changes})


def failed(task: str, reason: str = "It broke.", ended: datetime | None = None, *, held: bool = False) -> FailedTask:
    return FailedTask(stage=task.partition(".")[0], task=task, reason=reason, held=held, ended=ended)


def test_a_release_of_which_all_is_proven_is_deployed() -> None:
    outcome = decided()
    assert (outcome.outcome, outcome.stage) == ("deployed", "verification")
    assert outcome.reason == ("All 2 hosts of production answer with 1.1.0, and the verification passed.")
    assert outcome.running == {"production-1": "1.1.0", "production-2": "1.1.0"}
    by_address = {host.address: "1.1.0" for host in arrived()["rollout"].hosts}
    assert decided(running=by_address).outcome == "deployed"


def test_a_rehearsal_is_rehearsed() -> None:
    outcome = decided(**arrived(1, rehearsal=True))
    assert outcome.outcome == "rehearsed"
    assert outcome.reason == "The one host of test answers with 1.1.0; production was not touched."


@pytest.mark.parametrize(
    ("subject", "stage"),
    [("plan", "planning"), ("acceptance", "acceptance"), ("board", "rollout"), ("record", "rollout")],
)
@pytest.mark.parametrize(("expired", "verdict"), [(False, "rejected"), (True, "expired")])
def test_a_no_is_a_rejection_and_silence_is_expiry(subject: str, stage: str, expired: bool, verdict: str) -> None:
    no = decision(subject, approved=False, expired=expired, reason="cora rejected it.")
    others = [one for one in arrived()["decisions"] if one.subject != subject]
    outcome = decided(
        decisions=[*others, no], waves=(), verification=None, failed=[failed(f"{stage}.decide", "cora rejected it.")]
    )
    assert (outcome.outcome, outcome.stage, outcome.reason) == (verdict, stage, "cora rejected it.")


WITHDRAWAL = Withdrawal(
    release="release_bike_shop/one",
    by="rita",
    role="requester",
    reason="The tag is wrong",
    run="withdraw_release/two",
    at=datetime(2026, 3, 4, 12, tzinfo=UTC),
)
EARLY: dict[str, Any] = {
    "decisions": (),
    "quality": None,
    "communication": None,
    "rollout": None,
    "waves": (),
    "verification": None,
    "running": {},
    "called_off": WITHDRAWAL,
}
"""What the stages of a release leave that was withdrawn before it was built."""


def test_a_release_that_was_withdrawn_before_it_changed_anything_is_withdrawn() -> None:
    refused = failed("build.build_artifact", WITHDRAWAL.sentence, WITHDRAWAL.at + timedelta(minutes=1), held=True)
    outcome = decided(**EARLY, failed=[refused])
    assert (outcome.outcome, outcome.stage, outcome.reason) == ("withdrawn", "build", WITHDRAWAL.sentence)
    assert decided(**EARLY).stage == "policy", "a queued one, of which no task ran"
    ahead = refused.model_copy(update={"ended": WITHDRAWAL.at - timedelta(seconds=2)})
    assert decided(**EARLY, failed=[ahead]).outcome == "withdrawn", "clocks of machines differ"
    after = failed("build.build_artifact", "make ended with 2.", WITHDRAWAL.at + timedelta(minutes=1))
    assert decided(**EARLY, failed=[after]).outcome == "withdrawn", "it failed when nobody wanted it any more"


def test_what_ended_a_release_before_it_was_withdrawn_is_not_covered_up() -> None:
    before = failed("build.build_artifact", "make ended with 2.", WITHDRAWAL.at - timedelta(seconds=1))
    assert decided(**EARLY, failed=[before]).outcome == "failed"
    quoting = failed("build.build_artifact", f"make printed: {WITHDRAWAL.sentence}", before.ended)
    assert decided(**EARLY, failed=[quoting]).outcome == "failed", "words decide nothing"
    no = decision("acceptance", approved=False, reason="fay rejected it.")
    assert decided(**{**EARLY, "decisions": (no,)}).outcome == "rejected"


def test_a_release_that_was_withdrawn_and_changed_hosts_is_judged_by_its_hosts() -> None:
    outcome = decided(called_off=WITHDRAWAL, back_out=back_out(frozen()), running=answering("1.0.0"))
    assert outcome.outcome == "backed_out"
    assert decided(called_off=WITHDRAWAL, verification=None).outcome == "failed"


def test_a_release_that_was_overtaken_is_overtaken_unless_it_had_ended_before() -> None:
    refused = failed("rollout.await_board", OVERTAKING.sentence, OVERTAKING.at - timedelta(seconds=2), held=True)
    outcome = decided(**{**EARLY, "called_off": OVERTAKING}, failed=[refused])
    assert (outcome.outcome, outcome.stage, outcome.reason) == ("overtaken", "rollout", OVERTAKING.sentence)
    before = failed("build.build_artifact", "make ended with 2.", OVERTAKING.at - timedelta(seconds=1))
    assert decided(**{**EARLY, "called_off": OVERTAKING}, failed=[before]).outcome == "failed"


def test_hosts_changed_after_a_rejection_are_a_failure() -> None:
    outcome = decided(decisions=[decision("board", approved=False, reason="cora rejected it.")])
    assert (outcome.outcome, outcome.stage) == ("failed", "rollout")
    assert outcome.reason == "Hosts were changed without an approval: cora rejected it."


def test_the_first_stage_that_failed_decides() -> None:
    later = failed("implementation.wave_1", "")
    outcome = decided(failed=[later, failed("communication.announce", "No mail server.")])
    assert (outcome.outcome, outcome.stage) == ("failed", "communication")
    assert outcome.reason == (
        "No mail server. After that, implementation.wave_1 failed: implementation.wave_1 gave no reason."
    )


def test_what_failed_decides_before_what_is_missing_because_of_it() -> None:
    nothing: dict[str, Any] = {"decisions": (), "rollout": None, "waves": (), "verification": None, "running": {}}
    outcome = decided(failed=[failed("build.build_bundle", "make ended with 2.")], **nothing)
    assert (outcome.outcome, outcome.stage, outcome.reason) == ("failed", "build", "make ended with 2.")
    assert decided(**nothing).outcome == "failed"


def test_a_back_out_counts_only_if_it_is_verified() -> None:
    planned = arrived()["rollout"]
    broken = verification(
        success=False,
        failures=[
            FailedExpectation(
                suite="smoke", expectation="e", column=None, expected="answers 200", rows=("/bikes",), row_count=1
            )
        ],
    )
    old = answering("1.0.0")
    verified = decided(
        verification=broken, back_out=back_out(planned), failed=[failed("verification.judge")], running=old
    )
    assert (verified.outcome, verified.stage) == ("backed_out", "verification")
    assert (
        verified.reason
        == "The release was backed out, and every host reports its previous version. Reason: /bikes answers 500."
    )
    unverified = decided(verification=broken, back_out=back_out(planned, verified=False), running=old)
    assert unverified.outcome == "failed"
    assert unverified.reason == (
        "The back-out failed: production-1, production-2 failed. Reason for the back-out: /bikes answers 500."
    )
    without = decided(verification=broken)
    assert (without.outcome, without.stage) == ("failed", "verification")
    assert without.reason == "smoke: answers 200; broken by /bikes"
    wave = decided(back_out=back_out(planned), failed=[failed("implementation.wave_1")], verification=None, running=old)
    assert (wave.outcome, wave.stage) == ("backed_out", "implementation")


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        ({"rollout": None}, "rollout", "No rollout plan is recorded."),
        ({"verification": None}, "verification", "No verification report is recorded."),
        ({"verification": verification(success=False)}, "verification", "The verification failed."),
        ({"quality": None}, "quality", "No quality report is recorded."),
        ({"communication": None}, "communication", "No communication of the release is recorded"),
        ({"waves": ()}, "implementation", "No deployment of 1.1.0-b"),
        ({"decisions": decisions(frozen())[:2]}, "rollout", "No decision of the stage rollout"),
        (
            {"decisions": [*decisions(frozen())[:2], decision("board", "e" * 64)]},
            "rollout",
            "The board decided on the rollout plan eeeeeeeeeeee, but the recorded plan is",
        ),
        (
            {"running": {"production-1": "1.1.0", "production-2": "1.0.0"}},
            "verification",
            "production-2 answers with 1.0.0; it should run 1.1.0.",
        ),
        ({"running": {"production-1": "1.1.0"}}, "verification", "production-2 does not report a version"),
        ({"version": "1.2.0"}, "rollout", "recorded rollout plan is for bike-shop 1.1.0, not for bike-shop 1.2.0."),
        (
            {"rollout": frozen(0), "decisions": decisions(frozen(0))},
            "rollout",
            "The recorded rollout plan names no host.",
        ),
    ],
)
def test_what_is_not_proven_is_failed(changes: dict[str, Any], stage: str, reason: str) -> None:
    outcome = decided(**changes)
    assert (outcome.outcome, outcome.stage) == ("failed", stage)
    assert reason in outcome.reason


def test_a_wave_of_another_release_proves_nothing() -> None:
    planned = arrived()["rollout"]
    other = [wave.model_copy(update={"release": "1.0.0-aaaaaaaaaaaa"}) for wave in waves(planned)]
    assert decided(waves=other).outcome == "failed"
    results = tuple(host_result(host, "failed", None) for host in planned.hosts)
    assert decided(waves=[waves(planned)[0].model_copy(update={"results": results})]).outcome == "failed"
    other_bytes = tuple(host_result(host, "unchanged", "1.1.0-ffffffffffff") for host in planned.hosts)
    assert decided(waves=[waves(planned)[0].model_copy(update={"results": other_bytes})]).outcome == "failed"
    again = (*waves(planned), waves(planned)[0].model_copy(update={"results": results[:1]}))
    assert (decided(waves=again).outcome, decided(waves=again).stage) == ("failed", "implementation")


def test_an_approval_of_something_else_is_none() -> None:
    """Every task is green, as when somebody changed an artifact after it was accepted."""
    plan, _, board = arrived()["decisions"]
    outcome = decided(decisions=[plan, decision("acceptance", "e" * 64), board])
    assert (outcome.outcome, outcome.stage) == ("failed", "acceptance")
    assert "The acceptance is eeeeeeeeeeee" in outcome.reason
    assert DIGEST[:12] in outcome.reason


def test_a_decision_that_nobody_had_to_take_is_not_that_of_a_board_that_was_asked() -> None:
    asked = replanned(decide_by=datetime(2026, 11, 25, tzinfo=UTC))
    assert decided(**asked).outcome == "deployed"
    plan, acceptance, board = asked["decisions"]
    outcome = decided(**{**asked, "decisions": [plan, acceptance, board.model_copy(update={"required": False})]})
    assert (outcome.outcome, outcome.stage) == ("failed", "rollout")
    assert "says that no vote is required" in outcome.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"rehearsal": True}, "is a rehearsal, but for production", id="a way round the board"),
        pytest.param({"environment": "test"}, "is a release, but for test", id="production was not touched"),
    ],
)
def test_a_rehearsal_in_production_and_a_release_on_test_are_failures(changes: dict[str, Any], reason: str) -> None:
    outcome = decided(**replanned(**changes))
    assert (outcome.outcome, outcome.stage) == ("failed", "rollout")
    assert reason in outcome.reason


FAILURE = FailedExpectation(
    suite="tests", expectation="e", column=None, expected="no test fails", rows=("test_basket",), row_count=1
)
REJECTED = QUALITY.model_copy(update={"success": False, "failures": (FAILURE,)})
WAIVER = Waiver(
    expectation="no test fails",
    suite="tests",
    reason="The test is wrong",
    by="ben",
    at=datetime(2026, 11, 23, tzinfo=UTC),
    until=datetime(2026, 11, 30, tzinfo=UTC),
)


def test_a_failed_quality_review_does_not_turn_green_when_its_task_does() -> None:
    passed_by = replanned(quality_digest=sha256_of(REJECTED))
    outcome = decided(**passed_by, quality=REJECTED)
    assert (outcome.outcome, outcome.stage, outcome.reason) == (
        "failed", "quality", "tests: no test fails; broken by test_basket"
    )  # fmt: skip
    waived = replanned(quality_digest=sha256_of(REJECTED), waivers=(WAIVER,))
    assert decided(**waived, quality=REJECTED).outcome == "deployed"
    of_other = WAIVER.model_copy(update={"suite": "coverage"})
    other = replanned(quality_digest=sha256_of(REJECTED), waivers=(of_other,))
    assert decided(**other, quality=REJECTED).outcome == "failed"


def test_the_quality_report_is_the_one_that_the_board_saw() -> None:
    outcome = decided(quality=QUALITY.model_copy(update={"docs": "y"}))
    assert (outcome.outcome, outcome.stage) == ("failed", "quality")
    assert "not the one that the rollout plan names" in outcome.reason
    unsaid = QUALITY.model_copy(update={"success": False})
    assert decided(**replanned(quality_digest=sha256_of(unsaid)), quality=unsaid).outcome == "failed"


def test_a_verification_that_contradicts_its_smoke_requests_is_a_failure() -> None:
    smoke = SmokeResult(host="127.20.0.1", path="/bikes", expected="200", found="500", passed=False)
    outcome = decided(verification=verification(smoke=(smoke,)))
    assert (outcome.outcome, outcome.stage) == ("failed", "verification")
    assert "/bikes on 127.20.0.1 (500)" in outcome.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"running": answering("1.1.0")}, "production-1, production-2 does not report its previous version"),
        (
            {"running": {**answering("1.0.0"), "production-2": None}},
            "production-2 does not report its previous version",
        ),
        ({"running": {"production-1": "1.0.0"}}, "production-2 does not report its previous version"),
        ({"running": answering("1.0.0"), "rollout": None}, "no rollout plan is recorded"),
    ],
)
def test_a_back_out_that_the_hosts_do_not_confirm_did_not_succeed(changes: dict[str, Any], reason: str) -> None:
    outcome = decided(back_out=back_out(frozen()), failed=[failed("verification.judge_verification")], **changes)
    assert outcome.outcome == "failed"
    assert "The back-out failed" in outcome.reason
    assert reason in outcome.reason


def test_a_back_out_with_a_failed_host_did_not_succeed_whatever_it_says_of_itself() -> None:
    planned = frozen()
    said = back_out(planned).model_copy(update={"results": back_out(planned, verified=False).results})
    outcome = decided(back_out=said, running=answering("1.0.0"))
    assert outcome.outcome == "failed"
    assert "production-1, production-2 failed" in outcome.reason


def test_a_first_release_is_backed_out_when_the_host_does_not_answer_with_it() -> None:
    first = replanned(back_out=BackOutPlan(releases={}, versions={}, on_hosts=True))
    gone = {"back_out": back_out(first["rollout"]), "failed": [failed("implementation.wave_1")]}
    assert decided(**first, **gone, running=answering(None)).outcome == "backed_out"
    assert decided(**first, **gone, running=answering("1.1.0")).outcome == "failed"
    assert decided(**first, **gone, running={}).outcome == "failed"


def test_a_back_out_does_not_hide_that_nobody_had_approved() -> None:
    planned = frozen()
    plan, acceptance, board = decisions(planned)
    no = board.model_copy(update={"approved": False, "reason": "cora rejected it."})
    outcome = decided(
        decisions=[plan, acceptance, no],
        waves=(),
        back_out=back_out(planned),
        failed=[failed("implementation.wave_1")],
        running=answering("1.0.0"),
    )
    assert (outcome.outcome, outcome.stage) == ("failed", "rollout")
    assert outcome.reason.startswith("Hosts were changed without an approval: cora rejected it.")
    assert "backed out" in outcome.reason


def test_of_two_tasks_of_one_stage_the_one_that_failed_first_decides() -> None:
    tasks = [
        failed("verification.judge_verification", "/bikes answers 500."),
        failed("verification.back_out", "No route."),
    ]
    outcome = decided(failed=tasks, verification=None)
    assert outcome.reason == "/bikes answers 500. After that, verification.back_out failed: No route."


WORTH = {"deployed": 2, "rehearsed": 2, "backed_out": 1, "rejected": 0, "expired": 0, "failed": 0}


@st.composite
def endings(draw: st.DrawFn) -> dict[str, Any]:
    """What the stages leave of any release; it is backed out only if something failed."""
    left = arrived(draw(st.integers(1, 3)), rehearsal=draw(st.booleans()))
    planned = left["rollout"]
    left["failed"] = [failed(f"{stage}.task") for stage in draw(st.lists(st.sampled_from(STAGES), max_size=2))]
    left["decisions"] = [
        one.model_copy(update={"approved": draw(st.integers(0, 5)) > 0, "expired": draw(st.booleans())})
        for one in left["decisions"]
    ]
    left["verification"] = verification(success=draw(st.booleans()))
    if left["failed"]:
        left["back_out"] = draw(st.sampled_from([None, back_out(planned), back_out(planned, verified=False)]))
    left["running"] = {host.name: draw(st.sampled_from(["1.1.0", "1.1.0", "1.0.0", None])) for host in planned.hosts}
    return left


@given(endings(), st.data())
def test_losing_a_record_never_makes_it_better(left: dict[str, Any], data: st.DataObject) -> None:
    before = decided(**left)
    key = data.draw(
        st.sampled_from(
            ["decisions", "quality", "communication", "rollout", "waves", "verification", "back_out", "running"]
        )
    )
    lost = dict(left)
    if isinstance(left[key], dict):
        gone = data.draw(st.sampled_from(sorted(left[key])))
        lost[key] = {host: version for host, version in left[key].items() if host != gone}
    elif isinstance(left[key], list | tuple):
        # The report of a wave without hosts proves nothing.
        gone = data.draw(st.sampled_from([at for at, one in enumerate(left[key]) if getattr(one, "results", True)]))
        lost[key] = [one for index, one in enumerate(left[key]) if index != gone]
    else:
        lost[key] = None
    assert WORTH[decided(**lost).outcome] <= WORTH[before.outcome]
    if left[key] and left[key] != lost[key] and key != "back_out" and left["back_out"] is None:
        assert decided(**lost).outcome not in ("deployed", "rehearsed")


@given(endings(), st.randoms())
def test_the_order_of_records_does_not_matter(left: dict[str, Any], random: Any) -> None:
    shuffled = {
        key: random.sample(value, len(value)) if isinstance(value, list) else value for key, value in left.items()
    }
    shuffled["failed"] = left["failed"]  # its order is the tasks' own
    assert decided(**shuffled) == decided(**left)


@given(endings())
def test_deployed_means_that_everything_says_so(left: dict[str, Any]) -> None:
    well = (
        not left["failed"]
        and left["back_out"] is None
        and all(one.approved for one in left["decisions"])
        and left["verification"].success
        and set(left["running"].values()) == {"1.1.0"}
    )
    outcome = decided(**left)
    assert (outcome.outcome in ("deployed", "rehearsed")) == well
    assert outcome.reason
    assert outcome.stage in STAGES


@pytest.mark.parametrize(("budget", "ended"), [(1, "deployed"), (0, "failed")])
def test_a_host_that_failed_is_borne_by_the_error_budget_of_the_plan_or_it_is_a_failure(
    budget: int, ended: str
) -> None:
    strategy = Strategy(window=1, max_failed=budget, min_healthy=0, by_zone=False)
    changed = replanned(strategy=strategy)
    bad, good = changed["rollout"].hosts
    of_bad = host_result(bad, "failed", "1.0.0-aaaaaaaaaaaa")
    reports = [
        wave.model_copy(
            update={"results": tuple(of_bad if bad.instance_id == one.instance_id else one for one in wave.results)}
        )
        for wave in changed["waves"]
    ]
    facts = {**arrived(), **changed, "waves": reports, "running": {bad.name: "1.0.0", good.name: "1.1.0"}}
    outcome = decide_outcome(service="bike-shop", version="1.1.0", **facts)
    assert outcome.outcome == ended
    assert bad.name in outcome.reason, "nobody is left behind in silence"


def _runbook(**changes: Any) -> tuple[PlannedStep, ...]:
    command = Action(command=CommandStep(script="migrate.sh"))
    usual = {"when": "before", "estimate": timedelta(minutes=5), "do": command, "way_back": command}
    return (
        PlannedStep(**{**usual, "number": 1, "name": "migrate", "title": "Migrate", **changes}),
        PlannedStep(**{**usual, "number": 2, "name": "tell", "title": "Tell", "way_back": None}),
    )


def _ended(number: int, direction: StepDirection = "forward", outcome: Any = "done") -> StepReport:
    about = {"name": "x", "title": "x", "id": "a" * 32, "estimate": timedelta(minutes=5)}
    return StepReport(number=number, direction=direction, outcome=outcome, **about)


def test_a_release_is_deployed_only_if_the_record_has_every_step_as_done() -> None:
    changes = replanned(runbook=_runbook())
    assert decided(**changes, steps=[_ended(1), _ended(2)]).outcome == "deployed"
    assert decided(**changes, steps=[_ended(1), _ended(2, outcome="left_out")]).outcome == "deployed"
    for lacking in ([_ended(1)], [_ended(1), _ended(2, outcome="failed")]):
        outcome = decided(**changes, steps=lacking)
        assert (outcome.outcome, outcome.stage) == ("failed", "implementation")
        assert outcome.reason == "No record says that steps of the runbook are done: “Tell”."


def test_a_back_out_is_complete_only_if_the_steps_are_taken_back_and_says_what_stays() -> None:
    planned = frozen(runbook=_runbook())
    back = {
        "rollout": planned,
        "decisions": decisions(planned),
        "waves": waves(planned),
        "back_out": back_out(planned),
        "running": answering("1.0.0"),
    }
    whole = decided(**back, steps=[_ended(1), _ended(1, "back"), _ended(2, outcome="failed")])
    assert whole.outcome == "backed_out"
    assert whole.reason.endswith("What cannot be taken back stays: “Tell”.")
    never = decided(**back, steps=[_ended(1, outcome="failed"), _ended(1, "back")])
    assert (never.outcome, "stays" in never.reason) == ("backed_out", False)
    for known in ([_ended(1)], [_ended(1), _ended(1, "back", "failed")], [_ended(1, "back", "failed")]):
        outcome = decided(**back, steps=known)
        assert outcome.outcome == "failed"
        assert "The back-out failed: “Migrate” was not taken back." in outcome.reason
