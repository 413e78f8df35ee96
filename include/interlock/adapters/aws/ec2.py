"""The instances of an environment: found by their tags, started, and created where the catalogue says so.

Only instances with the environment's tags are changed; the tags are read from AWS at the moment of the change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from botocore.exceptions import WaiterError

from interlock.domain.catalogue import Environment, Launch
from interlock.domain.errors import AssetMissing, PolicyViolation, TransientError
from interlock.domain.records import Host

STARTS_WITHIN = timedelta(minutes=10)
"""How long an instance may take until AWS finds it reachable."""

_POLL_SECONDS = 5
_GONE = ("shutting-down", "terminated")
_RULE = "environments: hosts, count and missing in the service's YAML"
_OPERATOR = "the platform engineer"


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance, whatever its state."""

    instance_id: str
    name: str
    address: str | None
    zone: str
    state: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReadyHosts:
    """The running hosts of an environment, and what was done to have them."""

    hosts: tuple[Host, ...]
    started: tuple[str, ...]
    created: tuple[str, ...]


def find_instances(ec2: Any, tags: Mapping[str, str]) -> tuple[Instance, ...]:
    """Return the instances with these tags that are not gone, in the order of their names."""
    return tuple(one for one in _instances(ec2, tags) if one.state not in _GONE)


def find_hosts(ec2: Any, tags: Mapping[str, str]) -> tuple[Host, ...]:
    """Return the running instances with these tags, in the order of their names."""
    return tuple(
        Host(instance_id=one.instance_id, name=one.name, address=one.address, zone=one.zone)
        for one in find_instances(ec2, tags)
        if one.state == "running" and one.address
    )


def ready_hosts(ec2: Any, environment: Environment, *, prefix: str) -> ReadyHosts:
    """Return an environment's hosts, all of them running: starts those that are stopped, creates what is missing.

    :param prefix: what the names of created instances begin with.
    :raises AssetMissing: some are missing, and the catalogue does not say to create them.
    """
    tags = environment.hosts
    found = find_instances(ec2, tags)
    launch = environment.launch if environment.missing == "create" else None
    if len(found) < environment.count and launch is None:
        raise _missing(tags, len(found), environment.count)
    started = start_stopped(ec2, [one.instance_id for one in found if one.state != "running"], tags)
    created: tuple[str, ...] = ()
    if launch is not None:
        names = [f"{prefix}-{number}" for number in range(1, environment.count + len(found) + 1)]
        created = create_missing(ec2, tags=tags, count=environment.count, launch=launch, names=names)
    hosts = find_hosts(ec2, tags)
    if len(hosts) < environment.count:
        raise _missing(tags, len(hosts), environment.count)
    return ReadyHosts(hosts, started, created)


def start_stopped(
    ec2: Any, instance_ids: Sequence[str], tags: Mapping[str, str], *, within: timedelta = STARTS_WITHIN
) -> tuple[str, ...]:
    """Start the stopped instances, wait until all instances are reachable, and return the started ones.

    :raises PolicyViolation: one of them does not have ``tags``; then no instance is started.
    """
    if not instance_ids:
        return ()
    instances = _by_id(ec2, instance_ids)
    _refuse_strangers(instances, tags)
    if stopping := [one.instance_id for one in instances if one.state == "stopping"]:
        _wait(ec2, "instance_stopped", stopping, within)
    stopped = tuple(one.instance_id for one in instances if one.state in ("stopped", "stopping"))
    if stopped:
        ec2.start_instances(InstanceIds=list(stopped))
    _wait_until_reachable(ec2, [one.instance_id for one in instances], within)
    return stopped


def create_missing(
    ec2: Any,
    *,
    tags: Mapping[str, str],
    count: int,
    launch: Launch,
    names: Sequence[str],
    within: timedelta = STARTS_WITHIN,
) -> tuple[str, ...]:
    """Create instances until there are ``count`` with these tags, wait until they are reachable, and return them.

    Each is asked for under a token of its own: a call that is made again after its answer was lost creates nothing.

    :param names: names to give, in order; those in use are passed over.
    """
    every = list(_instances(ec2, tags))
    there = [one for one in every if one.state not in _GONE]
    lacking = count - len(there)
    if lacking <= 0:
        return ()
    free_names = [name for name in names if name not in {one.name for one in there}]
    addresses = _free_addresses(launch, there, lacking)
    created = [
        _create(ec2, tags, launch, name, address, gone=[one for one in every if one.name == name])
        for name, address in zip(free_names[:lacking], addresses, strict=True)
    ]
    _wait_until_reachable(ec2, created, within)
    return tuple(created)


