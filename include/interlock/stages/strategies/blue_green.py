"""Blue/green: deploy to the fleet without traffic, verify it, and then switch all traffic to it at once."""

from __future__ import annotations

import asyncio
from datetime import datetime

from airflow.sdk import XComArg, chain

from interlock.adapters.hosts import smoke
from interlock.domain.canary.records import TrafficReport
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import VerificationFailed
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import IDLE_SMOKED, TRAFFIC_SWITCHED
from interlock.domain.records import RolloutPlan, SmokeReport, SmokeResult, Switch
from interlock.stages.release.rollout import count
from interlock.stages.runtime import history, permits, resources
from interlock.stages.runtime.calendars import put_off, wait
from interlock.stages.runtime.evidence import record, this_task
from interlock.stages.runtime.taskflow import push_result, stage_task, this_run
from interlock.stages.runtime.versions import as_it_was

from . import fleets, rolling, traffic


def wait_until_kept(service: str, rollout: RolloutPlan, now: datetime) -> None:
    """Put the running task off, without a worker, while its fleet is kept unchanged to switch back to.

    A rollback does not wait, nor does a release that the fleet runs already, because it changes nothing there.

    :raises AirflowRescheduleException: the task runs again when the time is over.
    """
    switch = rollout.switch
    if switch is None or rollout.rolls_back or set(rollout.back_out.releases.values()) == {rollout.release}:
        return
    with resources.ledger() as ledger:
        switched = [
            entry.at
            for entry in ledger.entries(INSTALLATION, kind=TRAFFIC_SWITCHED)
            if (entry.payload["service"], entry.payload["to"]) == (service, switch.live)
        ]
    if switched and now < switched[-1] + switch.keep:
        wait(
            f"The fleet without traffic is kept unchanged for {in_words(switch.keep)} after a switch.",
            switched[-1] + switch.keep,
        )


@stage_task(task_display_name="Verify the idle fleet", evidence=IDLE_SMOKED)
def verify_idle(service: str, rollout: RolloutPlan) -> SmokeReport:
    """Check version and smoke requests on every host of the fleet without traffic, before the switch."""
    if rollout.switch is None:
        return SmokeReport(results=())
    described = as_it_was(resources.catalogue_of(service).service, rollout)
    hosts = rolling.hosts_to_verify(rollout)
    results: tuple[SmokeResult, ...] = asyncio.run(smoke.smoke(hosts, described.smoke, described.health.port))
    versions = rolling.answered_versions(hosts, described.health)
    wrong = [f"{one.path} on {one.host} ({one.found})" for one in results if not one.passed]
    wrong += [
        f"{host} reports version {found or 'unknown'}" for host, found in versions.items() if found != rollout.version
    ]
    report = SmokeReport(results=results)
    if wrong:
        push_result(report, IDLE_SMOKED)
        raise VerificationFailed(
            f"The smoke tests of {service} {rollout.version} failed on the idle fleet of {rollout.environment}: "
            f"{'; '.join(wrong)}.",
            rule="traffic is switched only to a fleet that passes the smoke tests",
            who="the service's team",
            next_step="the traffic is not switched; fix the failures and release a new version",
        )
    return report


@stage_task(task_display_name="Switch the traffic", evidence=TRAFFIC_SWITCHED, seal=True)
def switch_traffic(service: str, rollout: RolloutPlan) -> TrafficReport:
    """Switch all traffic to the fleet with the release, with one change per listener. Needs a permit.

    The plan names the fleet that had the traffic when the board voted. If another fleet has it now, nothing changes.
    """
    switch = rollout.switch
    if switch is None:
        return TrafficReport(weights={}, changed=False)
    catalogue = resources.catalogue_of(service)
    _refuse_other_groups(catalogue.service, rollout, switch)
    put_off(catalogue, rollout.environment)
    with permits.admission_to_traffic(rollout, count) as admission:
        weights = {switch.idle: traffic.ALL}
        told = TrafficReport(weights=weights, changed=True, entered=admission.entered)
        record(TRAFFIC_SWITCHED, told)  # before the change: a back-out then also restores it if this try dies
        now = {"service": service, "environment": rollout.environment, "from": switch.live, "to": switch.idle}
        history.append(TRAFFIC_SWITCHED, now, key=f"{TRAFFIC_SWITCHED}/{'/'.join(this_run())}", actor=this_task())
        return traffic.share(rollout, catalogue.service, weights, admission)


def _refuse_other_groups(service: Service, rollout: RolloutPlan, switch: Switch) -> None:
    found = fleets.find_switch(service.environments[rollout.environment])
    if {found.live, found.idle} != {switch.live, switch.idle}:
        raise VerificationFailed(
            "The load balancer forwards to other target groups than the plan names.",
            rule="traffic is switched only between the target groups that the board approved",
            who="the platform engineer",
            next_step="trigger the release again",
        )


def switch_tasks(service: Service, rollout: XComArg, wave: XComArg) -> list[XComArg]:
    """Verify the idle fleet and switch to it; return these tasks. If one fails, the release is backed out."""
    verified = verify_idle(service.name, rollout)
    switched = switch_traffic(service.name, rollout)
    chain(wave, verified, switched)
    return [verified, switched]
