"""A release, end to end: a real Airflow, a real fleet, and people at the public REST API.

The tests share one stack, whose production runs 1.0.0 when it starts; each says what production must run after it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .people import DAG, Colleague, Release, until
from .stack import Stack

pytestmark = pytest.mark.timeout(2400)
OLD, NEW = "1.0.0", "1.1.0"


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


def accept(stack: Stack, run: Release) -> None:
    """Let the functional approver accept what runs on test."""
    stack.person("fay").decide(run, "acceptance.ask_approver", "Approve", "Works as the team asked")


def approve(stack: Stack, run: Release) -> None:
    """Let two of the three members of the board approve, and support acknowledge its training."""
    stack.person("ben").decide(run, "rollout.cast_ballot", "Approve", "Operations is ready")
    stack.person("cora").decide(run, "rollout.cast_ballot", "Approve", "No findings")


def train(stack: Stack, run: Release) -> None:
    """Let support acknowledge the training material."""
    stack.person("sam").decide(run, "communication.acknowledge_training", "Acknowledge", "Read by the whole desk")


def test_bad_input_is_refused_at_the_door_and_leaves_no_run(stack: Stack, rita: Colleague) -> None:
    before = rita.get(f"dags/{DAG}/dagRuns")["total_entries"]
    good = {"ref": NEW, "version": NEW, "change_type": "normal", "summary": "Bikes", "tickets": []}
    for field, bad in [
        ("ref", "--upload-pack=touch /tmp/x"),
        ("version", "one.two"),
        ("change_type", "heroic"),
        ("summary", ""),
        ("tickets", ["not a ticket"]),
        ("not_before", "tomorrow"),
        ("hosts", ["i-1234"]),
    ]:
        reply = rita.ask_for_release({**good, field: bad})
        assert reply.status_code in (400, 422), f"{field}={bad!r}: {reply.status_code}"
        assert field in reply.text, reply.text
    assert rita.get(f"dags/{DAG}/dagRuns")["total_entries"] == before


def test_only_who_may_trigger_triggers(stack: Stack) -> None:
    for user in ("ben", "fay", "sam", "audrey"):
        reply = stack.person(user).ask_for_release(
            {"ref": NEW, "version": NEW, "change_type": "normal", "summary": "Bikes"}
        )
        assert reply.status_code == 403, user


def test_a_release_that_fails_quality_review_stops_there_and_names_the_rows(stack: Stack, rita: Colleague) -> None:
    run = rita.release("1.2.0")
    assert run.finish() == "failed"
    report = run.result("quality.judge_quality")
    rows = [row for failure in report["failures"] for row in failure["rows"]]
    assert any("basket" in row for row in rows), rows
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "quality")
    broken = [row for failure in report["failures"] for row in failure["rows"][:1] if failure["suite"] != "performance"]
    assert broken, "on a slow machine response times fail, too, and not alone"
    assert all(row in outcome["reason"] for row in broken)
    assert run.states()["acceptance.prepare_acceptance"] == "upstream_failed"
    assert stack.production() == {OLD}


@pytest.fixture(scope="module")
def at_the_board(stack: Stack, rita: Colleague) -> tuple[Release, Release]:
    """A release whose board is asked, and another of the same service that was asked for after it."""
    first, second = rita.release(NEW), rita.release("1.3.0")
    accept(stack, first)
    ballot = f"{first.path}/taskInstances/rollout.cast_ballot/0/hitlDetails"
    until("the first ballot", lambda: rita.send("GET", ballot).is_success, within=900)
    return first, second


def test_nobody_goes_round_the_board_through_the_api(stack: Stack, at_the_board: tuple[Release, Release]) -> None:
    """Mark, clear, edit or delete: refused for the administrator too; the board decides or nobody does."""
    run, _ = at_the_board
    admin = stack.person("admin")
    tasks = f"{run.path}/taskInstances"
    vote = {"chosen_options": ["Approve"], "params_input": {}}
    cleared = {"dry_run": False, "dag_run_id": run.id, "task_ids": ["rollout.cast_ballot"]}
    attempts = {
        "mark a ballot": admin.send("PATCH", f"{tasks}/rollout.cast_ballot/0", {"new_state": "success"}),
        "mark the counting": admin.send("PATCH", f"{tasks}/rollout.await_board", {"new_state": "success"}),
        "mark the run": admin.send("PATCH", run.path, {"state": "success"}),
        "edit the plan": admin.send(
            "PATCH", f"{tasks}/rollout.freeze_plan/xcomEntries/return_value", {"value": "{}", "map_index": -1}
        ),
        "clear": admin.send("POST", f"dags/{DAG}/clearTaskInstances", cleared),
        "delete": admin.send("DELETE", run.path),
        "vote for ben": admin.send("PATCH", f"{tasks}/rollout.cast_ballot/0/hitlDetails", vote),
    }
    assert {what: reply.status_code for what, reply in attempts.items()} == dict.fromkeys(attempts, 403)
    assert stack.production() == {OLD}


def test_a_board_that_rejects_ends_the_release_and_a_second_release_waits_in_line(
    stack: Stack, at_the_board: tuple[Release, Release]
) -> None:
    first, second = at_the_board
    ben, cora = stack.person("ben"), stack.person("cora")
    ben.decide(first, "rollout.cast_ballot", "Approve", "Fine with me")
    assert (first.state, second.state) == ("running", "queued"), (
        "two releases of one service must not be active at once"
    )
    cora.decide(first, "rollout.cast_ballot", "Reject", "The basket cookie is not marked secure")
    assert first.finish() == "failed"
    outcome = first.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("rejected", "rollout")
    assert "The basket cookie is not marked secure" in outcome["reason"]
    assert first.states()["implementation.wave_1"] == "upstream_failed"
    assert first.states()["verification.back_out"] == "skipped"
    assert all(question.answered for question in first.questions()), "a ballot was left open"
    assert stack.production() == {OLD}
    until("the second release to start", lambda: second.state == "running")


def test_a_release_that_breaks_in_production_is_backed_out(stack: Stack, rita: Colleague) -> None:
    waiting = [
        row for row in rita.get(f"dags/{DAG}/dagRuns", order_by="-run_after")["dag_runs"] if row["state"] == "running"
    ]
    run = Release(rita, waiting[0]["dag_run_id"]) if waiting else rita.release("1.3.0")
    mails = len(stack.mails())
    accept(stack, run)
    approve(stack, run)
    train(stack, run)
    assert run.finish() == "failed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("backed_out", "verification")
    assert "/bikes" in outcome["reason"]
    back_out = run.result("verification.back_out")
    assert {result["outcome"] for result in back_out["results"]} == {"backed_out"}
    assert stack.production() == {OLD}
    assert stack.in_service() == 3, "every host is back in the target group"
    assert stack.events("bike-shop@production")[0]["extra"]["version"] == OLD
    version = outcome["version"]
    told = {to: mail for mail in stack.mails()[mails:] for to in mail.recipients}
    assert told["rita@example.com"].subject == f"Bike shop {version}: backed out"
    assert "/bikes" in told["rita@example.com"].text
    customers = told["customers@example.com"]
    assert customers.subject == f"Bike shop {version}: taken back", "they were told that it was about to be released"
    assert f"You continue to use Bike shop {OLD}." in customers.text


def test_silence_until_the_deadline_is_a_rejection(stack: Stack, rita: Colleague) -> None:
    run = rita.release(NEW, change_type="emergency")
    if run.result("acceptance.prepare_acceptance") != []:
        accept(stack, run)
    assert run.finish() == "failed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("expired", "rollout")
    assert stack.production() == {OLD}


def withdrawn(person: Colleague, run: Release) -> Release:
    """Withdraw a release; return the run that does it."""
    reply = person.withdraw(run.id)
    assert reply.status_code == 200, reply.text
    return Release(person, reply.json()["dag_run_id"], "withdraw_release")


def test_a_release_that_waits_for_an_answer_and_a_queued_one_are_withdrawn(stack: Stack, rita: Colleague) -> None:
    mails = len(stack.mails())
    first, second = rita.release(NEW), rita.release("1.3.0")
    until("the acceptance to be asked", lambda: any(not one.answered for one in first.questions()))
    ben = stack.person("ben").withdraw(first.id)
    assert (ben.status_code, "requested by rita" in ben.text) == (403, True), ben.text
    both = rita.withdraw()
    assert (both.status_code, first.id in both.text, second.id in both.text) == (422, True, True), both.text

    of_second = withdrawn(rita, second)
    assert of_second.finish() == "success", of_second.states()
    assert second.state == "queued", "it ends when its turn has come"
    assert "is withdrawn already" in rita.withdraw(second.id).text
    of_first = withdrawn(rita, first)
    assert first.finish() == "failed"
    outcome = first.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("withdrawn", "acceptance"), outcome
    assert outcome["reason"] == "rita, who requested it, withdrew the release: The tag is wrong."
    assert {one.user for one in first.questions()} == {"board_clerk"}
    assert of_first.finish() == "success", of_first.states()
    assert of_first.result("await_end")["outcome"] == "withdrawn"

    assert second.finish() == "failed"
    assert (second.outcome()["outcome"], second.outcome()["stage"]) == ("withdrawn", "policy")
    assert second.questions() == ()
    assert stack.production() == {OLD}
    told = {mail.subject for mail in stack.mails()[mails:] if "rita@example.com" in mail.recipients}
    assert told == {f"Bike shop {NEW}: withdrawn", "Bike shop 1.3.0: withdrawn"}


def test_a_release_that_waits_for_its_start_is_overtaken_by_an_emergency(stack: Stack, rita: Colleague) -> None:
    mails, tomorrow = len(stack.mails()), f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    run = rita.release(NEW, rehearsal=True, not_before=tomorrow)
    until("it to wait", lambda: run.states().get("implementation.await_start") == "deferred")
    urgent = rita.release("1.3.0", change_type="emergency", summary="Payments fail")
    assert run.finish(within=300) == "failed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("overtaken", "implementation"), outcome
    assert f"(run {urgent.id}), requested by rita, overtook this normal release: Payments fail." in outcome["reason"]
    (mail,) = [one for one in stack.mails()[mails:] if one.subject == f"Bike shop {NEW}: overtaken"]
    assert mail.recipients == ("rita@example.com",)
    until("the emergency to begin", lambda: urgent.state != "queued")
    withdrawn(rita, urgent)
    assert urgent.finish(within=300) == "failed"
    assert urgent.outcome()["outcome"] == "withdrawn"


def test_a_rehearsal_does_everything_but_touch_production_or_ask_people(stack: Stack, rita: Colleague) -> None:
    run = rita.release(NEW, rehearsal=True)
    assert run.finish() == "success", run.outcome()
    assert run.outcome()["outcome"] == "rehearsed"
    assert run.questions() == ()
    assert stack.production() == {OLD}
    assert stack.test_environment() == {NEW}


def test_a_release_goes_from_a_tag_to_every_production_host(stack: Stack, rita: Colleague) -> None:
    mails = len(stack.mails())
    run = rita.release(NEW)
    accept(stack, run)
    approve(stack, run)
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    assert run.outcome()["outcome"] == "deployed"
    assert stack.production() == {NEW}
    assert stack.in_service() == 3

    artifact = run.result("build.build_artifact")
    event: dict[str, Any] = stack.events("bike-shop@production")[0]["extra"]
    assert event == {"version": NEW, "digest": artifact["bundle"]["sha256"], "dag_id": DAG, "run_id": run.id}

    told = run.result("communication.record_communication")
    assert told["acknowledged"] == {"service-desk": "sam"}
    new = stack.mails()[mails:]
    assert set(told["sent"]) == {"customers", "staff"}
    announced = [mail for mail in new if mail.subject.startswith(f"Bike shop {NEW}: ") and "To " in mail.text]
    assert {to for addresses in told["sent"].values() for to in addresses} == {
        to for mail in announced for to in mail.recipients
    }
    asked = {to: mail for mail in new if mail.subject.startswith("Your answer is needed: ") for to in mail.recipients}
    assert set(asked) == {f"{user}@example.com" for user in ("fay", "ben", "cora", "dan", "sam")}
    pages = {to: re.search(r'href="([^"]+)"', mail.text) for to, mail in asked.items()}
    ballot = pages["ben@example.com"]
    assert ballot is not None
    assert ballot[1].startswith(f"{stack.settings.airflow_url}/dags/{DAG}/runs/"), "the mail leads to the question"
    assert "/tasks/rollout.cast_ballot/mapped/" in ballot[1]
    ended = [mail for mail in new if mail.subject == f"Bike shop {NEW}: deployed"]
    assert [mail.recipients for mail in ended] == [("rita@example.com",)]
    assert all(NEW in mail.text for mail in new)

    decision = run.result("rollout.await_board")
    plan = run.result("rollout.freeze_plan")
    assert decision["approved"]
    assert {vote["user"] for vote in decision["votes"] if vote["choice"] == "Approve"} == {"ben", "cora"}
    ballots = [question for question in run.questions() if question.task_id == "rollout.cast_ballot"]
    assert len(ballots) == 3
    assert all(decision["digest"] in ballot.body for ballot in ballots)
    assert plan["bundle"]["sha256"] == artifact["bundle"]["sha256"]
    waves = [run.result(f"implementation.wave_{number}") for number in (1, 2)]
    assert [len(wave["results"]) for wave in waves] == [1, 2]


def test_a_released_version_released_again_changes_nothing(stack: Stack, rita: Colleague) -> None:
    run = rita.release(NEW, change_type="standard")
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    waves = [run.result(f"implementation.wave_{number}") for number in (1, 2)]
    assert {result["outcome"] for wave in waves for result in wave["results"]} == {"unchanged"}
    assert run.states().get("rollout.cast_ballot") == "skipped"
    assert stack.production() == {NEW}
