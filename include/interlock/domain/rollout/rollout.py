"""How a fleet is changed: divided into waves, with a limited number of hosts at a time, while enough are healthy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

from interlock.domain.canonical import Model
from interlock.domain.catalogue import Canary, Environment, Wave
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation
from interlock.domain.permits.permit import SANDBOXES
from interlock.domain.records import (
    AssetReport,
    CanaryPlan,
    GuidancePlan,
    Host,
    RolloutPlan,
    Strategy,
    Switch,
    WaveReport,
)

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


def wave_titles(environment: Environment) -> list[str]:
    """Return the names of an environment's waves, by its strategy."""
    planned = environment.waves
    titles = [wave_title(number, len(planned), wave) for number, wave in enumerate(planned, start=1)]
    if environment.canary:
        titles[0] += " · canary"
    if environment.blue_green:
        titles = [f"{title} of the idle fleet" for title in titles]
    return titles


def canary_title(canary: Canary, first: Wave) -> str:
    """Return what watching a canary is called, such as ``Canary · 10 % of the traffic for 10 minutes``."""
    share = f"{canary.traffic} % of the traffic" if canary.traffic else str(first)
    return f"Canary · {share} for {in_words(canary.bake)}"


# --- what the plan says of it -----------------------------------------------------------------------------------------


