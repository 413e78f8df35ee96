"""Access to hosts for all stages: ask what they run, deploy a release, and back it out.

Tasks import the adapter of hosts themselves, not with the Dag file: the import of asyncssh runs ldconfig and gcc.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from interlock.adapters.hosts import health as hosts_health
from interlock.adapters.permits.issuer import Admission
from interlock.domain.catalogue import Health, Service, ServiceCatalogue
from interlock.domain.errors import DeployError, HostUnreachable
from interlock.domain.hosts.commands import Site
from interlock.domain.ledger.kinds import WAVE_DEPLOYED
from interlock.domain.ledger.reading import all_in
from interlock.domain.records import Artifact, Host, HostResult, RolloutPlan, RunningRelease, WaveReport
from interlock.domain.rollout.pace import Pace, tolerated
from interlock.stages.runtime import bookings, permits, resources
from interlock.stages.runtime.evidence import chain_entries
from interlock.stages.runtime.taskflow import this_run

if TYPE_CHECKING:
    from interlock.adapters.hosts.fleet import Deployment

log = logging.getLogger(__name__)


def what_runs(catalogue: ServiceCatalogue, environment: str, targets: Sequence[Host]) -> tuple[RunningRelease, ...]:
    """Ask hosts what they run."""
    from interlock.adapters.hosts import fleet as ssh_hosts

    described = catalogue.service.environments[environment]
    with permits.admission_to_inspect(catalogue, environment, targets) as admission:
        return asyncio.run(
            ssh_hosts.read_running(
                targets, described.deploy_root, login=resources.login(described), admission=admission
            )
        )


def hosts_lacking(
    catalogue: ServiceCatalogue, environment: str, targets: Sequence[Host], releases: Mapping[str, str | None]
) -> list[str]:
    """Return the addresses of the hosts that do not have all files of the release named for them."""
    from interlock.adapters.hosts import fleet as ssh_hosts

    described = catalogue.service.environments[environment]
    with permits.admission_to_inspect(catalogue, environment, targets) as admission:
        there = asyncio.run(
            ssh_hosts.has_releases(
                targets, described.deploy_root, releases, login=resources.login(described), admission=admission
            )
        )
    return sorted(host for host, has in there.items() if not has)


def deploy(
    targets: Sequence[Host],
    service: Service,
    environment: str,
    artifact: Artifact | RolloutPlan,
    *,
    target_group: str | None,
    admission: Admission,
    pace: Pace | None = None,
    others: Sequence[str] = (),
) -> tuple[HostResult, ...]:
    """Deploy a release to hosts and return the result of each. The digest of the bundle is verified.

    :param target_group: the target group of the hosts afterwards; ``others``: groups that they may be in before.
    :param pace: how many hosts at a time, and when to stop; None: all hosts, even if some fail.
    """
    from interlock.adapters.hosts import fleet as ssh_hosts

    described = service.environments[environment]
    with deployment_of(service, environment, artifact) as deployment:
        results = asyncio.run(
            ssh_hosts.deploy_hosts(
                targets,
                deployment,
                login=resources.login(described),
                admission=admission,
                balancer=resources.balancer(described, target_group, others, may=admission.refuse_lost),
                pace=pace,
            )
        )
    return _logged(results)


@contextmanager
def deployment_of(service: Service, environment: str, artifact: Artifact | RolloutPlan) -> Iterator[Deployment]:
    """Describe the deployment of a release, whose bundle is on this machine meanwhile. Its digest is verified."""
    from interlock.adapters.hosts import fleet as ssh_hosts

    described = service.environments[environment]
    with resources.workspace() as folder:
        yield ssh_hosts.Deployment(
            service=service.name,
            environment=environment,
            deployment_id="/".join(this_run()),
            deploy_root=described.deploy_root,
            release=artifact.release,
            version=artifact.version,
            commit=artifact.commit,
            sha256=artifact.bundle.sha256,
            bundle=resources.store().get_file(artifact.bundle, folder / "bundle.tar.gz"),
            keep_releases=described.keep_releases,
            health=service.health,
            drain_timeout=described.drain_timeout,
            on_stop_failure=described.on_stop_failure,
        )


def back_out(plan: RolloutPlan, service: Service, targets: Sequence[Host]) -> tuple[HostResult, ...]:
    """Restore the releases that the plan names, from the files on the hosts."""
    from interlock.adapters.hosts import fleet as ssh_hosts

    described = service.environments[plan.environment]
    with permits.admission_to_back_out(plan) as admission:
        results = asyncio.run(
            ssh_hosts.back_out_hosts(
                targets,
                plan.back_out,
                site=_site(service, plan.environment),
                login=resources.login(described),
                admission=admission,
                balancer=resources.balancer(
                    described, plan.target_group, canary_groups(plan), may=admission.refuse_lost
                ),
                concurrency=_at_a_time_back(plan, len(targets)),
            )
        )
    return _logged(results)


def close_off(plan: RolloutPlan) -> None:
    """Have the hosts of a plan refuse the permits of its release, which is closed; record who heard it.

    It decides nothing: a host that does not hear it refuses the permits when they have expired.
    """
    from interlock.adapters.hosts import fleet as ssh_hosts

    try:
        with permits.admission_to_close(plan) as admitted:
            if admitted is None:
                return
            admission, closing = admitted
            service = resources.catalogue_of(plan.service).service
            missed = asyncio.run(
                ssh_hosts.close_off_hosts(
                    plan.hosts,
                    _site(service, plan.environment),
                    token=closing.later.token,
                    closing=closing.shown,
                    login=resources.login(service.environments[plan.environment]),
                    admission=admission,
                )
            )
            bookings.note_voided(closing.later, [host.address for host in plan.hosts], missed)
    except Exception as error:  # whatever it is: the release is closed, and its permits expire
        log.warning("The hosts did not hear that the release is closed; its permits expire by themselves: %s", error)


def _site(service: Service, environment: str) -> Site:
    described = service.environments[environment]
    return Site(
        service=service.name,
        environment=environment,
        deployment_id="/".join(this_run()),
        deploy_root=described.deploy_root,
        health=service.health,
        drain_timeout=described.drain_timeout,
    )


def deploy_error(results: Iterable[HostResult], what: str, *, who: str = "", next_step: str = "") -> DeployError:
    """Return the error about failed hosts: HostUnreachable, after which Airflow tries again, if that may help.

    A retry may help if all failures are hosts or a load balancer that did not answer.
    """
    failed = [result for result in results if result.outcome == "failed"]
    may_help = bool(failed) and all(result.may_pass for result in failed)
    return (HostUnreachable if may_help else DeployError)(what, who=who, next_step=next_step)


MAX_PARALLEL_BACK_OUTS = 100
"""The maximum number of hosts that are backed out at a time."""


def _at_a_time_back(plan: RolloutPlan, hosts: int) -> int:
    """Return how many hosts are backed out at a time: a third, so that two thirds serve."""
    return max(1, min(hosts if plan.switch else -(-hosts // 3), MAX_PARALLEL_BACK_OUTS))


def restart(
    plan: RolloutPlan, service: Service, targets: Sequence[Host], *, target_group: str | None, admission: Admission
) -> tuple[HostResult, ...]:
    """Restart what hosts run, which is what the plan says that they ran; they serve in a target group afterwards."""
    from interlock.adapters.hosts import fleet as ssh_hosts

    described = service.environments[plan.environment]
    running = {host.address: plan.back_out.releases[host.address] or "" for host in targets}
    others = [group for group in (plan.target_group, *canary_groups(plan)) if group and group != target_group]
    results = asyncio.run(
        ssh_hosts.restart_hosts(
            targets,
            running,
            site=_site(service, plan.environment),
            login=resources.login(described),
            admission=admission,
            balancer=resources.balancer(described, target_group, others, may=admission.refuse_lost),
        )
    )
    return _logged(results)


def canary_groups(plan: RolloutPlan) -> tuple[str, ...]:
    """Return the target groups of a plan's canary and baseline, if they have any."""
    canary = plan.canary
    return tuple(one for one in (canary.canary_group, canary.baseline_group) if one) if canary else ()


