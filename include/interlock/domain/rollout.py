"""How a fleet is changed: cut into waves, and within a wave so many hosts at a time, as long as enough are well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .catalogue import Environment, Wave
from .errors import PolicyViolation
from .records import Host, RolloutPlan, Strategy, WaveReport

AT_A_TIME = 40
"""Hosts that are changed at a time where the catalogue names no window."""


def split_waves(hosts: Sequence[Host], waves: Sequence[Wave], *, by_zone: bool = False) -> tuple[tuple[Host, ...], ...]:
    """Cut a fleet into waves, in its order: one part for each wave, each host in one part.

    Waves are counted from the start of the fleet: after ``25%``, a quarter of it is done, rounded up. A wave that adds
    nothing to the ones before it is empty.

    :param by_zone: put the hosts of a zone one after another first, so that a zone is done before the next one begins.
    :raises PolicyViolation: the last wave leaves hosts behind.
    """
    ordered = sorted(hosts, key=lambda host: host.zone) if by_zone else hosts
    parts: list[tuple[Host, ...]] = []
    done = 0
    for wave in waves:
        until = max(done, _reach(wave, len(ordered)))
        parts.append(tuple(ordered[done:until]))
        done = until
    if done < len(ordered):
        raise PolicyViolation(
            f"The waves {', '.join(map(str, waves)) or 'of an empty list'} leave {len(ordered) - done} of "
            f"{len(ordered)} hosts behind.",
            rule="the last wave is the whole fleet (services/*.yaml, environments.*.waves)",
            who="the service's team",
            next_step="end the list of waves with 100%",
        )
    return tuple(parts)


def _reach(wave: Wave, hosts: int) -> int:
    """Return how many hosts are done after a wave."""
    if wave.percent is not None:
        return -(-hosts * wave.percent // 100)
    return min(hosts, wave.hosts or 0)


def wave_title(number: int, of: int, wave: Wave) -> str:
    """Return a wave's name for people, such as ``Wave 1 of 2 · 1 host``.

    :param number: counted from 1.
    """
    return f"Wave {number} of {of} · {wave}"


# --- within a wave ---------------------------------------------------------------------------------------------------


def strategy_of(environment: Environment, hosts: int, *, rehearsal: bool = False) -> Strategy:
    """Return how a fleet of so many hosts is changed, in numbers of hosts.

    A percentage of hosts that may fail is rounded down, one of hosts that stay well is rounded up: in doubt, fewer are
    at risk.

    :param rehearsal: on another environment's hosts, of which there may be too few for the floor.
    :raises PolicyViolation: the floor of healthy hosts lets none be changed.
    """
    floor = _amount(environment.min_healthy, hosts, up=True)
    if floor >= hosts > 0 and rehearsal:
        floor = hosts - 1
    if floor >= hosts > 0:
        raise PolicyViolation(
            f"{floor} of {hosts} hosts are to stay healthy, so none can be changed.",
            rule=f"min_healthy: {environment.min_healthy} (services/*.yaml, environments.*.min_healthy)",
            who="the service's team",
            next_step="lower min_healthy, or add hosts",
        )
    return Strategy(
        window=environment.window or AT_A_TIME,
        max_failed=_amount(environment.max_failed, hosts, up=False),
        min_healthy=floor,
        by_zone=environment.by_zone,
    )


def _amount(share: int | str, hosts: int, *, up: bool) -> int:
    """Return a number of hosts; a percentage is of the fleet."""
    if isinstance(share, int):
        return share
    percent = hosts * int(share.rstrip("% "))
    return -(-percent // 100) if up else percent // 100


class Pace:
    """Which host of a wave is changed next, and when none is any more.

    :param hosts: of the wave, in the order in which they are changed.
    :param fleet: how many hosts the whole rollout has.
    :param failed: hosts of other waves that failed and that the error budget has borne.
    """

    def __init__(self, hosts: Sequence[Host], strategy: Strategy, *, fleet: int, failed: int = 0) -> None:
        self._waiting = list(hosts)
        self._strategy, self._fleet, self._failed = strategy, fleet, failed
        self._under_way: dict[str, Host] = {}

    @property
    def untouched(self) -> tuple[Host, ...]:
        """The hosts that have not been begun."""
        return tuple(self._waiting)

    @property
    def is_spent(self) -> bool:
        """Tell whether more hosts have failed than may."""
        return self._failed > self._strategy.max_failed

    def begin(self) -> Host | None:
        """Take the next host that may be changed now; None: there is none, or one under way has to end first."""
        if not self._waiting or self.is_spent or not self._has_room(self._waiting[0]):
            return None
        host = self._waiting.pop(0)
        self._under_way[host.instance_id] = host
        return host

    def _has_room(self, host: Host) -> bool:
        busy = len(self._under_way)
        well = self._fleet - busy - self._failed
        return (
            busy < self._strategy.window
            and well > self._strategy.min_healthy
            and not (self._strategy.by_zone and any(other.zone != host.zone for other in self._under_way.values()))
        )

    def end(self, host: Host, *, failed: bool) -> None:
        """Take note of how a host ended."""
        del self._under_way[host.instance_id]
        self._failed += failed


def tolerated(plan: RolloutPlan, waves: Iterable[WaveReport]) -> frozenset[str]:
    """Return the instances that failed and that the error budget bears; none if more failed than may.

    :param waves: what was recorded, in its order; what was recorded last of a host counts.
    """
    last = {result.instance_id: result.outcome for wave in waves for result in wave.results}
    failed = frozenset(host.instance_id for host in plan.hosts if last.get(host.instance_id) == "failed")
    return failed if plan.strategy and len(failed) <= plan.strategy.max_failed else frozenset()


def failed_elsewhere(waves: Iterable[WaveReport], number: int) -> int:
    """Return how many hosts of other waves than this one failed, by what was recorded of each last."""
    last = {result.instance_id: (wave.number, result.outcome) for wave in waves for result in wave.results}
    return sum(wave != number and outcome == "failed" for wave, outcome in last.values())
