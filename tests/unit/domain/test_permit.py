from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.calendars.bookings import Entered
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import HeldBack, PolicyViolation, TransientError
from interlock.domain.ledger.chain import Entry, next_entry
from interlock.domain.permits.ended_releases import refuse_back_out, refuse_ended
from interlock.domain.permits.hosts import host_changes
from interlock.domain.permits.objections import Circumstances, objections, refuse, refuse_for_now
from interlock.domain.permits.permit import MAX_PERMIT_AGE, Permit, refuse_other_host, refuse_unusable
from interlock.domain.records import (
    Blob,
    Decision,
    DefectLine,
    FailedExpectation,
    Host,
    QualityReport,
    RollBack,
    RolloutPlan,
    Waiver,
)
from tests.unit.domain.samples import hosts, rollout

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
OTHER = "0" * 64
FAILURE = FailedExpectation(
    suite="performance",
    expectation="max",
    column="p95_ms",
    expected="p95 of each path at most 800",
    rows=(),
    row_count=1,
)


def report(*failures: FailedExpectation, success: bool | None = None) -> QualityReport:
    return QualityReport(
        success=not failures if success is None else success,
        suites=(),
        failures=failures,
        results=Blob(uri="file:///store/quality.json", sha256="a" * 64, size=1),
        docs="file:///store/docs",
    )


def waiver(**changes: Any) -> Waiver:
    fields: dict[str, Any] = {
        "expectation": FAILURE.expected,
        "suite": FAILURE.suite,
        "reason": "The new page is slower, and known to be.",
        "by": "maya",
        "at": NOW - timedelta(hours=1),
        "until": NOW + timedelta(hours=1),
    }
    return Waiver(**{**fields, **changes})


def planned(quality: QualityReport | None = None, **changes: Any) -> RolloutPlan:
    return rollout(quality_digest=sha256_of(quality or report()), **changes)


def decision(plan: RolloutPlan, **changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "subject": "board",
        "digest": plan.digest,
        "approved": True,
        "required": True,
        "reason": "Approved by Ben and Dan.",
    }
    return Decision(**{**fields, **changes})


def circumstances(plan: RolloutPlan, **changes: Any) -> Circumstances:
    """What is found when all is as it should be."""
    fields: dict[str, Any] = {
        "frozen": plan.digest,
        "decision": decision(plan),
        "catalogue": plan.policy_digest,
        "bundle": plan.bundle.sha256,
        "quality": report(),
    }
    return Circumstances(**{**fields, **changes})


def said(plan: RolloutPlan, **changes: Any) -> str:
    return " ".join(one.what for one in objections(plan, circumstances(plan, **changes), NOW))


def test_nothing_is_said_against_a_plan_of_which_all_holds() -> None:
    assert objections(planned(), circumstances(planned()), NOW) == ()
    refuse(())


ONE, TWO, ADDED, FOURTH = hosts(4)
RECYCLED = TWO.model_copy(update={"instance_id": "i-recycled"})
MOVED = TWO.model_copy(update={"address": "127.20.0.99"})


@pytest.mark.parametrize(
    ("now", "has_begun", "expected"),
    [
        pytest.param([TWO, ONE], False, (), id="as planned"),
        pytest.param([ONE, TWO, ADDED], False, ("production-3 (i-3) belongs to production now",), id="added"),
        pytest.param([ONE, TWO, ADDED], True, (), id="added during the rollout"),
        pytest.param([ONE], False, ("does not belong to production any more",), id="tags moved"),
        pytest.param([ONE], True, (), id="ended during the rollout"),
        pytest.param([ONE, RECYCLED], True, ("belongs to production-2 (i-recycled), but",), id="recycled"),
        pytest.param([ONE, MOVED], True, ("has the address 127.20.0.99, but",), id="another address"),
    ],
)
def test_hosts_that_are_not_those_of_the_plan_get_no_permit(
    now: list[Host], has_begun: bool, expected: tuple[str, ...]
) -> None:
    plan = planned()
    found = host_changes(plan, [now], has_begun=has_begun)
    assert len(found) == len(expected)
    assert all(words in sentence for words, sentence in zip(expected, found, strict=True)), found
    assert [one.what for one in objections(plan, circumstances(plan, hosts=found), NOW)] == [*found]


def test_the_fleet_that_a_release_does_not_go_to_may_change() -> None:
    assert host_changes(planned(), [[ONE, TWO], [ADDED, FOURTH]], has_begun=False) == ()


def test_a_connection_that_is_not_what_it_was_gets_no_permit() -> None:
    differs = "The connection interlock_hosts is not what it was when the plan was frozen: it differs in port."
    (found,) = objections(planned(), circumstances(planned(), connections=(differs,)), NOW)
    assert (found.what, found.who) == (differs, "the platform engineer (connections)")


