"""Tightening: how business units and services make the policy of the enterprise stricter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from interlock.domain.catalogue import (
    BuildRules,
    ChangeType,
    Demanded,
    Flow,
    Policy,
    Thresholds,
    Tightening,
    TimeLimits,
    WaiverRule,
)
from interlock.domain.catalogue.cases_file import CASE_DEMANDS, SEVERITIES
from interlock.domain.errors import PolicyViolation

ENTERPRISE = "policy.yaml"


class Governed(Protocol):
    """The subject of rules: a service, or the recorded facts of a removed service."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def owner(self) -> str: ...  # noqa: D102
    @property
    def tier(self) -> int: ...  # noqa: D102
    @property
    def business_unit(self) -> str | None: ...  # noqa: D102
    @property
    def policy(self) -> Tightening: ...  # noqa: D102


Path = tuple[str, ...]
"""The keys that lead to a value of a policy, such as thresholds, max_p95_ms."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A value of a lower level that does not hold, and why.

    :param place: who asks for it: a file, and the part of it.
    :param path: its keys in that place.
    :param found: what it says.
    :param allowed: what it could say.
    """

    place: str
    path: Path
    found: object
    allowed: str

    @property
    def key(self) -> str:
        """How messages name the value."""
        return self.path[-1] if self.path[0] == "thresholds" else ".".join(self.path)

    def __str__(self) -> str:
        return f"{self.place} sets {self.key} to {shown(self.found)}; allowed is {self.allowed}"


@dataclass(frozen=True, slots=True)
class Tightened:
    """What holds after every level.

    :param values: each value, by its keys.
    :param sources: the place whose value counts, by the same keys.
    :param refusals: what was refused on the way.
    """

    values: dict[Path, Any]
    sources: dict[Path, str]
    refusals: list[Refusal]

    def flow(self, kind: ChangeType) -> Flow:
        """Return the flow of a change type."""
        return Flow.model_validate(_below(self.values, "change_types", kind.value))

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds."""
        return Thresholds.model_validate(_below(self.values, "thresholds"))

    @property
    def demanded(self) -> Demanded:
        """What is demanded beside them."""
        return Demanded.model_validate(_below(self.values))

    @property
    def time_limits(self) -> TimeLimits:
        """The time limits."""
        return TimeLimits.model_validate(_below(self.values, "time_limits"))

    @property
    def builds(self) -> BuildRules:
        """The rules on builds."""
        return BuildRules.model_validate(_below(self.values, "builds"))

    @property
    def waivers(self) -> dict[str, WaiverRule]:
        """The rules on waivers, by suite."""
        suites = dict.fromkeys(path[1] for path in self.values if path[0] == "waivers")
        return {suite: WaiverRule.model_validate(_below(self.values, "waivers", suite)) for suite in suites}


def place_of_unit(unit: str) -> str:
    """Return how messages name the place of a business unit's policy."""
    return f"{ENTERPRISE} business_units.{unit}"


def place_of_service(name: str) -> str:
    """Return how messages name the place of a service's policy."""
    return f"services/{name}.yaml"


