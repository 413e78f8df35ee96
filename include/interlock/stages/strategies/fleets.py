"""The hosts of an environment: the ones with the traffic, and the ones that a release is deployed to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import BotoCoreError, ClientError

from interlock.adapters.aws import ec2, load_balancer
from interlock.domain.catalogue import Environment
from interlock.domain.errors import ReleaseError
from interlock.domain.records import AssetReport, Host, Switch
from interlock.stages.runtime import resources


def serving(environment: Environment) -> tuple[Host, ...]:
    """Return the running hosts with the traffic; of two fleets, the hosts of the live fleet."""
    if environment.blue_green is None:
        return ec2.find_hosts(resources.aws(environment, "ec2"), environment.hosts)
    return find_switch(environment).live_hosts


def every_host(environment: Environment) -> tuple[Host, ...]:
    """Return the running hosts of all fleets of an environment."""
    client = resources.aws(environment, "ec2")
    return tuple(host for tags in environment.fleets for host in ec2.find_hosts(client, tags))


def find_switch(environment: Environment) -> Switch:
    """Read from the load balancer which of two fleets has the traffic.

    :raises DeployError: both fleets have traffic, or none has.
    """
    if environment.blue_green is None or environment.target_group is None:
        raise ValueError("an environment with one fleet has nothing to switch")
    client = resources.aws(environment, "elbv2")
    first, second = (
        load_balancer.find_target_group(client, name)
        for name in (environment.target_group, environment.blue_green.target_group)
    )
    live = load_balancer.Traffic(client, (first, second)).live()
    tags = environment.hosts if live == first else environment.blue_green.hosts
    return Switch(
        live=live,
        idle=second if live == first else first,
        live_hosts=ec2.find_hosts(resources.aws(environment, "ec2"), tags),
        keep=environment.blue_green.keep,
    )


def ready(service: str, target: str, environment: Environment) -> AssetReport:
    """Start or create missing hosts; return the hosts that a release is deployed to, with their target group.

    Of two fleets, the release is deployed to the one without traffic. The other one is checked too.
    """
    client, prefix = resources.aws(environment, "ec2"), f"{service}-{target}"
    groups: dict[str, str] = {}
    switches: dict[str, Switch] = {}
    started: tuple[str, ...] = ()
    tags = environment.hosts
    if environment.target_group:
        groups[target] = load_balancer.find_target_group(resources.aws(environment, "elbv2"), environment.target_group)
    if environment.blue_green:
        second = environment.model_copy(update={"hosts": environment.blue_green.hosts, "missing": "refuse"})
        started = ec2.ready_hosts(client, second, prefix=f"{prefix}-second").started
    found = ec2.ready_hosts(client, environment, prefix=prefix)
    if environment.blue_green:
        switch = switches[target] = find_switch(environment)
        tags = environment.blue_green.hosts if switch.live == groups[target] else environment.hosts
        groups[target] = switch.idle
    return AssetReport(
        hosts={target: found.hosts if tags == environment.hosts else ec2.find_hosts(client, tags)},
        target_groups=groups,
        tools={},
        started=(*started, *found.started),
        created=found.created,
        switches=switches,
        canary_groups=_canary_groups(environment),
    )


def lacking(environment: Environment) -> tuple[str, ...]:
    """Describe what a release to an environment would not find, start or create. Changes nothing."""
    looks = (_lacking_hosts, _lacking_groups, _lacking_traffic)
    return tuple(sentence for look in looks for sentence in _told(look, environment))


def _told(look: Callable[[Environment], Iterator[str]], environment: Environment) -> Iterator[str]:
    try:
        yield from look(environment)
    except (ReleaseError, AirflowException, BotoCoreError, ClientError) as error:
        yield str(error)


def _lacking_hosts(environment: Environment) -> Iterator[str]:
    client = resources.aws(environment, "ec2")
    for tags in environment.fleets:
        found = ec2.find_instances(client, tags)
        named = ", ".join(f"{name}={value}" for name, value in tags.items())
        if len(found) < environment.count:
            would = "create the others" if environment.missing == "create" else "fail"
            yield f"{len(found)} of {environment.count} instances with {named} exist; a release would {would}."
        if still := [one.name for one in found if one.state != "running"]:
            yield f"{', '.join(still)} would need to be started."


def _lacking_groups(environment: Environment) -> Iterator[str]:
    second, canary = environment.blue_green, environment.canary
    of_canary = (canary.target_group, canary.baseline_target_group) if canary else ()
    for name in (environment.target_group, second and second.target_group, *of_canary):
        if name:
            yield from _told(partial(_no_group, name=name), environment)


def _no_group(environment: Environment, *, name: str) -> Iterator[str]:
    load_balancer.find_target_group(resources.aws(environment, "elbv2"), name)
    yield from ()


def _lacking_traffic(environment: Environment) -> Iterator[str]:
    if environment.blue_green:
        find_switch(environment)
    yield from ()


def _canary_groups(environment: Environment) -> tuple[str, ...]:
    canary = environment.canary
    if canary is None or canary.target_group is None or canary.baseline_target_group is None:
        return ()
    client = resources.aws(environment, "elbv2")
    return tuple(
        load_balancer.find_target_group(client, name) for name in (canary.target_group, canary.baseline_target_group)
    )
