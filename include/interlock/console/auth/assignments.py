"""The refusal of an answer to a question that is assigned to another person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from interlock.console.control.current_request import CurrentRequest
from interlock.console.control.lookups import OpenQuestion
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.voting import listed
from interlock.domain.paths import question_page


def refusal_of_stranger(
    asked: CurrentRequest, is_reader: Callable[[str], bool], questions: Sequence[OpenQuestion], address: str
) -> str:
    """Say to whom the answered question is assigned, and which open questions of the run are for the reader.

    :param is_reader: tells whether a question is assigned to the user who answered.
    :param questions: the open questions of the run.
    :param address: where Airflow is, for its users.
    """
    names = asked.names
    this = (names["task_id"], int(names["map_index"]))
    whose = [_called(one) for one in questions if (one.task_id, one.map_index) == this]
    own = [one for one in questions if any(map(is_reader, one.assigned))]
    pages = [
        f"“{one.subject}” at {address.rstrip('/')}/"
        f"{question_page(names['dag_id'], names['dag_run_id'], one.task_id, one.map_index)}"
        for one in own
    ]
    return (
        f"This question is for {whose[0] if whose else 'another person'}. Your answer was not recorded. Rule: only the "
        "people to whom a question is assigned can answer it. "
        + (f"Next: answer your own: {listed(pages)}" if pages else "No open question of this run is for you.")
    )


def _called(question: OpenQuestion) -> str:
    people = {user: name for user, name in question.assigned.items() if user != CLERK}
    return listed([f"{name} ({user})" for user, name in people.items()], "or")
