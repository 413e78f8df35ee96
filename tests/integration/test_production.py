"""What belongs to production, as AWS and the logins say it: against moto's AWS and real SSH hosts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from interlock.adapters.aws.production import (
    ShownLogin,
    group_arn,
    places_of,
    production_of,
    production_places,
)
from interlock.adapters.hosts import ssh
from interlock.adapters.hosts.fleet import read_running
from interlock.adapters.hosts.ssh import host_keys, login_key
from interlock.adapters.hosts.ssm import SsmLogin, SsmTransport
from interlock.adapters.permits.issuer import Admission
from interlock.domain.catalogue import Environment
from interlock.domain.errors import PolicyViolation, TransientError
from interlock.domain.permits.production import Kind, Place, Production
from interlock.stages.runtime import resources
from tests.sshd import sshd_fleet

TAGS = {"service": "shop", "stage": "production"}
SHOP = Place("shop", "production", (TAGS,), "aws", "hosts", ("shop-web",))


@pytest.fixture(scope="module")
def aws() -> Iterator[Any]:
    """Clients of an account with a production host, another one, and two target groups."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    def client(connection: str, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=f"http://{host}:{port}",
            region_name="eu-west-3",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    ec2, elbv2 = client("aws", "ec2"), client("aws", "elbv2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    for address, tags in (("10.0.0.7", TAGS), ("10.0.0.8", {**TAGS, "stage": "test"})):
        every = [{"Key": key, "Value": value} for key, value in tags.items()]
        about = {"ResourceType": "instance", "Tags": every}
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, PrivateIpAddress=address, TagSpecifications=[about])
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    for name in ("shop-web", "shop-test"):
        elbv2.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=network)
    yield client
    server.stop()


def instance(aws: Any, address: str) -> dict[str, Any]:
    with_address = [{"Name": "private-ip-address", "Values": [address]}]
    return dict(aws("aws", "ec2").describe_instances(Filters=with_address)["Reservations"][0]["Instances"][0])


def test_hosts_and_groups_of_production_are_known_by_every_name(aws: Any) -> None:
    production = production_of([SHOP], groups=["shop-web", "shop-test"], aws=aws, login=lambda _: None)
    there, elsewhere = instance(aws, "10.0.0.7"), instance(aws, "10.0.0.8")
    groups = {name: group_arn(aws("aws", "elbv2"), "aws", name) for name in ("shop-web", "shop-test", "none")}
    assert groups["none"] is None
    theirs = {("address", "10.0.0.7"), ("instance", there["InstanceId"]), ("target group", groups["shop-web"])}
    theirs |= {("address", there[name]) for name in ("PrivateDnsName", "PublicIpAddress", "PublicDnsName")}
    assert theirs <= production.owners.keys()
    assert {*production.owners.values()} == {"production of shop"}
    for kind, name in (("address", "10.0.0.8"), ("instance", elsewhere["InstanceId"])):
        assert (kind, name) not in production.owners
    assert ("target group", groups["shop-test"]) not in production.owners


def test_an_account_that_does_not_answer_is_tried_again_and_named(aws: Any) -> None:
    def nobody(connection: str, service: str) -> Any:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client(service, endpoint_url="http://127.0.0.1:9", region_name="eu-west-3", **keys)

    with pytest.raises(TransientError, match="The production resources could not be read from AWS through aws"):
        production_of([SHOP], groups=[], aws=nobody, login=lambda _: None)


def test_a_connection_that_is_not_there_has_nothing(aws: Any) -> None:
    assert production_of([SHOP], groups=["shop-web"], aws=lambda *_: None, login=lambda _: None).owners == {}


SERVICE = """\
environments:
  test:
    hosts: { service: shop, stage: test }
    ssh: test_hosts
  production:
    hosts: { service: shop, stage: production }
    target_group: shop-web
    count: none
    canary: { target_group: shop-canary, baseline_target_group: shop-baseline }
    blue_green: { hosts: { service: shop, stage: production, color: green }, target_group: shop-green }
"""


