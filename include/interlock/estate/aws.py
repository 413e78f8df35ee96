"""The embedded AWS: moto's server with EC2, ELBv2 and S3, and the fleet that the estate begins with.

moto keeps everything in memory. After a restart the fleet is made again, with the same ids.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from include.interlock.domain.errors import AssetMissing

from .keys import write_whole
from .settings import (
    ACCESS_KEY,
    BUCKET,
    LOOPBACK,
    REGION,
    SECRET_KEY,
    SERVICE,
    TARGET_GROUP,
    EstateHost,
    Settings,
    SettingsError,
)

IMAGE = "ami-0b1c7c1e"
"""The machine image of the estate's hosts."""
INSTANCE_TYPE = "t3.micro"
ZONES = (f"{REGION}a", f"{REGION}b")
TARGET_GROUPS = (TARGET_GROUP, *(f"{TARGET_GROUP}-{kind}" for kind in ("canary", "baseline", "green")))
"""The first is the fleet's; the others are there for strategies that need them, and no listener forwards to them."""
ACCOUNT = "123456789012"  # moto's
SEED = 1987


class Instance(NamedTuple):
    """An EC2 instance, as AWS describes it now."""

    id: str
    address: str
    state: str
    tags: dict[str, str]

    @property
    def name(self) -> str:
        """Return its name, or its id if it has none."""
        return self.tags.get("Name") or self.id


class EmbeddedAws:
    """moto's server on one port."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to serve where the settings say."""
        self._settings = settings
        self._server: Any = None

    def start(self) -> None:
        """Serve; SettingsError if the port is taken."""
        refuse_taken("AWS", LOOPBACK, self._settings.aws_port, "INTERLOCK_AWS_PORT")
        # Read by moto when it is imported; without it, moto keeps 50 MiB of images that nobody here starts.
        os.environ["MOTO_AMIS_PATH"] = str(_write_images(self._settings))
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for every request
        self._server = ThreadedMotoServer(LOOPBACK, self._settings.aws_port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Serve no more."""
        if self._server:
            self._server.stop()
            self._server = None


def _write_images(settings: Settings) -> Path:
    """Write the only machine image that this AWS has."""
    image = {
        "ami_id": IMAGE,
        "name": f"{SERVICE}-host",
        "description": "A host of the embedded estate",
        "state": "available",
        "public": True,
        "owner_id": ACCOUNT,
        "image_location": "embedded/estate",
        "image_type": "machine",
        "architecture": "x86_64",
        "platform": None,
        "root_device_type": "ebs",
        "root_device_name": "/dev/sda1",
        "virtualization_type": "hvm",
        "hypervisor": "xen",
        "sriov": "simple",
    }
    path = settings.images / "amis.json"
    write_whole(path, json.dumps([image], indent=2) + "\n")
    return path


def refuse_taken(name: str, address: str, port: int, variable: str) -> None:
    """Raise SettingsError if something listens on an address already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            raise SettingsError(
                f"{name} cannot listen on {address}:{port}: {error.strerror}.",
                rule=f"{variable} says where it listens",
                next_step=f"stop what listens there, or set {variable} to another value",
            ) from error


def client(settings: Settings, service: str) -> Any:
    """Return a boto3 client of the embedded AWS."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=settings.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def provision(settings: Settings) -> None:
    """Make what is missing of the fleet: instances, bucket, target group, load balancer."""
    ec2, elbv2, s3 = (client(settings, service) for service in ("ec2", "elbv2", "s3"))
    with _same_ids(settings):
        _make_instances(ec2, settings.hosts())
        _make_bucket(s3)
        group, *_ = (
            _make_target_group(elbv2, name, _default_vpc(ec2), settings.service_port) for name in TARGET_GROUPS
        )
        _make_load_balancer(elbv2, group, _default_subnets(ec2))
    names = {host.name for host in settings.hosts() if host.environment == "production"}
    _register(elbv2, group, [one.id for one in instances(ec2) if one.name in names and one.state != "terminated"])


def instances(ec2: Any) -> tuple[Instance, ...]:
    """Return every instance that AWS knows, terminated ones too."""
    pages = ec2.get_paginator("describe_instances").paginate()
    return tuple(
        Instance(
            found["InstanceId"],
            found.get("PrivateIpAddress", ""),
            found["State"]["Name"],
            {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
        )
        for page in pages
        for reservation in page["Reservations"]
        for found in reservation["Instances"]
    )


def _make_instances(ec2: Any, hosts: tuple[EstateHost, ...]) -> None:
    there = {instance.name for instance in instances(ec2) if instance.state != "terminated"}
    for number, host in enumerate(hosts):
        if host.name not in there:
            tags = {"Name": host.name, "Service": SERVICE, "Environment": host.environment}
            ec2.run_instances(
                ImageId=IMAGE,
                InstanceType=INSTANCE_TYPE,
                MinCount=1,
                MaxCount=1,
                # By zone and not by subnet: the default subnets have addresses of their own, which are not loopback.
                Placement={"AvailabilityZone": ZONES[number % len(ZONES)]},
                PrivateIpAddress=host.address,
                TagSpecifications=[{"ResourceType": "instance", "Tags": _tags(tags)}],
            )


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _make_bucket(s3: Any) -> None:
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


def _default_vpc(ec2: Any) -> str:
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise AssetMissing("The embedded AWS has no default VPC.", next_step="start the estate again")
    return str(found[0]["VpcId"])


def _default_subnets(ec2: Any) -> list[str]:
    filters = [{"Name": "default-for-az", "Values": ["true"]}, {"Name": "availability-zone", "Values": list(ZONES)}]
    return [subnet["SubnetId"] for subnet in ec2.describe_subnets(Filters=filters)["Subnets"]]


def _make_target_group(elbv2: Any, name: str, vpc: str, port: int) -> str:
    with contextlib.suppress(elbv2.exceptions.TargetGroupNotFoundException):
        return str(elbv2.describe_target_groups(Names=[name])["TargetGroups"][0]["TargetGroupArn"])
    made = elbv2.create_target_group(
        Name=name, Protocol="HTTP", Port=port, VpcId=vpc, TargetType="instance", HealthCheckPath="/health"
    )
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def _make_load_balancer(elbv2: Any, group: str, subnets: list[str]) -> None:
    with contextlib.suppress(elbv2.exceptions.LoadBalancerNotFoundException):
        elbv2.describe_load_balancers(Names=[TARGET_GROUP])
        return
    made = elbv2.create_load_balancer(Name=TARGET_GROUP, Subnets=subnets, Scheme="internal", Type="application")
    elbv2.create_listener(
        LoadBalancerArn=made["LoadBalancers"][0]["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )


def _register(elbv2: Any, group: str, ids: list[str]) -> None:
    health = elbv2.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    there = {target["Target"]["Id"] for target in health}
    if missing := [{"Id": id} for id in ids if id not in there]:
        elbv2.register_targets(TargetGroupArn=group, Targets=missing)


@contextlib.contextmanager
def _same_ids(settings: Settings) -> Iterator[None]:
    """Let moto make up the same ids as in every other start, and others than in any after that."""
    _seed(settings, SEED)
    yield
    _seed(settings, secrets.randbits(32))


def _seed(settings: Settings, seed: int) -> None:
    request = urllib.request.Request(f"{settings.aws_endpoint}/moto-api/seed?a={seed}", method="POST")
    with urllib.request.urlopen(request, timeout=10):
        pass
