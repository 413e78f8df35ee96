"""The state of the embedded AWS in a file, because moto keeps everything in memory.

The file has the instances, the target groups with their targets, and the load balancers with the forwards of their
listeners and rules. The address identifies an instance.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from interlock.adapters.private_files import write_whole
from interlock.domain.canonical import Model
from interlock.estate.settings import Settings

from . import aws

log = logging.getLogger(__name__)


class KeptInstance(Model):
    """An instance that is there."""

    address: str
    tags: dict[str, str]
    type: str
    zone: str
    stopped: bool


class KeptGroup(Model):
    """A target group; its targets are addresses."""

    name: str
    protocol: str
    port: int
    path: str
    targets: tuple[str, ...]


class KeptRule(Model):
    """A rule of a listener that forwards."""

    priority: int
    conditions: tuple[dict[str, Any], ...]
    forward: dict[str, int]


class KeptListener(Model):
    """A listener of a load balancer, and the target groups that it forwards to, with their weights."""

    balancer: str
    scheme: str
    protocol: str
    port: int
    forward: dict[str, int]
    rules: tuple[KeptRule, ...] = ()


class Memory(Model):
    """All that is kept of the embedded AWS."""

    schema_version: Literal[1] = 1
    instances: tuple[KeptInstance, ...] = ()
    groups: tuple[KeptGroup, ...] = ()
    listeners: tuple[KeptListener, ...] = ()

    @property
    def placed(self) -> frozenset[str]:
        """Return the addresses that are in any target group."""
        return frozenset(address for group in self.groups for address in group.targets)

    def hosts_of(self, service: str) -> tuple[KeptInstance, ...]:
        """Return the hosts that are tagged as a service's."""
        return tuple(one for one in self.instances if one.tags.get("Service") == service)

    def without(self, service: str, balancer: str) -> Memory:
        """Return the memory without the hosts of a service, and without what its load balancer forwards to."""
        gone = {one.address for one in self.hosts_of(service)}
        return Memory(
            instances=tuple(one for one in self.instances if one.address not in gone),
            groups=tuple(
                group.model_copy(update={"targets": tuple(one for one in group.targets if one not in gone)})
                for group in self.groups
            ),
            listeners=tuple(one for one in self.listeners if one.balancer != balancer),
        )


def file_of(settings: Settings) -> Path:
    """Return the file that the memory is kept in."""
    return settings.estate / "aws.json"


def read_memory(settings: Settings) -> Memory:
    """Return the kept state; a file that cannot be read is renamed and logged, and counts as empty."""
    path = file_of(settings)
    try:
        return Memory.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Memory()
    except (OSError, ValidationError) as error:
        put_aside(settings, f"it cannot be read: {error}")
        return Memory()


def put_aside(settings: Settings, why: str) -> None:
    """Rename a file that cannot be restored, and log it."""
    path = file_of(settings)
    with contextlib.suppress(OSError):
        path.replace(aside := path.with_suffix(".unusable"))
        log.error("What was made in the embedded AWS does not come back; it is in %s: %s", aside, why)


def keep(settings: Settings, ec2: Any, elbv2: Any, before: Memory) -> Memory:
    """Write the state of AWS if it changed, and return it."""
    if (now := look(ec2, elbv2)) != before:
        write(settings, now)
    return now


def write(settings: Settings, memory: Memory) -> None:
    """Replace what is kept."""
    write_whole(file_of(settings), json.dumps(memory.model_dump(mode="json"), indent=1) + "\n")


def look(ec2: Any, elbv2: Any) -> Memory:
    """Return what AWS has now."""
    found = [one for one in aws.living(ec2) if one.address]
    address_of = {one.id: one.address for one in found}
    pages = elbv2.get_paginator("describe_target_groups").paginate()
    groups = [group for page in pages for group in page["TargetGroups"]]
    name_of = {group["TargetGroupArn"]: group["TargetGroupName"] for group in groups}
    return Memory(
        instances=tuple(
            KeptInstance(
                address=one.address,
                tags=one.tags,
                type=one.type,
                zone=one.zone,
                stopped=one.state in ("stopped", "stopping"),
            )
            for one in found
        ),
        groups=tuple(
            KeptGroup(
                name=group["TargetGroupName"],
                protocol=group["Protocol"],
                port=group["Port"],
                path=group.get("HealthCheckPath") or "/",
                targets=tuple(
                    address_of[id] for id in sorted(aws.targets(elbv2, group["TargetGroupArn"])) if id in address_of
                ),
            )
            for group in groups
            if group.get("TargetType", "instance") == "instance" and "Port" in group
        ),
        listeners=tuple(
            listener
            for balancer in elbv2.describe_load_balancers()["LoadBalancers"]
            for listener in _listeners(elbv2, balancer, name_of)
        ),
    )


