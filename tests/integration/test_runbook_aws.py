"""Steps of a runbook that AWS does: whatever dies, each is done once, or people are asked.

Snapshots, functions and Command documents are those of moto's server, which does not run what it is told to: a function
answers what the test says. Automations, which moto does not have, are those of a server of ours.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.runbook.aws_actions import Automation, Function, RunCommand, Snapshot, without_repeats
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain.catalogue.runbook_file import DocumentStep, FunctionStep, SnapshotStep
from interlock.domain.errors import AssetMissing, ReleaseError, TransientError
from interlock.domain.ledger.kinds import ROLLOUT_FROZEN, STEP_BEGUN, STEP_ENDED
from interlock.domain.records import RolloutPlan
from interlock.domain.runbook.planning import planned_steps
from interlock.estate.settings import Settings
from interlock.stages.runbook.places import pinned_steps
from interlock.stages.runtime import resources
from tests.factories import releases
from tests.integration.automations import Automations, automations
from tests.integration.ledger_server import ledger_connection
from tests.runbook_worker import client_of
from tests.shop_aws import answers, documented_rights, make_database, make_document, make_function
from tests.unit.domain.test_runbook import TELL, service, step

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
ID, NOW = "0123456789abcdef" * 2, datetime.now(UTC)
SNAPSHOT = {"connection": "shop_snapshots", "instance": "shop"}
FUNCTION = {"connection": "shop_functions", "name": "notify", "qualifier": "live", "ask": ["rita"]}
COMMAND = {"connection": "shop_documents", "name": "Shop-Flush", "host": "bike-shop-production-01", "ask": ["rita"]}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    answers(url, "eu-west-3")
    make_database(client_of(url, "rds"))
    make_function(client_of(url, "iam"), client_of(url, "lambda"))
    make_document(client_of(url, "ssm"))
    yield url
    server.stop()


@pytest.fixture(scope="module")
def ledger(server: Settings) -> Iterator[Ledger]:
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


class Release:
    """A release whose runbook has one step, up to its frozen plan, and the tasks that do the step."""

    def __init__(self, server: Settings, ledger: Ledger, folder: Path, endpoint: str, run: str, do: Any) -> None:
        self.server, self.ledger, self.endpoint, self.run, self.said = server, ledger, endpoint, run, folder / "said"
        generate_key(folder / "key")
        self.key = (folder / "key").as_uri()
        self.service = service(step("there", do=do, way_back=TELL))
        host = releases.host(1).model_copy(update={"name": COMMAND["host"], "instance_id": self._instance()})
        steps = planned_steps(self.service, [host], rehearsal=False)
        self.plan: RolloutPlan = releases.rollout(service="shop", waves=((host,),), runbook=pinned_steps(steps))
        self.chain = f"release/release_shop/{run}"
        frozen = {**self.plan.to_xcom(), "digest": self.plan.digest}
        entry = ledger.append(self.chain, ROLLOUT_FROZEN, frozen, actor="freeze_plan", key=ROLLOUT_FROZEN)
        ledger.sign_head(self.chain, load_signer(self.key), seals=entry)

    def _instance(self) -> str:
        return self.endpoint and str(make_instance(self.endpoint))

    def start(self, die: str = "", attempt: int = 1) -> subprocess.Popen[str]:
        told = {
            "state": str(self.server.state),
            "port": self.server.postgres_port,
            "key": self.key,
            "bundle": "",
            "aws": self.endpoint,
            "service": self.service.model_dump(mode="json"),
            "plan": self.plan.to_xcom(),
            "run": self.run,
            "task": "implementation.step_1",
            "number": 1,
            "direction": "forward",
            "attempt": attempt,
            "die": die,
        }
        asked = self.said.with_suffix(".asked")
        asked.write_text(json.dumps(told, default=str))
        with asked.open() as given, self.said.open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.runbook_worker"],
                stdin=given,
                stdout=said,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'include'}{os.pathsep}{ROOT}"},
            )

    def killed(self, point: str) -> None:
        assert self.start(point).wait(240) == -signal.SIGKILL

    def does(self, attempt: int = 2) -> dict[str, Any]:
        """Do the step to its end, and return its report, or the refusal, or that people are asked."""
        for _ in range(5):
            assert self.start(attempt=attempt).wait(240) == 0
            said = dict(json.loads(self.said.read_text().splitlines()[-1]))
            if "waits" not in said:
                return said
        raise AssertionError("it waits for too long")

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        return [dict(entry.payload) for entry in self.ledger.entries(self.chain, kind=kind)]


def make_instance(endpoint: str) -> str:
    ec2 = client_of(endpoint, "ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"]
    return str(made[0]["InstanceId"])


@pytest.fixture
def release(
    server: Settings,
    ledger: Ledger,
    endpoint: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    def made(do: Any) -> Release:
        monkeypatch.setattr(resources, "aws_of", lambda _, kind, config=None: client_of(endpoint, kind, config))
        return Release(server, ledger, tmp_path, endpoint, re.sub(r"\W", "_", request.node.name), do)

    return made


@pytest.mark.parametrize("point", ["before_the_intent", "after_the_intent", "before_the_result"])
def test_wherever_its_task_is_killed_there_is_one_snapshot(release: Any, endpoint: str, point: str) -> None:
    one = release({"snapshot": SNAPSHOT})
    one.killed(point)
    report = one.does()
    assert report["outcome"] == "done", report
    name = f"interlock-{report['id']}"
    assert f"snapshot:{name}: available" in report["evidence"]
    found = client_of(endpoint, "rds").describe_db_snapshots(DBInstanceIdentifier="shop")["DBSnapshots"]
    assert [snapshot["DBSnapshotIdentifier"] for snapshot in found].count(name) == 1
    if point == "before_the_result":
        assert one.does(3) == report, "what is on record stands"
    (intent,), (ended,) = one.recorded(STEP_BEGUN), one.recorded(STEP_ENDED)
    assert intent["id"] == ended["id"]
    used = [used["permit"] for used in one.recorded("permit.used")]
    assert {(permit["purpose"], permit["step"], tuple(permit["hosts"])) for permit in used} == {
        ("step", report["id"], ())
    }


@pytest.mark.parametrize("point", ["after_the_intent", "before_the_result"])
def test_a_command_of_ssm_is_sent_once_or_people_are_asked(release: Any, endpoint: str, point: str) -> None:
    one = release({"document": COMMAND})
    one.killed(point)
    (host,) = one.plan.hosts
    sent = client_of(endpoint, "ssm").list_commands(InstanceId=host.instance_id)["Commands"]
    assert len(sent) == (1 if point == "before_the_result" else 0)
    if point == "after_the_intent":  # it was not sent, which Interlock cannot know
        assert one.start(attempt=2).wait(240) == 0
        said = json.loads(one.said.read_text().splitlines()[-1])
        assert said in ({"waits": True}, {"asks": True}), "it may not be shown yet, and after a minute people are asked"
        assert client_of(endpoint, "ssm").list_commands(InstanceId=host.instance_id)["Commands"] == []
        return
    report = one.does()
    assert report["outcome"] == "done", report
    (command,) = client_of(endpoint, "ssm").list_commands(InstanceId=host.instance_id)["Commands"]
    assert command["Comment"] == f"interlock {report['id']}"
    assert {tuple(used["permit"]["hosts"]) for used in one.recorded("permit.used")} == {(host.address,)}


@pytest.mark.parametrize("point", ["before_the_intent", "after_the_intent", "before_the_result"])
def test_a_function_is_called_once_or_people_are_asked(release: Any, endpoint: str, point: str) -> None:
    one = release({"function": FUNCTION})
    assert one.plan.steps[0].pinned["forward"]["version"] == "1", "the version that the alias means"
    answers(endpoint, "eu-west-3", "first", "second")
    one.killed(point)
    said = one.does()
    if point == "before_the_intent":
        assert (said["outcome"], said["evidence"]) == ("done", "first"), said
    else:
        assert said == {"asks": True}
        assert one.recorded(STEP_ENDED) == []
    left = client_of(endpoint, "lambda").invoke(FunctionName="notify", Payload=b"{}")["Payload"].read()
    assert left == (b"first" if point == "after_the_intent" else b"second"), "the next call that there was"
    drain(endpoint)


def drain(endpoint: str) -> None:
    """Take the answers that nobody asked for."""
    while client_of(endpoint, "lambda").invoke(FunctionName="notify", Payload=b"{}")["Payload"].read() != b"{}":
        pass


@pytest.mark.parametrize("point", ["after_the_intent", "before_the_result"])
def test_wherever_its_task_is_killed_there_is_one_automation(
    server: Settings,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    point: str,
) -> None:
    with automations() as ours:
        monkeypatch.setattr(resources, "aws_of", lambda _, kind, config=None: client_of(ours.endpoint, kind, config))
        monkeypatch.setattr(Release, "_instance", lambda _: "i-0123456789abcdef0")
        run = re.sub(r"\W", "_", request.node.name)
        do = {"document": {"connection": "shop", "name": "Shop-Dns", "parameters": {"Zone": ["shop.example"]}}}
        one = Release(server, ledger, tmp_path, ours.endpoint, run, do)
        one.killed(point)
        report = one.does()
        assert report["outcome"] == "done", report
        (execution,) = ours.executions
        assert f"Automation {execution['AutomationExecutionId']}: Success" in report["evidence"]


@pytest.fixture
def ours() -> Iterator[Automations]:
    with automations() as server:
        yield server


def test_an_automation_whose_answer_was_lost_is_not_begun_twice(ours: Automations) -> None:
    place = Automation(DocumentStep(connection="x", name="Shop-Dns"), client_of(ours.endpoint, "ssm"))
    pinned = place.pin()
    once = Automation(
        DocumentStep(connection="x", name="Shop-Dns"),
        client_of(ours.endpoint, "ssm", without_repeats(timedelta(seconds=5))),
    )
    ours.troubles, ours.shown = [500], False
    with pytest.raises(TransientError, match="AWS did not answer"):
        once.begin(ID, pinned)
    assert place.look(ID, pinned, NOW) is None, "it is not shown yet"
    begun = place.begin(ID, pinned)
    assert begun is not None
    assert [one["AutomationExecutionId"] for one in ours.executions] == [begun.said]


def test_an_automation_that_failed_or_is_another_one_does_not_count(ours: Automations) -> None:
    place = Automation(DocumentStep(connection="x", name="Shop-Dns"), client_of(ours.endpoint, "ssm"))
    pinned, ours.begins_as = place.pin(), "InProgress"
    place.begin(ID, pinned)
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert not seen.ended
    place.stop(ID, NOW)
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert (seen.ended, seen.reason) == (True, "the Automation ended as Cancelled")
    ours.executions[0] |= {"AutomationExecutionStatus": "Success", "DocumentVersion": "2"}
    seen = place.look(ID, pinned, NOW)
    assert seen is not None
    assert "the first is of ('Shop-Dns', '2')" in seen.reason
    other = Automation(
        DocumentStep(connection="x", name="Shop-Dns", parameters={"Zone": ["other"]}), client_of(ours.endpoint, "ssm")
    )
    refused = other.begin(ID, pinned)
    assert refused is not None
    assert refused.ended
    assert "IdempotentParameterMismatch" in refused.reason


def test_what_is_not_there_cannot_be_planned(endpoint: str) -> None:
    ssm, rds, functions = (client_of(endpoint, kind) for kind in ("ssm", "rds", "lambda"))
    for place in (
        Automation(DocumentStep(connection="x", name="Shop-Nothing"), ssm),
        Snapshot(SnapshotStep(connection="x", instance="nothing"), rds),
        Function(FunctionStep(connection="x", name="notify", qualifier="9", ask=("rita",)), functions, functions),
    ):
        with pytest.raises(AssetMissing, match="cannot be read"):
            place.pin()
    with pytest.raises(AssetMissing, match="of the type Command, and not Automation"):
        Automation(DocumentStep(connection="x", name="Shop-Flush"), ssm).pin()


def test_what_nobody_can_be_asked_was_not_begun() -> None:
    nobody = client_of("http://127.0.0.1:1", "lambda", without_repeats(timedelta(seconds=1)))
    step = FunctionStep(connection="x", name="notify", ask=("rita",))
    seen = Function(step, nobody, nobody).begin(ID, {"version": "1"})
    assert seen is not None
    assert seen.ended
    assert "could not be asked" in seen.reason
    ssm = client_of("http://127.0.0.1:1", "ssm", without_repeats(timedelta(seconds=1)))
    document = DocumentStep(connection="x", name="Shop-Flush", host="h", ask=("rita",))
    sent = RunCommand(document, ssm, ssm, "i-0123456789abcdef0").begin(ID, {"version": "1", "sha256": "5a" * 32})
    assert sent is not None
    assert sent.ended
    assert "could not be asked" in sent.reason
    with pytest.raises(TransientError):
        Automation(DocumentStep(connection="x", name="Shop-Dns"), ssm).begin(ID, {"version": "1"})


@pytest.mark.parametrize(
    ("row", "kind", "place"),
    [
        ("`snapshot`", "rds", lambda client, _: Snapshot(SnapshotStep(connection="x", instance="shop"), client)),
        ("`function`", "lambda", lambda client, _: Function(FunctionStep(**FUNCTION), client, client)),
        (
            "`document` with `host`",
            "ssm",
            lambda client, instance: RunCommand(
                DocumentStep(connection="x", name="Shop-Flush", host="h", ask=("rita",)), client, client, instance
            ),
        ),
        (
            "`document`, Automation",
            "ssm",
            lambda client, _: Automation(DocumentStep(connection="x", name="Shop-Dns"), client),
        ),
    ],
)
def test_a_step_calls_what_the_documentation_gives_its_connection_a_right_to_and_nothing_else(
    endpoint: str, ours: Automations, row: str, kind: str, place: Any
) -> None:
    client = client_of(ours.endpoint if "Automation" in row else endpoint, kind)
    called: set[str] = set()
    client.meta.events.register("before-call", lambda model, **_: called.add(model.name))
    one = place(client, make_instance(endpoint))
    pinned = one.pin()
    one.begin(ID, pinned)
    one.look(ID, pinned, NOW)
    with suppress(ReleaseError):  # it has ended
        one.stop(ID, NOW)
    actions = {f"{kind}:{'InvokeFunction' if name == 'Invoke' else name}" for name in called}
    implied = {"ssm:AddTagsToResource", "iam:PassRole"}  # of an Automation: AWS asks for them when it is begun
    assert actions == set(documented_rights(row)) - implied
