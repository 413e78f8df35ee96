"""The runbook of a service: what its file may say, what is frozen of it, and who votes on what cannot be taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.domain.board.voting import voting_rule
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, Service, ServiceCatalogue, Wave
from interlock.domain.catalogue.runbook_file import Step, irreversible_of, wave_of
from interlock.domain.change.effective import rules_for
from interlock.domain.errors import AssetMissing, PolicyViolation
from interlock.domain.records import RolloutPlan, RunningRelease
from interlock.domain.runbook.contract import refuse_contract
from interlock.domain.runbook.planning import (
    describe_irreversible,
    describe_steps,
    planned_steps,
    refuse_missing_scripts,
    refuse_unvoted,
    step_id,
)
from tests.factories import releases
from tests.unit.domain import samples

HOSTS = (releases.host(1), releases.host(2), releases.host(3))
TELL = {"manual": {"who": ["rita"], "instructions": "Call the bank.", "evidence": "the number of the ticket"}}
MIGRATE = {"command": {"script": "scripts/migrate.sh"}}
BOOKS = {"dag_run": {"dag": "close_the_books", "conf": {"month": "2026-11"}}}
SNAPSHOT = {"snapshot": {"connection": "shop_snapshots", "instance": "shop"}}
FUNCTION = {"connection": "shop_functions", "name": "notify", "ask": ["rita"]}
DOCUMENT = {"connection": "shop_documents", "name": "Shop-Flush"}


def step(name: str = "migrate", when: str = "before", **changes: Any) -> dict[str, Any]:
    usual = {
        "name": name,
        "title": name.capitalize(),
        "when": when,
        "estimate": "PT5M",
        "do": MIGRATE,
        "way_back": {"command": {"script": "scripts/back.sh"}},
    }
    return {**usual, **changes}


def service(*steps: dict[str, Any], waves: tuple[Any, ...] = (1, "100%")) -> Service:
    plain = releases.service().model_dump(mode="json")
    plain["environments"]["production"]["waves"] = list(waves)
    return Service.model_validate({**plain, "runbook": list(steps)})


def refusal(*steps: dict[str, Any], waves: tuple[Any, ...] = (1, "100%")) -> str:
    with pytest.raises(ValidationError) as error:
        service(*steps, waves=waves)
    return str(error.value)


def test_a_service_without_a_runbook_and_its_plans_keep_their_digests() -> None:
    assert "runbook" not in service().model_dump(mode="json")
    assert "runbook" not in releases.rollout().model_dump(mode="json")
    plain = releases.rollout().model_dump(mode="json")
    assert sha256_of(plain) == releases.rollout().digest
    assert RolloutPlan.model_validate(plain).steps == ()
    rule = samples.service().policy.model_dump(mode="json")
    assert "irreversible" not in str(rule)


@pytest.mark.parametrize(("when", "wave"), [("before", 0), ("after_wave_1", 1), ("after_wave_12", 12), ("after", 3)])
def test_a_moment_is_after_a_wave(when: str, wave: int) -> None:
    assert wave_of(when, 3) == wave


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([step(), step()], "migrate is named twice"),
        ([step(when="after_wave_2")], "migrate is after wave 2, and production has 2 waves"),
        ([step(when="after"), step("tell", "before")], "tell is done before the step above it"),
        ([step(needs=["tell"]), step("tell")], "migrate needs tell, which is not a step above it"),
        ([step(when="later")], "String should match pattern"),
        ([step(do={})], "names one of manual, command"),
        ([step(do={**TELL, **MIGRATE})], "names one of manual, command"),
        ([step(do={"shell": "rm -rf /"})], "Extra inputs are not permitted"),
        ([{key: value for key, value in step().items() if key != "way_back"}], "Field required"),
        ([step(do={"command": {"script": "../up.sh"}})], "must be a path inside the checkout"),
        ([step(do={"command": {"script": "a", "timeout": "PT2H"}})], "must be at most 1 hour"),
        ([step(f"s{number}") for number in range(21)], "at most 20 items"),
        ([step(do={"dag_run": {"dag": "release_bike_shop"}})], "is the name of a Dag of Interlock (release.py)"),
        ([step(do={"dag_run": {"dag": "Emergency_Stop"}})], "is the name of a Dag of Interlock (emergency_stop.py)"),
        ([step(do={"dag_run": {"dag": "books", "conf": {"a": "b" * 20_000}}})], "bytes of JSON, and may be at most"),
        ([step(do={"dag_run": {"dag": "books", "conf": {"a": float("nan")}}})], "Out of range float values"),
        ([step(do={"dag_run": {"dag": "books", "within": "P2D"}})], "must be at most 1 day"),
        ([step(do={"function": {**FUNCTION, "ask": []}})], "at least 1 item"),
        ([step(do={"function": {**FUNCTION, "within": "PT16M"}})], "must be at most 15 minutes"),
        ([step(do={"document": {**DOCUMENT, "host": "bike-shop-production-1"}})], "ask goes with host"),
        ([step(do={"document": {**DOCUMENT, "ask": ["rita"]}})], "ask goes with host"),
        ([step(do={"snapshot": {"instance": "shop"}})], "Field required"),
    ],
)
def test_a_runbook_that_cannot_be_done_is_refused(steps: list[dict[str, Any]], said: str) -> None:
    assert said in refusal(*steps)


def test_steps_are_frozen_with_their_host_and_numbers() -> None:
    named = step("second", "after_wave_1", do={"command": {"script": "x", "host": HOSTS[1].name}}, needs=["migrate"])
    first, second, third = planned_steps(
        service(step(), named, step("tell", "after", do=TELL, way_back="none")), HOSTS, rehearsal=False
    )
    assert [one.number for one in (first, second, third)] == [1, 2, 3]
    assert (first.host, second.host, third.host) == (HOSTS[0], HOSTS[1], None)
    assert (first.is_irreversible, third.is_irreversible) == (False, True)
    plan = releases.rollout(runbook=(first, second, third))
    assert plan.digest != releases.rollout(runbook=(first, second)).digest != releases.rollout().digest
    assert RolloutPlan.from_xcom(plan.to_xcom()) == plan
    ids = {step_id(plan.digest, one, way) for one in plan.steps for way in ("forward", "back")}
    assert len(ids) == 6
    assert ids.isdisjoint(step_id(releases.rollout().digest, one, "forward") for one in plan.steps)


def test_a_rehearsal_runs_commands_on_a_test_host_and_leaves_the_rest_out() -> None:
    named = step(do={"command": {"script": "x", "host": "bike-shop-production-2"}})
    test = (releases.host(4),)
    command, manual = planned_steps(service(named, step("tell", do=TELL, way_back="none")), test, rehearsal=True)
    assert (command.host, command.left_out) == (releases.host(4), "")
    assert "rehearsal" in manual.left_out
    assert not manual.is_irreversible


def test_what_airflow_and_aws_do_is_left_out_of_a_rehearsal() -> None:
    made = [step(f"s{number}", do=do) for number, do in enumerate((BOOKS, SNAPSHOT, {"function": FUNCTION}))]
    assert all("rehearsal" in one.left_out for one in planned_steps(service(*made), HOSTS, rehearsal=True))


def test_a_snapshot_without_a_way_back_is_not_irreversible_and_a_dag_run_is() -> None:
    made = [step("copy", do=SNAPSHOT, way_back="none"), step("books", do=BOOKS, way_back="none")]
    copy, books = planned_steps(service(*made), HOSTS, rehearsal=False)
    assert (copy.is_irreversible, books.is_irreversible) == (False, True)
    assert irreversible_of(map(Step.model_validate, made)) == ("books",)
    rows = describe_steps((copy, books), {})
    assert [row[2] for row in rows] == [
        "a snapshot of the database shop",
        'a run of the Dag close_the_books with {"month":"2026-11"}',
    ]
    assert [row[3] for row in rows] == ["none: it changes nothing", "none: it cannot be taken back"]


def test_who_is_asked_in_doubt_is_named_and_bound_to() -> None:
    document = {"document": {**DOCUMENT, "host": HOSTS[1].name, "ask": ["rita"]}}
    on_host, called = planned_steps(
        service(step("flush", do=document), step("tell", do={"function": FUNCTION})), HOSTS, rehearsal=False
    )
    assert (on_host.host, called.do.on_host) == (HOSTS[1], None)
    first, second = describe_steps((on_host, called), {"rita": "Rita Reyes"})
    assert first[2] == (f"the Systems Manager document Shop-Flush on {HOSTS[1].name}; asked if in doubt: Rita Reyes")
    assert second[2] == "the Lambda function notify, $LATEST; asked if in doubt: Rita Reyes"
    for one, within in ((on_host, timedelta(hours=5)), (called, timedelta(hours=4, minutes=1))):
        assert one.do.question is not None
        assert one.do.question.within == within, "its own time, and then the time to answer"


def test_a_command_needs_a_host_of_the_environment_and_a_program_of_the_bundle() -> None:
    elsewhere = step(do={"command": {"script": "x", "host": "db-1"}})
    with pytest.raises(AssetMissing, match="db-1, which is not a host of the environment: bike-shop-production-1"):
        planned_steps(service(elsewhere), HOSTS, rehearsal=False)
    steps = planned_steps(service(step()), HOSTS, rehearsal=False)
    refuse_missing_scripts(steps, {"scripts/migrate.sh", "scripts/back.sh"})
    with pytest.raises(AssetMissing, match=r"migrate needs scripts/back\.sh") as error:
        refuse_missing_scripts(steps, {"scripts/migrate.sh"})
    assert "scripts/migrate.sh" not in error.value.what


def test_what_cannot_be_taken_back_needs_a_vote() -> None:
    steps = planned_steps(service(step(way_back="none", title="Drop the table")), HOSTS, rehearsal=False)
    refuse_unvoted(steps, ChangeType.NORMAL, asked=True)
    with pytest.raises(PolicyViolation, match=r"No board votes on this standard change, but .*: Drop the table"):
        refuse_unvoted(steps, ChangeType.STANDARD, asked=False)
    refuse_unvoted(planned_steps(service(step()), HOSTS, rehearsal=False), ChangeType.STANDARD, asked=False)


def test_rules_of_boards_may_ask_more_for_what_cannot_be_taken_back() -> None:
    rule = {"name": "no-way-back", "when": {"irreversible": True}, "members": ["ann"], "quorum": {"approvals": 1}}
    cab = {"title": "CAB", "members": ["ben", "cora"], "quorum": {"approvals": 2}}
    book = samples.book({"cab": cab, "ecab": cab}, rules=[rule])

    def demands(*, irreversible: bool) -> list[str]:
        rule = voting_rule(
            samples.policy(),
            book,
            samples.service(),
            change_type=ChangeType.NORMAL,
            risk=0,
            irreversible=irreversible,
        )
        return [demand.title for demand in (rule.demands if rule else ())]

    assert "Rule no-way-back" not in demands(irreversible=False)
    assert {"Rule no-way-back", *demands(irreversible=False)} == set(demands(irreversible=True))


def running(*versions: str | None) -> dict[str, tuple[RunningRelease, ...]]:
    hosts = [
        RunningRelease(host=f"10.0.0.{number}", release=f"{version}-0123456789ab", version=version)
        for number, version in enumerate(versions, start=1)
    ]
    return {"staging": (), "production": tuple(hosts)}


def test_what_older_versions_need_is_taken_away_only_when_none_of_them_runs() -> None:
    contract = step("drop", "after", way_back="none", works_from="2.0.0", title="Drop the column")
    steps = planned_steps(service(step(), contract), HOSTS, rehearsal=False)
    refuse_contract(steps, running("2.0.0", "2.1.0", "10.0.0"))
    refuse_contract(steps, {"test": (RunningRelease(host="10.0.0.1", release=None),)})
    refuse_contract(steps[:1], running("1.0.0"))
    with pytest.raises(PolicyViolation) as error:
        refuse_contract(steps, running("2.0.0", "1.9.0", "2.0.0-rc.1", "trunk"))
    said = error.value.what
    assert "“Drop the column” takes away what versions before 2.0.0 need, and 10.0.0.2 of" in said
    assert "10.0.0.2 of production runs 1.9.0." in said
    assert "10.0.0.3 of production runs 2.0.0-rc.1." in said
    assert "10.0.0.4 of production runs trunk-0123456789ab, whose version is not known." in said
    assert "10.0.0.1" not in said
    (_, rehearsed) = planned_steps(service(step(), contract), HOSTS, rehearsal=True)
    assert "takes nothing away" in rehearsed.left_out
    refuse_contract([rehearsed], running("1.0.0"))
    assert "; versions before 2.0.0 do not work after it" in describe_steps(steps, {})[1][2]
    assert "String should match pattern" in refusal(step(works_from="2.0"))


def test_a_release_is_bound_to_the_people_and_rules_of_its_runbook() -> None:
    rule = {"name": "no-way-back", "when": {"irreversible": True}, "members": ["ann"], "quorum": {"approvals": 1}}
    cab = {"title": "CAB", "members": ["ben"], "quorum": {"approvals": 1}}
    book = samples.book({"cab": cab, "ecab": cab}, rules=[rule])

    def bound(*steps: dict[str, Any]) -> dict[str, Any]:
        found = ServiceCatalogue(samples.policy(), book, service(*steps))
        return dict(rules_for(found, ChangeType.NORMAL)["board.yaml"])

    manual = {**TELL, "manual": {**TELL["manual"], "who": ["gus"]}}
    assert set(bound()["people"]) >= {"ben"}
    assert not {"ann", "gus"} & set(bound()["people"])
    assert {"ann", "gus"} <= set(bound(step(do=manual, way_back="none"))["people"])
    (applied,) = bound(step(way_back="none"))["rules"].values()
    assert applied["irreversible"] is True
    assert bound(step())["rules"] == {}


def test_the_board_reads_the_steps_and_what_cannot_be_taken_back() -> None:
    steps = planned_steps(
        service(step(), step("tell", "after", do=TELL, way_back="none", needs=["migrate"], title="Tell the bank")),
        HOSTS,
        rehearsal=False,
    )
    first, second = describe_steps(steps, {"rita": "Rita Reyes"})
    assert first == (
        "before the first wave",
        "1. Migrate",
        "scripts/migrate.sh of the bundle on bike-shop-production-1",
        "scripts/back.sh of the bundle on bike-shop-production-1",
        "nothing",
        "5 minutes",
    )
    assert second[2] == "by hand: Rita Reyes, within 4 hours; to show: the number of the ticket"
    assert second[3] == "none: it cannot be taken back"
    assert second[4] == "step 1"
    (said,) = describe_irreversible(releases.rollout(runbook=steps))
    assert said.startswith("“Tell the bank” cannot be taken back.")
    assert irreversible_of([Step.model_validate(step(way_back="none"))]) == ("migrate",)
    assert steps[0].estimate == timedelta(minutes=5)
    assert service(step(), waves=("100%",)).environments["production"].waves == (Wave(percent=100),)
