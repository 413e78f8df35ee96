"""Steps that Airflow or AWS does: begun once under a permit, and waited for without a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred

from interlock.adapters.runbook.dag_runs import run_of
from interlock.domain.catalogue.runbook_file import Action
from interlock.domain.catalogue.values import in_words
from interlock.domain.records import PlannedStep, RolloutPlan, StepDirection, StepReport
from interlock.domain.runbook.planning import step_id
from interlock.domain.runbook.progress import Ended, known_of
from interlock.stages.runtime import calendars, resources
from interlock.stages.runtime.evidence import chain_entries, refuse_void
from interlock.stages.runtime.taskflow import as_xcom, reasons_kept
from interlock.stages.runtime.triggers import RunTrigger

from . import questions
from .once import begun, finish, settled_before
from .places import place_of, refuse_changed
from .planned import planned, planned_back

if TYPE_CHECKING:
    from airflow.sdk import Context

_SOON, _LATER = timedelta(seconds=5), timedelta(minutes=1)
"""The first and the longest time after which AWS is asked again."""


def go_on(service: str, rollout: RolloutPlan, step: PlannedStep, direction: StepDirection) -> StepReport | None:
    """Begin a step, or look what became of it; none: nobody but people can find that out.

    While it is not over, the task waits without a worker.

    :raises StepFailed: it failed, or did not end in time.
    """
    if (settled := settled_before(rollout, step, direction)) is not None:
        return settled
    action, id = step.action(direction), step_id(rollout.digest, step, direction)
    if action is None or action.elsewhere is None:
        raise ValueError(f"{step.name} is done by a host or by people")
    place, pinned = place_of(action, step), (step.pinned or {})[direction]
    began_at = known_of(chain_entries(), id).began_at
    seen = place.look(id, pinned, began_at) if began_at else None
    if began_at is None or (seen is None and place.once):
        refuse_changed(step, action, pinned, place.pin(pinned))
        with begun(service, rollout, step, direction) as (_, admission, began_at):
            admission.refuse_lost(f"begin “{step.title}”")
            seen = place.begin(id, pinned)
            if seen is not None and seen.ended:
                ended = Ended(seen.reason, evidence=seen.said)
                return finish(rollout, step, direction, ended, began_at, admission)
    now, within = datetime.now(UTC), action.elsewhere.within
    if seen is None and now >= began_at + place.shown_after:
        return None
    if seen is not None and seen.ended:
        return finish(rollout, step, direction, Ended(seen.reason, evidence=seen.said), began_at)
    if now >= began_at + within:
        goes_on = place.stop(id, began_at)
        ended = Ended(
            ". ".join(filter(None, (f"it had not ended after {in_words(within)}", goes_on))),
            evidence=seen.said if seen else "",
        )
        return finish(rollout, step, direction, ended, began_at)
    _wait(step, action, id, began_at)


def _wait(step: PlannedStep, action: Action, id: str, began_at: datetime) -> NoReturn:
    if action.dag_run is not None:
        until = began_at + action.dag_run.within
        run = {"dag_id": action.dag_run.dag, "run_id": run_of(id)}
        raise TaskDeferred(
            trigger=RunTrigger(**run, connection=resources.AIRFLOW, until=until), method_name="execute_again"
        )
    _look_later(f"“{step.title}” has not ended: {action}", began_at)


def _look_later(why: str, began_at: datetime) -> NoReturn:
    now = datetime.now(UTC)
    calendars.wait(why, now + min(max((now - began_at) / 4, _SOON), _LATER))


def await_end(rollout: RolloutPlan, step: PlannedStep) -> None:
    """Let the way back of a step wait, without a worker, until Airflow or AWS has ended what it takes back.

    What can be stopped is stopped. After the time of the step, its way back goes on all the same.
    """
    id, elsewhere = step_id(rollout.digest, step, "forward"), step.do.elsewhere
    known = known_of(chain_entries(), id)
    if elsewhere is None or known.began_at is None or (known.report and known.report.outcome == "done"):
        return
    place, pinned = place_of(step.do, step), (step.pinned or {})["forward"]
    seen = place.look(id, pinned, known.began_at)
    if seen is not None and not seen.ended and datetime.now(UTC) < known.began_at + elsewhere.within:
        place.stop(id, known.began_at)
        _look_later(f"“{step.title}” is still under way: {step.do}", known.began_at)


class DoElsewhere(BaseOperator):
    """Do a step of the runbook in Airflow or AWS, once, or take it back. Needs a permit of its own.

    That it begins is recorded before it is begun, and how it ended when it has ended. The task waits without a worker.
    A retry looks what became of it. What AWS would do twice is not begun again: if it is not known what became of it,
    people are asked.

    :param service: the service's name; ``number``: of the step.
    :param rollout: the frozen plan; none: the step is taken back.
    """

    template_fields = ("rollout",)

    def __init__(self, *, service: str, number: int, rollout: Any = None, **kwargs: Any) -> None:
        super().__init__(doc_md=type(self).__doc__, **kwargs)
        self.service, self.number, self.rollout = service, number, rollout

    def execute(self, context: Context) -> Any:
        """Begin the step, or look at it; return its report, or of one that may be in doubt the questions about it."""
        with reasons_kept():
            direction: StepDirection = "back" if self.rollout is None else "forward"
            if self.rollout is None:
                refuse_void([], after_end="way_back")
                rollout, step = planned_back(self.service, self.number)
                await_end(rollout, step)
            else:
                rollout = RolloutPlan.from_xcom(self.rollout)
                refuse_void([rollout])
                step = planned(rollout, self.number)
            report, action = go_on(self.service, rollout, step, direction), step.action(direction)
            if action is None or action.question is None:
                return as_xcom(report)
            return questions.in_doubt(self.service, rollout, step, direction) if report is None else []

    def execute_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Look again. The event of the trigger only wakes the task."""
        self.log.info("Looking again: %s", event.get("why"))
        return self.execute(context)
