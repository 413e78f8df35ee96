from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.airflow.rest_api import Answer
from interlock.domain.outcome.outcome import STAGES
from interlock.estate.commands.release_view import (
    decision_in,
    scheduling_seconds,
    stage_line,
    stage_lines,
    stage_state,
)

START = datetime(2026, 5, 4, 12, tzinfo=UTC)


def at(seconds: float | None) -> str | None:
    return None if seconds is None else (START + timedelta(seconds=seconds)).isoformat()


def task(task_id: str, state: str | None, start: float | None = None, end: float | None = None) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "task_display_name": task_id.partition(".")[2],
        "state": state,
        "start_date": at(start),
        "end_date": at(end),
    }


def question(task_id: str, **answer: Any) -> Answer:
    return Answer.model_construct(task_id=task_id, answered=bool(answer), **{"user": None, "comment": "", **answer})


def test_every_stage_has_a_title_and_a_line() -> None:
    assert [line.stage for line in stage_lines([], [], START)] == list(STAGES)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "waiting"),
        ([None, None], "waiting"),
        (["success", None], "running"),
        (["running"], "running"),
        (["awaiting_input", "success"], "running"),
        (["success", "skipped"], "success"),
        (["skipped"], "skipped"),
        (["upstream_failed", "upstream_failed"], "skipped"),
        (["success", "failed", None], "failed"),
    ],
)
def test_stage_stands_as_its_tasks_do(states: list[str | None], expected: str) -> None:
    assert stage_state(states) == expected


@given(st.lists(st.sampled_from(["success", "failed", "skipped", "running", "queued", "upstream_failed", None])))
def test_order_of_tasks_means_nothing(states: list[str | None]) -> None:
    assert stage_state(states) == stage_state(states[::-1])


def test_stage_takes_from_its_first_start_to_its_last_end() -> None:
    tasks = [task("build.a", "success", 10, 12), task("build.b", "success", 11, 15), task("quality.c", "running", 20)]
    assert stage_line("build", tasks, [], START + timedelta(seconds=60)).seconds == 5
    running = stage_line("quality", tasks, [], START + timedelta(seconds=60))
    assert (running.seconds, running.steps) == (40, ("c",))


def test_decision_names_who_said_what() -> None:
    answered = question("rollout.cast_ballot", user="cora", choice="Reject", comment="not yet")
    assert decision_in(answered, "rollout") == "cora: Reject (not yet)"
    assert decision_in(answered, "acceptance") == ""
    assert decision_in(question("rollout.cast_ballot"), "rollout") == ""


def test_question_that_ran_out_of_time_has_no_person() -> None:
    late = question("rollout.cast_ballot", choice="Abstain")
    assert decision_in(late, "rollout") == "no answer in time: Abstain"


def test_what_the_clerk_closes_is_no_decision() -> None:
    closed = question("rollout.cast_ballot", user="board_clerk", choice="Abstain")
    assert decision_in(closed, "rollout") == ""


def test_scheduling_is_the_time_between_an_end_and_the_next_start() -> None:
    tasks = [task("a", "success", 0, 1), task("b", "success", 1.5, 3), task("c", "success", 4, 5), task("d", None)]
    after = {"a": ["b", "c"], "b": ["c"], "c": ["d"]}
    assert scheduling_seconds(tasks, after, []) == pytest.approx(0.5 + 1)


def test_waiting_for_people_is_not_scheduling() -> None:
    tasks = [task("a", "success", 0, 1), task("ask", "success", 900, 901)]
    assert scheduling_seconds(tasks, {"a": ["ask"]}, ["ask"]) == 0


def test_task_that_starts_before_its_last_predecessor_ended_costs_nothing() -> None:
    tasks = [task("a", "success", 0, 10), task("b", "success", 5, 6)]
    assert scheduling_seconds(tasks, {"a": ["b"]}, []) == 0
