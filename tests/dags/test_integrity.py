"""What holds for every Dag of the project, whatever it releases."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.console.auth.roles import ROLES, WATCHERS
from interlock.console.control.rules import is_controlled
from interlock.domain.board.questions import ASK_TESTERS, QUESTIONS
from interlock.domain.ledger.kinds import LEAVES, left_by
from interlock.domain.outcome.outcome import STAGES

ROOT = Path(__file__).parents[2]
CONTROL = [
    "accept_defect",
    "confirm_account",
    "deliver_records",
    "emergency_stop",
    "mark_version",
    "override_freeze",
    "overtake_releases",
    "reconcile",
    "retry_deliveries",
    "return_hosts",
    "review_release",
    "withdraw_release",
]
DAGS = sorted([*CONTROL, "release_bike_shop", "rollback_bike_shop", "train_weekly"])
LOADER = Path(__file__).with_name("bag_as_json.py")


class Loader:
    """Loads folders of Dags as the Dag processor does, each in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def __call__(self, folder: Path, no_work: bool = False, **environment: str) -> dict[str, Any]:
        """Return the Dags of a folder, and why files could not be imported.

        :param no_work: a file that does anything but describe Dags cannot be imported.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"folder": str(folder), "environment": environment, "no_work": no_work}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        result = None
        for line in self._process.stdout:
            if line.startswith("RESULT"):
                result = dict(json.loads(line.removeprefix("RESULT")))
            if line.startswith("ENDED"):
                break
        assert result is not None, self._log.read_text()[-3000:]
        return result


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    home = tmp_path_factory.mktemp("airflow")
    airflow = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, str(LOADER)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "include"), **airflow},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
        ) as process,
    ):
        yield Loader(process, home / "log")


@pytest.fixture(scope="module")
def bag(load: Loader) -> dict[str, Any]:
    return load(ROOT / "dags")


@pytest.fixture(scope="module")
def release(bag: dict[str, Any]) -> dict[str, Any]:
    return dict(bag["dags"]["release_bike_shop"])


def test_every_dag_of_the_project_is_known_and_none_fails_to_import(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    assert sorted(bag["dags"]) == DAGS


def test_the_whole_project_as_a_bundle_has_the_same_dags_and_no_errors(load: Loader) -> None:
    bundle = load(ROOT)
    assert bundle["errors"] == {}
    assert sorted(bundle["dags"]) == DAGS


def test_the_stages_are_groups_in_the_order_of_the_process(release: dict[str, Any]) -> None:
    assert release["groups"] == list(STAGES)
    reached = ["policy.resolve_policy"]
    for task in reached:
        reached.extend(after for after in release["tasks"][task]["downstream"] if after not in reached)
    assert sorted(reached) == sorted(release["tasks"]), (
        "a task that does not follow from the policy could run by itself"
    )


def test_a_rollback_has_the_stages_of_a_release(bag: dict[str, Any], release: dict[str, Any]) -> None:
    back = bag["dags"]["rollback_bike_shop"]
    assert back["groups"] == release["groups"]
    shared = ("rollout.", "implementation.", "verification.", "closure.")
    tasks = {task for task in release["tasks"] if task.startswith(shared)}
    assert {task for task in back["tasks"] if task.startswith(shared)} == tasks
    same = tasks - {"rollout.await_board"}  # a rollback starts while its communication is under way
    assert {task: back["tasks"][task] for task in same} == {task: release["tasks"][task] for task in same}


def test_every_task_tells_a_release_manager_what_it_does(release: dict[str, Any]) -> None:
    assert len(release["tasks"]) > 25
    for task, described in release["tasks"].items():
        assert described["doc"], task
        assert len(described["doc"]) > 30, task
        assert described["title"] != task, task


def test_every_task_is_tried_again(release: dict[str, Any]) -> None:
    once = [task for task, described in release["tasks"].items() if described["retries"] < 4]
    assert once == [], "a worker may die in any of them, and a database may be away for a minute"


def test_a_wave_and_a_back_out_are_tried_again_until_an_estate_that_was_killed_is_back(release: dict[str, Any]) -> None:
    """Two retries were over within 15 seconds, and hosts went on to a version that was on record as failed."""
    for task in ("implementation.wave_1", "verification.back_out"):
        assert release["tasks"][task]["retries"] == 4, task


def test_a_release_is_closed_and_told_although_a_server_is_away_for_minutes(release: dict[str, Any]) -> None:
    """Nothing does later what these tasks do: an outcome was mailed to nobody, and a release had no evidence pack."""
    for task in ("record_outcome", "send_outcome", "pack_evidence", "close_release"):
        assert release["tasks"][f"closure.{task}"]["retries"] == 6, task


def test_the_closing_stage_knows_every_task_that_asks_people(release: dict[str, Any], bag: dict[str, Any]) -> None:
    asking = {task for task, described in release["tasks"].items() if described["type"] == "Question"}
    back = bag["dags"]["rollback_bike_shop"]["tasks"]
    asking |= {task for task, described in back.items() if described["type"] == "Question"}
    of_strategies = {task for task in QUESTIONS if task.startswith(("implementation.", "verification."))}
    of_others = {*of_strategies, ASK_TESTERS}
    assert asking == QUESTIONS - of_others, "which the Dags of other services have: below"
    assert len(asking) > 3


CANARY = """    strategy: canary
    canary: { bake: PT10M, traffic: 10%, target_group: shop-canary, baseline_target_group: shop-baseline }
