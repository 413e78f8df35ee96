"""Blue/green: the release goes to the fleet without traffic, is verified there, and then gets all of it at once."""

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
from interlock.domain.records import RolloutPlan, SmokeReport, SmokeResult
from interlock.stages.release.rollout import count
from interlock.stages.runtime import history, permits, resources
from interlock.stages.runtime.calendars import put_off, wait
from interlock.stages.runtime.evidence import record, this_task
from interlock.stages.runtime.taskflow import push_result, stage_task, this_run
from interlock.stages.runtime.versions import as_it_was

from . import fleets, rolling, traffic

SWITCHED = traffic.SWITCHED


def wait_until_kept(service: str, rollout: RolloutPlan, now: datetime) -> None:
    """Put the running task off, without a worker, while the fleet that it changes is kept to switch back to.

    A rollback does not wait, nor does a release that the fleet runs already: it changes nothing there.

    :raises AirflowRescheduleException: it is to be run again when the time is over.
    """
    switch = rollout.switch
    if switch is None or rollout.rolls_back or set(rollout.back_out.releases.values()) == {rollout.release}:
        return
    with resources.ledger() as ledger:
        switched = [
            entry.at
            for entry in ledger.entries(INSTALLATION, kind=SWITCHED)
            if (entry.payload["service"], entry.payload["to"]) == (service, switch.live)
        ]
    if switched and now < switched[-1] + switch.keep:
        wait(f"The fleet without traffic is kept for {in_words(switch.keep)}.", switched[-1] + switch.keep)


@stage_task(task_display_name="Verify the idle fleet", evidence="idle.smoked")
def verify_idle(service: str, rollout: RolloutPlan) -> SmokeReport:
    """Ask every host of the fleet without traffic what it runs, and send it the smoke requests, before the switch."""
    described = as_it_was(resources.catalogue_of(service)[2], rollout)
    if rollout.switch is None:
        return SmokeReport(results=())
    hosts = rolling.hosts_to_verify(rollout)
    results: tuple[SmokeResult, ...] = asyncio.run(smoke.smoke(hosts, described.smoke, described.health.port))
    versions = rolling.answered_versions(hosts, described.health)
    wrong = [f"{one.path} on {one.host} ({one.found})" for one in results if not one.passed]
    wrong += [f"{host} answers {found or 'nothing'}" for host, found in versions.items() if found != rollout.version]
    report = SmokeReport(results=results)
    if wrong:
        push_result(report, "idle.smoked")
        raise VerificationFailed(
            f"{service} {rollout.version} does not work on {rollout.environment}'s idle fleet: {'; '.join(wrong)}.",
            rule="no traffic goes to a fleet that does not answer the smoke requests",
            who="the service's team",
            next_step="the traffic stays where it is; mend what is named and release a new version",
        )
    return report


@stage_task(task_display_name="Switch the traffic to it", evidence=SWITCHED, seal=True)
def switch_traffic(service: str, rollout: RolloutPlan) -> TrafficReport:
    """Give all traffic to the fleet with the release, by one change of each listener; needs a permit.

    The plan says which fleet had the traffic when the board voted. If that is another one now, nothing is switched.
    """
    switch = rollout.switch
    if switch is None:
        return TrafficReport(weights={}, changed=False)
    policy, _, described = resources.catalogue_of(service)
    _refuse_other_way(described, rollout)
    put_off(service=described, policy=policy, environment=rollout.environment)
    decision = count(service, rollout, expired=True)
    with permits.admission_to_traffic(service, rollout, decision) as admission:
        weights = {switch.idle: traffic.ALL}
        told = TrafficReport(weights=weights, changed=True, entered=admission.entered)
        record(SWITCHED, told)  # before: a try that dies is put right, too
        now = {"service": service, "environment": rollout.environment, "from": switch.live, "to": switch.idle}
        history.append(SWITCHED, now, key=f"{SWITCHED}/{'/'.join(this_run())}", actor=this_task())
        return traffic.share(rollout, described, weights, admission)


def _refuse_other_way(described: Service, rollout: RolloutPlan) -> None:
    found = fleets.find_switch(described.environments[rollout.environment])
    if rollout.switch is not None and {found.live, found.idle} != {rollout.switch.live, rollout.switch.idle}:
        raise VerificationFailed(
            "The load balancer forwards to other target groups than the plan names.",
            rule="what is switched is what the board decided on",
            who="the platform engineer, who keeps the load balancer",
            next_step="trigger the release again",
        )


def switch_tasks(service: Service, rollout: XComArg, wave: XComArg) -> list[XComArg]:
    """Verify the idle fleet and switch to it; return what backs the release out if it fails, the last one last."""
    verified = verify_idle(service.name, rollout)
    switched = switch_traffic(service.name, rollout)
    chain(wave, verified, switched)
    return [verified, switched]
