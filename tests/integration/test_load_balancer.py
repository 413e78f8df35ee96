"""Draining hosts from a target group and giving them back, against moto's ELBv2."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from interlock.adapters.aws.load_balancer import (
    CLIENT_CONFIG,
    Groups,
    TargetGroup,
    Traffic,
    find_target_group,
)
from interlock.domain.errors import AssetMissing, DeployError, TransientError

_REFUSED = (
    """<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"""
)
_DONE = "<{call}Response><{call}Result/></{call}Response>"
_HEALTH = """<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions><member>
<Target><Id>i-1</Id><Port>80</Port></Target>
<TargetHealth><State>{state}</State><Reason>{reason}</Reason></TargetHealth>
</member></TargetHealthDescriptions></DescribeTargetHealthResult></DescribeTargetHealthResponse>"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def client(kind: str, endpoint: str) -> Any:
    return boto3.client(
        kind,
        endpoint_url=endpoint,
        region_name="eu-west-3",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=CLIENT_CONFIG,
    )


@pytest.fixture(scope="module")
def elbv2(endpoint: str) -> Any:
    return client("elbv2", endpoint)


@pytest.fixture(scope="module")
def instances(endpoint: str) -> list[str]:
    ec2 = client("ec2", endpoint)
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    answer = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=3, MaxCount=3)
    return [one["InstanceId"] for one in answer["Instances"]]


@pytest.fixture
def name() -> str:
    return f"shop-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def arn(endpoint: str, elbv2: Any, name: str) -> str:
    vpc = client("ec2", endpoint).describe_vpcs()["Vpcs"][0]["VpcId"]
    groups = elbv2.create_target_group(Name=name, Protocol="HTTP", Port=8400, VpcId=vpc)["TargetGroups"]
    return str(groups[0]["TargetGroupArn"])


def in_service(elbv2: Any, arn: str) -> set[str]:
    every = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    return {one["Target"]["Id"] for one in every}


def test_hosts_are_given_back_and_drained(elbv2: Any, arn: str, instances: list[str]) -> None:
    group = TargetGroup(elbv2, arn)

    async def there_and_back() -> None:
        await asyncio.gather(*(group.restore(one) for one in instances))
        assert in_service(elbv2, arn) == set(instances)
        await group.drain(instances[0], timedelta(seconds=5))
        assert in_service(elbv2, arn) == set(instances[1:])
        await group.restore(instances[0])

    asyncio.run(there_and_back())
    assert in_service(elbv2, arn) == set(instances)


def test_draining_and_giving_back_twice_changes_nothing(elbv2: Any, arn: str, instances: list[str]) -> None:
    group = TargetGroup(elbv2, arn, 9000)

    async def twice() -> None:
        for _ in range(2):
            await group.restore(instances[0])
        assert in_service(elbv2, arn) == {instances[0]}
        for _ in range(2):
            await group.drain(instances[0], timedelta(seconds=5))

    asyncio.run(twice())
    assert in_service(elbv2, arn) == set()


def test_a_target_group_is_found_by_its_name(elbv2: Any, arn: str, name: str) -> None:
    assert find_target_group(elbv2, name) == arn
    with pytest.raises(AssetMissing, match=f"The target group {name}-2 does not exist"):
        find_target_group(elbv2, f"{name}-2")


@pytest.fixture
def aws() -> Iterator[Aws]:
    with Aws() as started:
        yield started


