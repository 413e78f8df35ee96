"""What Interlock adds to Airflow's page Home: the script that is served, and what it draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interlock.locations import PACKAGE
from interlock.plugin import InterlockPlugin
from tests.drawn_page import drawn

STATIC = PACKAGE / "console" / "static"
(APP,) = [one for one in InterlockPlugin.react_apps if one["destination"] == "dashboard"]


def test_the_script_on_home_is_below_airflows_own_address() -> None:
    folder, _, name = APP["bundle_url"].rpartition("/")
    assert folder == "interlock/static", "whatever Airflow's own address is"
    assert (STATIC / name).is_file()


def test_home_shows_stops_and_the_readers_questions_a_few_of_each_task(tmp_path: Path) -> None:
    questions = [question(1, "Vote of ben"), *(question(one, f"Case {one}.", "quality.run_case") for one in range(40))]
    answers: list[tuple[str, Any]] = [
        ("/airflow/interlock/api/v1/in-force?", IN_FORCE),
        ("/airflow/interlock/api/v1/questions?limit=100", {"questions": questions, "total_entries": 41, "at": AT}),
    ]
    before, said = drawn(tmp_path, "InterlockHome", answers)
    assert before is None, "nothing is shown before anything is known"
    assert "Emergency stop in force: everything, by olga" in said
    assert "Freeze in force: Christmas trade, until then" in said
    assert "Incident: INC-7 of pager" in said
    assert "For you: " in said
    assert '"/dags/release_bike_shop/runs/r%2B1/tasks/rollout.cast_ballot/mapped/1/required_actions"' in said
    assert "Vote of ben" in said
    assert [f"Case {number}." in said for number in range(40)] == [True] * 3 + [False] * 37, "a tester has hundreds"
    assert "37 more questions like these" in said
    assert '"/dags/release_bike_shop/runs/r%2B1/required_actions"' in said
    assert "All that needs you" in said


AT = "2026-11-23T06:17:00Z"
IN_FORCE = {
    "stops": ["everything, by olga"],
    "freezes": ["Christmas trade, until then"],
    "incidents": ["INC-7 of pager"],
}


def question(index: int, subject: str, task: str = "rollout.cast_ballot") -> dict[str, Any]:
    run = {"dag_id": "release_bike_shop", "run_id": "r+1", "task_id": task, "map_index": index, "until": None}
    path = f"dags/release_bike_shop/runs/r%2B1/tasks/{task}/mapped/{index}/required_actions"
    return {**run, "subject": subject, "path": path}