def _create(
    ec2: Any, tags: Mapping[str, str], launch: Launch, name: str, address: str | None, gone: Sequence[Instance]
) -> str:
    all_tags = {**tags, "Name": name}
    request: dict[str, Any] = {
        "ImageId": launch.image_id,
        "InstanceType": launch.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": all_tags[key]} for key in sorted(all_tags)]}
        ],
    }
    if address is not None:
        request["PrivateIpAddress"] = address
    if launch.subnet_id is not None:
        request["SubnetId"] = launch.subnet_id
    # What had this name and is gone makes the token another: AWS would give the terminated instance back.
    about = json.dumps([request, sorted(one.instance_id for one in gone)], sort_keys=True)
    token = hashlib.sha256(about.encode()).hexdigest()
    return str(ec2.run_instances(**request, ClientToken=token)["Instances"][0]["InstanceId"])


def _free_addresses(launch: Launch, there: Sequence[Instance], lacking: int) -> list[str | None]:
    if not launch.private_ip_addresses:
        return [None] * lacking
    used = {one.address for one in there}
    free = [address for address in launch.private_ip_addresses if address not in used]
    if len(free) < lacking:
        raise AssetMissing(
            f"{lacking} instances are missing, but launch names only {len(free)} free addresses.",
            rule="private_ip_addresses: in the service's YAML",
            who="the service's team",
            next_step="add addresses, or remove them so that EC2 chooses",
        )
    return [*free[:lacking]]


def _refuse_strangers(instances: Sequence[Instance], tags: Mapping[str, str]) -> None:
    strangers = [one.instance_id for one in instances if not tags or not tags.items() <= one.tags.items()]
    if strangers:
        raise PolicyViolation(
            f"{', '.join(strangers)} must not be changed: it does not have the tags {_words(tags)}.",
            rule="only instances with the environment's tags are changed",
            who=_OPERATOR,
            next_step="find out who changed the tags",
        )


def _wait_until_reachable(ec2: Any, instance_ids: Sequence[str], within: timedelta) -> None:
    if instance_ids:
        _wait(ec2, "instance_running", instance_ids, within)
        _wait(ec2, "instance_status_ok", instance_ids, within)


def _wait(ec2: Any, what: str, instance_ids: Sequence[str], within: timedelta) -> None:
    attempts = max(int(within.total_seconds() / _POLL_SECONDS), 1)
    try:
        ec2.get_waiter(what).wait(
            InstanceIds=list(instance_ids), WaiterConfig={"Delay": _POLL_SECONDS, "MaxAttempts": attempts}
        )
    except WaiterError as error:
        raise TransientError(
            f"{', '.join(instance_ids)} did not reach the state {what.replace('_', ' ')} within {within}: {error}.",
            who=_OPERATOR,
            next_step="check the instances in EC2, then try again",
        ) from error


def _instances(ec2: Any, tags: Mapping[str, str]) -> list[Instance]:
    """Return every instance with exactly these tags, gone or not."""
    if not tags:
        raise PolicyViolation("The environment names no tags to find its instances.", rule=_RULE, who=_OPERATOR)
    filters = [{"Name": f"tag:{key}", "Values": [_literal(value)]} for key, value in tags.items()]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    # Compared again here: the filter's values may hold wildcards, and these are names of fleets.
    return sorted((one for one in _read(pages) if tags.items() <= one.tags.items()), key=_order)


def _by_id(ec2: Any, instance_ids: Sequence[str]) -> list[Instance]:
    pages = ec2.get_paginator("describe_instances").paginate(InstanceIds=list(instance_ids))
    return sorted(_read(pages), key=_order)


def _order(instance: Instance) -> tuple[str, str]:
    return instance.name, instance.instance_id


def _literal(value: str) -> str:
    return value.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _read(pages: Any) -> Iterator[Instance]:
    for page in pages:
        for reservation in page["Reservations"]:
            for about in reservation["Instances"]:
                tags = {tag["Key"]: tag["Value"] for tag in about.get("Tags", ())}
                yield Instance(
                    instance_id=about["InstanceId"],
                    name=tags.get("Name") or about["InstanceId"],
                    address=about.get("PrivateIpAddress"),
                    zone=about["Placement"]["AvailabilityZone"],
                    state=about["State"]["Name"],
                    tags=tags,
                )


def _missing(tags: Mapping[str, str], found: int, count: int) -> AssetMissing:
    return AssetMissing(
        f"{found} of {count} instances with {_words(tags)} exist.",
        rule=_RULE,
        who=_OPERATOR,
        next_step="create the missing instances, or set missing: create and launch in the service's YAML",
    )


def _words(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in tags.items()) or "any tag of an environment"
