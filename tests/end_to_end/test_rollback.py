"""Back to an earlier release, and a canary, on the same stack: what went before left versions that the ledger knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .people import DAG, Colleague, Release, until
from .stack import Stack
from .test_release import accept, approve, train

pytestmark = pytest.mark.timeout(1200)  # the first of them starts the stack, and releases twice
BACK = "rollback_bike_shop"
GOOD, PATCH = "1.1.0", "1.1.1"
CANARY = """    strategy: canary
    canary:
      bake: PT10S
      requests: 40
      traffic: 20%
      target_group: bike-shop-production-canary
      baseline_target_group: bike-shop-production-baseline
      slower: 20 # the machine of the tests does much at once
"""


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


class Rollback(Release):
    """A rollback of the bike shop, as its release manager sees it."""

    def __init__(self, person: Colleague, **form: str) -> None:
        super().__init__(person, person.trigger(BACK, {"version": "", "incident": "", **form}).id)
        self.dag_id, self.path = BACK, self.path.replace(DAG, BACK)


def patch(stack: Stack, rita: Colleague) -> Release:
    """Release the patch as a standard change: nobody votes, and support reads what is new."""
    run = rita.release(PATCH, change_type="standard", summary="The way from an empty basket", tickets=["SHOP-17"])
    train(stack, run)
    assert run.finish(within=900) == "success", run.outcome()
    assert stack.production() == {PATCH}
    return run


@pytest.fixture(scope="module")
def patched(stack: Stack, rita: Colleague) -> None:
    """Production ran 1.1.0 by the ledger, and runs 1.1.1."""
    if stack.production() != {GOOD}:
        first = rita.release(GOOD)
        accept(stack, first)
        approve(stack, first)
        train(stack, first)
        assert first.finish() == "success", first.outcome()
    patch(stack, rita)


@pytest.mark.usefixtures("patched")
def test_a_rollback_to_what_the_ledger_does_not_know_is_refused(rita: Colleague) -> None:
    run = Rollback(rita, version="1.0.0", reason="The basket is broken")
    assert run.finish() == "failed"
    assert "never ran 1.0.0 by the ledger" in run.outcome()["reason"]


@pytest.mark.usefixtures("patched")
def test_production_goes_back_to_the_release_that_is_chosen(stack: Stack, rita: Colleague) -> None:
    run = Rollback(rita, reason="The basket is broken", incident="INC-7")
    asked = until("what there is to go back to", run.questions)[0]
    assert asked["options"][0].startswith(f"{GOOD} · deployed ")
    assert not [option for option in asked["options"] if option.startswith(PATCH)]
    rita.decide(run, "planning.choose_release", asked["options"][0])
    assert run.finish() == "success", run.outcome()
    assert (run.outcome()["outcome"], run.outcome()["version"]) == ("deployed", GOOD)
    assert stack.production() == {GOOD}
    assert stack.in_service() == 3
    waves = [run.result(f"implementation.wave_{number}") for number in (1, 2)]
    steps = [{name for name, _ in host["steps"]} for wave in waves for host in wave["results"]]
    assert not any("transfer" in names for names in steps), "its bytes were on the hosts"
    assert stack.events("bike-shop@production")[0]["extra"]["version"] == GOOD


@pytest.fixture
def with_canary(stack: Stack, rita: Colleague) -> Iterator[None]:
    """The catalogue asks for a canary, and the release Dag has it."""
    path = stack.settings.catalogue / "services" / "bike-shop.yaml"
    before = path.read_text()
    path.write_text(before.replace("    keep_releases: 3\n", f"    keep_releases: 3\n{CANARY}"))

    def tasks() -> set[str]:
        return {task["task_id"] for task in rita.get(f"dags/{DAG}/tasks")["tasks"]}

    until("the Dag to have a canary", lambda: "implementation.watch_canary" in tasks(), within=90)
    yield
    path.write_text(before)
    until("the Dag to have none", lambda: "implementation.watch_canary" not in tasks(), within=90)


@pytest.mark.usefixtures("patched", "with_canary")
def test_a_canary_is_watched_judged_and_followed(stack: Stack, rita: Colleague) -> None:
    run = patch(stack, rita)
    assert stack.in_service() == 3, "canary and baseline serve with the others again"
    titles = {task["task_id"]: task["task_display_name"] for task in run.tasks()}
    assert titles["implementation.watch_canary"] == "Canary · 20 % of the traffic for 10 seconds"
    report: dict[str, Any] = run.result("implementation.judge_canary")
    assert report["verdict"] == "pass", report
    assert run.result("implementation.watch_canary")["requests"] >= 40
    restarted = run.result("implementation.restart_baseline")["results"]
    assert [(one["outcome"], one["after"]) for one in restarted] == [("unchanged", restarted[0]["before"])]
    assert run.result("implementation.settle_canary")["approved"]
    query = {"dag_id": DAG, "run_id": run.id}
    pages = rita._client.get("/interlock/reports", params=query).json()
    assert "canary" in pages["stages"]
