"""The shares of the traffic of target groups during a release, and their restoration."""

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
    """Return the target groups between which a plan moves the traffic; empty if it moves none."""
    if plan.switch:
        return plan.switch.live, plan.switch.idle
    own = canary_groups(plan)
    return (plan.target_group, *own) if plan.target_group and own else ()


def _traffic(plan: RolloutPlan, service: Service, admission: Admission) -> Traffic:
    client = resources.load_balancer(service.environments[plan.environment], admission.refuse_lost)
    return Traffic(client, groups_of(plan))


def attach(plan: RolloutPlan, service: Service, admission: Admission) -> None:
    """Add all groups of a plan to the load balancer, so that it checks their hosts. No share changes."""
    if groups_of(plan):
        traffic = _traffic(plan, service, admission)
        traffic.share(traffic.shares())


def share(plan: RolloutPlan, service: Service, weights: Mapping[str, int], admission: Admission) -> TrafficReport:
    """Set the share of each group."""
    changed = _traffic(plan, service, admission).share(weights)
    return TrafficReport(weights=dict(weights), changed=changed, entered=admission.entered)


def as_before(plan: RolloutPlan) -> dict[str, int]:
    """Return the shares before the release: a single group had all traffic."""
    had = plan.switch.live if plan.switch else plan.target_group
    return {had: ALL} if had else {}


def restore(plan: RolloutPlan, service: Service) -> None:
    """Restore the shares before the release, if the release moved traffic. Needs a permit."""
    moved: list[Any] = [entry for entry in chain_entries() if entry.kind in (TRAFFIC_SHARED, TRAFFIC_SWITCHED)]
    if moved and groups_of(plan):
        with permits.admission_to_way_back(plan) as admission:
            record(TRAFFIC_RESTORED, share(plan, service, as_before(plan), admission), seal=True)
