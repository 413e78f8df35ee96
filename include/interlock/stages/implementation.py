"""Stage 9, implement release: wait for the time, measure the load before, then wave after wave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import XComArg, chain, task_group

from include.interlock.adapters import web
from include.interlock.domain.catalogue import Service
from include.interlock.domain.permit import NO_PERMIT
from include.interlock.domain.records import HostResult, LoadReport, RolloutPlan, WaveReport
from include.interlock.domain.rollout import Pace, failed_elsewhere, tolerated, wave_title
from include.interlock.domain.stops import HALTED

from . import bookings, permits, resources
from .calendars import put_off
from .evidence import chain_entries, record
from .quality import refuse_failed_hosts
from .rolling import deploy, recorded_waves
from .rollout import count
from .taskflow import keep_result, stage_task
from .versions import as_it_was

START = "{{ ti.xcom_pull(task_ids='rollout.freeze_plan')['not_before'] or dag_run.run_after.isoformat() }}"
"""Not before what the plan says; without that, the time has come already."""


@stage_task(task_display_name="Measure the load before", evidence="baseline.measured")
def measure_baseline(service: str, rollout: RolloutPlan) -> LoadReport:
    """Put the synthetic load on the target as it is, to compare with after the release.

    The first thing that touches the target; so what a permit needs must hold here already.
    """
    permits.refuse_unproven(service, rollout, count(service, rollout, expired=True))
    described = as_it_was(resources.catalogue_of(service)[2], rollout)
    return asyncio.run(web.run_load(rollout.hosts, described.load, described.health.port, moment="before"))


@stage_task(execution_timeout=timedelta(hours=6))
def run_wave(service: str, number: int, rollout: RolloutPlan) -> WaveReport:
    """Bring one wave's hosts to the release: drained, switched atomically, checked, and only then given back.

    Needs a permit: votes, plan, bundle, quality report, catalogue and the ledger are checked again before the first
    host. Once more hosts failed than the plan bears, no other is begun. Running it again goes on from what the hosts
    say, with another permit. If the calendars close in the middle of a rollout, it waits until they open, or is taken
    back, as the calendar's entry says.
    """
    policy, _, described = resources.catalogue_of(service)
    bookings.hold(policy, rollout)
    if number > 1 or any(entry.kind == "wave.deployed" for entry in chain_entries()):
        put_off(service=described, policy=policy, environment=rollout.environment)
    wave = rollout.waves[number - 1]
    with permits.admission_to_deploy(
        service, rollout, number, lambda: count(service, rollout, expired=True)
    ) as admission:
        results = deploy(
            wave,
            described,
            rollout.environment,
            rollout,
            target_group=rollout.target_group,
            admission=admission,
            pace=_pace(rollout, number),
        )
    report = WaveReport(number=number, of=len(rollout.waves), release=rollout.release, results=results)
    record("wave.deployed", {**report.to_xcom(), "digest": rollout.bundle.sha256})
    if _was_held_back(results):
        put_off(service=described, policy=policy, environment=rollout.environment)
    keep_result(report)
    _refuse_beyond_budget(rollout, report)
    return report


def _pace(rollout: RolloutPlan, number: int) -> Pace | None:
    """Return the pace of a wave; what other waves took of the error budget is gone."""
    if rollout.strategy is None:
        return None
    failed = failed_elsewhere(recorded_waves(), number)
    return Pace(rollout.waves[number - 1], rollout.strategy, fleet=len(rollout.hosts), failed=failed)


def _refuse_beyond_budget(rollout: RolloutPlan, report: WaveReport) -> None:
    """Raise a DeployError if hosts failed, or were not begun, beyond what the error budget of the plan bears."""
    borne = tolerated(rollout, (*recorded_waves(), report))
    refuse_failed_hosts([one for one in report.results if one.instance_id not in borne], rollout.environment)


def _was_held_back(results: Sequence[HostResult]) -> bool:
    """Say whether nothing went wrong with the hosts but that some were not to be touched any more."""
    errors = [result.error for result in results if result.outcome == "failed"]
    return bool(errors) and all(HALTED in error or NO_PERMIT in error for error in errors)


@task_group(
    group_id="implementation", group_display_name="9 Implement release", tooltip="Implement release: wave after wave"
)
def implementation_stage(service: Service, rollout: XComArg) -> tuple[DateTimeSensorAsync, XComArg, list[XComArg]]:
    """Wait, measure, and run the waves; return the first task, the baseline and the waves."""
    wait = DateTimeSensorAsync(
        task_id="await_start",
        task_display_name="Wait for the start",
        target_time=START,
        execution_timeout=None,
        doc_md="Wait, without a worker, until the time before which the release must not reach its target.",
    )
    booked = bookings.book_environment(service.name, rollout)
    baseline = measure_baseline(service.name, rollout)
    planned = service.environments["production"].waves
    waves = [
        run_wave.override(task_id=f"wave_{number}", task_display_name=wave_title(number, len(planned), wave))(
            service.name, number, rollout
        )
        for number, wave in enumerate(planned, start=1)
    ]
    chain(wait, booked, baseline, *waves)
    return wait, baseline, waves
