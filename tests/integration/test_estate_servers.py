from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import asyncssh
import httpx
import pytest

from interlock.adapters.artifacts.bundle import pack
from interlock.adapters.build.builders import build
from interlock.adapters.hosts.fleet import Deployment, Site, back_out_hosts, deploy_hosts, read_running
from interlock.adapters.signing.signing import load_signer
from interlock.adapters.source.git import open_repository
from interlock.domain.calendars.bookings import Entered
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Build, Health
from interlock.domain.errors import HostUnreachable
from interlock.domain.permits.on_hosts import NAMESPACE, ShownPermit, permit_text
from interlock.domain.permits.permit import MAX_PERMIT_AGE, Permit
from interlock.domain.records import BackOutPlan, Host, release_name
from interlock.estate.settings import BUCKET, DEPLOY_ROOT, SERVICE, TARGET_GROUP, Settings
from interlock.estate.world import aws, processes
from interlock.locations import PROJECT
from tests.deployments import ADMITTED, WithToken
from tests.estate_process import EstateProcess, estate_process, is_open, lives, status_of, wait_until
from tests.ports import free_port

ENVIRON = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EstateProcess]:
    """Run one estate for the tests that leave it as they found it."""
    with estate_process(tmp_path_factory.mktemp("estate")) as running:
        yield running


def instance_at(estate: EstateProcess, address: str) -> aws.Instance:
    return next(it for it in aws.instances(estate.ec2) if it.address == address and it.state != "terminated")


def version_at(estate: EstateProcess, address: str) -> str | None:
    if status_of(estate.url(address)) != 200:
        return None
    with socket.create_connection((address, estate.settings.service_port)) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["version"])


def on(estate: EstateProcess, address: str, command: str) -> str:
    """Run a command on a host, as the deployer does."""

    async def run() -> str:
        tags = instance_at(estate, address).tags
        login = estate.login("production" if tags.get("Environment") == "production" else "test")
        async with asyncssh.connect(
            address,
            login.port,
            username=login.username,
            client_keys=[str(login.client_key)],
            known_hosts=str(login.known_hosts),
            config=None,
            agent_path=None,
        ) as connection:
            return str((await connection.run(command, check=True)).stdout).strip()

    return asyncio.run(run())


def hosts_of(estate: EstateProcess, environment: str) -> list[Host]:
    return [
        Host(instance_id=it.id, name=it.name, address=it.address, zone="eu-central-1a")
        for it in aws.instances(estate.ec2)
        if it.tags.get("Environment") == environment and it.state == "running"
    ]


def test_every_host_serves_the_first_version_as_a_deployment_would_have_left_it(estate: EstateProcess) -> None:
    hosts = [*hosts_of(estate, "production"), *hosts_of(estate, "test")]
    assert [host.address for host in hosts] == [host.address for host in estate.settings.hosts()]
    running = [
        *asyncio.run(read_running(hosts[:-1], DEPLOY_ROOT, login=estate.login("production"), admission=ADMITTED)),
        *asyncio.run(read_running(hosts[-1:], DEPLOY_ROOT, login=estate.login("test"), admission=ADMITTED)),
    ]
    assert {it.version for it in running} == {"1.0.0"}
    assert len({it.release for it in running}) == 1
    assert {version_at(estate, host.address) for host in hosts} == {"1.0.0"}


def test_the_key_of_the_test_hosts_opens_no_host_of_production_and_knows_none(estate: EstateProcess) -> None:
    host, test = hosts_of(estate, "production")[:1], estate.login("test")
    with pytest.raises(HostUnreachable, match="is not known"):
        asyncio.run(read_running(host, DEPLOY_ROOT, login=test, admission=ADMITTED))
    knowing = replace(test, known_hosts=estate.settings.known_hosts("production"))
    with pytest.raises(HostUnreachable, match="rejected the login of deployer"):
        asyncio.run(read_running(host, DEPLOY_ROOT, login=knowing, admission=ADMITTED))


