"""``systems.yaml`` on disk: the systems that releases are told to. There may be no such file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from interlock.domain.catalogue import Policy, Service
from interlock.domain.catalogue.outside.events import approving
from interlock.domain.catalogue.problem import Place, Problem
from interlock.domain.errors import CatalogueError
from interlock.domain.outbox.systems_file import SystemsFile

from .names import unknown_name
from .yaml_files import YamlFile, read_yaml

FILE = "systems.yaml"


def load_systems(folder: Path) -> SystemsFile:
    """Read the systems of a catalogue; none, if it has no such file.

    :raises CatalogueError: the file is wrong.
    """
    return _read(folder).parse(SystemsFile) if (folder / FILE).exists() else SystemsFile()


def faults_of_systems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the file."""
    try:
        load_systems(folder)
    except CatalogueError as error:
        yield str(error)


def unknown_systems_of(policy: Policy, folder: Path) -> Iterator[Problem]:
    """Yield the systems that a policy names and that there are not."""
    for kind, flow in policy.change_types.items():
        yield from _unknown(("change_types", kind.value, "records"), flow.records, policy, folder)
    for unit, level in policy.business_units.items():
        for kind, asked in level.change_types.items():
            place = ("business_units", unit, "change_types", kind.value, "records")
            yield from _unknown(place, asked.records, policy, folder)
    for name, source in policy.events.items():
        if source.system:
            yield from _unknown(("events", name, "system"), {source.system: "mirror"}, policy, folder)


def unknown_systems_of_service(service: Service, policy: Policy, folder: Path) -> Iterator[Problem]:
    """Yield the systems that the policy of a service names and that there are not."""
    for kind, asked in service.policy.change_types.items():
        yield from _unknown(("policy", "change_types", kind.value, "records"), asked.records, policy, folder)


def _unknown(place: Place, named: object, policy: Policy, folder: Path) -> Iterator[Problem]:
    if not isinstance(named, dict) or not named:
        return
    try:
        known = load_systems(folder).systems
    except CatalogueError:
        return  # that file has its own error
    for name, mode in named.items():
        yield from unknown_name((*place, name), name, known, f"a system of {FILE}")
        if mode != "authority" or name not in known or known[name].kind == "servicenow":
            continue
        what = f"mirror: {name} is of the kind {known[name].kind}, whose approvals Interlock does not read"
        if known[name].kind != "webhook":
            yield Problem((*place, name), mode, what)
        elif not approving(policy.events, name):
            what = f"mirror: no source under events of policy.yaml approves for {name}"
            yield Problem((*place, name), mode, what)


def _read(folder: Path) -> YamlFile:
    return read_yaml(folder / FILE, shown=FILE)
