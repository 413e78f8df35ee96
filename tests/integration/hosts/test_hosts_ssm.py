"""Deployments through AWS Systems Manager.

moto takes the calls and checks their parameters, but runs nothing: what an SSM agent does on a host is done here by
:class:`Agent`, with the same shell and in the same folder as the SSH hosts of the other tests have. S3 is moto's, and
the bundle really travels by a pre-signed address.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from interlock.adapters.artifacts.bundle import list_files
from interlock.adapters.aws.load_balancer import Balancer
from interlock.adapters.hosts import ssm
from interlock.adapters.hosts.fleet import (
    Deployment,
    HostLook,
    back_out_hosts,
    deploy_hosts,
    look_at_hosts,
    read_running,
)
from interlock.adapters.hosts.ssm import SsmLogin, SsmTransport
from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import HeldBack, HostUnreachable, PolicyViolation
from interlock.domain.hosts.released_files import Expected, anchors, differences, expected_files
from interlock.domain.permits.production import Production
from interlock.domain.records import BackOutPlan, HostResult
from tests.deployments import ADMITTED, FAIL, Balance, served
from tests.sshd import Fleet, SshdHost, make_release


@dataclass
class Agent:
    """moto's Systems Manager, and an agent on the one host that does what it is sent."""

    client: Any
    machine: SshdHost
    commands: list[str] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_online: bool = True

    def send_command(self, **asked: Any) -> dict[str, Any]:
        sent: dict[str, Any] = self.client.send_command(**asked)
        (script,) = asked["Parameters"]["commands"]
        self.commands.append(script)
        number = sent["Command"]["CommandId"]
        if not self.is_online:
            self.answers[number] = {"Status": "Undeliverable", "StandardErrorContent": "", "StatusDetails": "offline"}
            return sent
        inside = {"PATH": os.environ["PATH"], "HOME": str(self.machine.home), **self.machine.mark}
        done = subprocess.run(["sh", "-c", script], env=inside, capture_output=True, text=True, check=False)
        self.answers[number] = {
            "Status": "Failed" if done.returncode else "Success",
            "StandardOutputContent": done.stdout[:24_000],
            "StandardErrorContent": done.stderr[:8_000],
        }
        return sent

    def get_command_invocation(self, **asked: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get_command_invocation(**asked)
        return found | self.answers[asked["CommandId"]]


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
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@pytest.fixture
def agent(endpoint: str, machine: SshdHost) -> Agent:
    ec2 = client("ec2", endpoint)
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"]
    machine.host = machine.host.model_copy(update={"instance_id": made[0]["InstanceId"]})
    return Agent(client("ssm", endpoint), machine)


@pytest.fixture
def login(endpoint: str, agent: Agent) -> SsmLogin:
    s3, bucket = client("s3", endpoint), f"transfer-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    return SsmLogin(ssm=agent, s3=s3, bucket=bucket)


def deploy(
    fleet: Fleet,
    deployment: Deployment,
    login: SsmLogin,
    admission: Admission = ADMITTED,
    balancer: Balancer | None = None,
) -> HostResult:
    (result,) = asyncio.run(deploy_hosts(fleet.hosts, deployment, login=login, admission=admission, balancer=balancer))
    return result


def test_a_release_goes_to_a_host_and_back_through_ssm(
    fleet: Fleet, machine: SshdHost, agent: Agent, login: SsmLogin, tmp_path: Path
) -> None:
    old, new = make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0", padding=500_000)
    assert deploy(fleet, old, login).outcome == "deployed"
    result = deploy(fleet, new, login)
    assert (result.outcome, result.before, result.after) == ("deployed", old.release, new.release)
    assert (machine.current, served(fleet, machine)) == (new.release, "1.1.0")
    assert max(map(len, agent.commands)) < 10_000, "the bundle travels by way of S3"
    (running,) = asyncio.run(read_running(fleet.hosts, new.deploy_root, login=login, admission=ADMITTED))
    assert running.release == new.release
    plan = BackOutPlan(releases={machine.address: old.release}, versions={machine.address: "1.0.0"}, on_hosts=True)
    (back,) = asyncio.run(
        back_out_hosts(
            fleet.hosts,
            plan,
            site=replace(new, deployment_id="back"),
            login=login,
            admission=ADMITTED,
            balancer=None,
        )
    )
    assert (back.outcome, served(fleet, machine)) == ("backed_out", "1.0.0")


def test_the_files_of_a_host_are_looked_at_through_ssm(
    fleet: Fleet, machine: SshdHost, login: SsmLogin, tmp_path: Path
) -> None:
    release = make_release(fleet, tmp_path, "1.0.0")
    assert deploy(fleet, release, login).outcome == "deployed"
    (machine.root / "current" / "server.py").write_text("evil")

    async def choose(host: str, name: str) -> list[Expected]:
        return [*anchors(name), *expected_files(list_files(release.bundle), name)]

    (look,) = asyncio.run(
        look_at_hosts(fleet.hosts, release.deploy_root, choose, login=login, admission=ADMITTED)
    ).values()
    assert isinstance(look, HostLook), look
    assert [one.expected.path for one in differences(look.asked, look.seen)] == ["server.py"]


def test_a_release_that_fails_is_taken_back_through_ssm(
    fleet: Fleet, machine: SshdHost, login: SsmLogin, tmp_path: Path
) -> None:
    old = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, old, login)
    result = deploy(fleet, make_release(fleet, tmp_path, "1.1.0", hooks={"ValidateService": FAIL}), login)
    assert (result.outcome, result.after, served(fleet, machine)) == ("failed", old.release, "1.0.0")
    assert "the database is locked" in result.error