def test_digest_of_the_first_version_is_the_one_that_a_release_builds(estate: EstateProcess, tmp_path: Path) -> None:
    repository = open_repository(estate.settings.source_url, tmp_path / "repository")
    commit = repository.resolve("1.0.0")
    repository.checkout(commit.sha, tmp_path / "checkout")
    spec = Build.model_validate({"tool": "make", "build": ["build"], "test": ["-n", "test"], "output": "build/bundle"})
    built = build(tmp_path / "checkout", spec, environ=ENVIRON)
    pack(built.output, tmp_path / "bundle.tar.gz")
    release = release_name("1.0.0", sha256_of((tmp_path / "bundle.tar.gz").read_bytes()))
    (host, *_) = hosts_of(estate, "test")
    assert on(estate, host.address, f"readlink {DEPLOY_ROOT}/current") == f"releases/{release}"


def test_aws_has_the_fleet_its_load_balancer_and_a_bucket(estate: EstateProcess) -> None:
    found = aws.instances(estate.ec2)
    assert [it.tags["Name"] for it in found] == [host.name for host in estate.settings.hosts()]
    assert {it.tags["Service"] for it in found} == {SERVICE}
    pages = estate.ec2.describe_instances()["Reservations"]
    assert len({it["Placement"]["AvailabilityZone"] for page in pages for it in page["Instances"]}) == 2
    elbv2 = aws.client(estate.settings, "elbv2")
    (group,) = elbv2.describe_target_groups(Names=[TARGET_GROUP])["TargetGroups"]
    targets = elbv2.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]
    assert {it["Target"]["Id"] for it in targets} == {it.id for it in found if it.tags["Environment"] == "production"}
    (balancer,) = elbv2.describe_load_balancers()["LoadBalancers"]
    (listener,) = elbv2.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    assert listener["DefaultActions"][0]["TargetGroupArn"] == group["TargetGroupArn"]
    assert [it["ImageId"] for it in estate.ec2.describe_images()["Images"]] == [aws.IMAGE]
    s3 = aws.client(estate.settings, "s3")
    s3.put_object(Bucket=BUCKET, Key="here", Body=b"bytes")
    assert s3.get_object(Bucket=BUCKET, Key="here")["Body"].read() == b"bytes"