"""
CASES = """cases:
  repository: [qa/cases.yaml]
  testers: { shop-tester: [sam] }
  within: P2D
load:
"""
BLUE_GREEN = """    on_failure: ask
    strategy: blue_green
    blue_green: { hosts: { Service: bike-shop, Environment: green }, target_group: shop-green }
"""
RUNBOOK = """
databases:
  shop: { connection: shop_test_db, restore: { script: scripts/restore.sh } }
runbook:
  - name: tell-the-bank
    title: Tell the bank
    when: before
    estimate: PT10M
    do: { manual: { who: [sam], instructions: Call the bank., evidence: the number of the ticket } }
    way_back: { manual: { who: [sam], instructions: Call again., evidence: the number of the ticket } }
  - name: expand
    title: Add the column
    when: before
    needs: [tell-the-bank]
    estimate: PT1M
    migrates: shop
    do: { command: { script: scripts/expand.sh } }
    way_back: none
  - name: warm-up
    title: Warm up
    when: after_wave_1
    estimate: PT1M
    do: { command: { script: scripts/warm.sh } }
    way_back: { command: { script: scripts/cool.sh } }
  - name: switch-dns
    title: Switch the DNS
    when: after
    estimate: PT5M
    do: { command: { script: scripts/dns.sh } }
    way_back: { command: { script: scripts/dns-back.sh } }
  - name: close-the-books
    title: Close the books
    when: after
    estimate: PT5M
    do: { dag_run: { dag: close_the_books } }
    way_back: { function: { connection: shop_functions, name: open-the-books, ask: [sam] } }
  - name: notify
    title: Notify the warehouse
    when: after
    estimate: PT1M
    do: { function: { connection: shop_functions, name: notify, ask: [sam] } }
    way_back: { dag_run: { dag: call_the_warehouse } }
"""

PREBUILT = {
    "tool": "prebuilt",
    "store": "https",
    "connection": "shop_artifacts",
    "artifact": "shop-{version}.tar.gz",
    "statements": ["shop-{version}.intoto.jsonl"],
    "workflow": ".github/workflows/release.yml",
    "entry_point": "release",
    "coverage": "coverage-{version}.xml",
    "junit": ["unit-{version}.xml"],
}


SNOW = {
    "kind": "servicenow",
    "connection": "service_now",
    "states": {
        phase: str(number)
        for number, phase in enumerate(
            ("planned", "assessed", "scheduled", "implementing", "review", "closed", "cancelled")
        )
    },
    "task_states": {"open": "1", "closed": "3", "failed": "4"},
}


@pytest.fixture(scope="module")
def strategies(load: Loader, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the Dags of further services: with a canary and test cases, two fleets, a runbook, built elsewhere."""
    catalogue = tmp_path_factory.mktemp("strategies") / "catalogue"
    shutil.copytree(ROOT / "include" / "catalogue", catalogue)
    text = (catalogue / "services" / "bike-shop.yaml").read_text()
    for name, settings in (("canary-shop", CANARY), ("green-shop", BLUE_GREEN)):
        changed = text.replace("name: bike-shop", f"name: {name}")
        (catalogue / "services" / f"{name}.yaml").write_text(
            changed.replace("    keep_releases: 3\n", f"    keep_releases: 3\n{settings}").replace(
                "\nload:\n", f"\n{CASES}" if name == "canary-shop" else "\nload:\n"
            )
        )
    (catalogue / "services" / "runbook-shop.yaml").write_text(
        text.replace("name: bike-shop", "name: runbook-shop") + RUNBOOK
    )
    asks = {"change_types": {"normal": {"records": {"snow": "authority"}}}}
    elsewhere = {**yaml.safe_load(text), "name": "elsewhere-shop", "build": PREBUILT, "suites": {}, "policy": asks}
    (catalogue / "systems.yaml").write_text(yaml.safe_dump({"systems": {"snow": SNOW}}))
    (catalogue / "services" / "elsewhere-shop.yaml").write_text(yaml.safe_dump(elsewhere))
    with (catalogue / "policy.yaml").open("a") as policy:
        policy.write("\nprebuilt: { stores: [shop_artifacts] }\n")
    loaded = load(ROOT / "dags", INTERLOCK_CATALOGUE=str(catalogue))
    assert loaded["errors"] == {}
    return dict(loaded["dags"])


