"""A catalogue that changes while a release waits for its board: what is asked, and what does not help."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from interlock.domain.change.amended import Amended
from interlock.domain.change.effective import bound_to
from interlock.domain.ledger.kinds import POLICY_RESOLVED, RULES_AMENDED
from interlock.domain.records import Decision, RolloutPlan
from interlock.locations import CATALOGUE
from interlock.stages.approvals import amended
from interlock.stages.approvals import ballots as ballot_box
from interlock.stages.release import rollout as stage
from interlock.stages.runtime import resources
from tests.airflow_server import AirflowServer
from tests.clock import NOW
from tests.factories import releases
from tests.running_task import RunningTask
from tests.unit.stages.test_await_board import CAB, ballots

pytestmark = pytest.mark.usefixtures("clock")

Edit = Callable[[Callable[[dict[str, Any]], None], str], None]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Edit a file of a copy of the catalogue."""
    folder = tmp_path / "catalogue"
    copytree(CATALOGUE, folder)
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(folder))

    def edit_file(change: Callable[[dict[str, Any]], None], name: str = "board.yaml") -> None:
        found = yaml.safe_load((folder / name).read_text())
        change(found)
        (folder / name).write_text(yaml.safe_dump(found))

    return edit_file


@pytest.fixture
def planned(edit: Edit, running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> RolloutPlan:
    """A release that waits for its board, and began with the catalogue as it is."""
    monkeypatch.setattr(ballot_box, "sleep", lambda _: None)
    plan = releases.rollout(decide_by=NOW + timedelta(days=2))
    began = bound_to(resources.catalogue_of("bike-shop"), plan.change_type)
    running.knows(POLICY_RESOLVED, began)
    running.knows("rollout.frozen", plan)
    return plan


def approvals(number: int) -> Callable[[dict[str, Any]], None]:
    def change(book: dict[str, Any]) -> None:
        book["boards"]["cab"]["quorum"]["approvals"] = number

    return change


def wait(plan: RolloutPlan) -> Decision:
    asked = [{"subject": "?", "assigned_users": [{"id": user}]} for user in CAB]
    task = stage.AwaitBoard(task_id="await_board", service=plan.service, rollout=plan.to_xcom(), ballots=asked)
    return Decision.from_xcom(task.execute({}))


def test_more_approvals_are_asked_of_a_board_that_votes(
    airflow: AirflowServer, planned: RolloutPlan, edit: Edit
) -> None:
    cast = ballots(airflow, planned)
    edit(approvals(3), "board.yaml")
    for ballot, user in zip(cast[:2], CAB, strict=False):
        airflow.answer(ballot, user, "Approve")
    with pytest.raises(TaskDeferred):
        wait(planned)
    airflow.answer(cast[2], "dan", "Approve")
    assert wait(planned).approved


def test_fewer_approvals_do_not_help(airflow: AirflowServer, planned: RolloutPlan, edit: Edit) -> None:
    cast = ballots(airflow, planned)
    edit(approvals(1), "board.yaml")
    airflow.answer(cast[0], "ben", "Approve")
    with pytest.raises(TaskDeferred):
        wait(planned)


def test_each_version_that_the_release_saw_is_on_record_once(
    airflow: AirflowServer, planned: RolloutPlan, edit: Edit, running: RunningTask
) -> None:
    ballots(airflow, planned)
    for number in (3, 3, 1):
        edit(approvals(number), "board.yaml")
        with pytest.raises(TaskDeferred):
            wait(planned)
    seen = [Amended.model_validate(payload) for kind, payload in running.recorded if kind == RULES_AMENDED]
    assert [{one.key: one.effect for one in version.amendments} for version in seen] == [
        {"boards.cab.quorum.approvals": "asked"},
        {"boards.cab.quorum.approvals": "ignored"},
    ]
    assert len({one.catalogue for one in seen}) == 2


def test_another_board_that_has_no_ballots_ends_the_wait_at_once(
    airflow: AirflowServer, planned: RolloutPlan, edit: Edit
) -> None:
    cast = ballots(airflow, planned)

    def change(policy: dict[str, Any]) -> None:
        policy["change_types"]["normal"]["further_boards"] = ["own"]

    def board(book: dict[str, Any]) -> None:
        book["boards"]["own"] = {"title": "Security board", "members": ["rita"], "quorum": {"approvals": 1}}

    edit(board, "board.yaml")
    edit(change, "policy.yaml")
    with pytest.raises(AirflowFailException, match="Security board must vote on this release, too") as refused:
        wait(planned)
    assert "policy.yaml: change_types.normal.further_boards was empty and is own" in str(refused.value)
    assert all(ballot["response_received"] for ballot in cast), "the open ballots are closed"


def test_thresholds_are_the_tighter_ones(edit: Edit, planned: RolloutPlan) -> None:
    catalogue = resources.catalogue_of("bike-shop")
    began = bound_to(catalogue, planned.change_type)

    def change(to: float) -> Callable[[dict[str, Any]], None]:
        return lambda service: service["policy"]["thresholds"].update(max_p95_ms=to)

    for now, holds in ((700, 700), (790, 790), (900, 800)):
        edit(change(now), "services/bike-shop.yaml")
        assert amended.thresholds_in_force(resources.catalogue_of("bike-shop"), began).max_p95_ms == holds