def test_nobody_else_is_served_before_everything_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release took a bucket for missing that an estate which started again had not made yet: it failed for good."""
    monkeypatch.setenv("MOTO_AMIS_PATH", "")  # which the server sets
    settings = Settings(state=tmp_path, aws_port=free_port())
    settings.images.mkdir(parents=True)
    server = aws.EmbeddedAws(settings)
    server.start()
    try:
        with closing(aws.client(settings, "s3")) as own:
            assert own.list_buckets()["Buckets"] is not None
        assert httpx.get(f"{settings.aws_endpoint}/bucket", trust_env=False).status_code == 503
        server.ready.set()
        assert httpx.get(f"{settings.aws_endpoint}/bucket", trust_env=False).status_code == 404
    finally:
        server.stop()


def test_providing_again_adds_nothing(estate: EstateProcess) -> None:
    before = aws.instances(estate.ec2)
    aws.provision(estate.settings)
    assert aws.instances(estate.ec2) == before
    assert len(aws.client(estate.settings, "elbv2").describe_load_balancers()["LoadBalancers"]) == 1


def test_stopped_instance_is_down_and_started_one_boots(estate: EstateProcess) -> None:
    address = estate.settings.address("production", 2)
    id = instance_at(estate, address).id
    estate.ec2.stop_instances(InstanceIds=[id])
    wait_until(lambda: status_of(estate.url(address)) is None, "the shop's end")
    with pytest.raises(ConnectionRefusedError):
        on(estate, address, "true")
    estate.ec2.start_instances(InstanceIds=[id])
    wait_until(lambda: version_at(estate, address) == "1.0.0", "the shop's start")
    wait_until(lambda: is_open(address, estate.settings.ssh_port), "SSH")
    assert on(estate, address, "echo $INTERLOCK_HOST") == "bike-shop-production-02"


def test_new_instance_becomes_a_host_and_terminated_one_goes(estate: EstateProcess) -> None:
    address = f"{estate.settings.network}.200"
    named = {"Name": "newcomer", "Service": SERVICE, "Environment": "test"}
    tags = [{"Key": key, "Value": value} for key, value in named.items()]
    estate.ec2.run_instances(
        ImageId=aws.IMAGE,
        MinCount=1,
        MaxCount=1,
        PrivateIpAddress=address,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    known = estate.settings.known_hosts("test")
    wait_until(lambda: f"[{address}]" in known.read_text(), "the newcomer's key")
    wait_until(lambda: is_open(address, estate.settings.ssh_port), "SSH")
    assert on(estate, address, "pwd") == str(estate.settings.host_folder("newcomer"))
    estate.ec2.terminate_instances(InstanceIds=[instance_at(estate, address).id])
    wait_until(lambda: not estate.settings.host_folder("newcomer").exists(), "the newcomer's end")
    assert f"[{address}]" not in known.read_text()


def test_the_key_that_opens_test_opens_no_host_of_unknown_use(estate: EstateProcess) -> None:
    """A second fleet of production has another tag; a host without one may be anybody's."""
    addresses = {f"{estate.settings.network}.201": "production-green", f"{estate.settings.network}.202": ""}
    for address, environment in addresses.items():
        named = {"Name": f"host-{address[-3:]}", **({"Environment": environment} if environment else {})}
        estate.ec2.run_instances(
            ImageId=aws.IMAGE,
            MinCount=1,
            MaxCount=1,
            PrivateIpAddress=address,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in named.items()]}
            ],
        )
    known = estate.settings.known_hosts("production")
    for address in addresses:
        wait_until(lambda address=address: f"[{address}]" in known.read_text(), f"the key of {address}")  # type: ignore[misc]
        assert f"[{address}]" not in estate.settings.known_hosts("test").read_text()
        estate.ec2.terminate_instances(InstanceIds=[instance_at(estate, address).id])


def test_mail_is_kept(estate: EstateProcess) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "releases@example.com", "shops@example.com", "1.1.0"
    with smtplib.SMTP("127.0.0.1", estate.settings.smtp_port) as client:
        client.send_message(message)
    (kept,) = estate.settings.mail.glob("*.eml")
    assert "Subject: 1.1.0" in kept.read_text()


def test_second_estate_in_the_same_folder_is_refused(estate: EstateProcess) -> None:
    second = EstateProcess(estate.settings.model_copy(update={"aws_port": free_port(), "smtp_port": free_port()}))
    assert second.launch().wait(240) == 1
    assert "running already" in estate.log.read_text()
    assert estate.settings.estate_ready.exists()


@pytest.mark.parametrize("variable", ["INTERLOCK_AWS_PORT", "INTERLOCK_SMTP_PORT", "INTERLOCK_SSH_PORT"])
def test_taken_port_is_named_with_its_variable(tmp_path: Path, estate: EstateProcess, variable: str) -> None:
    name = variable.removeprefix("INTERLOCK_").lower()
    free = {"aws_port": free_port(), "smtp_port": free_port(), "network": "127.0.1" if name != "ssh_port" else ""}
    changed = {key: value for key, value in free.items() if key != name and value}
    other = EstateProcess(estate.settings.model_copy(update={"state": tmp_path, **changed}))
    shutil.copytree(estate.settings.images, other.settings.images)
    try:
        assert other.launch().wait(240) == 1
    finally:
        processes.end_all(tmp_path)
    said = other.log.read_text()
    assert "does not start" in said
    assert variable in said
    assert "Traceback" not in said