def test_a_service_that_is_built_elsewhere_has_its_artifact_fetched(strategies: dict[str, Any]) -> None:
    tasks = strategies["release_elsewhere_shop"]["tasks"]
    assert "build.fetch_artifact" in tasks
    assert "build.build_artifact" not in tasks


def test_nobody_is_told_or_trained_before_an_authority_approves(
    strategies: dict[str, Any], release: dict[str, Any]
) -> None:
    for dag in ("release_elsewhere_shop", "rollback_elsewhere_shop"):
        tasks = strategies[dag]["tasks"]
        assert "rollout.await_authorities" in tasks["rollout.await_board"]["downstream"]
    tasks = strategies["release_elsewhere_shop"]["tasks"]
    assert "communication.write_notes" in tasks["rollout.await_authorities"]["downstream"]
    assert "communication.write_notes" not in tasks["rollout.await_board"]["downstream"]
    assert "rollout.await_authorities" not in release["tasks"], "no policy of it names an authority"


def steps(dag: dict[str, Any]) -> dict[str, str]:
    tasks = {task: told["title"] for task, told in dag["tasks"].items()}
    return {task.partition(".")[2]: title for task, title in tasks.items() if task.startswith("implementation.")}


def after(dag: dict[str, Any], task: str) -> list[str]:
    """Return what follows a task, however far."""
    found = [task]
    for one in found:
        found.extend(follows for follows in dag["tasks"][one]["downstream"] if follows not in found)
    return found[1:]


def test_steps_are_done_in_their_order_around_the_waves(strategies: dict[str, Any], release: dict[str, Any]) -> None:
    dag = strategies["release_runbook_shop"]
    asked = ["prepare_step_1", "ask_step_1", "ask_step_1_over", "step_1"]
    order = ["measure_baseline", *asked, "step_2", "wave_1", "step_3", "wave_2", "step_4", "step_5"]
    order += ["prepare_step_6", "ask_step_6", "ask_step_6_over", "step_6"]
    for before, then in pairwise(f"implementation.{task}" for task in order):
        assert then in dag["tasks"][before]["downstream"]
    assert "verification.smoke_hosts" in dag["tasks"]["implementation.step_6"]["downstream"]
    elsewhere = {task for task, told in dag["tasks"].items() if told["type"] == "DoElsewhere"}
    assert elsewhere == {
        "implementation.step_5",
        "implementation.prepare_step_6",
        "verification.prepare_back_step_5",
        "verification.back_step_6",
    }
    assert dag["tasks"]["implementation.ask_step_1"]["type"] == "Question"
    assert steps(dag)["step_1"] == "Tell the bank"
    for task in ("step_1", "step_2", "wave_1", "step_3", "wave_2", "step_4", "step_5", "prepare_step_6", "step_6"):
        assert "verification.begin_back_out" in dag["tasks"][f"implementation.{task}"]["downstream"]
    assert all(len(told["doc"]) > 30 and told["retries"] >= 2 for told in dag["tasks"].values())
    rollback = {task for task in strategies["rollback_runbook_shop"]["tasks"] if "step" in task}
    assert not rollback, "a rollback does not do the steps of the version that it leaves"
    assert not [task for task in release["tasks"] if "step" in task or "begin" in task], "without a runbook as before"