def test_an_agent_that_is_offline_is_a_host_that_cannot_be_reached(
    fleet: Fleet, machine: SshdHost, agent: Agent, login: SsmLogin, tmp_path: Path
) -> None:
    agent.is_online = False
    with pytest.raises(HostUnreachable, match="did not run the SSM command: offline"):
        asyncio.run(read_running(fleet.hosts, "srv/shop", login=login, admission=ADMITTED))
    result = deploy(fleet, make_release(fleet, tmp_path, "1.0.0"), login)
    assert (result.outcome, machine.current) == ("failed", None)


def test_the_admission_is_asked_when_a_host_is_begun_before_it_is_taken_out_of_service_and_before_it_is_switched(
    fleet: Fleet, agent: Agent, login: SsmLogin, tmp_path: Path
) -> None:
    class Counting(Admission):
        asked = 0

        async def admit(self, address: str) -> None:
            self.asked += 1
            await super().admit(address)

    admission = Counting.sandbox("test", production=Production())
    deploy(fleet, make_release(fleet, tmp_path, "1.0.0"), login, admission)
    assert len(agent.commands) > 3
    assert admission.asked == 3, "as over SSH"


@pytest.mark.parametrize(("script", "outcome"), [("exit 0", "deployed"), ("exit 1", "failed")])
def test_a_stop_in_the_middle_of_a_host_halts_before_the_next_one(
    fleet: Fleet, machine: SshdHost, agent: Agent, login: SsmLogin, tmp_path: Path, script: str, outcome: str
) -> None:
    stop = machine.root / "shared/stop"

    class Halting(Admission):
        async def admit(self, address: str) -> None:
            if stop.exists():
                raise HeldBack("The wave is halted: emergency stop.")

    balance = Balance()
    old = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, old, login, balancer=balance)
    hook = f'#!/bin/sh\ntouch "$INTERLOCK_SHARED/stop"\n{script}\n'
    new = make_release(fleet, tmp_path, "1.1.0", hooks={"AfterInstall": hook})
    result = deploy(fleet, new, login, Halting.sandbox("test", production=Production()), balance)
    runs = new if outcome == "deployed" else old
    assert (result.outcome, result.after, machine.current) == (outcome, runs.release, runs.release)
    assert "emergency stop" not in result.error
    assert served(fleet, machine) == runs.version
    assert balance.serving == {machine.host.instance_id}
    agent.commands.clear()
    halted = deploy(
        fleet, make_release(fleet, tmp_path, "1.2.0"), login, Halting.sandbox("test", production=Production()), balance
    )
    assert (halted.outcome, agent.commands) == ("failed", [])
    assert "emergency stop" in halted.error
    assert (result.held_back, halted.held_back) == (False, True)


