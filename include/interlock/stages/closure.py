"""Closure: whatever happened, the release is recorded and people are told; a failed release never turns green."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, TypeVar

from airflow.sdk import TriggerRule, XComArg, get_current_context, task_group

from include.interlock.domain.catalogue import Service
from include.interlock.domain.errors import ReleaseError
from include.interlock.domain.outcome import STAGES, FailedTask, decide_outcome
from include.interlock.domain.records import (
    BackOutReport,
    Decision,
    Outcome,
    Record,
    RolloutPlan,
    VerificationReport,
    WaveReport,
)

from . import resources
from .acceptance import ASK as ASK_APPROVERS
from .communication import ASK as ASK_SUPPORT
from .planning import ASK as ASK_MANAGEMENT
from .policy import requested
from .rolling import answered_versions
from .rollout import ASK as ASK_BOARD
from .taskflow import REASON, push_result, stage_task, this_run

log = logging.getLogger(__name__)
OWN_TASK = "closure.close_release"
QUESTIONS = frozenset({ASK_MANAGEMENT, ASK_APPROVERS, ASK_BOARD, ASK_SUPPORT})
"""The tasks that ask people; how they ended means nothing (see people.ask)."""
R = TypeVar("R", bound=Record)


class ReleaseFailed(ReleaseError):
    """The release did not end as a deployment, nor as the rehearsal that it was to be."""


@stage_task(task_display_name="Close the release", trigger_rule=TriggerRule.ALL_DONE)
def close_release(service: str) -> Outcome:
    """Record how the release ended and which stage decided it; fail for every outcome but deployed and rehearsed.

    Derived from what Airflow's API says of the tasks, from the stages' records, and from what the hosts answer now.
    """
    rollout = _record(RolloutPlan, "rollout.freeze_plan")
    _, _, described = resources.catalogue_of(service)
    waves = _waves(rollout)
    outcome = decide_outcome(
        service=service,
        version=_version(service, rollout),
        failed=_failed_tasks(),
        decisions=[
            decision
            for task in ("planning.decide_plan", "acceptance.decide_acceptance", "rollout.await_board")
            if (decision := _record(Decision, task))
        ],
        rollout=rollout,
        waves=waves,
        verification=_record(VerificationReport, "verification.judge_verification"),
        back_out=_record(BackOutReport, "verification.back_out"),
        running=_running(described, rollout) if waves else {},
    )
    log.info("%s %s: %s, decided by %s. %s", service, outcome.version, outcome.outcome, outcome.stage, outcome.reason)
    if outcome.outcome not in ("deployed", "rehearsed"):
        push_result(outcome)
        raise ReleaseFailed(
            f"{service} {outcome.version} ended as {outcome.outcome} in stage {outcome.stage}: {outcome.reason}"
        )
    return outcome


def _version(service: str, rollout: RolloutPlan | None) -> str:
    if rollout:
        return rollout.version
    try:
        return requested(service).version
    except ReleaseError:  # the request itself was refused; that is the outcome's reason already
        return "?"


def _record(kind: type[R], task: str) -> R | None:
    value = _ti().xcom_pull(task_ids=task)
    return None if value is None else kind.from_xcom(value)


def _waves(rollout: RolloutPlan | None) -> list[WaveReport]:
    numbers = range(1, len(rollout.waves) + 1) if rollout else ()
    return [wave for number in numbers if (wave := _record(WaveReport, f"implementation.wave_{number}"))]


def _ti() -> Any:
    return get_current_context()["ti"]


def _failed_tasks() -> list[FailedTask]:
    dag_id, run_id = this_run()
    with resources.airflow_api() as api:
        states = api.task_states(dag_id, run_id)
    failed = {state.task_id for state in states if state.state == "failed"} - QUESTIONS - {OWN_TASK}
    return [
        FailedTask(stage=task.partition(".")[0], task=task, reason=_ti().xcom_pull(task_ids=task, key=REASON) or "")
        for task in _in_order(failed)
    ]


def _in_order(tasks: Iterable[str]) -> list[str]:
    return sorted(tasks, key=lambda task: (STAGES.index(task.partition(".")[0]), task))


def _running(service: Service, rollout: RolloutPlan | None) -> dict[str, str | None]:
    if rollout is None:
        return {}
    return answered_versions(rollout.hosts, service.health)


@task_group(
    group_id="closure",
    group_display_name="Closure",
    tooltip="Closure: recorded whatever happened; never turns a failed release green",
)
def closure_stage(service: Service) -> XComArg:
    """Close the release."""
    return close_release(service.name)
