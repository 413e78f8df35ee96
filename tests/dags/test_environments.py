"""The Dag of a service with more environments than test and production: the example of docs/catalogue.md."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.adapters.catalogue.catalogue import load_catalogue, what_is_wrong
from interlock.domain.board.questions import asks_people
from interlock.domain.catalogue import Service
from interlock.domain.ledger.kinds import left_by
from tests.dags.test_integrity import Loader, load

__all__ = ["load"]  # the fixture
ROOT = Path(__file__).parents[2]
EACH = ["book", "deploy", "run_suites", "measure_load", "judge", "prepare_waivers", "pass_gate", "close_tests"]


def example() -> dict[str, Any]:
    """Return the environments of the example that the page shows."""
    page = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    section = page.partition("## Environments before production")[2].partition("\n## ")[0]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    environments: dict[str, Any] = yaml.safe_load(found[1])["environments"]
    return environments


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project's catalogue, with the example in the bike shop's file."""
    folder = tmp_path_factory.mktemp("environments") / "catalogue"
    shutil.copytree(ROOT / "include" / "catalogue", folder)
    file = folder / "services" / "bike-shop.yaml"
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    data["environments"] |= example()
    signs = {"title": "Security team", "people": ["cora"]}
    data["without_hosts"] = {"security-review": {"after": ["test"], "sign_off": signs}}
    data["cases"] = {"repository": ["qa/cases.yaml"], "testers": {"shop-tester": ["fay", "sam"]}}
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def dags(load: Loader, catalogue: Path) -> dict[str, Any]:
    loaded = load(ROOT / "dags", INTERLOCK_CATALOGUE=str(catalogue))
    assert loaded["errors"] == {}
    return dict(loaded["dags"])


@pytest.fixture
def tasks(dags: dict[str, Any]) -> dict[str, Any]:
    return dict(dags["release_bike_shop"]["tasks"])


def test_the_example_is_a_catalogue(catalogue: Path) -> None:
    assert what_is_wrong(catalogue) == []
    shop: Service = load_catalogue(catalogue).services["bike-shop"]
    assert shop.path == ("integration", "security-review", "user-acceptance", "staging")


def test_each_environment_is_a_group_with_its_tasks(dags: dict[str, Any], tasks: dict[str, Any]) -> None:
    groups = dags["release_bike_shop"]["groups"]
    for name in ("integration", "user-acceptance", "staging"):
        assert f"quality.{name}" in groups
        assert {f"quality.{name}.{task}" for task in (*EACH, "conclude")} <= {*tasks}
    assert {task for task in tasks if task.endswith("_soak")} == {
        f"quality.staging.{task}_soak" for task in ("begin", "await", "end")
    }
    assert {task for task in tasks if "sign_off" in task} == {
        f"quality.{name}.{task}"
        for name in ("user-acceptance", "security-review")
        for task in ("prepare_sign_off", "sign_off", "sign_off_over", "await_sign_off")
    }


def test_each_environment_asks_its_test_cases_before_it_is_judged(tasks: dict[str, Any]) -> None:
    for name in ("", "integration.", "user-acceptance.", "staging."):
        group = f"quality.{name}"
        order = ["plan_cases", "prepare_cases", "run_case", "run_case_over", "record_cases"]
        order.append("judge" if name else "judge_quality")
        for before, after in pairwise(order):
            assert f"{group}{before}" in upstream(tasks, f"{group}{after}"), (group, after)
        assert f"{group}{'deploy' if name else 'deploy_to_test'}" in upstream(tasks, f"{group}prepare_cases")
        assert not name or f"{group}book" in upstream(tasks, f"{group}plan_cases"), "skipped with the environment"
        assert asks_people(f"{group}run_case")
        assert left_by(f"{group}record_cases") == ("cases.run", {"environment": name[:-1]} if name else {})


def upstream(tasks: dict[str, Any], task: str) -> set[str]:
    return {before for before in tasks if task in tasks[before]["downstream"]}


def test_environments_follow_those_that_they_come_after_and_others_run_side_by_side(tasks: dict[str, Any]) -> None:
    for name in ("integration", "user-acceptance"):
        assert "quality.pass_gate" in upstream(tasks, f"quality.{name}.book")
        assert not [task for task in upstream(tasks, f"quality.{name}.book") if task.count(".") == 2]
    before = upstream(tasks, "quality.staging.book")
    assert {"quality.integration.conclude", "quality.user-acceptance.conclude"} <= before
    for name in ("integration", "user-acceptance", "staging"):
        for task in ("acceptance.prepare_acceptance", "acceptance.decide_acceptance", "rollout.freeze_plan"):
            assert f"quality.{name}.conclude" in upstream(tasks, task)


