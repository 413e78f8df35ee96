"""What the services of the catalogue want of the estate: hosts with the tags that their files name, and target groups.

The estate provides for the environments whose AWS connection leads to the embedded AWS, and for no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.catalogue import PRODUCTION, Environment, Service
from interlock.estate.airflow.connections import actual
from interlock.estate.settings import HOST_ENVIRONMENTS, SERVICE, SETTINGS_FILE, HostEnvironment, Settings
from interlock.installation.astro_settings import read_astro_settings


class WantedFleet(NamedTuple):
    """Hosts of one environment of a service.

    :param name: what the names of its hosts begin with.
    :param group: the target group that they are in from the start.
    """

    name: str
    environment: HostEnvironment
    tags: dict[str, str]
    size: int
    group: str | None


class WantedGroup(NamedTuple):
    """A target group.

    :param balanced: a load balancer forwards to it; the others are there for strategies that need them.
    """

    name: str
    port: int
    path: str
    balanced: bool


class Wanted(NamedTuple):
    """All that the services want, and which environments the estate is not there for."""

    fleets: tuple[WantedFleet, ...]
    groups: tuple[WantedGroup, ...]
    elsewhere: tuple[str, ...]


def signature(settings: Settings) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a file does that :func:`wanted_of` reads."""
    files = [*sorted(settings.catalogue.glob("*.yaml")), *sorted((settings.catalogue / "services").glob("*.yaml"))]
    return tuple(_state(file) for file in (*files, SETTINGS_FILE))


def _state(file: Path) -> tuple[str, int, int]:
    try:
        found = file.stat()
    except OSError:  # it went meanwhile
        return str(file), 0, 0
    return str(file), found.st_mtime_ns, found.st_size


def wanted_of(settings: Settings) -> Wanted:
    """Read the catalogue and say what its services want; ReleaseError if it cannot be read."""
    return wanted(load_catalogue(settings.catalogue).services.values(), embedded_aws(settings))


def embedded_aws(settings: Settings) -> frozenset[str]:
    """Return the connections that lead to the embedded AWS."""
    entries = (actual(entry, settings, {}) for entry in read_astro_settings(SETTINGS_FILE).connections)
    return frozenset(one.conn_id for one in entries if one.extra.get("endpoint_url") == settings.aws_endpoint)


def wanted(services: Iterable[Service], embedded: frozenset[str]) -> Wanted:
    """Say what services want.

    :param embedded: the connections that lead to the embedded AWS.
    """
    every = [(service, name, one) for service in services for name, one in sorted(service.environments.items())]
    # Production's come first: tags that two environments share are then a host's that the key of test does not open.
    here = sorted((one for one in every if one[2].aws in embedded), key=lambda one: one[1] != PRODUCTION)
    return Wanted(
        fleets=tuple(fleet for service, name, one in here for fleet in _fleets(service, name, one)),
        groups=tuple(group for service, _, one in here for group in _groups(service, one)),
        elsewhere=tuple(
            f"{service.name}, {name}: its AWS connection {one.aws} does not lead to the embedded AWS"
            for service, name, one in every
            if one.aws not in embedded
        ),
    )


def _fleets(service: Service, name: str, environment: Environment) -> Iterator[WantedFleet]:
    if environment.missing == "create":  # the release creates them itself
        return
    kind: HostEnvironment = "production" if name == PRODUCTION else "test"
    if environment.hosts not in [{"Service": SERVICE, "Environment": one} for one in HOST_ENVIRONMENTS]:
        yield WantedFleet(
            f"{service.name}-{name}", kind, environment.hosts, environment.count, environment.target_group
        )
    if second := environment.blue_green:
        named = f"{service.name}-{name}-second"
        yield WantedFleet(named, kind, second.hosts, environment.count, second.target_group)


def _groups(service: Service, environment: Environment) -> Iterator[WantedGroup]:
    health = service.health
    if environment.target_group:
        yield WantedGroup(environment.target_group, health.port, health.path, True)
    others = (
        environment.canary and environment.canary.target_group,
        environment.canary and environment.canary.baseline_target_group,
        environment.blue_green and environment.blue_green.target_group,
    )
    for name in others:
        if name:
            yield WantedGroup(name, health.port, health.path, False)