def test_a_rollback_is_to_what_ran_before_by_the_ledger() -> None:
    back = RollBack(chain="release/release_bike_shop/one", closed=OTHER, template="rollback: back")
    plan = planned(rolls_back=back)
    assert "never ran" in said(plan)
    assert said(plan, ran_before=True) == ""
    assert plan.digest != planned().digest


def test_a_plan_without_what_came_later_keeps_the_digest_that_was_voted_on() -> None:
    plain = planned().to_xcom()
    assert "rolls_back" not in plain
    assert RolloutPlan.from_xcom({**plain, "rolls_back": None}).digest == sha256_of(plain) == planned().digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frozen": OTHER}, "according to the ledger the plan 000000000000 was frozen"),
        ({"frozen": None}, "according to the ledger no plan was frozen"),
        ({"closed": True}, "The release has ended"),
        ({"catalogue": OTHER}, "The rules of this release changed after it started."),
        ({"bundle": OTHER}, "The bundle has the digest 000000000000, but bbbbbbbbbbbb was approved"),
        ({"bundle": None}, "The bundle is not in the artifact store"),
        ({"decision": None}, "The board has not decided"),
        ({"quality": None}, "The quality report that the plan names is not the one in the ledger"),
        ({"quality": report(success=False)}, "is not the one in the ledger"),
        ({"stops": ("everything, by ben: the card payments fail",)}, "Emergency stop: everything, by ben"),
        ({"freezes": ("Black Friday, until Tuesday",)}, "Calendar: Black Friday"),
        ({"interventions": ("olga cleared a task",)}, "The release was changed manually: olga cleared a task"),
        ({"unsigned": "Entry 7 is not signed"}, "Entry 7 is not signed"),
        ({"findings": ("a ballot was marked",)}, "The release has a finding: a ballot was marked"),
        ({"marked": "1.1.0 is marked bad."}, "1.1.0 is marked bad"),
        ({"overtaken": "Another release changed hosts."}, "Another release changed hosts"),
    ],
)
def test_each_thing_that_does_not_hold_is_an_objection_of_its_own(changes: dict[str, Any], words: str) -> None:
    plan = planned()
    (objection,) = objections(plan, circumstances(plan, **changes), NOW)
    assert words in objection.what
    assert objection.rule
    assert objection.who
    assert objection.next_step


def test_changed_rules_are_listed_up_to_five() -> None:
    def listed(number: int) -> str:
        return said(planned(), catalogue=OTHER, changes=tuple(map(str, range(number))))

    assert listed(1) == "The rules of this release changed after it started: 0."
    assert listed(5) == "The rules of this release changed after it started: 0; 1; 2; 3; 4."
    assert listed(8) == "The rules of this release changed after it started: 0; 1; 2; 3; 4 (and 3 more)."


def test_a_decision_counts_if_it_approves_this_very_plan() -> None:
    plan = planned()
    assert "decided on the plan 000000000000" in said(plan, decision=decision(plan, digest=OTHER))
    assert "does not approve the plan. Cora rejected." in said(
        plan, decision=decision(plan, approved=False, reason="Cora rejected.")
    )


def test_a_failed_expectation_needs_a_waiver_of_its_own_that_is_in_force() -> None:
    failed = report(FAILURE)
    assert "performance: p95 of each path at most 800" in said(planned(failed), quality=failed)

    def with_waiver(**changes: Any) -> str:
        one = waiver(**changes)
        return said(planned(failed, waivers=(one,)), quality=failed, waivers=(one,))

    assert with_waiver() == ""
    assert with_waiver(until=NOW)
    assert with_waiver(at=NOW + timedelta(seconds=1), until=NOW + timedelta(2))
    assert with_waiver(suite="tests")
    assert with_waiver(expectation="another")


def test_a_waiver_counts_if_it_is_on_record_and_the_board_saw_it() -> None:
    failed = report(FAILURE)
    assert "failed without a waiver in force" in said(planned(failed), quality=failed, waivers=(waiver(),))
    assert "failed without a waiver in force" in said(planned(failed, waivers=(waiver(),)), quality=failed)


def chain_of(*things: tuple[str, dict[str, Any]]) -> list[Entry]:
    entries: list[Entry] = []
    for number, (kind, payload) in enumerate(things):
        last = entries[-1] if entries else None
        entries.append(
            next_entry(last, chain="release/x/y", at=NOW, actor="t", kind=kind, key=str(number), payload=payload)
        )
    return entries


