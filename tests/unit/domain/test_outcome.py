from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.interlock.domain.outcome import STAGES, FailedTask, decide_outcome
from include.interlock.domain.records import FailedExpectation, Outcome
from tests.unit.domain.samples import (
    back_out,
    decision,
    decisions,
    host_result,
    rollout,
    verification,
    waves,
)


def arrived(number: int = 2, *, rehearsal: bool = False) -> dict[str, Any]:
    """What the stages leave of a release that went well."""
    planned = rollout(number, rehearsal=rehearsal, environment="test" if rehearsal else "production")
    return {
        "failed": (),
        "decisions": decisions(planned),
        "rollout": planned,
        "waves": waves(planned),
        "verification": verification(),
        "back_out": None,
        "running": {host.name: "1.1.0" for host in planned.hosts},
    }


def decided(**changes: Any) -> Outcome:
    return decide_outcome(**{"service": "bike-shop", "version": "1.1.0", **arrived(), **changes})


def failed(task: str, reason: str = "It broke.") -> FailedTask:
    return FailedTask(stage=task.partition(".")[0], task=task, reason=reason)


def test_a_release_of_which_all_is_proven_is_deployed() -> None:
    outcome = decided()
    assert (outcome.outcome, outcome.stage) == ("deployed", "verification")
    assert outcome.reason == (
        "All 2 hosts of production answer with 1.1.0, and the verification found nothing against it."
    )
    assert outcome.running == {"production-1": "1.1.0", "production-2": "1.1.0"}
    by_address = {host.address: "1.1.0" for host in arrived()["rollout"].hosts}
    assert decided(running=by_address).outcome == "deployed"


def test_a_rehearsal_is_rehearsed() -> None:
    outcome = decided(**arrived(1, rehearsal=True))
    assert outcome.outcome == "rehearsed"
    assert outcome.reason == "The one host of test answers with 1.1.0; production was not touched."


@pytest.mark.parametrize(
    ("subject", "stage"), [("plan", "planning"), ("acceptance", "acceptance"), ("board", "rollout")]
)
@pytest.mark.parametrize(("expired", "verdict"), [(False, "rejected"), (True, "expired")])
def test_a_no_is_a_rejection_and_silence_is_expiry(subject: str, stage: str, expired: bool, verdict: str) -> None:
    no = decision(subject, approved=False, expired=expired, reason="cora rejected it.")
    others = [one for one in arrived()["decisions"] if one.subject != subject]
    outcome = decided(
        decisions=[*others, no], waves=(), verification=None, failed=[failed(f"{stage}.decide", "cora rejected it.")]
    )
    assert (outcome.outcome, outcome.stage, outcome.reason) == (verdict, stage, "cora rejected it.")


def test_hosts_changed_after_a_rejection_are_a_failure() -> None:
    outcome = decided(decisions=[decision("board", approved=False, reason="cora rejected it.")])
    assert (outcome.outcome, outcome.stage) == ("failed", "rollout")
    assert outcome.reason == "Hosts were changed although this was not approved: cora rejected it."


def test_the_first_stage_that_failed_decides() -> None:
    later = failed("implementation.wave_1", "")
    outcome = decided(failed=[later, failed("communication.announce", "No mail server.")])
    assert (outcome.outcome, outcome.stage) == ("failed", "communication")
    assert outcome.reason == (
        "No mail server. Then implementation.wave_1 failed: implementation.wave_1 did not say why."
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
    verified = decided(verification=broken, back_out=back_out(planned), failed=[failed("verification.judge")])
    assert (verified.outcome, verified.stage) == ("backed_out", "verification")
    assert verified.reason == "Backed out, and every host answers as before the release: /bikes answers 500."
    unverified = decided(verification=broken, back_out=back_out(planned, verified=False))
    assert unverified.outcome == "failed"
    assert unverified.reason == (
        "The back-out did not succeed: production-1, production-2 failed. It was begun because: /bikes answers 500."
    )
    without = decided(verification=broken)
    assert (without.outcome, without.stage) == ("failed", "verification")
    assert without.reason == "smoke: answers 200; broken by /bikes"
    wave = decided(back_out=back_out(planned), failed=[failed("implementation.wave_1")], verification=None)
    assert (wave.outcome, wave.stage) == ("backed_out", "implementation")


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        ({"rollout": None}, "rollout", "There is no rollout plan on record."),
        ({"verification": None}, "verification", "There is no verification report on record."),
        ({"verification": verification(success=False)}, "verification", "The verification did not succeed."),
        ({"waves": ()}, "implementation", "There is no record that production-1, production-2 came to 1.1.0-b"),
        ({"decisions": decisions(rollout())[:2]}, "rollout", "no record of what was decided in the stage rollout"),
        (
            {"decisions": [*decisions(rollout())[:2], decision("board", "e" * 64)]},
            "rollout",
            "The board decided on the rollout plan eeeeeeeeeeee, and the plan on record is",
        ),
        (
            {"running": {"production-1": "1.1.0", "production-2": "1.0.0"}},
            "verification",
            "production-2 answers with 1.0.0; it should run 1.1.0.",
        ),
        ({"running": {"production-1": "1.1.0"}}, "verification", "production-2 does not say which version it runs"),
        ({"version": "1.2.0"}, "rollout", "plan on record is of bike-shop 1.1.0, not of bike-shop 1.2.0."),
        (
            {"rollout": rollout(0), "decisions": decisions(rollout(0))},
            "rollout",
            "The rollout plan on record names no host.",
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
    key = data.draw(st.sampled_from(["decisions", "rollout", "waves", "verification", "back_out", "running"]))
    lost = dict(left)
    if isinstance(left[key], dict):
        gone = data.draw(st.sampled_from(sorted(left[key])))
        lost[key] = {host: version for host, version in left[key].items() if host != gone}
    elif isinstance(left[key], list | tuple):
        gone = data.draw(st.integers(0, len(left[key]) - 1))
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
