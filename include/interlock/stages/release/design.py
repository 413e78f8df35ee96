"""Stage 3, hardware and software design: check that the hosts and tools which the release needs exist."""

from __future__ import annotations

import logging

from airflow.sdk import XComArg

from interlock.adapters.build.builders import tool_version
from interlock.domain.catalogue import PRODUCTION, Policy, Prebuilt, Service
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.change.environments import stops_of
from interlock.domain.change.policy import build_rules_of
from interlock.domain.ledger.kinds import ASSETS_CHECKED
from interlock.domain.records import AssetReport, ReleasePlan
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import on_build_workers, stage_group, stage_task
from interlock.stages.strategies import fleets

log = logging.getLogger(__name__)


@stage_task(task_display_name="Check hosts, load balancer and tools", evidence=ASSETS_CHECKED, **on_build_workers())
def check_assets(service: str, plan: ReleasePlan) -> AssetReport:
    """Check that the hosts, the load balancer and the build tool of the catalogue exist.

    Starts stopped hosts, and creates missing hosts where the catalogue allows it. A rehearsal does not change
    production: it only reports what a release would not find there.
    """
    policy, _, described = resources.catalogue_of(service)
    lacking = fleets.lacking(described.environments[PRODUCTION]) if plan.target != PRODUCTION else None
    for sentence in lacking or ():
        log.warning("In production: %s", sentence)
    stops = stops_of(policy, described, change_type=plan.change_type, step=plan.bump, rehearsal=plan.rehearsal)
    needed = {FIRST, *(stop.environment for stop in stops if not stop.left_out), plan.target}
    found = [
        fleets.ready(service, name, described.environments[name])
        for name in sorted(needed - {*described.without_hosts})
    ]
    return AssetReport(
        hosts={name: hosts for one in found for name, hosts in one.hosts.items()},
        target_groups={name: group for one in found for name, group in one.target_groups.items()},
        tools=_tools(policy, described),
        started=tuple(instance for one in found for instance in one.started),
        created=tuple(instance for one in found for instance in one.created),
        switches={name: switch for one in found for name, switch in one.switches.items()},
        canary_groups=tuple(group for one in found for group in one.canary_groups),
        lacking=lacking,
    )


def _tools(policy: Policy, described: Service) -> dict[str, str]:
    """Return the build tool with its version; of a service that another pipeline builds, none."""
    if isinstance(described.build, Prebuilt):
        return {}
    return {described.build.tool: tool_version(described.build.tool, rules=build_rules_of(policy, described))}


@stage_group("design", "check the hosts, load balancers and tools that the release needs")
def design_stage(service: Service, plan: XComArg) -> XComArg:
    """Check the assets."""
    return check_assets(service.name, plan)
