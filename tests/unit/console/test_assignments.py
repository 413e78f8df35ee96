"""Whose a question is, in the words of the refusal."""

from __future__ import annotations

import pytest

from interlock.console.auth.assignments import refusal_of_stranger
from interlock.console.control.current_request import CurrentRequest
from interlock.console.control.lookups import OpenQuestion
from interlock.domain.board.accounts import CLERK

RUN = "/api/v2/dags/release_bike_shop/dagRuns/manual__1+1"
BALLOT, TRAINING = "rollout.cast_ballot", "communication.acknowledge_training"


def question(number: int, task: str = BALLOT, **people: str) -> OpenQuestion:
    return OpenQuestion(f"Question {number}", task, number, {**people, CLERK: "Board clerk"})


OPEN = [
    question(0, ben="Ben Okafor"),
    question(1, cora="Cora Lindqvist", fay="Fay Tanaka"),
    question(2, TRAINING, **{"7": "Ben Okafor"}),
]


def read_by(user: str, number: str = "", index: int = 1) -> str:
    asked = CurrentRequest("PATCH", f"{RUN}/taskInstances/{BALLOT}/{index}/hitlDetails")
    return refusal_of_stranger(asked, lambda one: one in (user, number), OPEN, "https://airflow.example/")


def test_who_answers_another_persons_question_reads_whose_it_is_and_where_their_own_are() -> None:
    said = read_by("ben", "7")
    assert said.startswith(
        "This question is for Cora Lindqvist (cora) or Fay Tanaka (fay). Your answer was not recorded."
    )
    run = "https://airflow.example/dags/release_bike_shop/runs/manual__1%2B1/tasks"
    assert f"“Question 0” at {run}/{BALLOT}/mapped/0/required_actions" in said
    assert f"“Question 2” at {run}/{TRAINING}/mapped/2/required_actions" in said
    assert "Question 1" not in said
    assert CLERK not in said


@pytest.mark.parametrize("index", [1, 9])
def test_who_is_asked_nothing_reads_that(index: int) -> None:
    said = read_by("rita", index=index)
    assert said.endswith("No open question of this run is for you.")
    assert ("for another person" in said) is (index == 9)