def shown(value: object) -> str:
    """Return a value as people write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "an empty list"
    if isinstance(value, timedelta):
        return str(_DURATION.dump_python(value, mode="json"))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def levels(policy: Policy, service: Governed) -> Iterator[tuple[str, Tightening]]:
    """Yield what each level below the enterprise asks of a service, and where it is written; the highest first.

    :raises PolicyViolation: the service is of a business unit that there is not.
    """
    if service.business_unit is not None:
        if service.business_unit not in policy.business_units:
            raise PolicyViolation(
                f"{service.name} belongs to the business unit {service.business_unit}, which has no policy.",
                rule=f"{ENTERPRISE} has an entry in business_units for every business unit that a service names",
                who=f"{service.owner} for the service, {policy.owner} for {ENTERPRISE}",
                next_step=f"name one of {', '.join(sorted(policy.business_units)) or 'them, once they exist'}",
            )
        yield place_of_unit(service.business_unit), policy.business_units[service.business_unit]
    yield place_of_service(service.name), service.policy


@dataclass(frozen=True, slots=True)
class _Way:
    """How a value may be tightened.

    :param holds: whether a value is as tight as the one above, or tighter.
    :param allowed: what would be, in words about the value above.
    :param merged: what holds then; by default the lower level's value.
    """

    holds: Callable[[Any, Any], bool]
    allowed: str
    merged: Callable[[Any, Any], Any] = lambda value, above: value


_RAISE = _Way(lambda value, above: value >= above, "{above} or more")
_LOWER = _Way(lambda value, above: value <= above, "{above} or less")
_SWITCH_ON = _Way(lambda value, above: value or not above, "true")
_SHORTEN = _Way(lambda value, above: above is None or value <= above, "{above} or less")
_SHRINK = _Way(
    lambda value, above: set(value) <= set(above),
    "some of {above}",
    lambda value, above: tuple(item for item in above if item in value),  # in any order of levels the same
)
_ADD = _Way(lambda value, above: True, "anything", lambda value, above: tuple(dict.fromkeys(sorted((*above, *value)))))
_REFUSE = _Way(lambda value, above: value == "refuse" or above == "tell", "refuse")
_SET_ONCE = _Way(lambda value, above: above in (None, value), "{above} (a further board goes under further_boards)")

_ISOLATE = _Way(lambda value, above: value in (above, "required"), "required")

_ASK_MORE = _Way(lambda value, above: CASE_DEMANDS.index(value) >= CASE_DEMANDS.index(above), "{above} or more")

_STOP_MORE = _Way(
    lambda value, above: True,
    "anything",
    lambda value, above: {
        name: min((level[name] for level in (value, above) if name in level), key=SEVERITIES.index)
        for name in sorted({*above, *value})
    },
)

_RECORD_MORE = _Way(
    lambda value, above: True,
    "anything",
    lambda value, above: {
        name: min(level[name] for level in (value, above) if name in level) for name in sorted({*above, *value})
    },
)  # of authority and mirror, the former comes first
_NARROW = _Way(
    lambda value, above: not above or (bool(value) and set(value) <= set(above)),
    "some of {above}, and not none of them",
)

_FLOW_WAYS = {
    "plan_approval_for_major": _SWITCH_ON,
    "plan_approval_from_risk": _LOWER,
    "acceptance": _SWITCH_ON,
    "cases": _ASK_MORE,
    "stopped_by": _STOP_MORE,
    "board": _SET_ONCE,
    "further_boards": _ADD,
    "exclude_authors": _SWITCH_ON,
    "review_within": _SHORTEN,
    "overtakes": _SHRINK,
    "environments": _ADD,
    "without_soak": _SHRINK,
    "records": _RECORD_MORE,
    "tickets": _ADD,
    "ticket_states": _NARROW,
    "tickets_unread": _Way(lambda value, above: value == "refuse" or above == "mark", "refuse"),
}
_UNLESS_EMPTY = ("environments", "without_soak")
"""Values of a flow that make the path of a release shorter: without one, no level has anything to tighten."""
_DEMAND_WAYS = {"coverage": _ADD, "unknown_components": _REFUSE, "claims": _ADD}
_DURATION = TypeAdapter(timedelta)


def _way_of(path: Path) -> _Way:
    """Return how a value may be tightened: a threshold by its name, everything else by its place."""
    key = path[-1]
    if len(path) == 1:
        return _DEMAND_WAYS[key]
    if path[0] == "thresholds":
        return _RAISE if key.startswith("min_") else _LOWER if key.startswith("max_") else _SHRINK
    if path[0] == "change_types":
        return _FLOW_WAYS[key]
    if key == "isolation":
        return _ISOLATE
    return _SHRINK if key in ("roles", "registries") else _SHORTEN


def tighter(path: Path, value: Any, other: Any) -> Any:
    """Return what holds if two values of a threshold are asked: the tighter one, or what both allow."""
    way = _way_of(path)
    if way is _SHRINK:
        return way.merged(value, other)
    return value if way.holds(value, other) else other


def resolved(policy: Policy, service: Governed) -> Tightened:
    """Return what holds for a service after every level; PolicyViolation if a level loosens something."""
    return resolved_by(policy, service, levels(policy, service))


def resolved_by(policy: Policy, service: Governed, asking: Iterable[tuple[str, Tightening]]) -> Tightened:
    """Return what holds for a service after some levels; PolicyViolation if a level loosens something."""
    tightened = tighten(policy, asking, service.tier)
    if tightened.refusals:
        raise PolicyViolation(
            f"The policy of {service.name} cannot be resolved: {'; '.join(map(str, tightened.refusals))}.",
            rule="a lower level may only tighten",
            who=f"{service.owner} for the service, {policy.owner} for {ENTERPRISE}",
            next_step="tighten the value or leave it out, and trigger the release again",
        )
    return tightened


def tighten(policy: Policy, asking: Iterable[tuple[str, Tightening]], tier: int) -> Tightened:
    """Return what holds after each level, and what was refused on the way."""
    values = dict(_values_of(policy, tier))
    sources = dict.fromkeys(values, ENTERPRISE)
    refusals: list[Refusal] = []
    for place, level in asking:
        for path, found in sorted(_values_of_level(level)):
            value, problem = _read_value(path, found, values)
            problem = problem or _loosened(path, value, values[path], sources[path])
            if problem:
                refusals.append(Refusal(place, path, found, problem))
            elif (merged := _way_of(path).merged(value, values[path])) != values[path]:
                values[path], sources[path] = merged, place
    return Tightened(values, sources, refusals)


def _values_of(policy: Policy, tier: int) -> Iterator[tuple[Path, Any]]:
    yield from (((key,), value) for key, value in policy.demanded_of(tier))
    for name in ("thresholds", "time_limits", "builds"):
        for key, value in getattr(policy, name):
            yield (name, key), value
    for kind, flow in policy.change_types.items():
        # Policies that shorten no path stay as they were before some could.
        said = ((key, value) for key, value in flow if key not in _UNLESS_EMPTY or value)
        yield from ((("change_types", kind.value, key), value) for key, value in said)
    for suite, rule in policy.waivers.items():
        yield from ((("waivers", suite, key), value) for key, value in rule)


def _values_of_level(level: Tightening) -> Iterator[tuple[Path, Any]]:
    """Yield the values of a level; omitted values stay unchanged."""
    yield from (((key,), getattr(level, key)) for key in _DEMAND_WAYS if getattr(level, key))
    yield from ((("thresholds", key), value) for key, value in level.thresholds.items())
    yield from ((("time_limits", key), value) for key, value in level.time_limits if value is not None)
    yield from ((("builds", key), value) for key, value in level.builds if value is not None)
    for kind, flow in level.change_types.items():
        said = ((key, value) for key, value in flow if value is not None and (value or key != "further_boards"))
        yield from ((("change_types", kind.value, key), value) for key, value in said)
    for suite, rule in level.waivers.items():
        yield from ((("waivers", suite, key), value) for key, value in rule if value is not None)


def _read_value(path: Path, found: Any, values: Mapping[Path, Any]) -> tuple[Any, str]:
    """Return a value as the enterprise's has it, or what it should have been."""
    if path not in values and path[-1] in _UNLESS_EMPTY:
        return None, "no value: the level above makes the path of no release shorter"
    if path not in values:
        known = sorted({known[1] for known in values if known[0] == path[0]}) if path[0] == "waivers" else _THRESHOLDS
        return None, f"one of {', '.join(known)}" if known else f"no value: {ENTERPRISE} allows no waivers"
    if path[0] != "thresholds":
        return found, ""
    try:
        return getattr(Thresholds.model_validate({path[1]: found}), path[1]), ""
    except ValidationError as error:
        return None, " and ".join(sorted({_allowed(detail) for detail in error.errors()}))


_THRESHOLDS = tuple(Thresholds.model_fields)


def _allowed(error: ErrorDetails) -> str:
    known = {"int_from_float": "a whole number", "int_type": "a whole number", "tuple_type": "a list"}
    return known.get(error["type"], error["msg"].removeprefix("Input should be "))


def _loosened(path: Path, value: Any, above: Any, source: str) -> str:
    way = _way_of(path)
    if way.holds(value, above):
        return ""
    return f"{way.allowed.format(above=shown(above))}, as {source} has it"


def _below(values: Mapping[Path, Any], *place: str) -> dict[str, Any]:
    return {path[-1]: value for path, value in values.items() if path[:-1] == place}
