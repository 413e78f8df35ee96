"""Which rules apply to a release: the enterprise's, tightened by its business unit and by the service itself.

A lower level may only tighten, each key in its own way (:mod:`.tightening`): thresholds by name, flows by asking more
people, time limits by shortening, waivers by fewer roles and less time, builds by isolation and fewer registries.
Anything else is refused, with both places and both values. Rules on who votes need no check: a lower level can only add
some (:mod:`.voting`).
"""

from __future__ import annotations

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import (
    BuildRules,
    ChangeType,
    CoverageOf,
    Demanded,
    Flow,
    Person,
    Policy,
    Prebuilt,
    Service,
    Thresholds,
    TimeLimits,
)
from interlock.domain.catalogue.policy_file import TIERS
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PathStep, PolicyInForce, Waiver

from .tightening import ENTERPRISE, Governed, Refusal, levels, place_of_service, place_of_unit, resolved, tighten


def resolve_policy(
    policy: Policy, service: Governed, change_type: ChangeType, path: tuple[PathStep, ...] = ()
) -> PolicyInForce:
    """Resolve the policy for a release of a service: the flow of its change type, and the tightest of everything.

    Its digest is of what holds, not of where that is written.

    :param path: the environments of the service between test and production.

    :raises PolicyViolation: a lower level loosens something, or names something that the enterprise does not have.
    """
    tightened = resolved(policy, service)
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
    if path:
        in_force["path"] = path
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
    tightened = resolved(policy, service)
    return {kind: tightened.flow(kind) for kind in policy.change_types}


def source_of_overtakes(policy: Policy, service: Governed, kind: ChangeType) -> str:
    """Return where it is written which releases of a service one of a change type overtakes."""
    return resolved(policy, service).sources["change_types", kind.value, "overtakes"]


def time_limits_of(policy: Policy, service: Governed) -> TimeLimits:
    """Return how long people have to answer about a service, after every tightening."""
    return resolved(policy, service).time_limits


def build_rules_of(policy: Policy, service: Governed) -> BuildRules:
    """Return how builds and suites of a service are kept apart, after every tightening."""
    return resolved(policy, service).builds


def refusals_of_unit(policy: Policy, unit: str) -> list[Refusal]:
    """Return what is wrong with what a business unit asks."""
    return tighten(policy, [(place_of_unit(unit), policy.business_units[unit])], tier=len(TIERS)).refusals


def refusals_of_service(policy: Policy, service: Governed) -> list[Refusal]:
    """Return what is wrong with what a service asks, held against the levels above it."""
    place = place_of_service(service.name)
    refusals = tighten(policy, levels(policy, service), service.tier).refusals
    return [refusal for refusal in refusals if refusal.place == place]


def unmeasured(policy: Policy, service: Service) -> str:
    """Return what a service must add if its policy requires coverage but its build names no report; empty: nothing.

    :raises PolicyViolation: its policy cannot be resolved.
    """
    tightened = resolved(policy, service)
    wanted = coverage_demanded(tightened.thresholds, tightened.demanded)
    if service.build.coverage is not None or not wanted:
        return ""
    whose = "pipeline" if isinstance(service.build, Prebuilt) else "build"
    return (
        f"the coverage report that the {whose} leaves, for {tightened.sources['coverage',]} demands coverage of "
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
            f"{place_of_service(service.name)}, or have the coverage requirement changed",
        )


def untested(policy: Policy, service: Service, *, has_unit_tests: bool) -> str:
    """Return what a service must add if its policy requires tests but it has none; empty: nothing.

    :raises PolicyViolation: its policy cannot be resolved.
    """
    tightened = resolved(policy, service)
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


def waiver_allowed(in_force: PolicyInForce, person: Person, suite: str) -> bool:
    """Tell whether the policy allows a person to waive failed expectations of a suite."""
    rule = in_force.waivers.get(suite)
    known = in_force.may_waive is None or person.user in in_force.may_waive.get(suite, ())
    return rule is not None and person.role in rule.roles and known


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
        problem = f"{who} requested this release and cannot waive its failures"
    elif rule is None or not waiver_allowed(in_force, person, waiver.suite):
        problem = f"{who} may not waive failures of {waiver.suite}; allowed roles: {roles or 'none'}"
    elif waiver.until - waiver.at > rule.longest:
        problem = (
            f"A waiver of {waiver.suite} is valid for {in_words(rule.longest)} at most; this one ends at {waiver.until}"
        )
    if problem:
        place = in_force.further_sources.get(f"waivers.{waiver.suite}.roles", ENTERPRISE)
        raise PolicyViolation(
            f"{problem}.",
            rule=f"waivers.{waiver.suite}, in {place}",
            who=f"the owner of {place}",
            next_step=f"ask a person with the role {roles}" if roles else "fix the failure and release a new version",
        )
