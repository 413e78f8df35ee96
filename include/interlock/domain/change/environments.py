"""Through which environments a release goes before production: all of its service's, or fewer where the policy says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from interlock.domain.catalogue import (
    ChangeType,
    Flow,
    Policy,
    Service,
    ServiceCatalogue,
    SignOff,
    Thresholds,
    Tightening,
    VersionStep,
)
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.records import PathStep, ReleasePlan

from .policy import flows_of
from .tightening import ENTERPRISE, Refusal, levels, place_of_service, resolved_by, tighten

REHEARSED = "a rehearsal goes to test and nowhere else"


@dataclass(frozen=True, slots=True)
class Stop:
    """An environment between test and production, for one release.

    :param left_out: why the release does not go there; empty: it does.
    :param soak: for how long it runs there; None: it does not soak.
    """

    environment: str
    left_out: str = ""
    soak: timedelta | None = None
    sign_off: SignOff | None = None


def steps_of(service: Service) -> tuple[PathStep, ...]:
    """Return the environments of a service between test and production, with what must hold in each."""
    return tuple(
        PathStep(environment=name, after=one.after, soak=one.soak, sign_off=one.sign_off)
        for name in service.path
        if (one := service.stations[name])
    )


def stops_of(
    policy: Policy, service: Service, *, change_type: ChangeType, step: VersionStep | None, rehearsal: bool = False
) -> tuple[Stop, ...]:
    """Return the environments between test and production, and which of them a release leaves out.

    Only the policy shortens the path: by the change type, and by the step of the version.

    :param step: none: it is not known, so the release soaks.
    """
    steps = steps_of(service)
    if not steps:
        return ()
    flow = flows_of(policy, service)[change_type]
    return tuple(
        Stop(
            environment=one.environment,
            left_out=REHEARSED if rehearsal else left_out(flow, change_type, one.environment, service.path),
            soak=None if step in flow.without_soak else one.soak,
            sign_off=one.sign_off,
        )
        for one in steps
    )


def stops_on(catalogue: ServiceCatalogue, plan: ReleasePlan) -> tuple[Stop, ...]:
    """Return the environments between test and production, for a planned release."""
    return stops_of(
        catalogue.policy,
        catalogue.service,
        change_type=plan.change_type,
        step=plan.bump,
        rehearsal=plan.rehearsal,
    )


def goes_through(catalogue: ServiceCatalogue, plan: ReleasePlan) -> tuple[str, ...]:
    """Return the environments before production to which a planned release goes."""
    return (FIRST, *(stop.environment for stop in stops_on(catalogue, plan) if not stop.left_out))


def left_out(flow: Flow, change_type: ChangeType, environment: str, path: Iterable[str]) -> str:
    """Return why releases of a change type do not go to an environment; empty: they do."""
    named = flow.environments
    if named is None or environment in named or not {*named} & {FIRST, *path}:
        return ""
    return f"{ENTERPRISE} change_types.{change_type}.environments names {', '.join(named)} only"


def thresholds_in(policy: Policy, service: Service, environment: str) -> Thresholds:
    """Return the thresholds of a service in one of its environments.

    :raises PolicyViolation: the environment loosens one.
    """
    return resolved_by(policy, service, [*levels(policy, service), _level(service, environment)]).thresholds


def refusals_of_environment(policy: Policy, service: Service, environment: str) -> list[Refusal]:
    """Return what is wrong with the thresholds of an environment, held against those of the service."""
    place, level = _level(service, environment)
    found = tighten(policy, [*levels(policy, service), (place, level)], service.tier).refusals
    return [refusal for refusal in found if refusal.place == place]


def _level(service: Service, environment: str) -> tuple[str, Tightening]:
    place = f"{place_of_service(service.name)} {service.key_of(environment)}"
    return place, Tightening(thresholds=service.stations[environment].thresholds)