class Aws:
    """What AWS does now and then and moto never does, before what moto does, if anything."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.always: tuple[int, str] | None = None
        self.forward_to = ""
        self.calls = 0

    def __enter__(self) -> Aws:
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, text = aws.answer(body, dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        self.calls += 1
        if self.answers or self.always:
            status, text = self.answers.pop(0) if self.answers else self.always or (500, "")
            return status, text.encode()
        request = urllib.request.Request(self.forward_to, body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def test_throttling_is_waited_out(elbv2: Any, endpoint: str, aws: Aws, arn: str, instances: list[str]) -> None:
    aws.forward_to = endpoint
    aws.answers = [(400, _REFUSED.format(code="Throttling"))] * 2
    asyncio.run(TargetGroup(client("elbv2", aws.endpoint), arn).restore(instances[0]))
    assert in_service(elbv2, arn) == {instances[0]}
    assert aws.calls == 4


def test_a_refusal_is_told_with_awss_words(aws: Aws) -> None:
    aws.always = (403, _REFUSED.format(code="AccessDenied"))
    with pytest.raises(TransientError, match="AccessDenied"):
        asyncio.run(TargetGroup(client("elbv2", aws.endpoint), "arn").drain("i-1", timedelta(seconds=1)))


def test_a_host_still_draining_at_the_end_of_its_time_is_let_go(aws: Aws) -> None:
    aws.answers = [(200, _DONE.format(call="DeregisterTargets"))]
    aws.always = (200, _HEALTH.format(state="draining", reason="Target.DeregistrationInProgress"))
    asyncio.run(TargetGroup(client("elbv2", aws.endpoint), "arn").drain("i-1", timedelta(seconds=0.3)))
    assert aws.calls >= 3


def test_a_host_that_never_gets_into_service_is_told(aws: Aws) -> None:
    aws.answers = [(200, _DONE.format(call="RegisterTargets"))]
    aws.always = (200, _HEALTH.format(state="unhealthy", reason="Target.ResponseCodeMismatch"))
    group = TargetGroup(client("elbv2", aws.endpoint), "arn", patience=timedelta(seconds=0.3))
    with pytest.raises(DeployError, match=r"unhealthy \(Target\.ResponseCodeMismatch\)"):
        asyncio.run(group.restore("i-1"))


def test_a_group_without_a_listener_takes_hosts_back(aws: Aws) -> None:
    aws.answers = [(200, _DONE.format(call="RegisterTargets"))]
    aws.always = (200, _HEALTH.format(state="unused", reason="Target.NotInUse"))
    asyncio.run(TargetGroup(client("elbv2", aws.endpoint), "arn").restore("i-1"))
    assert aws.calls == 2


# --- shares of the traffic


@pytest.fixture
def groups(endpoint: str, elbv2: Any) -> list[str]:
    """Three target groups; a listener and a rule forward to the first."""
    vpc, *_ = client("ec2", endpoint).describe_vpcs()["Vpcs"]
    made = [
        elbv2.create_target_group(Name=f"g{uuid.uuid4().hex[:8]}", Protocol="HTTP", Port=80, VpcId=vpc["VpcId"])
        for _ in range(3)
    ]
    arns = [str(one["TargetGroups"][0]["TargetGroupArn"]) for one in made]
    subnets = [one["SubnetId"] for one in client("ec2", endpoint).describe_subnets()["Subnets"]][:2]
    balancer = elbv2.create_load_balancer(Name=f"l{uuid.uuid4().hex[:8]}", Subnets=subnets)["LoadBalancers"][0]
    forward = [{"Type": "forward", "TargetGroupArn": arns[0]}]
    listener = elbv2.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=forward
    )["Listeners"][0]
    condition = [{"Field": "path-pattern", "Values": ["/api/*"]}]
    elbv2.create_rule(ListenerArn=listener["ListenerArn"], Priority=5, Conditions=condition, Actions=forward)
    elsewhere = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
    elbv2.create_rule(ListenerArn=listener["ListenerArn"], Priority=6, Conditions=condition, Actions=elsewhere)
    return [listener["ListenerArn"], *arns]


def weights(elbv2: Any, listener: str) -> list[list[int]]:
    """Return the weights that each rule of a listener gives, the default's last."""
    rules = elbv2.describe_rules(ListenerArn=listener)["Rules"]
    forwards = [one["Actions"][0] for one in rules if one["Actions"][0]["Type"] == "forward"]
    return [[group.get("Weight", 1) for group in one["ForwardConfig"]["TargetGroups"]] for one in forwards]


