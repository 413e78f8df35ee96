"""What is asked before a step takes away what older versions need: all hosts of all environments, by a real EC2 API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from interlock.domain.errors import PolicyViolation
from interlock.domain.records import Host, RunningRelease
from interlock.domain.runbook.planning import planned_steps
from interlock.stages.runbook import contract
from interlock.stages.runtime import resources
from tests.unit.domain.test_runbook import HOSTS, service, step

DROP = service(step("drop", "after", way_back="none", works_from="2.0.0"))
STEPS = planned_steps(DROP, HOSTS, rehearsal=False)


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()  # in a region of its own: moto's servers of one process have the same instances
    _, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "ap-northeast-3"}
    client = boto3.session.Session().client("ec2", endpoint_url=f"http://127.0.0.1:{port}", **keys)
    monkeypatch.setattr(resources, "aws", lambda *_: client)
    yield client
    client.close()
    server.stop()


def launch(ec2: Any, environment: str) -> str:
    tags = [{"Key": "Environment", "Value": environment}, {"Key": "Name", "Value": f"shop-{environment}"}]
    image = ec2.describe_images()["Images"][0]["ImageId"]
    found = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
    )
    return str(found["Instances"][0]["InstanceId"])


def test_every_host_of_every_environment_is_asked_and_one_that_is_stopped_cannot_answer(
    ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = resources.catalogue_of("bike-shop")._replace(service=DROP)
    versions = {"test": "2.0.0", "production": "2.0.0"}
    asked: list[tuple[str, int]] = []

    def what_runs(_: Any, environment: str, hosts: Sequence[Host]) -> tuple[RunningRelease, ...]:
        asked.append((environment, len(hosts)))
        version = versions[environment]
        return tuple(RunningRelease(host=one.address, release=f"{version}-x", version=version) for one in hosts)

    monkeypatch.setattr(contract, "what_runs", what_runs)
    for environment in versions:
        launch(ec2, environment)
    contract.refuse_contracts(catalogue, STEPS)
    assert sorted(asked) == [("production", 1), ("test", 1)]

    versions["test"] = "1.9.0"
    with pytest.raises(PolicyViolation, match=r"of test runs 1\.9\.0"):
        contract.refuse_contracts(catalogue, STEPS)
    contract.refuse_contracts(catalogue, planned_steps(service(step()), HOSTS, rehearsal=False))
    assert len(asked) == 4, "without such a step nobody is asked"

    ec2.stop_instances(InstanceIds=[launch(ec2, "production")])
    with pytest.raises(PolicyViolation, match="It is not known what shop-production of production runs"):
        contract.refuse_contracts(catalogue, STEPS)
