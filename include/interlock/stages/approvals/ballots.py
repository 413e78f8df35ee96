"""The wait for a board: its ballots are counted after each answer, and open ballots are closed in the end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred

from interlock.adapters.airflow.rest_api import Answer
from interlock.domain.board.decision import ABSTAIN
from interlock.domain.errors import HostUnreachable, ReleaseError, TransientError
from interlock.domain.records import Decision
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import reasons_kept, this_run
from interlock.stages.runtime.triggers import AnswersTrigger, digest_of_answers

from .people import closed_because

if TYPE_CHECKING:
    from airflow.sdk import Context

CLOSING_TIME = 60.0
"""Seconds that closing the ballots left open may take."""


class AwaitBallots(BaseOperator):
    """Wait until the board has decided or its deadline has passed, then close the open ballots. Uses no worker slot.

    :param ballots: the prepared ballots; empty if no vote is required.
    """

    template_fields: Sequence[str] = ("ballots",)
    asks: str
    """The task whose ballots these are."""

    def __init__(self, *, ballots: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ballots = ballots

    @property
    @abstractmethod
    def decide_by(self) -> datetime | None:
        """The board's deadline; None if it needs no vote."""

    @abstractmethod
    def count(self, *, expired: bool) -> Decision | None:
        """Count the votes from Airflow's record of them; None while the board is still open."""

    @abstractmethod
    def settled(self, decision: Decision) -> dict[str, Any]:
        """Record a decision and return the result of the task; raise GateRejected if the board rejected."""

    def next_look(self, cast: Sequence[Answer]) -> datetime | None:
        """Return when to count again without a new answer."""
        return self.decide_by

    def execute(self, context: Context) -> dict[str, Any]:
        """Count; wait for the next answer while the board is open; fail with the board's reason if it rejected."""
        with reasons_kept():
            expired = self.decide_by is not None and datetime.now(UTC) >= self.decide_by
            cast = self._cast() if self.ballots else ()  # before the count: a later answer wakes the trigger
            decision = self._counted(expired=expired)
            if decision is None:
                self._wait(self.next_look(cast), cast)
            try:
                return self.settled(decision)
            finally:
                self._close("the board has decided")

    def execute_again(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Count again. The event of the trigger only wakes the task."""
        self.log.info("Counting again: %s", event.get("why"))
        return self.execute(context)

    def _counted(self, *, expired: bool) -> Decision | None:
        """Count. If that is refused for good, close the ballots."""
        try:
            return self.count(expired=expired)
        except (TransientError, HostUnreachable):
            raise  # Airflow tries again
        except ReleaseError:
            self._close("the release can no longer be approved")
            raise

    def _cast(self) -> tuple[Answer, ...]:
        with resources.airflow_api() as api:
            return api.answers(*this_run(), self.asks)

    def _wait(self, until: datetime | None, cast: Sequence[Answer]) -> NoReturn:
        dag_id, run_id = this_run()
        raise TaskDeferred(
            trigger=AnswersTrigger(
                dag_id=dag_id,
                run_id=run_id,
                task_id=self.asks,
                known=digest_of_answers(cast),
                until=until,
                connection=resources.AIRFLOW,
            ),
            method_name="execute_again",
        )

    def _close(self, why: str) -> None:
        """Close the open ballots. The decision stands even if that fails."""
        try:
            close_open_ballots(self.asks, len(self.ballots or ()), why)
        except ReleaseError as error:
            self.log.warning("Some ballots could not be closed. They expire at their deadline: %s", error)


def close_open_ballots(asks: str, expected: int, why: str) -> None:
    """Answer every open ballot as the board's clerk, whose answers never count.

    :param asks: the task whose ballots these are.
    :param expected: the number of ballots; waits for ballots that do not exist yet.
    :param why: the reason that members read on a closed ballot.
    :raises TransientError: some are still open after :data:`CLOSING_TIME`.
    """
    if not expected:
        return
    dag_id, run_id = this_run()
    give_up = monotonic() + CLOSING_TIME
    with resources.airflow_api(resources.BOARD_CLERK) as api:
        while True:
            ballots = api.answers(dag_id, run_id, asks)
            for ballot in (ballot for ballot in ballots if not ballot.answered):
                api.close_question(dag_id, run_id, ballot, choice=ABSTAIN, comment=closed_because(why))
            if len(ballots) >= expected and all(ballot.answered for ballot in ballots):
                return
            if monotonic() > give_up:
                raise TransientError(f"Some of the {expected} ballots could not be closed.")
            sleep(0.5)
