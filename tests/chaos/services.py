"""The services that are released all the time, and the versions of their program."""

from __future__ import annotations

import shutil
from pathlib import Path

from interlock.adapters.catalogue.catalogue import what_is_wrong
from interlock.estate.settings import Settings
from interlock.locations import PROJECT
from tests.end_to_end.people import BIKE_SHOP
from tests.end_to_end.stack import TANDEM_SHOP, WHEEL_SHOP, add_service
from tests.git_project import GitProject

SERVICES = (BIKE_SHOP, WHEEL_SHOP, TANDEM_SHOP)
COUNTED = "counted"
"""The file in a service's shared folder to which its program ``bin/count`` adds the step's id each time it runs."""
_COUNT = f'#!/bin/sh\nset -eu\necho "$INTERLOCK_STEP" >>"$INTERLOCK_SHARED/{COUNTED}"\nsleep 5\n'
_RUNBOOK = """
runbook:
  - name: count
    title: Count a run
    when: before
    estimate: PT1M
    do: { command: { script: bin/count } }
    way_back: none
"""
_SLOW_MACHINE = {
    "  max_p95_ms: 1500 ": "  max_p95_ms: 60000 ",
    "      max_p95_ms: 1000 ": "      max_p95_ms: 60000 ",
    "  max_error_percent: 0\n": "  max_error_percent: 50\n",
    "  max_p95_ratio: 2.5 ": "  max_p95_ratio: 1000 ",
    "    plan_approval_from_risk: 70 ": "    plan_approval_from_risk: 100 ",
    "  every: PT5M": "  every: PT1M",
}
"""What is measured on a machine whose components are killed fails no release, and findings are looked for often."""


def catalogue_of_chaos(folder: Path) -> Path:
    """Copy the catalogue: the services, each with a step that counts how often it is done."""
    shutil.copytree(PROJECT / "include" / "catalogue", folder)
    _replace(folder / "policy.yaml", _SLOW_MACHINE)
    bikes = folder / "services" / f"{BIKE_SHOP}.yaml"
    _replace(bikes, {"    max_p95_ms: 800\n": "    max_p95_ms: 60000\n", "requests: 200 ": "requests: 20 "})
    bikes.write_text(bikes.read_text() + _RUNBOOK)
    for name in SERVICES[1:]:
        add_service(folder, name)
    assert not what_is_wrong(folder), what_is_wrong(folder)
    return folder


def _replace(file: Path, changes: dict[str, str]) -> None:
    text = file.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old} is elsewhere in {file.name} now"
        text = text.replace(old, new)
    file.write_text(text)


def push_versions(settings: Settings, folder: Path, number: int) -> list[str]:
    """Push versions of the program to the repository of the services; return them in their order."""
    work = GitProject(folder)
    folder.mkdir()
    work.git("clone", "--quiet", str(settings.repository), ".")
    work.git("checkout", "--quiet", "-b", "chaos", "1.1.0")
    versions = [f"1.7.{one}" for one in range(number)]
    for version in versions:
        work.commit({"bin/count": _COUNT, "VERSION": f"{version}\n"}, f"feat: sell bikes, {version} (SHOP-12)")
        work.git("tag", "--annotate", "--message", version, version)
    work.git("push", "--quiet", "origin", *versions)
    return versions