def test_release_is_deployed_over_the_embedded_ssh_server(estate: EstateProcess, tmp_path: Path) -> None:
    deployment = built_release(estate, "1.1.0", tmp_path)
    hosts = hosts_of(estate, "test")
    (result,) = asyncio.run(
        deploy_hosts(hosts, deployment, login=estate.login("test"), admission=ADMITTED, balancer=None)
    )
    assert (result.outcome, result.after) == ("deployed", deployment.release)
    assert status_of(estate.url(hosts[0].address, "/bikes")) == 200
    assert version_at(estate, hosts[0].address) == "1.1.0"
    assert on(estate, hosts[0].address, f"ls {ON_HOSTS}") == "web.py"
    assert not Path(ON_HOSTS).exists(), "it was written to this machine's own file system"


def test_hosts_of_production_refuse_a_release_without_a_permit(estate: EstateProcess, tmp_path: Path) -> None:
    deployment, hosts = built_release(estate, "1.1.0", tmp_path), hosts_of(estate, "production")
    login = estate.login("production")
    refused = asyncio.run(deploy_hosts(hosts, deployment, login=login, admission=ADMITTED, balancer=None))
    assert len(refused) == len(hosts) > 0
    for result in refused:
        assert "is a host of production, and it refused to be changed: it was shown no permit" in result.error
    assert {version_at(estate, host.address) for host in hosts} == {"1.0.0"}


def test_hosts_of_production_verify_a_permit_with_the_key_of_the_installation(estate: EstateProcess) -> None:
    hosts, admission, now = hosts_of(estate, "production")[:1], WithToken(1), datetime.now(UTC)
    (running,) = asyncio.run(read_running(hosts, DEPLOY_ROOT, login=estate.login("production"), admission=ADMITTED))
    address = hosts[0].address
    permit = Permit(
        id="0" * 32,
        purpose="back_out",
        chain="release/release_bike_shop/one",
        environment="production",
        hosts=(address,),
        catalogue="c" * 64,
        issued_at=now,
        expires_at=now + MAX_PERMIT_AGE,
        entered=Entered(place=f"booking/production/{SERVICE}", token=admission.token),
    )
    signature = load_signer(estate.settings.signing_key.as_uri()).sign_for_ssh(permit_text(permit).encode(), NAMESPACE)
    admission._shown = ShownPermit(permit_text(permit), signature)
    (result,) = asyncio.run(
        back_out_hosts(
            hosts,
            BackOutPlan(releases={address: running.release}, versions={address: running.version}, on_hosts=True),
            site=Site(
                service=SERVICE,
                environment="production",
                deployment_id="release_bike_shop/one",
                deploy_root=DEPLOY_ROOT,
                health=None,
                drain_timeout=timedelta(seconds=1),
            ),
            login=estate.login("production"),
            admission=admission,
            balancer=None,
        )
    )
    assert (result.outcome, result.error, result.warnings) == ("unchanged", "", ())


ON_HOSTS = "/var/lib/interlock-test-of-hosts"
FILES = f"""
files:
  - source: shop/web.py
    destination: {ON_HOSTS}
"""


def built_release(estate: EstateProcess, version: str, folder: Path) -> Deployment:
    repository = open_repository(estate.settings.source_url, folder / "repository")
    commit = repository.resolve(version)
    repository.checkout(commit.sha, folder / "checkout")
    subprocess.run(["make", "build"], cwd=folder / "checkout", check=True, capture_output=True)
    with (folder / "checkout" / "build" / "bundle" / "appspec.yml").open("a") as appspec:
        appspec.write(FILES)
    pack(folder / "checkout" / "build" / "bundle", folder / "bundle.tar.gz")
    digest = sha256_of((folder / "bundle.tar.gz").read_bytes())
    return Deployment(
        service=SERVICE,
        environment="test",
        deployment_id="release_bike_shop/manual__1",
        deploy_root=DEPLOY_ROOT,
        release=release_name(version, digest),
        version=version,
        commit=commit.sha,
        sha256=digest,
        bundle=folder / "bundle.tar.gz",
        keep_releases=3,
        health=Health(port=estate.settings.service_port),
        drain_timeout=timedelta(seconds=5),
    )


