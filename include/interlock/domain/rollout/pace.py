"""The pace within a wave: which host is changed next, and when no more hosts are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from interlock.domain.catalogue import Environment
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import Host, RolloutPlan, Strategy, WaveReport

_NAMED = 5
AT_A_TIME = 40
"""Hosts that are changed at a time where the catalogue names no window."""


def strategy_of(environment: Environment, hosts: Sequence[Host], *, rehearsal: bool = False) -> Strategy:
    """Return how a fleet is changed, in numbers of hosts.

    A percentage of hosts that may fail is rounded down, of hosts that stay healthy rounded up: in doubt, fewer are
    at risk.

    :param rehearsal: on another environment's hosts, of which there may be too few for the floor.
    :raises PolicyViolation: a floor of healthy hosts, the fleet's or a zone's, lets none be changed.
    """
    number = len(hosts)
    zones = {
        zone: _floor("min_healthy_per_zone", environment.min_healthy_per_zone, size, f" of {zone}", rehearsal=rehearsal)
        for zone, size in sorted(Counter(host.zone for host in hosts).items())
        if environment.min_healthy_per_zone
    }
    return Strategy(
        window=environment.window or AT_A_TIME,
        max_failed=0 if environment.on_failure == "back_out" else _amount(environment.max_failed, number, up=False),
        min_healthy=_floor("min_healthy", environment.min_healthy, number, rehearsal=rehearsal),
        by_zone=environment.by_zone,
        zones_healthy=zones or None,
    )


def _floor(key: str, share: int | str, hosts: int, of: str = "", *, rehearsal: bool) -> int:
    """Return how many hosts stay in service, if at least one host can still be changed."""
    floor = _amount(share, hosts, up=True)
    if floor < hosts or not hosts:
        return floor
    if rehearsal:
        return hosts - 1
    raise PolicyViolation(
        f"{floor} of {hosts} hosts{of} must stay healthy, so no host can be changed.",
        rule=f"{key}: {share} (services/*.yaml, environments.*.{key})",
        who="the service's team",
        next_step=f"lower {key}, or add hosts{of}",
    )


def _amount(share: int | str, hosts: int, *, up: bool) -> int:
    """Return a number of hosts; a percentage is of the fleet."""
    if isinstance(share, int):
        return share
    percent = hosts * int(share.rstrip("% "))
    return -(-percent // 100) if up else percent // 100


class Pace:
    """Selects the next host of a wave, and ends when no further host may be changed.

    :param hosts: of the wave, in the order in which they are changed.
    :param fleet: the hosts of the whole rollout.
    :param failed: instances of other waves that failed within the error budget.
    """

    def __init__(
        self, hosts: Sequence[Host], strategy: Strategy, *, fleet: Iterable[Host], failed: Collection[str] = ()
    ) -> None:
        self._waiting = list(hosts)
        self._strategy, self._failed = strategy, len(failed)
        self._well = Counter(host.zone for host in fleet if host.instance_id not in failed)
        self._under_way: dict[str, Host] = {}

    @property
    def untouched(self) -> tuple[Host, ...]:
        """The hosts that have not been begun."""
        return tuple(self._waiting)

    @property
    def is_spent(self) -> bool:
        """Tell whether the number of failed hosts exceeds the error budget."""
        return self._failed > self._strategy.max_failed

    def begin(self) -> Host | None:
        """Take the next host that may be changed now; None: no host is left, or a host in change has to end first."""
        if self.is_spent:
            return None
        # A zone that has to wait does not delay the others, unless zones are changed one after another.
        candidates = self._waiting[:1] if self._strategy.by_zone else self._waiting
        host = next(filter(self._has_room, candidates), None)
        if host is not None:
            self._waiting.remove(host)
            self._under_way[host.instance_id] = host
            self._well[host.zone] -= 1
        return host

    def _has_room(self, host: Host) -> bool:
        of_zone = self._strategy.zones_healthy or {}
        return (
            len(self._under_way) < self._strategy.window
            and self._well.total() > self._strategy.min_healthy
            and self._well[host.zone] > of_zone.get(host.zone, 0)
            and not (self._strategy.by_zone and any(other.zone != host.zone for other in self._under_way.values()))
        )

    def end(self, host: Host, *, failed: bool) -> None:
        """Take note of how a host ended."""
        del self._under_way[host.instance_id]
        self._failed += failed
        self._well[host.zone] += not failed


def tolerated(plan: RolloutPlan, waves: Iterable[WaveReport]) -> frozenset[str]:
    """Return the instances that failed within the error budget; none if more failed than it allows.

    A host that was held back, by an emergency stop or for want of a permit, did not fail: no budget bears that. Nor
    does it bear a canary that failed: what was not tried is not followed.

    :param waves: what was recorded, in its order; what was recorded last of a host counts.
    """
    last = {result.instance_id: (wave.number, result) for wave in waves for result in wave.results}
    found = [last[host.instance_id] for host in plan.hosts if host.instance_id in last]
    failed = [(number, result) for number, result in found if result.outcome == "failed"]
    unbearable = any(result.held_back or (plan.canary and number == 1) for number, result in failed)
    if unbearable or not plan.strategy or len(failed) > plan.strategy.max_failed:
        return frozenset()
    return frozenset(result.instance_id for _, result in failed)


def failed_hosts(plan: RolloutPlan, waves: Sequence[WaveReport]) -> str:
    """Say how many hosts failed, and whether the error budget bears it; empty: none did.

    :param waves: as for :func:`tolerated`.
    """
    last = {result.instance_id: result for wave in waves for result in wave.results}
    found = (last[host.instance_id] for host in plan.hosts if host.instance_id in last)
    failed = [one.host for one in found if one.outcome == "failed"]
    if not failed:
        return ""
    number, budget = len(failed), plan.strategy.max_failed if plan.strategy else 0
    named = ", ".join((*failed[:_NAMED], *["…"][: number > _NAMED]))
    hosts = f"{number} {'host' if number == 1 else 'hosts'} failed ({named})"
    if tolerated(plan, waves):
        return f"{hosts}, within the error budget of {budget}."
    if number > budget:
        return f"{hosts}: the error budget of {budget} is used up, so no further host is changed."
    return f"{hosts}, which no error budget bears: a canary, or a host that was held back."


def failed_elsewhere(waves: Iterable[WaveReport], number: int) -> frozenset[str]:
    """Return the failed instances of the other waves, by the last record of each instance."""
    last = {result.instance_id: (wave.number, result.outcome) for wave in waves for result in wave.results}
    return frozenset(one for one, (wave, outcome) in last.items() if wave != number and outcome == "failed")
