"""How a fleet is changed: divided into waves, with a limited number of hosts at a time, while enough are healthy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from interlock.domain.canonical import Model
from interlock.domain.catalogue import Canary, Environment, Wave
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation
from interlock.domain.permits.permit import SANDBOXES
from interlock.domain.records import AssetReport, CanaryPlan, GuidancePlan, Host, RolloutPlan, Strategy, Switch

from .pace import strategy_of


def split_waves(hosts: Sequence[Host], waves: Sequence[Wave], *, by_zone: bool = False) -> tuple[tuple[Host, ...], ...]:
    """Divide a fleet into waves, in its order; each host is in one wave.

    Waves are counted from the start of the fleet: after ``25%``, a quarter of it is done, rounded up. A wave
    without additional hosts is empty.

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
            rule="the last wave covers the whole fleet (services/*.yaml, environments.*.waves)",
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


class Course(Model):
    """The strategy and the hosts of a release: the part of a rollout plan that its environment determines."""

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
    """Return the strategy of a release for an environment.

    :param target: the environment that the release goes to; in a rehearsal it is another one, and only the waves count.
    :param paths: those of the load, which are measured of a canary.
    :param directly: without a canary, because a rollback deploys a release that ran before.
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
    """Select the baseline: as many hosts as the canary has, from those that are changed last."""
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
"""The measurements of each path."""


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
    """Return the name of a metric of a path, within the judge's limit of 100 characters."""
    return f"{path[:60]}: {kind}"


def describe_strategy(plan: RolloutPlan) -> tuple[str, ...]:
    """Describe the strategy of a plan for the board, a sentence for each part."""
    said = []
    if plan.canary:
        said += _describe_canary(plan, plan.canary)
    if plan.switch:
        said.append(
            f"Blue/green: the release is deployed to the {len(plan.hosts)} hosts of the fleet without traffic and "
            "verified there. Then one change of the load balancer switches all traffic to it; on failure the switch "
            f"is reverted. The {len(plan.switch.live_hosts)} hosts that have the traffic now stay unchanged for "
            f"{in_words(plan.switch.keep)}."
        )
    if plan.strategy:
        said += _describe_pace(plan.strategy)
    if plan.guidance:
        otherwise = "left out if the error budget allows it" if plan.guidance.unanswered == "exclude" else "backed out"
        said.append(
            f"The release manager decides about hosts that fail. Without an answer within "
            f"{in_words(plan.guidance.answer_within)}: {otherwise}."
        )
    return tuple(said)


def _describe_canary(plan: RolloutPlan, canary: CanaryPlan) -> list[str]:
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


def _describe_pace(strategy: Strategy) -> list[str]:
    zones = ", one availability zone at a time" if strategy.by_zone else ""
    failed = f"{strategy.max_failed} hosts may fail" if strategy.max_failed else "no host may fail"
    floor = f"; {strategy.min_healthy} hosts stay in service at any time" if strategy.min_healthy else ""
    each = ", ".join(f"{number} in {zone}" for zone, number in (strategy.zones_healthy or {}).items())
    floors = f"; of each availability zone stay in service: {each}" if each else ""
    return [f"At most {strategy.window} hosts of a wave at a time{zones}; {failed}{floor}{floors}."]