def _listeners(elbv2: Any, balancer: Mapping[str, Any], name_of: Mapping[str, str]) -> Iterable[KeptListener]:
    for one in elbv2.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
        if forward := _forward(one["DefaultActions"], name_of):
            rules = elbv2.describe_rules(ListenerArn=one["ListenerArn"])["Rules"]
            yield KeptListener(
                balancer=balancer["LoadBalancerName"],
                scheme=balancer["Scheme"],
                protocol=one["Protocol"],
                port=one["Port"],
                forward=forward,
                rules=tuple(
                    KeptRule(priority=int(rule["Priority"]), conditions=tuple(rule["Conditions"]), forward=to)
                    for rule in rules
                    if rule["Priority"] != "default" and (to := _forward(rule["Actions"], name_of))
                ),
            )


def _forward(actions: Iterable[Mapping[str, Any]], name_of: Mapping[str, str]) -> dict[str, int]:
    """Return the target groups of an action that forwards, with their weights; of any other, none."""
    last = list(actions)[-1]
    shares = last.get("ForwardConfig", {}).get("TargetGroups") or [{"TargetGroupArn": last.get("TargetGroupArn")}]
    known = [share for share in shares if share["TargetGroupArn"] in name_of]
    return {name_of[share["TargetGroupArn"]]: int(share.get("Weight", 1)) for share in known}


def restore(memory: Memory, settings: Settings, ec2: Any, elbv2: Any) -> None:
    """Make what was kept and is missing."""
    there = {one.address for one in aws.living(ec2)}
    for one in memory.instances:
        if one.address not in there:
            aws.make_instance(settings, ec2, one.address, one.tags, zone=one.zone, type=one.type)
    id_of = {one.address: one.id for one in aws.living(ec2)}
    arns = {}
    for group in memory.groups:
        arns[group.name] = aws.make_target_group(ec2, elbv2, group.name, group.port, group.path, group.protocol)
        aws.register(elbv2, arns[group.name], [id_of[address] for address in group.targets if address in id_of])
    for listener in memory.listeners:
        _restore_listener(elbv2, listener, arns, aws.default_subnets(ec2))
    # Last: a stopped instance cannot be registered in a group.
    if stopped := [id_of[one.address] for one in memory.instances if one.stopped]:
        ec2.stop_instances(InstanceIds=stopped)


def _restore_listener(elbv2: Any, kept: KeptListener, arns: Mapping[str, str], subnets: list[str]) -> None:
    balancer = aws.make_load_balancer(elbv2, kept.balancer, subnets, kept.scheme)
    actions = _actions(kept.forward, arns)
    there = elbv2.describe_listeners(LoadBalancerArn=balancer)["Listeners"]
    arn = next((str(one["ListenerArn"]) for one in there if one["Port"] == kept.port), None)
    if arn is None:
        made = elbv2.create_listener(
            LoadBalancerArn=balancer, Protocol=kept.protocol, Port=kept.port, DefaultActions=actions
        )
        arn = str(made["Listeners"][0]["ListenerArn"])
    else:
        elbv2.modify_listener(ListenerArn=arn, DefaultActions=actions)
    taken = {rule["Priority"] for rule in elbv2.describe_rules(ListenerArn=arn)["Rules"]}
    for rule in kept.rules:
        if str(rule.priority) not in taken:
            elbv2.create_rule(
                ListenerArn=arn,
                Priority=rule.priority,
                Conditions=list(rule.conditions),
                Actions=_actions(rule.forward, arns),
            )


def _actions(forward: Mapping[str, int], arns: Mapping[str, str]) -> list[dict[str, Any]]:
    shares = [{"TargetGroupArn": arns[name], "Weight": weight} for name, weight in forward.items()]
    if len(shares) == 1:
        return [{"Type": "forward", "TargetGroupArn": shares[0]["TargetGroupArn"]}]
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": shares}}]
