"""The order of a service's environments: test first, production last, and between them those that name ``after``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from .values import PRODUCTION

if TYPE_CHECKING:
    from .service_file import Environment, WithoutHosts

    Stations = Mapping[str, Environment | WithoutHosts]

FIRST = "test"
ENDS = (FIRST, PRODUCTION)
_OF_PATH = ("after", "suites", "load", "thresholds", "soak", "sign_off")
"""The fields of environments between the two."""


def sorted_path(environments: Stations) -> tuple[str, ...]:
    """Return the environments between test and production, each after those that it comes after.

    :raises CycleError: some come after each other.
    """
    between = {name: one.after for name, one in sorted(environments.items()) if name not in ENDS}
    return tuple(name for name in TopologicalSorter(between).static_order() if name in between)


def earlier_on_path(after: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """Return, for each environment, all those that a release passes before it comes there.

    :param after: the environments that each environment comes directly after.
    :raises CycleError: some come after each other.
    """
    found: dict[str, frozenset[str]] = {}
    for name in TopologicalSorter(after).static_order():
        direct = after.get(name, ())
        found[name] = frozenset(direct).union(*(found[one] for one in direct))
    return found


def later_on_path(environments: Stations, name: str) -> tuple[str, ...]:
    """Return the environments before production that a release reaches only when it has passed this one."""
    path = sorted_path(environments)
    earlier = earlier_on_path({one: environments[one].after for one in path})
    return tuple(one for one in path if name == FIRST or name in earlier[one])


def refuse_wrong_path(
    environments: Mapping[str, Environment], without_hosts: Mapping[str, WithoutHosts], suites: Collection[str]
) -> None:
    """Raise a ValueError unless every environment is proven between test and production.

    :param without_hosts: those that have no hosts of their own.
    :param suites: the names of the service's suites.
    """
    for name in (name for name in ENDS if name in environments):
        if named := [field for field in _OF_PATH if getattr(environments[name], field)]:
            why = (
                "it is reviewed by the suites and the load of the service, and accepted by its functional_approvers"
                if name == FIRST
                else "it comes last, after every other environment"
            )
            raise ValueError(f"environments: {name} cannot have {', '.join(named)}: {why}")
    if PRODUCTION in environments and environments[PRODUCTION].data:
        raise ValueError("environments: production cannot have data: only environments before it get test data")
    if both := [name for name in without_hosts if name in (*ENDS, *environments)]:
        raise ValueError(f"without_hosts: {both[0]} is an environment with hosts")
    every: Stations = {**environments, **without_hosts}
    for name, one in every.items():
        if name not in ENDS:
            _refuse_wrong_order(name, one, every, suites)
    for name, environment in environments.items():
        if name not in ENDS:
            _refuse_wrong_step(name, environment, suites)
    try:
        sorted_path(every)
    except CycleError as error:
        around = " → ".join(reversed(error.args[1]))
        raise ValueError(f"environments: {around} come after each other; one of them must come first") from error


def _refuse_wrong_order(
    name: str, environment: Environment | WithoutHosts, environments: Stations, suites: Collection[str]
) -> None:
    known = [one for one in environments if one not in (name, PRODUCTION)]
    if not environment.after:
        raise ValueError(
            f"environments: {name} does not say after which environments a release comes there: give it after, such as "
            f"after: [{FIRST}]"
        )
    if wrong := [one for one in environment.after if one not in known]:
        raise ValueError(f"environments: {name} comes after {', '.join(wrong)}; allowed: {', '.join(known)}")
    if unknown := [one for one in environment.suites or () if one not in suites]:
        allowed = ", ".join(suites) or "none; add them under suites"
        raise ValueError(f"environments: {name} names the suites {', '.join(unknown)}; allowed: {allowed}")


def _refuse_wrong_step(name: str, environment: Environment, suites: Collection[str]) -> None:
    if environment.strategy != "rolling" or environment.on_failure != "exclude":
        raise ValueError(f"environments: {name} is changed all at once; strategy and on_failure are production's")
    if not suites:
        raise ValueError(
            f"environments: {name} proves nothing, because the service has no suites that could run there; add one "
            "under suites"
        )
