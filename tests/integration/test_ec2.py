"""Finding, starting and creating instances, against moto's EC2."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from interlock.adapters.aws.ec2 import create_missing, find_hosts, find_instances, ready_hosts, start_stopped
from interlock.domain.catalogue import Environment, Launch
from interlock.domain.errors import AssetMissing, PolicyViolation


@pytest.fixture(scope="module")
def ec2() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "ec2",
        endpoint_url=f"http://{host}:{port}",
        region_name="eu-west-3",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    server.stop()


@pytest.fixture(scope="module")
def image(ec2: Any) -> str:
    return str(ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"])


@pytest.fixture
def tags() -> dict[str, str]:
    """Tags of a fleet that no other test has."""
    return {"Service": f"shop-{uuid.uuid4().hex[:8]}", "Environment": "production"}


def run(ec2: Any, image: str, tags: Mapping[str, str], name: str, address: str = "10.0.0.1") -> str:
    every = [{"Key": key, "Value": value} for key, value in {**tags, "Name": name}.items()]
    answer = ec2.run_instances(
        ImageId=image,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        PrivateIpAddress=address,
        TagSpecifications=[{"ResourceType": "instance", "Tags": every}],
    )
    return str(answer["Instances"][0]["InstanceId"])


def environment(tags: Mapping[str, str], count: int, **more: Any) -> Environment:
    return Environment.model_validate({"hosts": dict(tags), "count": count, "deploy_root": "srv/shop", **more})


def test_hosts_are_the_running_instances_with_the_tags(ec2: Any, image: str, tags: dict[str, str]) -> None:
    second = run(ec2, image, tags, "shop-2", "127.0.0.12")
    first = run(ec2, image, tags, "shop-1", "127.0.0.11")
    stopped, gone = run(ec2, image, tags, "shop-3"), run(ec2, image, tags, "shop-4")
    run(ec2, image, tags | {"Environment": "test"}, "shop-0")
    ec2.stop_instances(InstanceIds=[stopped])
    ec2.terminate_instances(InstanceIds=[gone])
    hosts = find_hosts(ec2, tags)
    assert [(host.instance_id, host.name, host.address) for host in hosts] == [
        (first, "shop-1", "127.0.0.11"),
        (second, "shop-2", "127.0.0.12"),
    ]
    assert hosts[0].zone.startswith("eu-west-3")
    assert [(one.name, one.state) for one in find_instances(ec2, tags)][-1] == ("shop-3", "stopped")


def test_a_wildcard_in_a_tag_finds_no_other_fleet(ec2: Any, image: str, tags: dict[str, str]) -> None:
    run(ec2, image, tags, "shop-1")
    assert find_hosts(ec2, {"Service": "shop-*"}) == ()


def test_finding_by_no_tags_is_refused(ec2: Any) -> None:
    with pytest.raises(PolicyViolation, match="names no tags"):
        find_hosts(ec2, {})


def test_what_is_stopped_is_started(ec2: Any, image: str, tags: dict[str, str]) -> None:
    running, stopped = run(ec2, image, tags, "shop-1"), run(ec2, image, tags, "shop-2")
    ec2.stop_instances(InstanceIds=[stopped])
    assert start_stopped(ec2, [running, stopped], tags) == (stopped,)
    assert [host.instance_id for host in find_hosts(ec2, tags)] == [running, stopped]
    assert start_stopped(ec2, [running, stopped], tags) == ()


def test_an_instance_without_the_tags_is_not_started(ec2: Any, image: str, tags: dict[str, str]) -> None:
    ours, stranger = run(ec2, image, tags, "shop-1"), run(ec2, image, {"Service": "payroll"}, "payroll-1")
    ec2.stop_instances(InstanceIds=[ours, stranger])
    with pytest.raises(PolicyViolation, match=f"{stranger} must not be changed"):
        start_stopped(ec2, [ours, stranger], tags)
    assert {one.state for one in find_instances(ec2, tags)} == {"stopped"}


def test_missing_instances_are_created_with_name_tags_and_address(ec2: Any, image: str, tags: dict[str, str]) -> None:
    run(ec2, image, tags, "shop-2", "127.0.0.12")
    addresses = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
    launch = Launch(image_id=image, instance_type="t3.micro", private_ip_addresses=addresses)
    names = [f"shop-{number}" for number in range(1, 5)]
    created = create_missing(ec2, tags=tags, count=3, launch=launch, names=names)
    assert len(created) == 2
    assert [(host.name, host.address) for host in find_hosts(ec2, tags)] == [
        ("shop-1", "127.0.0.11"),
        ("shop-2", "127.0.0.12"),
        ("shop-3", "127.0.0.13"),
    ]
    assert create_missing(ec2, tags=tags, count=3, launch=launch, names=names) == ()


def test_one_request_has_one_token_until_its_instance_is_gone(ec2: Any, image: str, tags: dict[str, str]) -> None:
    tokens: list[str] = []

    def note(params: Mapping[str, str], **_: object) -> None:
        tokens.append(params["ClientToken"])

    ec2.meta.events.register("provide-client-params.ec2.RunInstances", note)
    try:
        launch = Launch(image_id=image, instance_type="t3.micro")
        (first,) = create_missing(ec2, tags=tags, count=1, launch=launch, names=["shop-1"])
        ec2.terminate_instances(InstanceIds=[first])
        (second,) = create_missing(ec2, tags=tags, count=1, launch=launch, names=["shop-1"])
    finally:
        ec2.meta.events.unregister("provide-client-params.ec2.RunInstances", note)
    assert first != second
    assert len(set(tokens)) == 2
    assert all(len(token) <= 64 for token in tokens)


def test_too_few_addresses_create_nothing(ec2: Any, image: str, tags: dict[str, str]) -> None:
    launch = Launch(image_id=image, instance_type="t3.micro", private_ip_addresses=("127.0.0.11",))
    with pytest.raises(AssetMissing, match="only 1 free addresses"):
        create_missing(ec2, tags=tags, count=2, launch=launch, names=["shop-1", "shop-2"])
    assert find_instances(ec2, tags) == ()


def test_an_environment_is_made_ready(ec2: Any, image: str, tags: dict[str, str]) -> None:
    stopped = run(ec2, image, tags, "shop-1")
    ec2.stop_instances(InstanceIds=[stopped])
    launch = {"image_id": image, "instance_type": "t3.micro"}
    wanted = environment(tags, 2, missing="create", launch=launch)
    ready = ready_hosts(ec2, wanted, prefix="shop")
    assert [host.name for host in ready.hosts] == ["shop-1", "shop-2"]
    assert (ready.started, len(ready.created)) == ((stopped,), 1)
    again = ready_hosts(ec2, wanted, prefix="shop")
    assert (again.hosts, again.started, again.created) == (ready.hosts, (), ())


def test_missing_hosts_are_refused_before_anything_is_started(ec2: Any, image: str, tags: dict[str, str]) -> None:
    ec2.stop_instances(InstanceIds=[run(ec2, image, tags, "shop-1")])
    with pytest.raises(AssetMissing, match=f"1 of 2 instances with Service={tags['Service']}"):
        ready_hosts(ec2, environment(tags, 2), prefix="shop")
    assert [one.state for one in find_instances(ec2, tags)] == ["stopped"]
