"""Two fleets on moto's EC2 and ELBv2: which one has the traffic, and which one a release goes to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from moto.server import ThreadedMotoServer

from interlock.adapters.aws.load_balancer import Traffic
from interlock.domain.catalogue import Environment
from interlock.domain.errors import AssetMissing, DeployError
from interlock.stages.runtime import resources
from interlock.stages.strategies import fleets

BLUE, GREEN = {"Service": "x", "Colour": "blue"}, {"Service": "x", "Colour": "green"}

TWO: dict[str, Any] = {"strategy": "blue_green", "blue_green": {"hosts": GREEN, "target_group": "shop-green"}}


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset", trust_env=False)  # moto's state is that of its process
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-west-3"}
    made = {kind: boto3.client(kind, endpoint_url=f"http://{host}:{port}", **keys) for kind in ("ec2", "elbv2")}
    monkeypatch.setattr(resources, "aws", lambda _, kind: made[kind])
    yield made
    server.stop()


@pytest.fixture
def groups(clients: dict[str, Any]) -> dict[str, str]:
    """Two fleets of two hosts; all traffic goes to the blue one, and no listener knows the green one yet."""
    ec2, elbv2 = clients["ec2"], clients["elbv2"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    for tags in (BLUE, GREEN):
        for number in (1, 2):
            named = {**tags, "Name": f"{tags['Colour']}-{number}"}
            pairs = [{"Key": key, "Value": value} for key, value in named.items()]
            ec2.run_instances(
                ImageId=image,
                InstanceType="t3.micro",
                MinCount=1,
                MaxCount=1,
                TagSpecifications=[{"ResourceType": "instance", "Tags": pairs}],
            )
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    arns = {
        name: elbv2.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc)["TargetGroups"][0][
            "TargetGroupArn"
        ]
        for name in ("shop", "shop-green", "shop-canary", "shop-baseline")
    }
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
    balancer = elbv2.create_load_balancer(Name="shop", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    forward = [{"Type": "forward", "TargetGroupArn": arns["shop"]}]
    elbv2.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=forward)
    return arns


def environment(**changes: Any) -> Environment:
    plain = {"hosts": BLUE, "count": 2, "deploy_root": "srv/x", "target_group": "shop"}
    return Environment.model_validate({**plain, **(changes or TWO)})


def test_a_release_goes_to_the_fleet_that_has_no_traffic_whichever_that_is(
    clients: dict[str, Any], groups: dict[str, str]
) -> None:
    shop, both = environment(), (groups["shop"], groups["shop-green"])
    for live, idle, colours in ((*both, "blue green"), (*both[::-1], "green blue")):
        Traffic(clients["elbv2"], both).share({live: 100})
        serving, changed = colours.split()
        found = fleets.ready("shop", "production", shop)
        switch = found.switches["production"]
        assert (switch.live, switch.idle, found.target_groups["production"]) == (live, idle, idle)
        assert [host.name for host in found.hosts["production"]] == [f"{changed}-1", f"{changed}-2"]
        assert [host.name for host in switch.live_hosts] == [f"{serving}-1", f"{serving}-2"]
        assert fleets.serving(shop) == switch.live_hosts
    assert len(fleets.every_host(shop)) == 4


def test_stopped_hosts_of_both_fleets_are_started(clients: dict[str, Any], groups: dict[str, str]) -> None:
    ec2 = clients["ec2"]
    ids = [host.instance_id for host in fleets.every_host(environment()) if host.name in ("blue-2", "green-1")]
    ec2.stop_instances(InstanceIds=ids)
    assert sorted(fleets.ready("shop", "production", environment()).started) == sorted(ids)


def test_traffic_that_goes_to_both_is_nobodys_to_guess(clients: dict[str, Any], groups: dict[str, str]) -> None:
    both = (groups["shop"], groups["shop-green"])
    Traffic(clients["elbv2"], both).share(dict.fromkeys(both, 50))
    with pytest.raises(DeployError, match="2 of them have traffic; expected: one"):
        fleets.serving(environment())


def test_the_groups_of_a_canary_are_found_before_anything_is_done(
    clients: dict[str, Any], groups: dict[str, str]
) -> None:
    asked = {"traffic": "10%", "target_group": "shop-canary", "baseline_target_group": "shop-baseline"}
    shop = environment(strategy="canary", canary=asked, waves=[1, "100%"])
    found = fleets.ready("shop", "production", shop)
    assert found.canary_groups == (groups["shop-canary"], groups["shop-baseline"])
    other = environment(strategy="canary", canary={**asked, "target_group": "nowhere"}, waves=[1, "100%"])
    with pytest.raises(AssetMissing, match="The target group nowhere does not exist"):
        fleets.ready("shop", "production", other)


def test_one_fleet_is_as_it_always_was(clients: dict[str, Any], groups: dict[str, str]) -> None:
    found = fleets.ready("shop", "production", environment(strategy="rolling"))
    assert ([host.name for host in found.hosts["production"]], found.switches) == (["blue-1", "blue-2"], {})
    assert "lacking" not in found.model_dump(), "what was reported before that was looked at keeps its digest"


def test_what_production_lacks_is_said_and_nothing_is_changed(clients: dict[str, Any], groups: dict[str, str]) -> None:
    ec2 = clients["ec2"]
    assert fleets.lacking(environment()) == ()
    stopped = [host.instance_id for host in fleets.every_host(environment()) if host.name == "blue-2"]
    ec2.stop_instances(InstanceIds=stopped)
    both = (groups["shop"], groups["shop-green"])
    Traffic(clients["elbv2"], both).share(dict.fromkeys(both, 50))
    before = ec2.describe_instances()["Reservations"]
    found = fleets.lacking(environment(count=3, **TWO))
    assert [sentence.partition(";")[0] for sentence in found[:3]] == [
        "2 of 3 instances with Service=x, Colour=blue exist",
        "blue-2 would need to be started.",
        "2 of 3 instances with Service=x, Colour=green exist",
    ]
    assert "2 of them have traffic" in found[3]
    canary = {"traffic": "10%", "target_group": "no-canary", "baseline_target_group": "no-baseline"}
    found = fleets.lacking(environment(strategy="canary", canary=canary, waves=[1, "100%"]))
    assert [sentence.partition(".")[0] for sentence in found] == [
        "blue-2 would need to be started",
        "The target group no-canary does not exist",
        "The target group no-baseline does not exist",
    ]
    assert ec2.describe_instances()["Reservations"] == before


def test_an_account_that_cannot_be_asked_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(environment: Environment, kind: str) -> None:
        raise AirflowNotFoundException("The conn_id `company_aws` isn't defined")

    monkeypatch.setattr(resources, "aws", refused)
    assert fleets.lacking(environment(target_group="shop")) == ("The conn_id `company_aws` isn't defined",) * 2