def test_database_changes_are_rehearsed_before_the_release_comes_to_test(
    strategies: dict[str, Any], release: dict[str, Any]
) -> None:
    tasks = strategies["release_runbook_shop"]["tasks"]
    assert "quality.deploy_to_test" in tasks["quality.rehearse_migrations"]["downstream"]
    assert "quality.rehearse_migrations" in tasks["build.build_artifact"]["downstream"]
    assert "quality.rehearse_migrations" not in release["tasks"], "it has no step that changes a database"


def test_ways_back_are_gone_in_reverse_around_the_hosts(strategies: dict[str, Any]) -> None:
    tasks = strategies["release_runbook_shop"]["tasks"]
    order = ["begin_back_out", "back_step_6", "prepare_back_step_5", "ask_back_step_5", "ask_back_step_5_over"]
    order += ["back_step_5", "back_step_4", "back_step_3", "back_out"]
    order += ["prepare_back_step_1", "ask_back_step_1", "ask_back_step_1_over", "back_step_1"]
    for before, then in pairwise(f"verification.{task}" for task in order):
        assert then in tasks[before]["downstream"]
    assert "verification.back_step_2" not in tasks, "it has no way back"
    assert tasks["verification.begin_back_out"]["rule"] == "one_failed"
    ways = ("back_step_6", "prepare_back_step_5", "back_step_5", "back_step_4", "back_step_3", "back_out")
    for task in (*ways, "prepare_back_step_1", "back_step_1"):
        assert tasks[f"verification.{task}"]["rule"] == "none_skipped", "one that fails does not keep the others"
    assert "closure.record_outcome" in tasks["verification.back_step_1"]["downstream"]


@pytest.mark.parametrize("kind", ["release", "rollback"])
def test_a_canary_is_watched_and_judged_before_the_next_wave(strategies: dict[str, Any], kind: str) -> None:
    dag = strategies[f"{kind}_canary_shop"]
    assert steps(dag)["wave_1"] == "Wave 1 of 2 · 1 host · canary"
    assert steps(dag)["watch_canary"] == "Canary · 10 % of the traffic for 10 minutes"
    order = ["wave_1", "restart_baseline", "watch_canary", "judge_canary", "settle_canary", "wave_2"]
    for before, then in pairwise(f"implementation.{task}" for task in order):
        assert then in after(dag, before)
        if before != "implementation.wave_2":
            assert "verification.back_out" in dag["tasks"][before]["downstream"], "whatever fails is backed out"
    end = dag["tasks"]["implementation.end_canary"]
    assert end["rule"] == "all_done", "the traffic is given back whatever happened"
    assert "implementation.settle_canary" in end["downstream"]
    assert dag["tasks"]["implementation.ask_canary"]["type"] == "Question"
    assert all(len(told["doc"]) > 30 and told["retries"] >= 2 for told in dag["tasks"].values())


@pytest.mark.parametrize("kind", ["release", "rollback"])
def test_traffic_is_switched_to_a_fleet_that_was_verified(strategies: dict[str, Any], kind: str) -> None:
    dag = strategies[f"{kind}_green_shop"]
    assert steps(dag)["wave_2"] == "Wave 2 of 2 · 100 % of the idle fleet"
    order = ["implementation.settle_wave_2", "implementation.verify_idle", "implementation.switch_traffic"]
    for before, then in pairwise([*order, "verification.smoke_hosts"]):
        assert then in dag["tasks"][before]["downstream"]
        assert "verification.back_out" in dag["tasks"][before]["downstream"]
    assert "verification.back_out" in dag["tasks"]["implementation.switch_traffic"]["downstream"]


@pytest.mark.parametrize("number", [1, 2])
def test_hosts_that_failed_are_asked_about_before_anything_follows(strategies: dict[str, Any], number: int) -> None:
    tasks = strategies["release_green_shop"]["tasks"]
    then = f"implementation.settle_wave_{number}"
    asked = tasks[f"implementation.ask_wave_{number}"]
    assert asked["type"] == "Question"
    assert f"implementation.ask_wave_{number}" in QUESTIONS
    assert then in tasks[f"implementation.wave_{number}"]["downstream"]
    assert then in tasks[f"implementation.ask_wave_{number}_over"]["downstream"]
    assert "verification.back_out" in tasks[then]["downstream"]
    follows = "implementation.wave_2" if number == 1 else "implementation.verify_idle"
    assert follows in tasks[then]["downstream"]
    assert follows not in tasks[f"implementation.wave_{number}"]["downstream"]