def test_an_environment_is_concluded_only_after_its_sign_off_and_its_soak(tasks: dict[str, Any]) -> None:
    signed = upstream(tasks, "quality.user-acceptance.conclude")
    assert {"quality.user-acceptance.await_sign_off", "quality.user-acceptance.sign_off_over"} <= signed
    assert "quality.staging.close_tests" in upstream(tasks, "quality.staging.conclude")
    assert "quality.staging.end_soak" in upstream(tasks, "quality.staging.close_tests")
    assert "quality.staging.await_soak" in upstream(tasks, "quality.staging.end_soak")


def test_nothing_follows_an_environment_that_failed(tasks: dict[str, Any]) -> None:
    """Let everything succeed or be skipped but one task of an environment: acceptance may not come to run."""
    for broken in (task for task in tasks if task.count(".") == 2 and not task.endswith("_over")):
        if asks_people(broken):
            continue  # the answer counts, not the state of the task: see the task after it
        done: set[str] = set()
        rules = ("all_success", "none_failed")
        while more := {
            task
            for task in tasks
            if task not in done and task != broken and upstream(tasks, task) <= done and tasks[task]["rule"] in rules
        }:
            done |= more
        left = {task for task in tasks if task.startswith("acceptance.")} & done
        assert not left, f"{left} would run although {broken} failed"


def test_every_task_says_what_it_does_and_is_tried_again(tasks: dict[str, Any]) -> None:
    for task in (task for task in tasks if task.count(".") == 2):
        assert len(tasks[task]["doc"]) > 30, task
        assert tasks[task]["title"] != task, task
        assert tasks[task]["retries"] >= 2, task


def test_the_bypass_detector_and_the_closure_know_the_tasks_of_environments(tasks: dict[str, Any]) -> None:
    asking = {task for task, told in tasks.items() if told["type"] == "Question" and task.count(".") == 2}
    assert len(asking) == 10
    assert all(map(asks_people, asking))
    for task in ("deploy", "run_suites", "measure_load", "judge", "pass_gate", "close_tests", "conclude"):
        left = left_by(f"quality.staging.{task}")
        assert left is not None
        assert left[0].startswith("path.")
        assert left[1] == {"environment": "staging"}
    assert left_by("quality.user-acceptance.await_sign_off") == (
        "sign_off.decided",
        {"environment": "user-acceptance"},
    )


def test_nothing_is_booked_deployed_or_loaded_in_an_environment_without_hosts(tasks: dict[str, Any]) -> None:
    group = "quality.security-review."
    own = {task.removeprefix(group) for task in tasks if task.startswith(group)}
    assert {"begin", "plan_cases", "run_case", "judge", "pass_gate", "close_tests", "sign_off", "conclude"} <= own
    assert not own & {"book", "deploy", "run_suites", "measure_load", "begin_soak"}
    assert "quality.pass_gate" in upstream(tasks, f"{group}begin")
    assert f"{group}conclude" in upstream(tasks, "acceptance.prepare_acceptance")


def test_a_rollback_does_not_go_through_environments(dags: dict[str, Any]) -> None:
    assert not [task for task in dags["rollback_bike_shop"]["tasks"] if task.count(".") == 2]


def test_looser_thresholds_and_unknown_people_are_refused_with_their_place(catalogue: Path, tmp_path: Path) -> None:
    folder = tmp_path / "catalogue"
    shutil.copytree(catalogue, folder)
    file = folder / "services" / "bike-shop.yaml"
    text = file.read_text(encoding="utf-8").replace("max_p95_ms: 400", "max_p95_ms: 4000").replace("- sam\n", "- sue\n")
    file.write_text(text, encoding="utf-8")
    found = "\n".join(what_is_wrong(folder))
    assert "environments.staging.thresholds.max_p95_ms" in found
    assert "allowed: 800 or less" in found or "800 or less" in found
    assert "environments.user-acceptance.sign_off.people" in found


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("ssh", "interlock_hosts", "environments.staging.ssh: interlock_hosts is the login of production of bike-shop"),
        ("target_group", "bike-shop-production", "environments.staging.target_group: bike-shop-production is that of"),
    ],
)
def test_an_environment_before_production_gets_nothing_of_productions(
    catalogue: Path, tmp_path: Path, field: str, value: str, said: str
) -> None:
    folder = tmp_path / "catalogue"
    shutil.copytree(catalogue, folder)
    file = folder / "services" / "bike-shop.yaml"
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    data["environments"]["staging"][field] = value
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    assert any(said in one for one in what_is_wrong(folder)), what_is_wrong(folder)
