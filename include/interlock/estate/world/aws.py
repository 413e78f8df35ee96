"""The embedded AWS: moto's server with EC2, ELBv2 and S3, and the fleet that the estate begins with.

moto keeps everything in memory. After a restart the fleet is made again, with the same ids; ``memory.py`` brings back
the rest, and ``objects.py`` what is in S3.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import logging
import os
import secrets
import threading
import urllib.request
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interlock.adapters.private_files import write_whole
from interlock.domain.errors import AssetMissing
from interlock.estate.settings import (
    ACCESS_KEY,
    AIRFLOW_BUCKET,
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
from interlock.estate.stack.ports import trouble_with

from .objects import keep_objects

IMAGE = "ami-0b1c7c1e"
"""The machine image of the estate's hosts."""
INSTANCE_TYPE = "t3.micro"
ZONES = (f"{REGION}a", f"{REGION}b")
TARGET_GROUPS = (TARGET_GROUP, *(f"{TARGET_GROUP}-{kind}" for kind in ("canary", "baseline", "green")))
"""The first is the fleet's; the others are for strategies that need them, and no listener forwards to them."""
USE = "estate:environment"
"""The tag that selects the login of a host that has no tag named Environment."""
ACCOUNT = "123456789012"  # moto's
OWN = "interlock-estate"
"""What the user agent of the estate's own clients ends with."""
SEED = 1987


class Instance(NamedTuple):
    """An EC2 instance, as AWS describes it now."""

    id: str
    address: str
    state: str
    tags: dict[str, str]
    type: str = INSTANCE_TYPE
    zone: str = ZONES[0]

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
        self.changed = threading.Event()
        """Set after each request that may have changed anything."""
        self.ready = threading.Event()
        """Set when everything is there again: until then, only the estate itself is served."""

    def start(self) -> None:
        """Serve; SettingsError if the port is taken."""
        refuse_taken("AWS", LOOPBACK, self._settings.aws_port, "INTERLOCK_AWS_PORT")
        # Read by moto when it is imported; without it, moto keeps 50 MiB of images that are not used here.
        os.environ["MOTO_AMIS_PATH"] = str(_write_images(self._settings))
        from moto.s3.models import s3_backends
        from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        keep_objects(s3_backends[ACCOUNT]["aws"], self._settings.objects)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for every request
        moto = DomainDispatcherApplication(create_backend_app)

        def served(environ: dict[str, Any], start_response: Any) -> Any:
            if not self.ready.is_set() and not _is_the_estates(environ):
                # What is not there yet would be missed for good: a bucket, or the hosts of a release.
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return [b""]
            reads = _only_reads(environ)
            try:
                return moto(environ, start_response)
            finally:
                if not reads:
                    self.changed.set()

        self._server = make_server(
            LOOPBACK, self._settings.aws_port, served, threaded=True, request_handler=MotoRequestHandler
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Serve no more."""
        if self._server:
            self._server.shutdown()
            self._server = None


def _is_the_estates(environ: Mapping[str, Any]) -> bool:
    return environ["PATH_INFO"].startswith("/moto-api/") or OWN in environ.get("HTTP_USER_AGENT", "")


def _only_reads(environ: dict[str, Any]) -> bool:
    """Say whether a request certainly changes nothing: EC2 and ELB name the action at the beginning of a form.

    S3 keeps its objects by itself (``objects.py``).
    """
    if environ["REQUEST_METHOD"] in ("GET", "HEAD") or "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", ""):
        return True
    if not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return False
    content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(content)
    return bool(content.startswith(b"Action=Describe"))


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
    if error := trouble_with(address, port):
        raise SettingsError(
            f"{name} cannot listen on {address}:{port}: {error.strerror}.",
            rule=f"{variable} says where it listens",
            next_step=f"stop what listens there, or set {variable} to another value",
        ) from error


def client(settings: Settings, service: str) -> Any:
    """Return a boto3 client of the embedded AWS, which serves it also while it starts."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        endpoint_url=settings.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(user_agent_extra=OWN),
    )


def provision(settings: Settings, elsewhere: Collection[str] = ()) -> None:
    """Make what is missing of the fleet: instances, bucket, target group, load balancer.

    :param elsewhere: addresses of hosts that are in a target group already, or are meant to be in another.
    """
    ec2, elbv2, s3 = (client(settings, service) for service in ("ec2", "elbv2", "s3"))
    with _same_ids(settings.aws_endpoint, SEED):
        _make_instances(ec2, settings.hosts())
        _make_bucket(s3)
    group, *_ = (make_target_group(ec2, elbv2, name, settings.service_port) for name in TARGET_GROUPS)
    balancer = make_load_balancer(elbv2, TARGET_GROUP, default_subnets(ec2))
    make_listener(elbv2, balancer, group)
    names = {host.name for host in settings.hosts() if host.environment == "production"}
    there = [one for one in instances(ec2) if one.name in names and one.state != "terminated"]
    register(elbv2, group, [one.id for one in there if one.address not in elsewhere])


