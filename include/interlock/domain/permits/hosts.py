"""Whether the hosts of a frozen plan are still the hosts of its environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interlock.domain.records import Host, RolloutPlan


def host_changes(plan: RolloutPlan, fleets: Sequence[Sequence[Host]], *, has_begun: bool) -> tuple[str, ...]:
    """Return, in sentences, which hosts of an environment are not those that the board decided on.

    :param fleets: the instances that the environment has now, running or not.
    :param has_begun: hosts were changed by this plan; then only addresses matter, since a fleet that grows or shrinks
        during a rollout does not stop it.
    """
    return tuple((*_find_moved(plan, fleets), *(() if has_begun else _find_other(plan, fleets))))


def _find_moved(plan: RolloutPlan, fleets: Sequence[Sequence[Host]]) -> Iterator[str]:
    """Yield the addresses that belong to other instances, and the instances that have other addresses."""
    at, named = {host.address: host for host in plan.hosts}, {host.instance_id: host for host in plan.hosts}
    for host in (host for fleet in fleets for host in fleet):
        planned = at.get(host.address)
        if planned is not None and planned.instance_id != host.instance_id:
            yield f"The address {host.address} belongs to {_name(host)}, but the plan has {_name(planned)} there."
        elif host.instance_id in named and named[host.instance_id].address != host.address:
            yield (
                f"{_name(host)} has the address {host.address}, but the plan has "
                f"{named[host.instance_id].address} for it."
            )


def _find_other(plan: RolloutPlan, fleets: Sequence[Sequence[Host]]) -> Iterator[str]:
    """Yield the hosts that came to the fleet of the plan, and those that do not belong to it any more."""
    planned = {host.instance_id for host in plan.hosts}
    for host in (host for fleet in fleets if planned & {one.instance_id for one in fleet} for host in fleet):
        if host.instance_id not in planned:
            yield f"{_name(host)} belongs to {plan.environment} now, but the plan does not have it."
    found = {host.instance_id for fleet in fleets for host in fleet}
    for host in plan.hosts:
        if host.instance_id not in found:
            yield f"{_name(host)} of the plan does not belong to {plan.environment} any more."


def _name(host: Host) -> str:
    return f"{host.name} ({host.instance_id})"