class Course(Model):
    """By which strategy a release goes to which hosts: the part of a rollout plan that its environment decides."""

    waves: tuple[tuple[Host, ...], ...]
    target_group: str | None
    strategy: Strategy
    canary: CanaryPlan | None = None
    switch: Switch | None = None
    guidance: GuidancePlan | None = None

    def fields(self) -> dict[str, Any]:
        """Return them as the plan's fields."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def course_of(
    environment: Environment, assets: AssetReport, target: str, paths: Sequence[str], *, directly: bool = False
) -> Course:
    """Return how a release goes to an environment's hosts.

    :param target: the environment that the release goes to; in a rehearsal it is another one, and only the waves count.
    :param paths: those of the load, which are measured of a canary.
    :param directly: nothing is tried first: a rollback goes to what has been tried.
    """
    hosts, rehearsal = assets.hosts[target], target in SANDBOXES
    waves = split_waves(hosts, environment.waves, by_zone=environment.by_zone)
    tried = environment.canary if not (rehearsal or directly) else None
    guided = None if rehearsal else environment.guided
    return Course(
        waves=waves,
        target_group=assets.target_groups.get(target),
        strategy=strategy_of(environment, hosts, rehearsal=rehearsal),
        canary=_canary_plan(tried, waves, assets.canary_groups, paths) if tried else None,
        switch=assets.switches.get(target),
        guidance=GuidancePlan(**guided.model_dump()) if guided else None,
    )


def _canary_plan(
    canary: Canary, waves: Sequence[Sequence[Host]], groups: Sequence[str], paths: Sequence[str]
) -> CanaryPlan:
    """Fix the baseline: as many hosts as the canary has, of those that are changed last."""
    later = [host for wave in waves[1:] for host in wave]
    size = len(waves[0])
    if not 0 < size <= len(later):
        raise PolicyViolation(
            f"The canary has {size} hosts, and {len(later)} others are left to compare it with.",
            rule="a canary is compared with as many hosts of the old version (services/*.yaml, environments.*.waves)",
            who="the service's team",
            next_step="make the first wave smaller, or add hosts",
        )
    of_canary, of_baseline = groups if canary.traffic else (None, None)
    return CanaryPlan(
        baseline=tuple(later[-size:]),
        bake_seconds=int(canary.bake.total_seconds()),
        requests=canary.requests,
        percent=canary.traffic,
        canary_group=of_canary,
        baseline_group=of_baseline,
        question=canary_question(canary, paths),
        metrics_path=canary.metrics_path,
        marginal=canary.marginal,
        answer_within=canary.answer_within,
    )


ERRORS, MEDIAN, SLOWEST = "errors (%)", "median response time (ms)", "response time of the slowest 5 % (ms)"
"""What is measured of each path."""


def canary_question(canary: Canary, paths: Sequence[str]) -> dict[str, Any]:
    """Return what is measured of a canary and how it is judged, for ``judge.Question``: plain, for the plan's digest.

    Of each path the share of errors, which is critical, and the response time; and what the service tells itself.
    """
    errors = [
        {
            "name": metric_name(ERRORS, path),
            "groups": ["errors"],
            "direction": "increase",
            "critical": True,
            "counts": True,
        }
        for path in paths
    ]
    times = [
        {
            "name": metric_name(kind, path),
            "groups": ["response times"],
            "direction": "increase",
            "must_have_data": True,
            "effect": {"allowed_increase": canary.slower},
        }
        for path in paths
        for kind in (MEDIAN, SLOWEST)
    ]
    directions = {"higher": "increase", "lower": "decrease", "either": "either"}
    own = [
        {
            "name": name,
            "groups": ["the service's own"],
            "direction": directions[one.worse],
            "critical": one.critical,
            "must_have_data": True,
            "effect": {
                "allowed_increase": one.by,
                "allowed_decrease": 1 / one.by,
                "critical_increase": one.by,
                "critical_decrease": 1 / one.by,
            },
        }
        for name, one in canary.metrics.items()
    ]
    limits = {"pass_from": canary.pass_from, "marginal_from": canary.marginal_from}
    return {"metrics": [*errors, *times, *own], **limits}


def metric_name(kind: str, path: str) -> str:
    """Return the name of a metric of a path; a judge takes names of 100 characters."""
    return f"{path[:60]}: {kind}"


def in_sentences(plan: RolloutPlan) -> tuple[str, ...]:
    """Say in numbers by which strategy a plan goes, a sentence each: what the board reads."""
    said = []
    if plan.canary:
        said += _of_canary(plan, plan.canary)
    if plan.switch:
        said.append(
            f"Blue/green: the release goes to the {len(plan.hosts)} hosts of the fleet without traffic, is verified "
            "there, and then gets all traffic by one change of the load balancer, which is taken back if it does not "
            f"work. The {len(plan.switch.live_hosts)} hosts that have the traffic now stay as they are for "
            f"{in_words(plan.switch.keep)}."
        )
    if plan.strategy:
        said += _of_strategy(plan.strategy)
    if plan.guidance:
        otherwise = "left out if the budget bears it" if plan.guidance.unanswered == "exclude" else "backed out"
        said.append(
            f"The release manager is asked about hosts that fail; without an answer within "
            f"{in_words(plan.guidance.answer_within)}: {otherwise}."
        )
    return tuple(said)


def _of_canary(plan: RolloutPlan, canary: CanaryPlan) -> list[str]:
    size = len(plan.waves[0])
    share = f"{canary.percent} % of the traffic" if canary.percent else "a host's usual share of the traffic"
    many = "The first wave is a canary" if size == 1 else f"The {size} hosts of the first wave are a canary"
    limits = canary.question["pass_from"], canary.question["marginal_from"]
    between = "the release manager is asked" if canary.marginal == "ask" else "it is backed out, too"
    return [
        f"{many}: {share} for {in_words(_seconds(canary.bake_seconds))} and at least {canary.requests} requests to "
        f"each host, compared with {', '.join(host.name for host in canary.baseline)}, restarted with the old version.",
        f"From {limits[0]:g} of 100 points on it goes on; below {limits[1]:g} it is backed out; in between {between}.",
    ]


def _seconds(number: int) -> timedelta:
    return timedelta(seconds=number)


def _of_strategy(strategy: Strategy) -> list[str]:
    zones = ", one availability zone at a time" if strategy.by_zone else ""
    failed = f"{strategy.max_failed} hosts may fail" if strategy.max_failed else "no host may fail"
    floor = f"; {strategy.min_healthy} hosts stay in service at any time" if strategy.min_healthy else ""
    each = ", ".join(f"{number} in {zone}" for zone, number in (strategy.zones_healthy or {}).items())
    floors = f"; of each availability zone stay in service: {each}" if each else ""
    return [f"At most {strategy.window} hosts of a wave at a time{zones}; {failed}{floor}{floors}."]


# --- within a wave ---------------------------------------------------------------------------------------------------


def strategy_of(environment: Environment, hosts: Sequence[Host], *, rehearsal: bool = False) -> Strategy:
    """Return how a fleet is changed, in numbers of hosts.

    A percentage of hosts that may fail is rounded down, one of hosts that stay well is rounded up: in doubt, fewer are
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
    """Return how many of so many hosts stay in service, if that lets one of them be changed."""
    floor = _amount(share, hosts, up=True)
    if floor < hosts or not hosts:
        return floor
    if rehearsal:
        return hosts - 1
    raise PolicyViolation(
        f"{floor} of {hosts} hosts{of} are to stay healthy, so none can be changed.",
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
    """Which host of a wave is changed next, and when none is any more.

    :param hosts: of the wave, in the order in which they are changed.
    :param fleet: the hosts of the whole rollout.
    :param failed: instances of other waves that failed and that the error budget has borne.
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
        """Tell whether more hosts have failed than may."""
        return self._failed > self._strategy.max_failed

    def begin(self) -> Host | None:
        """Take the next host that may be changed now; None: there is none, or one under way has to end first."""
        if self.is_spent:
            return None
        # A zone that has to wait does not make the others wait, unless each is to be done before the next.
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
    """Return the instances that failed and that the error budget bears; none if more failed than may.

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


def failed_elsewhere(waves: Iterable[WaveReport], number: int) -> frozenset[str]:
    """Return the instances of other waves than this one that failed, by what was recorded of each last."""
    last = {result.instance_id: (wave.number, result.outcome) for wave in waves for result in wave.results}
    return frozenset(one for one, (wave, outcome) in last.items() if wave != number and outcome == "failed")