def test_a_host_on_which_a_release_failed_is_free_at_once(
    fleet: Fleet, machine: SshdHost, login: SsmLogin, tmp_path: Path
) -> None:
    bad = make_release(fleet, tmp_path, "1.0.0", hooks={"ValidateService": FAIL}, deployment_id="release_shop/bad")
    assert deploy(fleet, bad, login).outcome == "failed"
    result = deploy(fleet, make_release(fleet, tmp_path, "1.1.0", deployment_id="release_shop/good"), login)
    assert (result.outcome, result.error) == ("deployed", "")


def test_no_command_outside_an_admitted_session(machine: SshdHost, agent: Agent, login: SsmLogin) -> None:
    async def before_and_after() -> None:
        transport = SsmTransport(login, ADMITTED, {machine.address: machine.host.instance_id})
        with pytest.raises(PolicyViolation, match="no session"):
            await transport.run(machine.address, "true", 5)
        async with transport.opened(machine.address):
            await transport.run(machine.address, "true", 5)
        with pytest.raises(PolicyViolation, match="no session"):
            await transport.run(machine.address, "true", 5)

    asyncio.run(before_and_after())
    assert agent.commands == ["true"]


def test_a_bundle_is_in_memory_once_and_put_into_the_bucket_once(
    machine: SshdHost, agent: Agent, login: SsmLogin
) -> None:
    put: list[Any] = []
    really = login.s3.put_object
    login.s3.put_object = lambda **asked: (put.append(asked["Body"]), really(**asked))
    bundle = os.urandom(500_000)

    async def send_to_two() -> list[bytes]:
        transport = SsmTransport(login, ADMITTED, {machine.address: machine.host.instance_id})
        async with transport.opened(machine.address) as connection:
            programs = [await connection.start("head -c 500007 | sha256sum; head -n 1") for _ in range(2)]
            for program in programs:
                for part in (b"before ", bundle):
                    await program.write(memoryview(part))
            answers = [await program.read() for program in programs]
            for program in programs:
                await program.close()
        return answers

    expected = hashlib.sha256(b"before " + bundle).hexdigest()
    assert [answer.split()[0].decode() for answer in asyncio.run(send_to_two())] == [expected] * 2
    (sent,) = [body for body in put if len(body) > 10_000]
    assert sent is bundle


def test_a_program_that_ends_when_it_is_spoken_to_holds_nobody_up(
    machine: SshdHost, login: SsmLogin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssm, "_TRANSFER", 3)
    # It has ended, and yet seems to be there: process 1 is in its place.
    ends = 'echo 1 >"${0%/*}/pid"; echo bye'

    async def talk() -> bytes:
        transport = SsmTransport(login, ADMITTED, {machine.address: machine.host.instance_id})
        async with transport.opened(machine.address) as connection:
            program = await connection.start(ends)
            said = await program.read()
            await program.write(memoryview(b"hello\n"))
            await program.close()
        return said

    assert asyncio.run(talk()) == b"bye\n"


def test_no_permit_no_command(fleet: Fleet, agent: Agent, login: SsmLogin, tmp_path: Path) -> None:
    class Refusing(Admission):
        async def admit(self, address: str) -> None:
            raise PolicyViolation("There is no permit.")

    result = deploy(
        fleet, make_release(fleet, tmp_path, "1.0.0"), login, Refusing.sandbox("test", production=Production())
    )
    assert (result.outcome, agent.commands) == ("failed", [])