def test_people_run_test_cases_between_the_deployment_to_test_and_the_judgement(strategies: dict[str, Any]) -> None:
    tasks = strategies["release_canary_shop"]["tasks"]
    order = ["deploy_to_test", "prepare_cases", "run_case", "run_case_over", "record_cases", "judge_quality"]
    for before, then in pairwise(f"quality.{task}" for task in order):
        assert then in tasks[before]["downstream"]
    assert tasks[ASK_TESTERS]["type"] == "Question"
    assert tasks["quality.run_case_over"]["rule"] == "all_done"
    assert "quality.record_cases" in tasks["quality.plan_cases"]["downstream"]
    assert "quality.prepare_cases" in tasks["quality.plan_cases"]["downstream"]


def test_a_service_without_test_cases_has_none_of_their_tasks(
    strategies: dict[str, Any], release: dict[str, Any]
) -> None:
    found = strategies["release_canary_shop"]["tasks"]
    of_cases = {task for task in found if task.endswith(("_case", "_cases", "case_over"))}
    assert len(of_cases) == 5
    assert not of_cases & release["tasks"].keys()
    assert not of_cases & strategies["release_green_shop"]["tasks"].keys()


def test_the_bypass_detector_knows_the_tasks_of_every_strategy(strategies: dict[str, Any]) -> None:
    tasks = {task for dag in strategies.values() for task in dag["tasks"]}
    assert set(LEAVES) <= tasks


def test_the_dag_has_what_the_ui_shows_of_it(release: dict[str, Any]) -> None:
    assert release["title"] == "Release Bike shop"
    assert "release" in release["tags"]
    assert release["max_active_runs"] == 1
    assert release["owner"] != ["airflow"]
    assert "release_manager" in release["access"]
    for heading in ("What it does", "When it runs", "Parameters", "What it will not do", "If it fails"):
        assert f"## {heading}\n" in release["doc"]