def recorded_waves() -> tuple[WaveReport, ...]:
    """Return what the ledger has of the waves of this release, in its order."""
    return tuple(all_in(chain_entries(), WAVE_DEPLOYED, WaveReport))


def hosts_to_verify(plan: RolloutPlan) -> tuple[Host, ...]:
    """Return the hosts that have to run the release: all except failed hosts within the error budget."""
    borne = tolerated(plan, recorded_waves())
    return tuple(host for host in plan.hosts if host.instance_id not in borne)


def answered_versions(targets: Sequence[Host], health: Health) -> dict[str, str | None]:
    """Ask hosts over HTTP which version they run; by address, None for an unhealthy host."""

    async def ask() -> list[str | None]:
        return await asyncio.gather(*(hosts_health.ask_version(host.address, health) for host in targets))

    return dict(zip((host.address for host in targets), asyncio.run(ask()), strict=True))


def _logged(results: tuple[HostResult, ...]) -> tuple[HostResult, ...]:
    for result in results:
        steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result.steps)
        log.info(
            "%s: %s, %s -> %s (%s) %s", result.host, result.outcome, result.before, result.after, steps, result.error
        )
    return results


def refuse_failed_hosts(results: Sequence[HostResult], environment: str) -> None:
    """Raise a DeployError that names each host without the release.

    :raises HostUnreachable: all failures may be transient, so Airflow tries again.
    """
    if failed := [result for result in results if result.outcome in ("failed", "untouched")]:
        raise deploy_error(
            failed,
            f"{len(failed)} of {len(results)} hosts of {environment} did not get the release: "
            + "; ".join(f"{result.host}: {result.error}" for result in failed),
            next_step="read the log of this task for the steps of each host",
        )
