"""A service with environments between test and production, each with its test team, end to end.

A test case fails, and the release with it. The next version fixes the defect, and passes every environment. An
emergency release goes by the shorter way that the policy has for it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from interlock.verify import __main__ as verifier

from .people import Colleague, Release, until
from .stack import CARGO_SHOP, Stack, title
from .test_release import accept, approve, train

pytestmark = pytest.mark.timeout(2400)
SERVICE, TITLE = CARGO_SHOP, title(CARGO_SHOP)
FLAWED, MENDED = "1.1.0", "1.1.1"
CASE = "fill-a-basket"
WHAT_HAPPENED = "The empty basket leads nowhere"
BETWEEN = ("integration", "acceptance", "staging")
REVIEW = "security-review"


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


def run_cases(stack: Stack, run: Release, option: str, comment: str = "") -> None:
    """Let the testers run their cases on test and in acceptance; the one of the basket ends in this way."""
    stack.person("sam").decide(run, "quality.run_case", "Passed", about="open-the-shop")
    stack.person("dan").decide(run, "quality.acceptance.run_case", option, comment, about=CASE)


def sign_off(stack: Stack, run: Release, environment: str, *users: str) -> str:
    """Let people sign an environment off; return the text of their ballots."""
    task = f"quality.{environment}.sign_off"
    ballots = [stack.person(user).decide(run, task, "Approve", "Tried, and it works") for user in users]
    return ballots[0].body


@pytest.fixture(scope="module")
def sent_back(stack: Stack, rita: Colleague) -> Release:
    """The release whose test case fails."""
    run = rita.release(FLAWED)
    run_cases(stack, run, "Failed", WHAT_HAPPENED)
    assert run.finish() == "failed"
    return run


def test_a_case_that_fails_ends_the_release_and_goes_back_to_the_developers(stack: Stack, sent_back: Release) -> None:
    outcome = sent_back.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "quality"), outcome
    assert "in acceptance failed" in outcome["reason"]
    assert CASE in outcome["reason"]
    (mail,) = [one for one in stack.mails() if one.recipients == ("developers@example.com",)]
    assert WHAT_HAPPENED in mail.text
    assert f"{CASE}-1" in mail.text
    states = sent_back.states()
    assert states["quality.integration.conclude"] == "success", "it does not wait for acceptance"
    assert states["quality.staging.deploy"] == "upstream_failed"
    assert states["implementation.wave_1"] == "upstream_failed"


def test_whom_the_policy_names_accepts_the_defect_as_known(stack: Stack, sent_back: Release) -> None:
    form = {"service": SERVICE, "defect": f"{CASE}-1", "reason": "Few customers empty it", "days": 2}
    ben, cora = stack.person("ben"), stack.person("cora")
    assert ben.get("dags/accept_defect/details")["params"]["defect"]["schema"]["examples"] == [f"{CASE}-1"]
    refused = cora.send_form("accept_defect", form)
    assert (refused.status_code, "Who can change it: operations" in refused.text) == (422, True), refused.text
    accepted = Release(ben, ben.start("accept_defect", form).id, "accept_defect")
    assert accepted.finish() == "success", accepted.states()
    assert accepted.result("record_acceptance")["by"] == "ben"
    (mail,) = [one for one in stack.mails() if one.subject == f"{TITLE}: defect {CASE}-1 accepted as known"]
    assert "developers@example.com" in mail.recipients
    assert form["reason"] in mail.text


@pytest.fixture(scope="module")
def mended(stack: Stack, rita: Colleague, sent_back: Release) -> tuple[Release, dict[str, str]]:
    """The release that fixes the defect, and the text of a ballot of each environment."""
    run = rita.release(MENDED, summary="The way from an empty basket")
    run_cases(stack, run, "Passed")
    texts = {
        "acceptance": sign_off(stack, run, "acceptance", "fay", "cora"),
        REVIEW: sign_off(stack, run, REVIEW, "cora"),
        "staging": sign_off(stack, run, "staging", "sam"),
    }
    accept(stack, run)
    approve(stack, run)
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    return run, texts


def test_the_next_version_passes_every_environment_and_closes_the_defect(
    stack: Stack, mended: tuple[Release, dict[str, str]]
) -> None:
    run, texts = mended
    assert run.outcome()["outcome"] == "deployed"
    assert {name: stack.versions(name) for name in ("test", *BETWEEN, "production")} == {
        name: {MENDED} for name in ("test", *BETWEEN, "production")
    }
    passed = {name: run.result(f"quality.{name}.conclude") for name in (*BETWEEN, REVIEW)}
    plan = run.result("rollout.freeze_plan")
    assert {one["environment"]: one["quality"] for one in plan["environments"]} == {
        name: one["quality"] for name, one in passed.items()
    }
    ballot = next(one.body for one in run.questions() if one.task_id == "rollout.cast_ballot")
    assert all(f"Quality report of {name}, SHA-256: `{one['quality']}`" in ballot for name, one in passed.items())
    assert "this release fixes it" in ballot
    assert "### Test matrix" in ballot
    (digest,) = {line for line in texts["staging"].splitlines() if line.startswith("Quality report, SHA-256: ")}
    assert passed["staging"]["quality"] in digest
    assert began(run, "quality.staging.book") >= max(ended(run, f"quality.{name}.conclude") for name in BETWEEN[:2])
    assert began(run, "quality.integration.deploy") < ended(run, "quality.acceptance.conclude"), "side by side"


def began(run: Release, task: str) -> str:
    return next(one["start_date"] for one in run.tasks() if one["task_id"] == task)


def ended(run: Release, task: str) -> str:
    return next(one["end_date"] for one in run.tasks() if one["task_id"] == task)


def test_the_evidence_pack_proves_every_environment_offline(
    stack: Stack, mended: tuple[Release, dict[str, str]]
) -> None:
    run, _ = mended
    pack = Path(urlsplit(run.result("closure.pack_evidence")["uri"]).path)
    key = stack.settings.signing_key.with_name(f"{stack.settings.signing_key.name}.pub")
    said = subprocess.run(
        [sys.executable, verifier.__file__, pack, "--key", key], capture_output=True, text=True, cwd="/", check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "PROVEN." in said.stdout
    assert f"passed {', '.join(BETWEEN)}" in said.stdout or "passed " in said.stdout


def test_an_emergency_goes_over_staging_only_and_its_ballot_says_so(
    stack: Stack, rita: Colleague, mended: tuple[Release, dict[str, str]]
) -> None:
    run = rita.release(MENDED, change_type="emergency", summary="Payments fail")
    stack.person("sam").decide(run, "quality.run_case", "Passed", about="open-the-shop")
    sign_off(stack, run, "staging", "ben")
    accept(stack, run)
    cast = "rollout.cast_ballot"
    ballot = until("the ballot", lambda: next((one.body for one in run.questions() if one.task_id == cast), None))
    rita.withdraw(run.id)  # its board has a minute, which is short on a busy machine
    assert run.finish() == "failed"
    assert run.outcome()["outcome"] in ("withdrawn", "expired"), run.outcome()
    states = run.states()
    assert {name: states[f"quality.{name}.deploy"] for name in BETWEEN} == {
        "integration": "skipped",
        "acceptance": "skipped",
        "staging": "success",
    }
    assert states[f"quality.{REVIEW}.begin"] == "skipped"
    assert "| acceptance | **left out**: policy.yaml change_types.emergency.environments names staging only |" in ballot
