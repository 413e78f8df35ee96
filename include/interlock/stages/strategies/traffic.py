"""Which target group has how much of the traffic while a release is under way; and that it gets back what it had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.adapters.aws.load_balancer import Traffic
from interlock.adapters.permits.issuer import Admission
from interlock.domain.canary.records import TrafficReport
from interlock.domain.catalogue import Service
from interlock.domain.ledger.kinds import TRAFFIC_RESTORED, TRAFFIC_SHARED, TRAFFIC_SWITCHED
from interlock.domain.records import RolloutPlan
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.evidence import chain_entries, record

from .rolling import canary_groups

ALL = 100
"""The weight of a target group that has all the traffic."""


def groups_of(plan: RolloutPlan) -> tuple[str, ...]:
    """Return the target groups between which a plan moves the traffic; none: it does not."""
    if plan.switch:
        return plan.switch.live, plan.switch.idle
    own = canary_groups(plan)
    return (plan.target_group, *own) if plan.target_group and own else ()


def _traffic(plan: RolloutPlan, service: Service, admission: Admission) -> Traffic:
    client = resources.load_balancer(service.environments[plan.environment], admission.refuse_lost)
    return Traffic(client, groups_of(plan))


def attach(plan: RolloutPlan, service: Service, admission: Admission) -> None:
    """Have the load balancer know all groups of a plan, so that it checks their hosts; no share changes."""
    if groups_of(plan):
        traffic = _traffic(plan, service, admission)
        traffic.share(traffic.shares())


def share(plan: RolloutPlan, service: Service, weights: Mapping[str, int], admission: Admission) -> TrafficReport:
    """Give each group its share."""
    changed = _traffic(plan, service, admission).share(weights)
    return TrafficReport(weights=dict(weights), changed=changed, entered=admission.entered)


def as_before(plan: RolloutPlan) -> dict[str, int]:
    """Return the shares before the release: one group had all."""
    had = plan.switch.live if plan.switch else plan.target_group
    return {had: ALL} if had else {}


def restore(plan: RolloutPlan, service: Service) -> None:
    """Give back all traffic to those that had it before the release, if the release moved it; needs a permit."""
    moved: list[Any] = [entry for entry in chain_entries() if entry.kind in (TRAFFIC_SHARED, TRAFFIC_SWITCHED)]
    if moved and groups_of(plan):
        with permits.admission_to_way_back(plan) as admission:
            record(TRAFFIC_RESTORED, share(plan, service, as_before(plan), admission), seal=True)
