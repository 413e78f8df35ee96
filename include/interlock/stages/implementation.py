"""Stage 9, implement release: wait for the time, measure the load before, then wave after wave."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import XComArg, chain, task_group

from include.interlock.adapters import web
from include.interlock.domain.catalogue import Service
from include.interlock.domain.records import Decision, LoadReport, RolloutPlan, WaveReport
from include.interlock.domain.rollout import wave_title

from . import resources
from .quality import refuse_failed_hosts
from .rolling import deploy
from .rollout import authorise
from .taskflow import push_result, stage_task

START = "{{ ti.xcom_pull(task_ids='rollout.freeze_plan')['not_before'] or dag_run.run_after.isoformat() }}"
"""Not before what the plan says; without that, the time has come already."""


@stage_task(task_display_name="Measure the load before")
def measure_baseline(service: str, rollout: RolloutPlan, decision: Decision) -> LoadReport:
    """Put the synthetic load on the target as it is, to compare with after the release.

    The first thing that touches the target; so the board's decision is checked here too.
    """
    authorise(service, rollout, decision)
    _, _, described = resources.catalogue_of(service)
    return asyncio.run(web.run_load(rollout.hosts, described.load, described.health.port))


@stage_task(execution_timeout=timedelta(hours=6))
def run_wave(service: str, number: int, rollout: RolloutPlan, decision: Decision) -> WaveReport:
    """Bring one wave's hosts to the release: drained, switched atomically, checked, and only then given back.

    The board's votes and the plan's digest are checked again before the first host. A failed host fails the wave, and
    a failed wave stops the rest. Running it again goes on from what the hosts say.
    """
    authorise(service, rollout, decision)
    _, _, described = resources.catalogue_of(service)
    results = deploy(
        rollout.waves[number - 1], described, rollout.environment, rollout, target_group=rollout.target_group
    )
    report = WaveReport(number=number, of=len(rollout.waves), release=rollout.release, results=results)
    push_result(report)
    refuse_failed_hosts(results, rollout.environment)
    return report


@task_group(
    group_id="implementation", group_display_name="9 Implement release", tooltip="Implement release: wave after wave"
)
def implementation_stage(
    service: Service, rollout: XComArg, decision: XComArg
) -> tuple[DateTimeSensorAsync, XComArg, list[XComArg]]:
    """Wait, measure, and run the waves; return the first task, the baseline and the waves."""
    wait = DateTimeSensorAsync(
        task_id="await_start",
        task_display_name="Wait for the start",
        target_time=START,
        execution_timeout=None,
        doc_md="Wait, without a worker, until the time before which the release must not reach its target.",
    )
    baseline = measure_baseline(service.name, rollout, decision)
    planned = service.environments["production"].waves
    waves = [
        run_wave.override(task_id=f"wave_{number}", task_display_name=wave_title(number, len(planned), wave))(
            service.name, number, rollout, decision
        )
        for number, wave in enumerate(planned, start=1)
    ]
    chain(wait, baseline, *waves)
    return wait, baseline, waves
