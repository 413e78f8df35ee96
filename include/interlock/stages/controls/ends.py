"""The end of a release that was called off: its open questions are closed, so that nobody answers in vain."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from interlock.domain.board.accounts import CLERK
from interlock.domain.errors import ReleaseError, TransientError
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import RELEASE_CLOSED
from interlock.domain.ledger.reading import last_in
from interlock.domain.records import Outcome
from interlock.stages.runtime import resources
from interlock.stages.runtime.calendars import wait

log = logging.getLogger(__name__)
POLL_INTERVAL = timedelta(seconds=15)
"""So often it is looked whether the release has ended, and whether it has asked people meanwhile."""


def see_to_its_end(release: str, why: str) -> dict[str, Any] | None:
    """Return how a release that was called off has ended; None: it runs, and its open questions are now closed.

    :param release: Dag and run.
    :param why: the sentence that its questions are closed with.
    """
    dag_id, _, run_id = release.partition("/")
    with resources.airflow_api() as api:
        state = api.run_state(dag_id, run_id)  # before the ledger: what a run does is there before Airflow shows it
    with resources.ledger() as ledger:
        closed = last_in(ledger.entries(release_chain(dag_id, run_id)), RELEASE_CLOSED, Outcome)
    if closed:
        return {"state": state, "outcome": closed.outcome, "reason": closed.reason}
    if state != "running":
        log.info("The run %s is %s. When it starts, its first task ends it.", release, state or "gone")
        return {"state": state, "outcome": None, "reason": ""}
    _close_questions(dag_id, run_id, why)
    return None


def wait_again(why: str) -> NoReturn:
    """Put the running task off, without a worker, until it is time to look again."""
    wait(why, datetime.now(UTC) + POLL_INTERVAL)


def _close_questions(dag_id: str, run_id: str, why: str) -> None:
    """Answer, as the board's clerk, what is still asked; such answers never count."""
    comment = f"Closed by {CLERK}: {why}"
    with resources.airflow_api(resources.BOARD_CLERK) as api:
        for question in api.answers(dag_id, run_id):
            if question.answered or not question.options:
                continue
            try:
                # Each of them would do, because the clerk's answers never count; the first is the natural one.
                api.close_question(dag_id, run_id, question, choice=question.options[-1], comment=comment)
            except TransientError:
                raise
            except ReleaseError as error:  # its task has ended meanwhile; the others are to be closed all the same
                log.warning("%s[%d] could not be closed: %s", question.task_id, question.map_index, error)