BAKERY = """\
    hosts: { App: bakery, Stage: test }
    count: 1
    ssh: interlock_test_hosts
    deploy_root: srv/bakery
  production:
    hosts: { App: bakery, Stage: live }
    count: 2
    waves: [1, 100%]
    strategy: blue_green
    blue_green: { hosts: { App: bakery, Stage: second }, target_group: bakery-green }
    target_group: bakery-blue
    deploy_root: srv/bakery
"""


def add_bakery(catalogue: Path) -> None:
    """Add a second service: its file alone."""
    text = (catalogue / "services" / "bike-shop.yaml").read_text()
    head, _, rest = text.partition("  test:\n    hosts:")
    _, _, tail = rest.partition("drain_timeout: PT1M\n")
    text = head.replace("name: bike-shop", "name: bakery").replace("port: 8400", "port: 8500")
    (catalogue / "services" / "bakery.yaml").write_text(f"{text}  test:\n{BAKERY}{tail}")


def groups_of(estate: EstateProcess) -> dict[str, set[str]]:
    """Return the names of the hosts that are in each target group of the bakery."""
    name_of = {it.id: it.name for it in aws.living(estate.ec2)}
    elbv2 = aws.client(estate.settings, "elbv2")
    return {
        group["TargetGroupName"]: {name_of[id] for id in aws.targets(elbv2, group["TargetGroupArn"])}
        for group in elbv2.describe_target_groups()["TargetGroups"]
        if group["TargetGroupName"].startswith("bakery")
    }


def test_a_second_service_has_hosts_and_groups_because_its_file_names_them_and_a_restart_forgets_nothing(
    estate: EstateProcess, tmp_path: Path
) -> None:
    shutil.copytree(estate.settings.images, tmp_path / "estate" / "images")
    shutil.copytree(PROJECT / "include" / "catalogue", tmp_path / "catalogue")
    with estate_process(tmp_path, production_hosts=1, catalogue=tmp_path / "catalogue") as estate:
        add_bakery(tmp_path / "catalogue")
        # Not by asking AWS: moto's ids come from one source of chance, of which each request takes some.
        kept = estate.settings.estate / "aws.json"
        wait_until(
            lambda: kept.exists() and len(json.loads(kept.read_text())["instances"]) == 2 + 5, "the bakery's hosts"
        )
        bakery = {it.name: it for it in aws.living(estate.ec2) if it.tags.get("App") == "bakery"}
        assert sorted(bakery) == [
            "bakery-production-01",
            "bakery-production-02",
            "bakery-production-second-01",
            "bakery-production-second-02",
            "bakery-test-01",
        ]
        for it in bakery.values():
            wait_until(lambda it=it: is_open(it.address, estate.settings.ssh_port), f"SSH of {it.name}")
        test = bakery["bakery-test-01"].address
        assert test in estate.settings.known_hosts("test").read_text()
        assert test not in estate.settings.known_hosts("production").read_text()
        assert bakery["bakery-production-01"].address in estate.settings.known_hosts("production").read_text()
        wait_until(lambda: len(groups_of(estate).get("bakery-blue", ())) == 2, "the hosts' target group")
        wait_until(lambda: len(groups_of(estate).get("bakery-green", ())) == 2, "the second fleet's target group")

        # What people and releases do to it: traffic, a host out of its group, one that is stopped, one by hand.
        elbv2 = aws.client(estate.settings, "elbv2")
        arn_of = {
            one["TargetGroupName"]: one["TargetGroupArn"] for one in elbv2.describe_target_groups()["TargetGroups"]
        }
        balancer = elbv2.describe_load_balancers(Names=["bakery-blue"])["LoadBalancers"][0]["LoadBalancerArn"]
        listener = elbv2.describe_listeners(LoadBalancerArn=balancer)["Listeners"][0]["ListenerArn"]
        shares = [{"TargetGroupArn": arn_of[f"bakery-{one}"], "Weight": w} for one, w in (("blue", 0), ("green", 100))]
        forward = [{"Type": "forward", "ForwardConfig": {"TargetGroups": shares}}]
        elbv2.modify_listener(ListenerArn=listener, DefaultActions=forward)
        drained = bakery["bakery-production-01"].id
        elbv2.deregister_targets(TargetGroupArn=arn_of["bakery-blue"], Targets=[{"Id": drained}])
        estate.ec2.stop_instances(InstanceIds=[bakery["bakery-production-02"].id])
        estate.ec2.run_instances(
            ImageId=aws.IMAGE,
            InstanceType="t3.large",
            MinCount=1,
            MaxCount=1,
            PrivateIpAddress=f"{estate.settings.network}.99",
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "by-hand"}]}],
        )
        groups, before = groups_of(estate), aws.living(estate.ec2)
        assert groups == {
            "bakery-blue": {"bakery-production-02"},
            "bakery-green": {"bakery-production-second-01", "bakery-production-second-02"},
        }
        assert estate.end() == 0
        estate.start()

        after = aws.living(estate.ec2)
        described = [
            sorted((it.name, it.address, it.state, it.type, *it.tags.items()) for it in them)
            for them in (before, after)
        ]
        assert described[0] == described[1]
        ids = {it.name: it.id for it in after}
        assert {name: it.id for name, it in bakery.items()} == {name: ids[name] for name in bakery}
        assert groups_of(estate) == groups
        traffic = {one["balancer"]: one["forward"] for one in json.loads(kept.read_text())["listeners"]}
        assert traffic["bakery-blue"] == {"bakery-blue": 0, "bakery-green": 100}
        elbv2 = aws.client(estate.settings, "elbv2")
        balancer = elbv2.describe_load_balancers(Names=["bakery-blue"])["LoadBalancers"][0]["LoadBalancerArn"]
        action = elbv2.describe_listeners(LoadBalancerArn=balancer)["Listeners"][0]["DefaultActions"][-1]
        assert sorted(share["Weight"] for share in action["ForwardConfig"]["TargetGroups"]) == [0, 100]


