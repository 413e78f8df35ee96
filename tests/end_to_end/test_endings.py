"""A version that goes to every production host, and releases after it that end elsewhere, end to end.

All of them are releases of a service whose hosts have nothing before, and run the version afterwards, whatever comes.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from .people import Colleague, Release, dag_of, until
from .stack import TANDEM_SHOP, Mail, Stack, title
from .test_release import accept, approve, train, withdrawn

pytestmark = pytest.mark.timeout(2400)
SERVICE, DAG, TITLE = TANDEM_SHOP, dag_of(TANDEM_SHOP), title(TANDEM_SHOP)
NEW, PATCH, BROKEN = "1.1.0", "1.1.1", "1.3.0"


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


@pytest.fixture(scope="module")
def released(stack: Stack, rita: Colleague) -> tuple[Release, list[Mail]]:
    """The release that brought the version to production, and the mails that were sent meanwhile."""
    mails = len(stack.mails())
    run = rita.release(NEW)
    accept(stack, run)
    approve(stack, run)
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    assert stack.production() == {NEW}
    assert stack.in_service() == 3
    return run, stack.mails()[mails:]


def test_a_release_goes_from_a_tag_to_every_production_host(stack: Stack, released: tuple[Release, list[Mail]]) -> None:
    run, mails = released
    assert run.outcome()["outcome"] == "deployed"
    artifact = run.result("build.build_artifact")
    events: list[dict[str, Any]] = [one["extra"] for one in stack.events(f"{SERVICE}@production")]
    assert {"version": NEW, "digest": artifact["bundle"]["sha256"], "dag_id": DAG, "run_id": run.id} in events

    told = run.result("communication.record_communication")
    assert told["acknowledged"] == {"service-desk": "sam"}
    assert set(told["sent"]) == {"customers", "staff"}
    announced = [mail for mail in mails if mail.subject.startswith(f"{TITLE} {NEW}: ") and "To " in mail.text]
    assert {to for addresses in told["sent"].values() for to in addresses} == {
        to for mail in announced for to in mail.recipients
    }
    asked = {to: mail for mail in mails if mail.subject.startswith("Your answer is needed: ") for to in mail.recipients}
    assert set(asked) == {f"{user}@example.com" for user in ("fay", "ben", "cora", "dan", "sam")}
    pages = {to: re.search(r'href="([^"]+)"', mail.text) for to, mail in asked.items()}
    ballot = pages["ben@example.com"]
    assert ballot is not None
    assert ballot[1].startswith(f"{stack.settings.airflow_url}/dags/{DAG}/runs/"), "the mail leads to the question"
    assert "/tasks/rollout.cast_ballot/mapped/" in ballot[1]
    ended = [mail for mail in mails if mail.subject == f"{TITLE} {NEW}: deployed"]
    assert [mail.recipients for mail in ended] == [("rita@example.com",)]
    assert all(NEW in mail.text for mail in mails)

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


@pytest.mark.usefixtures("released")
def test_a_released_version_released_again_changes_nothing(stack: Stack, rita: Colleague) -> None:
    run = rita.release(NEW, change_type="standard")
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    waves = [run.result(f"implementation.wave_{number}") for number in (1, 2)]
    assert {result["outcome"] for wave in waves for result in wave["results"]} == {"unchanged"}
    assert run.states().get("rollout.cast_ballot") == "skipped"
    assert stack.production() == {NEW}


@pytest.mark.usefixtures("released")
def test_a_rehearsal_does_everything_but_touch_production_or_ask_people(stack: Stack, rita: Colleague) -> None:
    run = rita.release(PATCH, rehearsal=True)
    assert run.finish() == "success", run.outcome()
    assert run.outcome()["outcome"] == "rehearsed"
    assert run.questions() == ()
    assert stack.production() == {NEW}
    assert stack.test_environment() == {PATCH}


@pytest.mark.usefixtures("released")
def test_silence_until_the_deadline_is_a_rejection(stack: Stack, rita: Colleague) -> None:
    run = rita.release(PATCH, change_type="emergency")
    if run.result("acceptance.prepare_acceptance") != []:
        accept(stack, run)
    assert run.finish() == "failed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("expired", "rollout")
    assert stack.production() == {NEW}


@pytest.mark.usefixtures("released")
def test_a_release_that_waits_for_an_answer_and_a_queued_one_are_withdrawn(stack: Stack, rita: Colleague) -> None:
    mails = len(stack.mails())
    first, second = rita.release(PATCH), rita.release(BROKEN)
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
    assert stack.production() == {NEW}
    told = {mail.subject for mail in stack.mails()[mails:] if "rita@example.com" in mail.recipients}
    assert told == {f"{TITLE} {PATCH}: withdrawn", f"{TITLE} {BROKEN}: withdrawn"}
