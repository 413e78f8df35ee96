"""Back to an earlier release, two fleets, and a canary, on one stack: what goes before leaves what the ledger knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from interlock.estate.world import aws

from .people import Colleague, Release, dag_of, until
from .stack import WHEEL_SHOP, Stack
from .test_release import accept, approve, train

pytestmark = pytest.mark.timeout(3000)  # the first of them starts the stack, and releases twice
SERVICE = WHEEL_SHOP
DAG, BACK = dag_of(SERVICE), dag_of(SERVICE, "rollback")
BLUE = f"{SERVICE}-production"
GOOD, PATCH = "1.1.0", "1.1.1"
GREEN = f"{SERVICE}-production-green"
BLUE_GREEN = f"""    strategy: blue_green
    blue_green:
      hosts: {{ Service: {SERVICE}, Environment: production-green }}
      target_group: {GREEN}
      keep: PT1H
"""
CANARY = f"""    strategy: canary
    canary:
      bake: PT10S
      requests: 40
      traffic: 20%
      target_group: {SERVICE}-production-canary
      baseline_target_group: {SERVICE}-production-baseline
      slower: 20 # the machine of the tests does much at once
"""


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


def rollback(person: Colleague, **form: str) -> Release:
    """Trigger a rollback that must be accepted."""
    return Release(person, person.start(BACK, {"version": "", "incident": "", **form}).id, BACK)


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
    first = rita.release(GOOD)
    accept(stack, first)
    approve(stack, first)
    train(stack, first)
    assert first.finish() == "success", first.outcome()
    patch(stack, rita)


@pytest.mark.usefixtures("patched")
def test_a_rollback_to_what_the_ledger_does_not_know_is_refused_at_the_door(rita: Colleague) -> None:
    before = rita.get(f"dags/{BACK}/dagRuns")["total_entries"]
    reply = rita.send_form(BACK, {"version": "1.0.0", "reason": "The basket is broken", "incident": ""})
    assert reply.status_code == 422, reply.text
    known = ("production never ran 1.0.0", "production ran 1.0.0 when Interlock first looked")
    assert any(said in reply.text for said in known), "whether reconcile has looked yet"
    assert f"choose one of {GOOD}" in reply.text
    assert rita.get(f"dags/{BACK}/dagRuns")["total_entries"] == before


@pytest.mark.usefixtures("patched")
def test_production_goes_back_to_the_release_that_is_chosen(stack: Stack, rita: Colleague) -> None:
    run = rollback(rita, reason="The basket is broken", incident="INC-7")
    asked = until("what there is to go back to", run.questions)[0]
    assert asked.options[0].startswith(f"{GOOD} · deployed ")
    assert not [option for option in asked.options if option.startswith(PATCH)]
    rita.decide(run, "planning.choose_release", asked.options[0], "It had no such report")
    assert run.finish() == "success", run.outcome()
    assert (run.outcome()["outcome"], run.outcome()["version"]) == ("deployed", GOOD)
    assert stack.production() == {GOOD}
    assert stack.in_service() == 3
    waves = [run.result(f"implementation.wave_{number}") for number in (1, 2)]
    steps = [{name for name, _ in host["steps"]} for wave in waves for host in wave["results"]]
    assert not any("transfer" in names for names in steps), "its bytes were on the hosts"
    assert stack.events(f"{SERVICE}@production")[0]["extra"]["version"] == GOOD


@contextmanager
def strategy(stack: Stack, rita: Colleague, settings: str, task: str) -> Iterator[None]:
    """Have the catalogue ask for a strategy for a block, and both Dags of the service follow it.

    :param task: one that both have only with that strategy.
    """
    path = stack.settings.catalogue / "services" / f"{SERVICE}.yaml"
    before = path.read_text()

    def wait_for(there: bool) -> None:
        def as_wanted() -> bool:
            without = [dag for dag in (DAG, BACK) if (task in tasks_of(dag)) != there]
            stack.parse(*without)  # again: a file that was just being read when it changed was read too early
            return not without

        until(f"the Dags to have {task}: {there}", as_wanted, within=600)

    def tasks_of(dag: str) -> set[str]:
        return {one["task_id"] for one in rita.get(f"dags/{dag}/tasks")["tasks"]}

    path.write_text(before.replace("    keep_releases: 3\n", f"    keep_releases: 3\n{settings}"))
    wait_for(True)
    yield
    path.write_text(before)
    wait_for(False)


@pytest.fixture
def two_fleets(stack: Stack, rita: Colleague) -> Iterator[None]:
    """The catalogue asks for blue/green, and there is a second fleet, which has nothing yet."""
    with strategy(stack, rita, BLUE_GREEN, "implementation.switch_traffic"):
        until("the second fleet", lambda: len(stack.hosts("production-green")) == 3, within=600)
        stack.configure()
        yield


def who_has_the_traffic(stack: Stack) -> list[str]:
    """Return the names of the target groups to which the listener sends requests."""
    with closing(aws.client(stack.settings, "elbv2")) as elbv2:
        balancer = elbv2.describe_load_balancers(Names=[BLUE])["LoadBalancers"][0]["LoadBalancerArn"]
        (listener,) = elbv2.describe_listeners(LoadBalancerArn=balancer)["Listeners"]
        action = listener["DefaultActions"][0]
        groups = action.get("ForwardConfig", {}).get("TargetGroups") or [action]
        known = elbv2.describe_target_groups()["TargetGroups"]
    names = {one["TargetGroupArn"]: one["TargetGroupName"] for one in known}
    return [names[one["TargetGroupArn"]] for one in groups if one.get("Weight", 1)]


@pytest.mark.usefixtures("patched", "two_fleets")
def test_two_fleets_take_turns(stack: Stack, rita: Colleague) -> None:
    """A release goes to the one without traffic and then gets all of it; a rollback to what the other runs switches."""
    assert who_has_the_traffic(stack) == [BLUE]
    run = rita.release(PATCH, change_type="standard", summary="The way from an empty basket", tickets=["SHOP-17"])
    train(stack, run)
    assert run.finish(within=900) == "success", run.outcome()
    assert who_has_the_traffic(stack) == [GREEN]
    assert stack.versions("production-green") == {PATCH}
    assert stack.production() == {GOOD}, "the fleet before is kept as it was"
    order = sorted(
        (task["start_date"], task["task_id"]) for task in run.tasks() if task["task_id"].startswith("implementation.")
    )
    assert [task for _, task in order][-3:] == [
        "implementation.wave_2",
        "implementation.verify_idle",
        "implementation.switch_traffic",
    ]
    assert stack.events(f"{SERVICE}@production")[0]["extra"]["version"] == PATCH

    back = rollback(rita, version=GOOD, reason="The basket is broken")
    assert back.finish(within=900) == "success", back.outcome()
    assert who_has_the_traffic(stack) == [BLUE]
    assert stack.versions("production-green") == {PATCH}
    waves = [back.result(f"implementation.wave_{number}") for number in (1, 2)]
    assert {host["outcome"] for wave in waves for host in wave["results"]} == {"unchanged"}
    assert stack.production() == {GOOD}


@pytest.fixture
def with_canary(stack: Stack, rita: Colleague) -> Iterator[None]:
    """The catalogue asks for a canary, and the release Dag has it."""
    with strategy(stack, rita, CANARY, "implementation.watch_canary"):
        until("the canary's target group", lambda: f"{SERVICE}-production-canary" in stack.target_groups())
        yield


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
    of_run = f"{stack.settings.airflow_url}/interlock/api/v1/dags/{DAG}/dagRuns/{quote(run.id, safe='')}"
    pages = rita.request("GET", f"{of_run}/reports").json()
    assert "canary" in pages["stages"]
