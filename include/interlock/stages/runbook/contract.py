"""What every environment of a service runs now, before something is taken away that a version may need."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.adapters.aws import ec2
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PlannedStep, RunningRelease
from interlock.domain.runbook.contract import refuse_contract
from interlock.stages.runtime import resources
from interlock.stages.strategies.rolling import what_runs


def refuse_contracts(catalogue: ServiceCatalogue, steps: Sequence[PlannedStep]) -> None:
    """Refuse steps after which a version does not work that any environment of the service runs.

    :raises PolicyViolation: a host runs such a version, or cannot be asked because it is stopped.
    """
    if any(step.works_from and not step.left_out for step in steps):
        refuse_contract(steps, running_everywhere(catalogue))


def running_everywhere(catalogue: ServiceCatalogue) -> dict[str, tuple[RunningRelease, ...]]:
    """Ask all hosts of all environments of a service what they run."""
    found: dict[str, tuple[RunningRelease, ...]] = {}
    for name, environment in catalogue.service.environments.items():
        client = resources.aws(environment, "ec2")
        fleet = [one for tags in environment.fleets for one in ec2.find_instances(client, tags)]
        if stopped := [one.name for one in fleet if one.state != "running"]:
            raise PolicyViolation(
                f"It is not known what {', '.join(stopped)} of {name} runs: it is not running.",
                rule="what older versions need is taken away when no host runs them (works_from, in the runbook)",
                who="the operators of the hosts",
                next_step="start or terminate these instances, then trigger the release again",
            )
        hosts = [host for tags in environment.fleets for host in ec2.find_hosts(client, tags)]
        found[name] = what_runs(catalogue, name, hosts)
    return found
