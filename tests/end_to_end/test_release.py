"""A release, end to end: a real Airflow on a cluster, a real fleet, and people at the public REST API.

Production runs 1.0.0 when the stack starts, and after each of these tests: none of their releases gets through.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from interlock.domain.dag_names import EMERGENCY_STOP
from interlock.domain.paths import run_page
from interlock.estate.airflow.accounts import passwords
from interlock.estate.commands.client import ENDED
from tests.browser import chromium, log_in, opened_page
from tests.chaos.blows import deliver_again

from .people import DAG, Colleague, Release, until
from .stack import Mail, Stack

pytestmark = pytest.mark.timeout(2400)
ENGINE = "cluster"
OLD, NEW = "1.0.0", "1.1.0"


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


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
    reply = rita.ask_for_release({**good, "ref": "9.9.9", "version": "9.9.9"})
    assert reply.status_code == 422, reply.text
    assert "The repository of bike-shop has no tag or branch '9.9.9'" in reply.text
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


def withdrawn(person: Colleague, run: Release) -> Release:
    """Withdraw a release; return the run that does it."""
    reply = person.withdraw(run.id)
    assert reply.status_code == 200, reply.text
    return Release(person, reply.json()["dag_run_id"], "withdraw_release")


def asked_by_mail(stack: Stack, run: Release, user: str, task: str) -> str:
    """Return the link of the mail by which a person is asked a question of a run."""
    start = f"{stack.settings.airflow_url}/{run_page(run.dag_id, run.id)}/tasks/{task}/"
    page = re.compile(f'href="({re.escape(start)}[^"]+)"')

    def link() -> str | None:
        texts = [mail.text for mail in stack.mails() if f"{user}@example.com" in mail.recipients]
        return next((found[1] for text in texts if (found := page.search(text))), None)

    return str(until(f"{user} to be asked by mail", link, within=900))


def answer_from_mail(stack: Stack, page: Page, run: Release, user: str, task: str) -> None:
    """Open the link of a mail, log in where it leads, and approve the question that Airflow then shows."""
    link = asked_by_mail(stack, run, user, task)
    page.goto(link)
    log_in(page, user, passwords(stack.settings)[user])
    page.wait_for_url(link)
    approve_it = page.get_by_test_id("hitl-option-Approve")
    expect(approve_it).to_be_enabled()
    page.locator("#element_comment").fill("Tried, and it works")
    page.locator('[id="switch:element_confirmed:control"]').dispatch_event("click")
    approve_it.dispatch_event("click")
    expect(page.get_by_text("response successful")).to_be_visible()


@contextmanager
def delivered_twice(stack: Stack) -> Iterator[set[str]]:
    """Have Celery's broker deliver each task that runs once more, as after its visibility time-out; yield which."""
    again: set[str] = set()
    over = threading.Event()

    def deliver() -> None:
        while not over.wait(1):
            again.update(deliver_again(stack.settings, again))

    delivering = threading.Thread(target=deliver)
    delivering.start()
    try:
        yield again
    finally:
        over.set()
        delivering.join()


def told(stack: Stack, address: str, subject: str, *, after: int) -> Mail:
    """Return the one mail with a subject that somebody got."""
    mails = [mail for mail in stack.mails()[after:] if f"{address}@example.com" in mail.recipients]
    (found,) = [mail for mail in mails if mail.subject == subject]
    return found


