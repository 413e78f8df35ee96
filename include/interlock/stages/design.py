"""Stage 3, hardware and software design: what the release needs, against what EC2 and this machine really have."""

from __future__ import annotations

from airflow.sdk import XComArg, task_group

from include.interlock.adapters import ec2, load_balancer
from include.interlock.adapters.builders import tool_version
from include.interlock.domain.catalogue import Environment, Service
from include.interlock.domain.records import AssetReport, Host, ReleasePlan

from . import resources
from .taskflow import stage_task


@stage_task(task_display_name="Check hosts, load balancer and tools", evidence="assets.checked")
def check_assets(service: str, plan: ReleasePlan) -> AssetReport:
    """Compare the hosts, the load balancer and the build tool with what there is.

    Starts hosts that are stopped, and creates missing ones where the catalogue says so.
    """
    _, _, described = resources.catalogue_of(service)
    found: dict[str, tuple[Host, ...]] = {}
    groups: dict[str, str] = {}
    started: list[str] = []
    created: list[str] = []
    for name in sorted({"test", plan.target}):
        environment = described.environments[name]
        found[name] = _ready_hosts(service, name, environment, started, created)
        if environment.target_group:
            groups[name] = load_balancer.find_target_group(
                resources.aws(environment, "elbv2"), environment.target_group
            )
    return AssetReport(
        hosts=found,
        target_groups=groups,
        tools={described.build.tool: tool_version(described.build.tool)},
        started=tuple(started),
        created=tuple(created),
    )


def _ready_hosts(
    service: str, name: str, environment: Environment, started: list[str], created: list[str]
) -> tuple[Host, ...]:
    client = resources.aws(environment, "ec2")
    ready = ec2.ready_hosts(client, environment, prefix=f"{service}-{name}")
    started.extend(ready.started)
    created.extend(ready.created)
    return ready.hosts


@task_group(
    group_id="design",
    group_display_name="3 Hardware and software design",
    tooltip="Hardware and software design: the assets that the release needs",
)
def design_stage(service: Service, plan: XComArg) -> XComArg:
    """Check the assets."""
    return check_assets(service.name, plan)