def test_an_environment_is_known_whatever_else_is_wrong_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services/shop.yaml").write_text(SERVICE)
    (tmp_path / "services/broken.yaml").write_text("environments: [")
    (tmp_path / "services/odd.yaml").write_text("environments: { production: { hosts: 3 }, live: { hosts: {a: b} } }")
    live, test, production = places_of(tmp_path)
    assert production_places(tmp_path) == (live, production)
    assert (str(live), str(test), str(production)) == ("live of odd", "test of shop", "production of shop")
    assert (production.aws, production.ssh, test.ssh) == ("interlock_aws", "interlock_hosts", "test_hosts")
    assert production.fleets == (TAGS, {**TAGS, "color": "green"})
    assert set(production.target_groups) == {"shop-web", "shop-canary", "shop-baseline", "shop-green"}


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("login key", "the key of the login"),
        ("address", "the address 127."),
        ("host key", "the host key SHA256:"),
    ],
)
def test_a_sandbox_does_not_reach_what_is_productions(tmp_path: Path, kind: Kind, what: str) -> None:
    with sshd_fleet(tmp_path, 1) as fleet:
        (host,) = fleet.hosts
        names = {
            "login key": login_key(fleet.login),
            "address": host.address,
            "host key": host_keys(fleet.login, host.address)[0],
        }
        shown = ShownLogin(fleet.login)
        assert (shown.public_key, shown.keys_of(host.address)) == (names["login key"], (names["host key"],))
        for owners, refused in (({}, False), ({(kind, names[kind]): "production of shop"}, True)):
            admission = Admission.sandbox("test", production=Production(owners))
            asked = read_running(fleet.hosts, "srv/shop", login=fleet.login, admission=admission)
            if not refused:
                assert asyncio.run(asked)[0].release is None
                continue
            with pytest.raises(PolicyViolation, match=what):
                asyncio.run(asked)


def test_a_login_keys_hosts_are_those_at_productions_addresses(aws: Any, tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 1) as fleet:
        shown = ShownLogin(fleet.login)
        key = shown.keys_of(fleet.hosts[0].address)[0]
        known = tmp_path / "known_hosts of production"
        for address, theirs in (("10.0.0.7", True), ("10.0.0.8", False)):
            line = fleet.login.known_hosts.read_text().split(" ", 1)[1]
            known.write_text(f"[{address}]:{fleet.login.port} {line}")
            login = ShownLogin(replace(fleet.login, known_hosts=known))
            production = production_of([SHOP], groups=[], aws=aws, login=lambda _, login=login: login)
            assert (("host key", key) in production.owners) is theirs
            assert production.owners["login key", shown.public_key] == "production of shop"


@pytest.mark.parametrize(("group", "refused"), [("shop-web", True), ("shop-test", False)])
def test_a_task_is_given_no_target_group_of_production(
    aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, refused: bool
) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services/shop.yaml").write_text(SERVICE)
    url = aws("aws", "ec2").meta.endpoint_url
    extra = json.dumps({"region_name": "eu-west-3", "endpoint_url": url})
    settings = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    for name in ("INTERLOCK_AWS", "ANOTHER_NAME"):  # the sandbox's leads to the same account
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(settings))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path))
    about = {"hosts": {"service": "till"}, "count": 1, "deploy_root": "srv/till", "aws": "another_name"}
    sandbox = Environment.model_validate({**about, "target_group": group})
    if refused:
        with pytest.raises(PolicyViolation, match="shop-web of test of till belongs to production of shop"):
            resources.production(sandbox, "till", "test")
    else:
        assert ("address", "10.0.0.7") in resources.production(sandbox, "till", "test").owners


def test_known_hosts_are_read_once_for_all_of_productions_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def counted(login: ssh.SshLogin) -> Any:
        reads.append(login)
        return read(login)

    read = ssh.read_known_hosts
    monkeypatch.setattr(ssh, "read_known_hosts", counted)
    with sshd_fleet(tmp_path, 2) as fleet:
        shown = ShownLogin(fleet.login)
        assert all(shown.keys_of(host.address) for host in fleet.hosts)
    assert reads == [fleet.login]


def test_ssm_does_not_reach_an_instance_of_production() -> None:
    production = Production({("instance", "i-1"): "production of shop"})
    admission = Admission.sandbox("test", production=production)
    login = SsmLogin(None, None, "bucket", "prefix")
    with pytest.raises(PolicyViolation, match=r"the instance i-1, 10\.0\.0\.7, belongs to production of shop"):
        SsmTransport(login, admission, {"10.0.0.7": "i-1"})
