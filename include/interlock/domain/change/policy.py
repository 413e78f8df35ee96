"""Which rules apply to a release: the enterprise's, tightened by its business unit and by the service itself.

A lower level may only tighten, each key in its own way (:func:`_way_of`): thresholds by name, flows by asking more
people, time limits by shortening, waivers by fewer roles and less time, builds by isolation and fewer registries.
Anything else is refused, with both places and both values. Rules on who votes need no check: a lower level can only add
some (:mod:`.voting`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import (
    BuildRules,
    ChangeType,
    CoverageOf,
    Demanded,
    Flow,
    Person,
    Policy,
    Service,
    Thresholds,
    Tightening,
    TimeLimits,
    WaiverRule,
)
from interlock.domain.catalogue.policy_file import TIERS
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PolicyInForce, Waiver

ENTERPRISE = "policy.yaml"


class Governed(Protocol):
    """What rules are about: a service, or what is known of one that is no more."""

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


def resolve_policy(policy: Policy, service: Governed, change_type: ChangeType) -> PolicyInForce:
    """Resolve the policy for a release of a service: the flow of its change type, and the tightest of everything.

    Its digest is of what holds, not of where that is written.

    :raises PolicyViolation: a lower level loosens something, or names something that the enterprise does not have.
    """
    tightened = _resolved(policy, service)
    in_force = {
        "change_type": change_type,
        "flow": tightened.flow(change_type),
        "thresholds": tightened.thresholds,
        "demanded": tightened.demanded,
        "time_limits": tightened.time_limits,
        "waivers": tightened.waivers,
    }
    further = {
        ".".join(path): place
        for path, place in tightened.sources.items()
        if path[0] in ("time_limits", "waivers") or len(path) == 1 or path[:2] == ("change_types", change_type.value)
    }
    unnamed = PolicyInForce(
        **in_force,
        sources={path[1]: place for path, place in tightened.sources.items() if path[0] == "thresholds"},
        further_sources=further,
        digest="0" * 64,
    )
    digest = sha256_of(unnamed.model_dump(mode="json", include=set(in_force)))
    return unnamed.model_copy(update={"digest": digest})


def flows_of(policy: Policy, service: Governed) -> dict[ChangeType, Flow]:
    """Return the flow of each change type for a service, after every tightening."""
    tightened = _resolved(policy, service)
    return {kind: tightened.flow(kind) for kind in policy.change_types}


def time_limits_of(policy: Policy, service: Governed) -> TimeLimits:
    """Return how long people have to answer about a service, after every tightening."""
    return _resolved(policy, service).time_limits


def build_rules_of(policy: Policy, service: Governed) -> BuildRules:
    """Return how builds and suites of a service are kept apart, after every tightening."""
    return _resolved(policy, service).builds


def refusals_of_unit(policy: Policy, unit: str) -> list[Refusal]:
    """Return what is wrong with what a business unit asks."""
    return _tighten(policy, [(place_of_unit(unit), policy.business_units[unit])], tier=len(TIERS)).refusals


def refusals_of_service(policy: Policy, service: Governed) -> list[Refusal]:
    """Return what is wrong with what a service asks, held against the levels above it."""
    place = place_of_service(service.name)
    refusals = _tighten(policy, levels(policy, service), service.tier).refusals
    return [refusal for refusal in refusals if refusal.place == place]


def unmeasured(policy: Policy, service: Service) -> str:
    """Say what a service lacks of which coverage is demanded and whose build names no report of it; empty: nothing.

    :raises PolicyViolation: its policy cannot be resolved.
    """
    tightened = _resolved(policy, service)
    wanted = coverage_demanded(tightened.thresholds, tightened.demanded)
    if service.build.coverage is not None or not wanted:
        return ""
    return (
        f"the coverage report that the build leaves, for {tightened.sources['coverage',]} demands coverage of "
        f"{' and '.join(COVERAGE_OF[one] for one in wanted)} (tier {service.tier})"
    )


def refuse_unmeasured(policy: Policy, service: Service) -> None:
    """Refuse a release of a service of which coverage is demanded and not measured.

    :raises PolicyViolation: so it is.
    """
    if lacks := unmeasured(policy, service):
        raise PolicyViolation(
            f"build.coverage of {service.name} is not set; it has to name {lacks}.",
            rule=f"coverage, in {ENTERPRISE} and what tightens it",
            who=f"{service.owner} for the service, {policy.owner} for {ENTERPRISE}",
            next_step=f"let the build measure coverage and name its report in build.coverage of "
            f"{place_of_service(service.name)}, or ask for what is demanded to be another",
        )


def untested(policy: Policy, service: Service, *, has_unit_tests: bool) -> str:
    """Say what a service lacks of which tests are demanded and that has none at all; empty: nothing.

    :raises PolicyViolation: its policy cannot be resolved.
    """
    tightened = _resolved(policy, service)
    fewest = tightened.thresholds.min_tests
    if has_unit_tests or service.suites or not fewest:
        return ""
    return (
        f"how the build runs its tests, or a suite, for {tightened.sources['thresholds', 'min_tests']} demands "
        f"{fewest} tests of each kind, and at least one kind"
    )


def refuse_untested(policy: Policy, service: Service, *, has_unit_tests: bool) -> None:
    """Refuse a release of a service that has no tests, if some are demanded.

    :raises PolicyViolation: so it is.
    """
    if lacks := untested(policy, service, has_unit_tests=has_unit_tests):
        raise PolicyViolation(
            f"{service.name} has neither unit tests nor suites; its file has to name {lacks}.",
            rule=f"min_tests, in {ENTERPRISE} and what tightens it",
            who=f"{service.owner} for the service, {policy.owner} for {ENTERPRISE}",
            next_step=f"name build.test, or a suite, in {place_of_service(service.name)}, or ask for min_tests to be 0 "
            "for such services",
        )


def coverage_demanded(thresholds: Thresholds, demanded: Demanded) -> tuple[CoverageOf, ...]:
    """Return of what coverage is demanded; a minimum of 0 demands none."""
    return demanded.coverage if thresholds.min_line_coverage_percent else ()


COVERAGE_OF: dict[CoverageOf, str] = {
    "each_file": "each source file",
    "whole": "all source files together",
    "changed_lines": "the lines that a release changes",
}
"""How messages name it."""


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
                next_step=f"name one of {', '.join(sorted(policy.business_units)) or 'them, once there are any'}",
            )
        yield place_of_unit(service.business_unit), policy.business_units[service.business_unit]
    yield place_of_service(service.name), service.policy


# --- waivers ---------------------------------------------------------------------------------------------------------


def waiver_allowed(in_force: PolicyInForce, person: Person, suite: str) -> bool:
    """Say whether the policy lets a person waive failed expectations of a suite."""
    rule = in_force.waivers.get(suite)
    return rule is not None and person.role in rule.roles


def refuse_waiver(in_force: PolicyInForce, person: Person, waiver: Waiver, *, requester: str) -> None:
    """Refuse a waiver that the policy does not let this person give.

    :raises PolicyViolation: the role, the time or the person is not one that may.
    """
    rule = in_force.waivers.get(waiver.suite)
    roles = ", ".join(rule.roles) if rule else ""
    who = f"{person.name} ({person.user}), in the role {person.role},"
    problem = ""
    if waiver.by != person.user:
        problem = f"{who} cannot give a waiver in the name of {waiver.by}"
    elif person.user == requester:
        problem = f"{who} asked for this release, and so does not waive what it fails"
    elif rule is None or not waiver_allowed(in_force, person, waiver.suite):
        problem = f"{who} may not waive failures of {waiver.suite}; {roles or 'nobody'} may"
    elif waiver.until - waiver.at > rule.longest:
        problem = f"A waiver of {waiver.suite} holds {in_words(rule.longest)} at most; this one ends at {waiver.until}"
    if problem:
        place = in_force.further_sources.get(f"waivers.{waiver.suite}.roles", ENTERPRISE)
        raise PolicyViolation(
            f"{problem}.",
            rule=f"waivers.{waiver.suite}, in {place}",
            who="whoever keeps that file",
            next_step=f"ask somebody whose role is {roles}" if roles else "mend what failed, and release it anew",
        )


# --- tightening ------------------------------------------------------------------------------------------------------


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

_FLOW_WAYS = {
    "plan_approval_for_major": _SWITCH_ON,
    "plan_approval_from_risk": _LOWER,
    "acceptance": _SWITCH_ON,
    "board": _SET_ONCE,
    "further_boards": _ADD,
    "exclude_authors": _SWITCH_ON,
    "review_within": _SHORTEN,
}
_DEMAND_WAYS = {"coverage": _ADD, "unknown_components": _REFUSE}
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


def _resolved(policy: Policy, service: Governed) -> Tightened:
    tightened = _tighten(policy, levels(policy, service), service.tier)
    if tightened.refusals:
        raise PolicyViolation(
            f"The policy of {service.name} cannot be resolved: {'; '.join(map(str, tightened.refusals))}.",
            rule="a lower level may only tighten",
            who=f"{service.owner} for the service, {policy.owner} for {ENTERPRISE}",
            next_step="tighten the value or leave it out, and trigger the release again",
        )
    return tightened


def _tighten(policy: Policy, asking: Iterable[tuple[str, Tightening]], tier: int) -> Tightened:
    """Return what holds after each level, and what was refused on the way."""
    values = dict(_values_of(policy, tier))
    sources = dict.fromkeys(values, ENTERPRISE)
    refusals: list[Refusal] = []
    for place, level in asking:
        for path, found in sorted(_said(level)):
            value, problem = _read(path, found, values)
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
        yield from ((("change_types", kind.value, key), value) for key, value in flow)
    for suite, rule in policy.waivers.items():
        yield from ((("waivers", suite, key), value) for key, value in rule)


def _said(level: Tightening) -> Iterator[tuple[Path, Any]]:
    """Yield what a level says; what it leaves out stays as it is."""
    yield from (((key,), getattr(level, key)) for key in _DEMAND_WAYS if getattr(level, key))
    yield from ((("thresholds", key), value) for key, value in level.thresholds.items())
    yield from ((("time_limits", key), value) for key, value in level.time_limits if value is not None)
    yield from ((("builds", key), value) for key, value in level.builds if value is not None)
    for kind, flow in level.change_types.items():
        yield from ((("change_types", kind.value, key), value) for key, value in flow if value not in (None, ()))
    for suite, rule in level.waivers.items():
        yield from ((("waivers", suite, key), value) for key, value in rule if value is not None)


def _read(path: Path, found: Any, values: Mapping[Path, Any]) -> tuple[Any, str]:
    """Return a value as the enterprise's has it, or what it should have been."""
    if path not in values:
        known = sorted({known[1] for known in values if known[0] == path[0]}) if path[0] == "waivers" else _THRESHOLDS
        return None, f"one of {', '.join(known)}" if known else f"nothing: by {ENTERPRISE} nobody may waive anything"
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
