"""The step of a frozen plan that a task is about."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowSkipException

from interlock.domain.catalogue.runbook_file import wave_of
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.kinds import BACK_OUT_DONE
from interlock.domain.records import BackOutReport, PlannedStep, RolloutPlan
from interlock.domain.runbook.progress import has_begun
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.strategies import rolling

NOTHING_CHANGED = "The release did not change its target, so there is nothing to back out."


def planned(rollout: RolloutPlan, number: int) -> PlannedStep:
    """Return a step of a frozen plan.

    :raises PolicyViolation: the plan does not have it, because the file of the service changed.
    """
    found = next((step for step in rollout.steps if step.number == number), None)
    if found is None:
        raise PolicyViolation(
            f"The frozen plan has no step {number}.",
            rule="only the frozen plan is carried out",
            who="the person who changed the file of the service",
            next_step="trigger the release again",
        )
    return found


def planned_back(service: str, number: int) -> tuple[RolloutPlan, PlannedStep]:
    """Return the frozen plan and a step that is to be taken back, when the hosts of the waves after it are back.

    What ran before the step needs it undone last.
    """
    rollout = permits.frozen_plan()
    if rollout is None:
        raise AirflowSkipException(NOTHING_CHANGED)
    step, waves = planned(rollout, number), len(rollout.waves)
    after = wave_of(step.when, waves)
    if 0 < after < waves and has_begun(rollout, step, chain_entries()):
        described = resources.catalogue_of(service).service
        results = rolling.back_out(rollout, described, [host for wave in rollout.waves[after:] for host in wave])
        because = f"The hosts after wave {after}, before “{step.title}” is taken back."
        record(BACK_OUT_DONE, BackOutReport(because=because, results=results, verified=False))
    return rollout, step