def instances(ec2: Any) -> tuple[Instance, ...]:
    """Return every instance that AWS knows, terminated ones too."""
    pages = ec2.get_paginator("describe_instances").paginate()
    return tuple(
        Instance(
            found["InstanceId"],
            found.get("PrivateIpAddress", ""),
            found["State"]["Name"],
            {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
            found["InstanceType"],
            found["Placement"]["AvailabilityZone"],
        )
        for page in pages
        for reservation in page["Reservations"]
        for found in reservation["Instances"]
    )


def living(ec2: Any) -> list[Instance]:
    """Return every instance that is not terminated or shutting down."""
    return [one for one in instances(ec2) if one.state not in ("terminated", "shutting-down")]


def _make_instances(ec2: Any, hosts: tuple[EstateHost, ...]) -> None:
    there = {instance.name for instance in instances(ec2) if instance.state != "terminated"}
    for number, host in enumerate(hosts):
        if host.name not in there:
            tags = {"Name": host.name, "Service": SERVICE, "Environment": host.environment}
            _run_instance(ec2, host.address, tags, ZONES[number % len(ZONES)], INSTANCE_TYPE)


def make_instance(
    settings: Settings, ec2: Any, address: str, tags: Mapping[str, str], *, zone: str, type: str = INSTANCE_TYPE
) -> str:
    """Make an instance and return its id: the same for an address as in every other start."""
    if any(one.address == address for one in instances(ec2)):  # a terminated one has that id, and is still described
        return _run_instance(ec2, address, tags, zone, type)
    with _same_ids(settings.aws_endpoint, int(ipaddress.ip_address(address))):
        return _run_instance(ec2, address, tags, zone, type)


def _run_instance(ec2: Any, address: str, tags: Mapping[str, str], zone: str, type: str) -> str:
    made = ec2.run_instances(
        ImageId=IMAGE,
        InstanceType=type,
        MinCount=1,
        MaxCount=1,
        # By zone and not by subnet: the default subnets have addresses of their own, which are not loopback.
        Placement={"AvailabilityZone": zone},
        PrivateIpAddress=address,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )
    return str(made["Instances"][0]["InstanceId"])


def _make_bucket(s3: Any) -> None:
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in {BUCKET, AIRFLOW_BUCKET} - there:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})


def _default_vpc(ec2: Any) -> str:
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise AssetMissing("The embedded AWS has no default VPC.", next_step="start the estate again")
    return str(found[0]["VpcId"])


def default_subnets(ec2: Any) -> list[str]:
    """Return the subnets that load balancers are in."""
    filters = [{"Name": "default-for-az", "Values": ["true"]}, {"Name": "availability-zone", "Values": list(ZONES)}]
    return [subnet["SubnetId"] for subnet in ec2.describe_subnets(Filters=filters)["Subnets"]]


def make_target_group(ec2: Any, elbv2: Any, name: str, port: int, path: str = "/health", protocol: str = "HTTP") -> str:
    """Make a target group, unless there is one of that name, and return its ARN: the same as in every other start."""
    with contextlib.suppress(elbv2.exceptions.TargetGroupNotFoundException):
        return str(elbv2.describe_target_groups(Names=[name])["TargetGroups"][0]["TargetGroupArn"])
    health = {"HealthCheckPath": path} if protocol in ("HTTP", "HTTPS") else {}
    vpc = _default_vpc(ec2)
    with _same_ids(elbv2.meta.endpoint_url, _seed_of("group", name)):
        made = elbv2.create_target_group(
            Name=name, Protocol=protocol, Port=port, VpcId=vpc, TargetType="instance", **health
        )
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def make_load_balancer(elbv2: Any, name: str, subnets: list[str], scheme: str = "internal") -> str:
    """Make a load balancer, unless there is one of that name, and return its ARN: the same as in every other start."""
    with contextlib.suppress(elbv2.exceptions.LoadBalancerNotFoundException):
        return str(elbv2.describe_load_balancers(Names=[name])["LoadBalancers"][0]["LoadBalancerArn"])
    with _same_ids(elbv2.meta.endpoint_url, _seed_of("balancer", name)):
        made = elbv2.create_load_balancer(Name=name, Subnets=subnets, Scheme=scheme, Type="application")
    return str(made["LoadBalancers"][0]["LoadBalancerArn"])


def make_listener(elbv2: Any, balancer: str, group: str) -> None:
    """Let a load balancer that has no listener forward port 80 to a target group."""
    if not elbv2.describe_listeners(LoadBalancerArn=balancer)["Listeners"]:
        forward = [{"Type": "forward", "TargetGroupArn": group}]
        elbv2.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=forward)


def targets(elbv2: Any, group: str) -> set[str]:
    """Return the ids of the instances that are in a target group."""
    health = elbv2.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return {str(target["Target"]["Id"]) for target in health}


def register(elbv2: Any, group: str, ids: list[str]) -> None:
    """Let instances be in a target group."""
    there = targets(elbv2, group)
    if missing := [{"Id": id} for id in ids if id not in there]:
        elbv2.register_targets(TargetGroupArn=group, Targets=missing)


def _seed_of(*names: str) -> int:
    return zlib.crc32("/".join(names).encode())


@contextlib.contextmanager
def _same_ids(endpoint: str, seed: int) -> Iterator[None]:
    """Let moto make up the same ids as in every other start, and others than in any after that."""
    _seed(endpoint, seed)
    yield
    _seed(endpoint, secrets.randbits(32))


def _seed(endpoint: str, seed: int) -> None:
    request = urllib.request.Request(f"{endpoint}/moto-api/seed?a={seed}", method="POST")
    # moto loads itself before its first answer: a busy machine needs minutes; with less, the estate never came back.
    with urllib.request.urlopen(request, timeout=180):
        pass