def test_a_train_is_under_control_and_each_of_its_tasks_says_what_it_does(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["train_weekly"]
    assert is_controlled("train_weekly")
    assert dag["groups"] == ["boarding", "board", "departure", "arrival"]
    assert dag["paused_at_first"] is False, "of a paused Dag, Airflow's form would start the timetable, too"
    assert "Not on its schedule, because its file says `on_schedule: false`." in dag["doc"]
    assert set(dag["access"]) == set(ROLES)
    for task, described in dag["tasks"].items():
        assert len(described["doc"]) > 30, task
        assert described["title"] != task, task
        assert described["retries"] >= 2, task
    for heading in ("What it does", "When it runs", "Parameters", "What it will not do", "If it fails"):
        assert f"## {heading}\n" in dag["doc"]
    leaves = [task for task, described in dag["tasks"].items() if not described["downstream"]]
    assert leaves == ["arrival.close_train"]
    assert dag["tasks"]["arrival.record_arrival"]["rule"] == dag["tasks"]["arrival.close_train"]["rule"] == "all_done"


def test_what_depends_on_a_passenger_departs_after_it_and_only_if_it_did_not_fail(load: Loader, tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue"
    shutil.copytree(ROOT / "include" / "catalogue", catalogue)
    text = (catalogue / "services" / "bike-shop.yaml").read_text()
    for name in ("stock", "till"):
        (catalogue / "services" / f"{name}.yaml").write_text(text.replace("name: bike-shop", f"name: {name}"))
    train = catalogue / "trains" / "weekly.yaml"
    passengers = '  - { service: stock, tags: "*" }\n  - { service: till, tags: "*", after: [stock] }\n'
    train.write_text(train.read_text().rstrip() + "\n" + passengers)
    tasks = load(ROOT / "dags", INTERLOCK_CATALOGUE=str(catalogue))["dags"]["train_weekly"]["tasks"]
    assert "departure.send_till" in tasks["departure.send_stock"]["downstream"]
    assert "departure.send_bike_shop" not in tasks["departure.send_stock"]["downstream"]
    assert "departure.send_bike_shop" in tasks["departure.depart"]["downstream"]
    assert tasks["departure.send_till"]["rule"] == "none_failed"


@pytest.mark.parametrize("dag_id", CONTROL)
def test_a_dag_that_watches_over_releases_says_what_it_does_and_is_under_control(
    bag: dict[str, Any], dag_id: str
) -> None:
    dag = bag["dags"][dag_id]
    assert is_controlled(dag_id)
    assert dag["tags"] == ["control"]
    assert dag["owner"] != ["airflow"]
    assert set(dag["access"]) == (set(WATCHERS) if dag_id in ("deliver_records", "reconcile") else set(ROLES))
    for heading in ("What it does", "When it runs", "Parameters", "What it will not do", "If it fails"):
        assert f"## {heading}\n" in dag["doc"]
    for task, described in dag["tasks"].items():
        assert len(described["doc"]) > 30, task
        assert described["title"] != task, task
        assert described["retries"] >= 2, task


def test_the_bypass_detector_fails_if_something_could_not_be_looked_at(bag: dict[str, Any]) -> None:
    tasks = bag["dags"]["reconcile"]["tasks"]
    looks = {"check_releases", "check_ledger", "check_hosts"}
    assert set(tasks) == looks | {"tell_people", "mail_questions", "all_looked_at"}
    assert (tasks["tell_people"]["rule"], tasks["all_looked_at"]["rule"]) == ("all_done", "all_success")
    assert all("all_looked_at" in tasks[look]["downstream"] for look in looks)
    assert {tasks[look]["rule"] for look in looks} == {"all_success", "all_done"}, "none keeps the next from looking"


def test_the_bypass_detector_knows_what_each_task_of_a_release_leaves(bag: dict[str, Any]) -> None:
    tasks = {task for dag in bag["dags"] for task in bag["dags"][dag]["tasks"]}
    assert {"implementation.measure_baseline", "rollout.freeze_plan", "closure.record_outcome"} <= set(LEAVES) & tasks
    assert any(left_by(task) == ("wave.deployed", {"number": 1}) for task in tasks)


def test_closing_waits_for_everything_and_runs_whatever_happened(release: dict[str, Any]) -> None:
    assert release["tasks"]["closure.close_release"]["rule"] == "all_done"
    leaves = [task for task, described in release["tasks"].items() if not described["downstream"]]
    assert leaves == ["closure.close_release"]


def test_nothing_reaches_production_before_the_boards_decision(release: dict[str, Any]) -> None:
    """Let everything succeed but the board's decision: no task of the implementation may come to run."""
    tasks = release["tasks"]
    upstream = {task: {before for before in tasks if task in tasks[before]["downstream"]} for task in tasks}
    done: set[str] = set()
    while more := {
        task for task in tasks if task not in done and task != "rollout.await_board" and upstream[task] <= done
    }:
        done |= more
    assert "rollout.cast_ballot" in done, "nothing was reached: this test would prove nothing"
    assert not [task for task in done if task.startswith(("communication.", "implementation.", "verification."))]


def test_importing_a_dag_file_does_no_work(load: Loader) -> None:
    loaded = load(ROOT / "dags", no_work=True)
    assert loaded["errors"] == {}
    assert "release_bike_shop" in loaded["dags"]


def test_work_in_a_dag_file_would_be_noticed(load: Loader, tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text("# airflow dag\nimport subprocess\nsubprocess.run(['true'], check=True)\n")
    (message,) = load(tmp_path, no_work=True)["errors"].values()
    assert "importing a Dag file did subprocess.Popen" in message


def test_a_broken_service_takes_down_only_its_own_dag(load: Loader, tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue"
    shutil.copytree(ROOT / "include" / "catalogue", catalogue)
    text = (catalogue / "services" / "bike-shop.yaml").read_text()
    (catalogue / "services" / "car-shop.yaml").write_text(
        text.replace("name: bike-shop", "name: car-shop").replace("tier:", "teir:")
    )
    loaded = load(ROOT / "dags", INTERLOCK_CATALOGUE=str(catalogue))
    assert sorted(loaded["dags"]) == DAGS
    (file, message), *more = loaded["errors"].items()
    assert not more
    assert file.endswith("catalogue.py")
    assert "services/car-shop.yaml" in message
    assert "teir" in message


@pytest.mark.parametrize("dag_id", ["release_bike_shop", "rollback_bike_shop", "train_weekly"])
def test_the_process_of_a_task_makes_no_other_dag_of_its_kind(load: Loader, dag_id: str) -> None:
    another = f"{dag_id.partition('_')[0]}_another"
    mine = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": another, "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "any"}
    assert dag_id not in load(ROOT / "dags", **mine)["dags"]
