"""Where Airflow and AWS do what they do for a step, and what they had of it when the plan was frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial

from interlock.adapters.runbook import Elsewhere
from interlock.adapters.runbook.aws_actions import Automation, Function, RunCommand, Snapshot, without_repeats
from interlock.adapters.runbook.dag_runs import DagRun
from interlock.domain.catalogue.runbook_file import Action
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PlannedStep, StepDirection
from interlock.domain.trains.manifest import CONDUCTOR
from interlock.stages.runtime import resources

_ANSWERS_WITHIN = timedelta(minutes=1)


def pinned_steps(steps: Iterable[PlannedStep]) -> tuple[PlannedStep, ...]:
    """Return the steps of a plan with what Airflow and AWS have now of what they are to do.

    :raises AssetMissing: something is not there, or cannot be begun.
    """
    return tuple(step if step.left_out else _pinned(step) for step in steps)


def _pinned(step: PlannedStep) -> PlannedStep:
    actions: dict[StepDirection, Action | None] = {"forward": step.do, "back": step.way_back}
    pins = {
        direction: place_of(action, step).pin()
        for direction, action in actions.items()
        if action is not None and action.elsewhere is not None
    }
    return step.model_copy(update={"pinned": pins or None})


def place_of(action: Action, step: PlannedStep) -> Elsewhere:
    """Return where an action of a step is done."""
    if action.dag_run is not None:
        starts = partial(resources.airflow_api, resources.CONDUCTOR)
        return DagRun(action.dag_run, resources.airflow_api, starts, CONDUCTOR)
    if (document := action.document) is not None:
        ssm = resources.aws_of(document.connection, "ssm")
        if step.host is None or not document.host:
            return Automation(document, ssm)
        once = resources.aws_of(document.connection, "ssm", without_repeats(_ANSWERS_WITHIN))
        return RunCommand(document, ssm, once, step.host.instance_id)
    if (function := action.function) is not None:
        once = resources.aws_of(function.connection, "lambda", without_repeats(function.within))
        return Function(function, resources.aws_of(function.connection, "lambda"), once)
    if action.snapshot is not None:
        return Snapshot(action.snapshot, resources.aws_of(action.snapshot.connection, "rds"))
    raise ValueError(f"{step.name} is done by a host or by people")


def refuse_changed(step: PlannedStep, action: Action, pinned: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to begin what is no longer what was frozen."""
    if differ := sorted(key for key in {*pinned, *now} if pinned.get(key) != now.get(key)):
        raise PolicyViolation(
            f"“{step.title}” was not begun: {action} is not what it was when the plan was frozen; it differs in "
            f"{', '.join(differ)}.",
            rule="only the frozen plan is carried out",
            who="the person who changed it",
            next_step="change it back, or trigger the release again",
        )