def test_shares_are_given_to_every_listener_and_rule_and_taken_back(elbv2: Any, groups: list[str]) -> None:
    listener, main, canary, baseline = groups
    traffic = Traffic(elbv2, (main, canary, baseline))
    assert traffic.shares() == {main: 1, canary: 0, baseline: 0}
    assert traffic.live() == main
    assert traffic.share({main: 80, canary: 10, baseline: 10})
    assert weights(elbv2, listener) == [[80, 10, 10], [80, 10, 10]]
    with pytest.raises(DeployError, match="3 of them have traffic; expected: one"):
        traffic.live()
    assert traffic.share({main: 100})
    assert weights(elbv2, listener) == [[100, 0, 0], [100, 0, 0]]
    assert not traffic.share({main: 100}), "again changes nothing"


def test_all_traffic_goes_from_one_group_to_the_other_and_back_by_one_call_each(
    elbv2: Any, groups: list[str], endpoint: str, aws: Aws
) -> None:
    _, blue, green, _ = groups
    aws.forward_to = endpoint
    traffic = Traffic(client("elbv2", aws.endpoint), (blue, green))
    traffic.share(traffic.shares())  # both are known to the load balancer now
    for there, back in ((blue, green), (green, blue)):
        assert traffic.live() == there
        traffic.share({back: 100})
        assert traffic.live() == back


def test_what_forwards_elsewhere_too_is_left_alone_and_told(elbv2: Any, groups: list[str]) -> None:
    listener, main, canary, stranger = groups
    shared = [{"TargetGroupArn": main, "Weight": 1}, {"TargetGroupArn": stranger, "Weight": 1}]
    elbv2.modify_listener(
        ListenerArn=listener, DefaultActions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": shared}}]
    )
    with pytest.raises(DeployError, match="also forwards to"):
        Traffic(elbv2, (main, canary)).share({main: 90, canary: 10})


def test_groups_that_nothing_forwards_to_are_told(elbv2: Any, arn: str) -> None:
    with pytest.raises(DeployError, match="no listener or rule forwards to them"):
        Traffic(elbv2, (arn,)).shares()


def test_listeners_that_do_not_agree_are_told(elbv2: Any, groups: list[str]) -> None:
    listener, blue, green, _ = groups
    elbv2.modify_listener(ListenerArn=listener, DefaultActions=[{"Type": "forward", "TargetGroupArn": green}])
    with pytest.raises(DeployError, match="have different weights"):
        Traffic(elbv2, (blue, green)).live()


def test_a_load_balancer_that_refuses_is_tried_again(aws: Aws) -> None:
    aws.always = (403, _REFUSED.format(code="AccessDenied"))
    with pytest.raises(TransientError, match="AccessDenied"):
        Traffic(client("elbv2", aws.endpoint), ("arn",)).shares()


def test_a_canary_serves_in_its_own_group_and_then_with_the_others(
    elbv2: Any, groups: list[str], instances: list[str]
) -> None:
    _, main, canary, _ = groups
    host = instances[0]

    async def there_and_back() -> None:
        await TargetGroup(elbv2, main).restore(host)
        tried = Groups(TargetGroup(elbv2, canary), [TargetGroup(elbv2, main)])
        await tried.drain(host, timedelta(seconds=5))
        assert host not in in_service(elbv2, main) | in_service(elbv2, canary)
        await tried.restore(host)
        assert (host in in_service(elbv2, main), host in in_service(elbv2, canary)) == (False, True)
        await Groups(TargetGroup(elbv2, main), [TargetGroup(elbv2, canary)]).restore(host)
        assert (host in in_service(elbv2, main), host in in_service(elbv2, canary)) == (True, False)

    asyncio.run(there_and_back())