def test_estate_that_was_killed_starts_again_as_it_was(estate: EstateProcess, tmp_path: Path) -> None:
    shutil.copytree(estate.settings.images, tmp_path / "estate" / "images")  # so that nothing has to be built
    with estate_process(tmp_path, production_hosts=1) as estate:
        address = estate.settings.address("production", 1)
        before = [(it.id, it.address) for it in aws.instances(estate.ec2)]
        elbv2 = aws.client(estate.settings, "elbv2")
        arns = [one["TargetGroupArn"] for one in elbv2.describe_target_groups()["TargetGroups"]]
        balancers = [one["LoadBalancerArn"] for one in elbv2.describe_load_balancers()["LoadBalancers"]]
        known = estate.settings.known_hosts("production").read_text()
        on(estate, address, "echo kept >kept; setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $! >pid")
        left = [it.pid for it in processes.of_hosts(estate.settings.state)]
        assert len(left) == 3
        estate.end(signal.SIGKILL)
        assert all(lives(pid) for pid in left)
        estate.start()
        assert not any(lives(pid) for pid in left)
        assert version_at(estate, address) == "1.0.0"
        assert [(it.id, it.address) for it in aws.instances(estate.ec2)] == before
        assert [one["TargetGroupArn"] for one in elbv2.describe_target_groups()["TargetGroups"]] == arns
        assert [one["LoadBalancerArn"] for one in elbv2.describe_load_balancers()["LoadBalancers"]] == balancers
        assert estate.settings.known_hosts("production").read_text() == known
        assert on(estate, address, "cat kept") == "kept"
        assert estate.end() == 0
        assert not list(processes.of_hosts(estate.settings.state))
        assert not estate.settings.estate_ready.exists()