def test_a_day_of_a_release_office(stack: Stack, rita: Colleague, browser: Browser) -> None:
    """One release is stopped and withdrawn, another is overtaken by an emergency, which is taken back.

    Tasks of the emergency are delivered twice.
    """
    before, url = len(stack.mails()), stack.settings.airflow_url
    waiting = [run for run in rita.active_runs(DAG) if run.state == "running"]
    morning = Release(rita, waiting[0].id) if waiting else rita.release("1.3.0")
    with opened_page(browser) as fays:
        answer_from_mail(stack, fays, morning, "fay", "acceptance.ask_approver")
    with opened_page(browser) as bens:
        answer_from_mail(stack, bens, morning, "ben", "rollout.cast_ballot")

    olga, form = stack.person("olga"), {"scope": "bike-shop", "reason": "The warehouse burns", "incident": "INC-9"}
    stop = olga.start(EMERGENCY_STOP, {**form, "hours": 1, "lift": ""})
    stopped = "Emergency stop in force"  # other services may be frozen meanwhile
    seen = re.compile(f"^{stopped}: .*bike-shop.*The warehouse burns")
    with opened_page(browser) as coras:
        coras.goto(asked_by_mail(stack, morning, "cora", "rollout.cast_ballot"))
        log_in(coras, "cora", passwords(stack.settings)["cora"])
        coras.goto(url)
        expect(coras.get_by_test_id("interlock-home").get_by_role("alert").filter(has_text=stopped)).to_have_text(seen)
        coras.goto(f"{url}/plugin/release-calendar")
        calendar = coras.get_by_test_id("interlock-calendar")
        expect(calendar.get_by_role("alert").filter(has_text=stopped)).to_have_text(seen)
        coras.goto(f"{url}/{run_page(DAG, morning.id)}/plugin/release")
        expect(coras.get_by_test_id("interlock-release").get_by_role("alert")).to_have_text(seen)
    until("the stop to be recorded", lambda: stop.state in ENDED)
    assert olga.get(f"dags/{EMERGENCY_STOP}/details")["params"]["lift"]["schema"]["examples"] == ["bike-shop"]
    lifted = olga.start(EMERGENCY_STOP, {**form, "hours": 1, "lift": "bike-shop"})

    withdrawn(rita, morning)
    assert morning.finish() == "failed"
    assert (morning.outcome()["outcome"], morning.outcome()["stage"]) == ("withdrawn", "rollout")
    assert {one.user for one in morning.questions()} == {"fay", "ben", "board_clerk"}
    assert "rita" in told(stack, "rita", "Bike shop 1.3.0: withdrawn", after=before).text
    until("the stop to be lifted", lambda: lifted.state in ENDED)
    assert (stop.state, lifted.state) == ("success", "success")

    planned, at_noon = rita.release(NEW), len(stack.mails())
    asked_by_mail(stack, planned, "fay", "acceptance.ask_approver")
    urgent = rita.release("1.3.0", change_type="emergency", summary="Payments fail")
    assert planned.finish(within=300) == "failed"
    outcome = planned.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("overtaken", "acceptance"), outcome
    assert f"(run {urgent.id}), requested by rita, overtook this normal release: Payments fail." in outcome["reason"]
    assert "Payments fail" in told(stack, "rita", f"Bike shop {NEW}: overtaken", after=at_noon).text
    assert {one.user for one in planned.questions()} == {"board_clerk"}

    accept(stack, urgent)
    with delivered_twice(stack) as again:
        stack.person("ben").decide(urgent, "rollout.cast_ballot", "Approve", "Operations is ready")
        train(stack, urgent)
        assert urgent.finish() == "failed"
    assert again, "every task was over before the broker looked"
    outcome = urgent.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("backed_out", "verification"), outcome
    assert "/bikes" in outcome["reason"]
    assert {result["outcome"] for result in urgent.result("verification.back_out")["results"]} == {"backed_out"}
    assert stack.production() == {OLD}
    assert stack.in_service() == 3, "every host is back in the target group"
    assert stack.events("bike-shop@production")[0]["extra"]["version"] == OLD
    assert "/bikes" in told(stack, "rita", "Bike shop 1.3.0: backed out", after=at_noon).text
    taken_back = told(stack, "customers", "Bike shop 1.3.0: taken back", after=at_noon)
    assert f"You continue to use Bike shop {OLD}." in taken_back.text, "they were told that it was about to be released"