def test_only_what_was_deployed_and_has_not_ended_is_backed_out() -> None:
    plan = planned()
    frozen = ("rollout.frozen", {"digest": plan.digest})
    used = ("permit.used", {"permit": {"purpose": "deploy", "plan": plan.digest}})
    refuse_back_out(plan, chain_of(frozen, used))
    refuse_back_out(plan, chain_of(frozen, used, ("release.closed", {"outcome": "failed"})))
    for chain, why in [
        (chain_of(), "its plan is not the frozen plan"),
        (chain_of(frozen, ("rollout.frozen", {"digest": OTHER}), used), "its plan is not the frozen plan"),
        (chain_of(frozen), "it never had a permit to deploy"),
        (chain_of(frozen, ("permit.used", {"permit": {"purpose": "inspect"}})), "it never had a permit to deploy"),
        (chain_of(frozen, ("permit.used", {})), "it never had a permit to deploy"),
        (chain_of(("plan.made", {"digest": plan.digest}), used), "its plan is not the frozen plan"),
        (chain_of(frozen, ("permit.issued", used[1])), "it never had a permit to deploy"),
        (chain_of(frozen, ("permit.used", {"permit": {"purpose": "deploy", "plan": OTHER}})), "never had a permit"),
        (chain_of(frozen, used, ("release.closed", {"outcome": "deployed"})), "it is closed as deployed"),
    ]:
        with pytest.raises(PolicyViolation, match=why):
            refuse_back_out(plan, chain)


@pytest.mark.parametrize(
    ("chain", "refused", "on_the_way_back"),
    [
        ([], False, False),
        ([("release.closed", {"outcome": "deployed"})], True, True),
        ([("release.closed", {"outcome": "failed"})], True, False),
        ([("release.closed", {"outcome": "failed"}), ("back_out.done", {})], True, False),
        ([("release.closed", {"outcome": "failed"}), ("release.closed", {"outcome": "backed_out"})], True, True),
        ([("release.closed", {})], True, True),
        ([("train.arrived", {"departed": True})], True, True),
        ([("train.departed", {}), ("board.decided", {})], False, False),
    ],
)
def test_what_has_ended_does_nothing_any_more(
    chain: list[tuple[str, dict[str, Any]]], refused: bool, on_the_way_back: bool
) -> None:
    ways: list[tuple[dict[str, bool], bool]] = [({}, refused), ({"way_back": True}, on_the_way_back)]
    for way, expected in ways:
        with pytest.raises(PolicyViolation, match="was not run") if expected else nullcontext():
            refuse_ended("implementation.wave_1", chain_of(*chain), **way)


def test_a_review_that_failed_without_saying_why_cannot_be_waived() -> None:
    failed = report(success=False)
    assert "the review as a whole" in said(planned(failed), quality=failed, waivers=(waiver(),))


def test_it_does_not_begin_before_its_time() -> None:
    assert "must not start before" in said(planned(not_before=NOW + timedelta(seconds=1)))
    assert said(planned(not_before=NOW)) == ""


def test_a_refusal_names_every_objection() -> None:
    plan = planned()
    with pytest.raises(HeldBack) as refused:
        refuse(objections(plan, circumstances(plan, closed=True, bundle=None, stops=("all", "more")), NOW))
    for what in ("The release has ended.", "The bundle is not in the artifact store", "stop: all", "stop: more"):
        assert what in refused.value.what


FAULTS: dict[str, Any] = {
    "frozen": OTHER,
    "closed": True,
    "catalogue": OTHER,
    "bundle": None,
    "decision": None,
    "quality": None,
    "stops": ("all",),
    "freezes": ("all",),
    "hosts": ("one",),
    "interventions": ("one",),
    "findings": ("one",),
}


@given(st.sets(st.sampled_from(sorted(FAULTS)), min_size=1))
def test_no_fault_hides_another(names: set[str]) -> None:
    plan = planned()
    found = objections(plan, circumstances(plan, **{name: FAULTS[name] for name in names}), NOW)
    assert len(found) == len(names)


# --- the permit itself -----------------------------------------------------------------------------------------------


def permit(**changes: Any) -> Permit:
    fields: dict[str, Any] = {
        "id": "a" * 32,
        "purpose": "deploy",
        "chain": "release/release_bike_shop/one",
        "environment": "production",
        "wave": 1,
        "hosts": ("127.20.0.11",),
        "plan": "d" * 64,
        "bundle": "b" * 64,
        "catalogue": "c" * 64,
        "issued_at": NOW,
        "expires_at": NOW + MAX_PERMIT_AGE,
        "entered": Entered(place="booking/production/bike-shop", token=7),
    }
    return Permit(**{**fields, **changes})


def use(given: Permit, *, environment: str = "production", now: datetime = NOW) -> None:
    refuse_unusable(given, purposes=("deploy",), environment=environment, now=now)


