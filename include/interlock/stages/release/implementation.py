"""Stage 9, implement release: wait for start and window, measure the baseline, and deploy wave by wave."""

from __future__ import annotations

import asyncio

from airflow.sdk import XComArg, chain

from interlock.adapters.hosts import load
from interlock.domain.catalogue import Service
from interlock.domain.ledger.kinds import BASELINE_MEASURED
from interlock.domain.records import LoadReport, RolloutPlan
from interlock.domain.rollout.rollout import wave_titles
from interlock.stages.runbook.steps import step_tasks
from interlock.stages.runtime import bookings, permits, resources
from interlock.stages.runtime.calendars import AwaitStart
from interlock.stages.runtime.taskflow import stage_group, stage_task
from interlock.stages.runtime.versions import as_it_was
from interlock.stages.strategies.blue_green import switch_tasks
from interlock.stages.strategies.canary import canary_tasks
from interlock.stages.strategies.waves import guidance_tasks, run_wave

from .rollout import count

START = "{{ ti.xcom_pull(task_ids='rollout.freeze_plan')['not_before'] or dag_run.run_after.isoformat() }}"
"""The earliest start in the plan; without it, the start of the run."""


@stage_task(task_display_name="Measure the baseline load", evidence=BASELINE_MEASURED)
def measure_baseline(service: str, rollout: RolloutPlan) -> LoadReport:
    """Measure response times and errors of the target under synthetic load, as the baseline for the verification.

    This is the first task that accesses the target, so the conditions for a permit must already be met.
    """
    catalogue = resources.catalogue_of(service)
    permits.refuse_unproven(catalogue, rollout, count(catalogue, rollout))
    described = as_it_was(catalogue.service, rollout)
    hosts = rollout.switch.live_hosts if rollout.switch else rollout.hosts
    return asyncio.run(load.run_load(hosts, described.load, described.health.port, moment="before"))


@stage_group("implementation", "deploy wave by wave")
def implementation_stage(
    service: Service, rollout: XComArg, *, runbook: bool = True
) -> tuple[AwaitStart, XComArg, list[XComArg]]:
    """Wait, measure, and run the waves; return the first task, the baseline, and the tasks that change the target.

    If one of these tasks fails, the release is backed out. Verification follows the last of them.

    :param runbook: do the steps of the service's runbook, too.
    """
    wait = AwaitStart(
        task_id="await_start",
        task_display_name="Wait for the start",
        target_time=START,
        execution_timeout=None,
        doc_md="Wait until the earliest start of the deployment. Uses no worker slot.",
    )
    booked = bookings.book_environment(service.name, rollout)
    baseline = measure_baseline(service.name, rollout)
    environment = service.environments["production"]
    if not runbook:
        service = service.model_copy(update={"runbook": ()})
    steps, last = step_tasks(service, rollout, 0, baseline)
    for number, title in enumerate(wave_titles(environment), start=1):
        wave = run_wave.override(task_id=f"wave_{number}", task_display_name=title)(service.name, number, rollout)
        chain(last, wave)
        steps, last = [*steps, wave], wave
        if environment.guided:
            last = guidance_tasks(service, number, rollout, wave)
            steps = [*steps, last]
        if number == 1 and environment.canary:
            tried, last = canary_tasks(service, rollout, last)
            steps = [*steps, *tried]
        if number < len(environment.waves):
            done, last = step_tasks(service, rollout, number, last)
            steps = [*steps, *done]
    if environment.blue_green:
        switched = switch_tasks(service, rollout, last)
        steps, last = [*steps, *switched], switched[-1]
    done, _ = step_tasks(service, rollout, len(environment.waves), last)
    steps = [*steps, *done]
    chain(wait, booked, baseline)
    return wait, baseline, steps