def test_a_permit_that_changes_something_has_a_token_and_one_that_only_asks_needs_none() -> None:
    with pytest.raises(PolicyViolation, match="its holder has not entered an environment"):
        use(permit(entered=None))
    refuse_unusable(permit(entered=None, purpose="inspect"), purposes=("inspect",), environment="production", now=NOW)


def test_a_permit_of_before_there_were_tokens_is_written_as_it_was() -> None:
    assert "entered" not in permit(entered=None).model_dump(mode="json")


def test_a_permit_is_for_its_purpose_its_environment_and_its_hosts() -> None:
    use(permit())
    refuse_other_host(permit(), "127.20.0.11")
    with pytest.raises(PolicyViolation, match="issued to inspect"):
        use(permit(purpose="inspect"))
    with pytest.raises(PolicyViolation, match="issued to back out"):
        use(permit(purpose="back_out"))
    with pytest.raises(PolicyViolation, match="issued for production"):
        use(permit(), environment="staging")
    with pytest.raises(PolicyViolation, match=r"does not name 127\.20\.0\.12"):
        refuse_other_host(permit(), "127.20.0.12")


def test_a_permit_is_neither_too_old_nor_from_later_nor_longer_than_allowed() -> None:
    use(permit(), now=NOW + MAX_PERMIT_AGE - timedelta(microseconds=1))
    with pytest.raises(PolicyViolation, match="it expired at 2026-03-04 12:15:00 UTC"):
        use(permit(), now=NOW + MAX_PERMIT_AGE)
    with pytest.raises(PolicyViolation, match="in the future"):
        use(permit(), now=NOW - timedelta(microseconds=1))
    with pytest.raises(PolicyViolation, match="its validity exceeds 15 minutes"):
        use(permit(expires_at=NOW + MAX_PERMIT_AGE + timedelta(microseconds=1)))


def test_a_permit_is_at_most_a_quarter_of_an_hour_old() -> None:
    assert timedelta(minutes=15) == MAX_PERMIT_AGE


@pytest.mark.usefixtures("far_east")
def test_times_are_told_in_utc_wherever_that_is() -> None:
    with pytest.raises(PolicyViolation, match="it expired at 2026-03-04 12:15:00 UTC"):
        use(permit(expires_at=datetime.fromisoformat("2026-03-04T13:15+01:00")), now=NOW + MAX_PERMIT_AGE)


def test_only_a_test_environment_is_rehearsed_in() -> None:
    assert said(planned(environment="test", rehearsal=True)) == ""
    assert "not a rehearsal, but it is for test" in said(planned(environment="test"))
    assert "a rehearsal, but it is for production" in said(planned(rehearsal=True))


@given(st.integers(-1800, 1800), st.integers(0, 1800))
def test_a_permit_opens_connections_while_it_holds_and_not_a_second_more(now: int, length: int) -> None:
    given_then = permit(expires_at=NOW + timedelta(seconds=length))
    try:
        use(given_then, now=NOW + timedelta(seconds=now))
        used = True
    except PolicyViolation:
        used = False
    assert used == (0 <= now < length <= 900)


NO_LONGER_ACCEPTED = DefectLine(
    id="basket-1",
    title="The basket adds up",
    severity="major",
    environment="test",
    version="1.0.0",
    state="accepted",
    until=NOW,
    stops="the policy stops releases to production by open defects from major on",
)


def test_a_defect_that_is_no_longer_accepted_stops_each_further_wave() -> None:
    line = NO_LONGER_ACCEPTED
    later = line.model_copy(update={"until": NOW + timedelta(seconds=1)})
    minor = line.model_copy(update={"stops": ""})
    fine, ended = (report().model_copy(update={"defects": of}) for of in ((later, minor), (later, line)))
    assert said(planned(fine), quality=fine) == ""
    assert "The defect basket-1 was accepted as known until" in said(planned(ended), quality=ended)


def test_an_authority_that_does_not_approve_is_an_objection_that_names_who_can_decide_otherwise() -> None:
    plan = planned()
    (found,) = objections(plan, circumstances(plan, authorities=("CHG0030001 in snow is not approved.",)), NOW)
    assert found.what == "CHG0030001 in snow is not approved."
    assert "change_types.normal.records" in found.rule
    assert "the owner of policy.yaml" in found.who


def test_an_authority_that_does_not_answer_is_asked_again_soon() -> None:
    plan = planned()
    found = objections(plan, circumstances(plan, unread=("The approval in snow could not be read.",)), NOW)
    with pytest.raises(TransientError, match=r"No permit now: The approval in snow could .*owner of policy"):
        refuse_for_now(found)
