"""Who lost the right to change an environment changes nothing and records nothing: by a real ledger and ELBv2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto.server import ThreadedMotoServer

from interlock.adapters.aws.load_balancer import TargetGroup, Traffic, asking
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.permits.issuer import Admission, Held, PermitIssuer
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.domain.errors import LostRight, PolicyViolation
from interlock.domain.ledger.chain import AFTER_DEPLOYMENT, AFTER_END, AFTER_FAILURE, INSTALLATION
from interlock.domain.ledger.kinds import ENVIRONMENT_BOOKED, ENVIRONMENT_ENTERED, ENVIRONMENT_FREED
from interlock.domain.permits.fencing import place_of
from interlock.domain.permits.permit import MAX_PERMIT_AGE
from interlock.domain.permits.production import Production
from tests.integration.ledger_server import superuser_connection

OLD, NEW = "release/release_bike_shop/old", "release/rollback_bike_shop/new"
HOST = "127.20.0.11"


@pytest.fixture
def ledger(server: Any) -> Iterator[Ledger]:
    with open_ledger(superuser_connection(server)) as opened:
        yield opened


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    folder = tmp_path_factory.mktemp("key")
    generate_key(folder / "key")
    return load_signer((folder / "key").as_uri())


class World:
    """An environment of a service of its own, and the releases that enter it."""

    def __init__(self, ledger: Ledger, signer: Signer, name: str) -> None:
        self.ledger, self.signer, self.service = ledger, signer, name
        self.place = place_of("production", name)
        self.old, self.new = f"{OLD}-{name}", f"{NEW}-{name}"

    def office(self, task: str = "release_bike_shop/implementation.wave_1", attempt: int = 1, **more: Any) -> Any:
        return PermitIssuer(self.signer, self.ledger, actor=task, attempt=attempt, **more)

    def envelope(self, office: PermitIssuer, chain: str, purpose: Any = "deploy", **changes: Any) -> dict[str, Any]:
        about = {"environment": "production", "hosts": [HOST], "catalogue": "c" * 64, "service": self.service}
        return office.issue(**{"purpose": purpose, "chain": chain, **about, **changes})

    def admission(
        self, chain: str, purpose: Any = "deploy", *, task: str = "", attempt: int = 1, **changes: Any
    ) -> Admission:
        office = self.office(task or "release_bike_shop/implementation.wave_1", attempt)
        return Admission.by_permit(
            "production", office, lambda: self.envelope(office, chain, purpose, **changes), purpose
        )

    def entered(self, chain: str, purpose: Any = "deploy", **changes: Any) -> Admission:
        admission = self.admission(chain, purpose, **changes)
        admission.begin()
        return admission

    def put(self, chain: str, kind: str, payload: dict[str, Any], key: str = "") -> None:
        self.ledger.append(chain, kind, payload, actor="a task", key=key or kind)

    def book(self, chain: str, number: int = 1) -> None:
        now = datetime.now(UTC).isoformat()
        told = {"environment": "production", "service": self.service, "holder": chain, "version": "1", "by": "rita"}
        self.put(self.place, ENVIRONMENT_BOOKED, {**told, "since": now, "until": now}, f"{ENVIRONMENT_BOOKED}/{number}")

    def findings(self) -> list[str]:
        found = self.ledger.entries(INSTALLATION, kind="finding")
        return [str(one.payload["what"]) for one in found if one.payload["evidence"]["place"] == self.place]

    def kinds(self, chain: str) -> list[str]:
        return [entry.kind for entry in self.ledger.entries(chain)]


@pytest.fixture
def world(ledger: Ledger, signer: Signer, request: pytest.FixtureRequest) -> World:
    return World(ledger, signer, f"shop-{abs(hash(request.node.name)) % 10**9}")


def told(admission: Admission) -> dict[str, Any]:
    assert admission.entered is not None
    return {"number": 1, "entered": admission.entered.model_dump(mode="json")}


def test_each_permit_has_a_higher_token_which_is_signed(world: World) -> None:
    tokens = [world.entered(chain).token for chain in (world.old, world.old, world.new)]
    assert tokens == sorted(set(tokens))
    (used, *_) = world.ledger.entries(world.old, kind="permit.used")
    assert used.payload["permit"]["entered"] == {"place": world.place, "token": tokens[0]}


def test_to_ask_what_hosts_run_needs_no_token_and_takes_none(world: World) -> None:
    office = world.office()
    asks = Admission.by_permit(
        "production", office, lambda: world.envelope(office, world.old, "inspect", service=""), "inspect"
    )
    asyncio.run(asks.admit(HOST))
    assert (asks.token, world.ledger.entries(world.place)) == (0, ())


Between = Callable[[World], object]


def nothing(_: World) -> None:
    """Nobody comes."""


def another_release(world: World) -> None:
    world.entered(world.new)


def a_retry(world: World) -> None:
    world.entered(world.old, attempt=2)


def a_back_out(world: World) -> None:
    world.entered(world.old, "back_out", task="release_bike_shop/verification.back_out", way_back=True)


def the_end(world: World) -> None:
    world.put(world.old, "release.closed", {"outcome": "deployed"})


def a_failed_end(world: World) -> None:
    world.put(world.old, "release.closed", {"outcome": "failed"})


def another_booking(world: World) -> None:
    world.book(world.new)


def its_booking_freed(world: World) -> None:
    world.put(world.place, ENVIRONMENT_FREED, {"holder": world.old})


COMES: dict[str, tuple[Between, str]] = {
    "another release": (another_release, "entered at"),
    "a retry": (a_retry, "try 2, to deploy) entered at"),
    "a back-out": (a_back_out, "to back_out) entered at"),
    "the end": (the_end, "its release ended as deployed at"),
    "a failed end": (a_failed_end, "its release ended as failed at"),
    "another booking": (another_booking, "booked the environment at"),
    "its booking freed": (its_booking_freed, "its booking of the environment ended at"),
}
coming = pytest.mark.parametrize(("comes", "why"), COMES.values(), ids=COMES)


@coming
def test_who_lost_the_right_begins_nothing_goes_on_with_nothing_and_is_a_finding(
    world: World, comes: Between, why: str
) -> None:
    world.book(world.old, 0) if comes is its_booking_freed else None
    zombie = world.entered(world.old)
    asyncio.run(zombie.admit(HOST))
    zombie.refuse_lost("switch a host")
    comes(world)
    for asked in (zombie.admit(HOST), zombie.hold(f"switch {HOST}")):
        with pytest.raises(LostRight, match=r"may no longer change it: .*that was not done"):
            asyncio.run(asked)
    with pytest.raises(LostRight) as refused:
        zombie.refuse_lost("give a host back to the load balancer")
    assert why in str(refused.value)
    (found,) = world.findings()
    assert why in found
    assert "release_bike_shop/implementation.wave_1, try 1" in found
    assert f"It was about to change {HOST}." in found
    assert "without a permit" not in found


@coming
def test_the_ledger_takes_no_report_and_no_use_of_a_permit_of_who_lost_the_right(
    world: World, comes: Between, why: str
) -> None:
    zombie, office = world.entered(world.old), world.office()
    shown = world.envelope(office, world.old)
    zombie = world.entered(world.old)
    if comes is its_booking_freed:
        comes = another_booking
    comes(world)
    before = world.kinds(world.old)
    with pytest.raises(LostRight, match="The ledger refused an entry of this process"):
        world.put(world.old, "wave.deployed", told(zombie))
    with pytest.raises(LostRight):
        office.redeem(shown, purposes=("deploy",), environment="production")
    assert world.kinds(world.old) == before
    assert len(world.findings()) == 1


def test_a_token_that_was_never_given_is_none(world: World) -> None:
    holder = world.entered(world.old)
    for chain, token in ((world.new, holder.token), (world.old, holder.token + 1)):
        with pytest.raises(LostRight, match="was not issued the token"):
            world.put(chain, "wave.deployed", {"entered": {"place": world.place, "token": token}})
    world.put(world.old, "wave.deployed", told(holder))


def test_a_process_that_was_stopped_before_it_entered_enters_no_more(world: World) -> None:
    """Its token would be the highest: so it gets none."""
    world.entered(world.old, attempt=2)
    with pytest.raises(LostRight, match="try 2 has entered it since, to deploy"):
        world.entered(world.old, attempt=1)
    world.entered(world.old, "back_out", task="release_bike_shop/verification.back_out", way_back=True)
    with pytest.raises(LostRight, match="try 1 has entered it since, to back_out"):
        world.entered(world.old, task="release_bike_shop/implementation.wave_2")
    world.put(world.old, "release.closed", {"outcome": "deployed"})
    with pytest.raises(LostRight, match="has ended and cannot enter"):
        world.entered(world.old, attempt=3)
    world.book(world.new)
    with pytest.raises(LostRight, match=f"is booked by {world.new}"):
        world.entered(f"{world.old}-third")
    assert len(world.findings()) == 4
    assert [one.payload["attempt"] for one in world.ledger.entries(world.place, kind=ENVIRONMENT_ENTERED)] == [2, 1]


def test_tries_of_a_task_are_counted_in_each_run_of_it(world: World) -> None:
    """Hosts that return are brought to one release by many runs of another Dag."""
    world.put(world.old, "release.closed", {"outcome": "deployed"})
    about = {"environment": "production", "service": world.service, "chain": world.old, "purpose": "return"}
    enter = {**about, "way_back": False, "permit": None}
    world.office("return_hosts/bring_hosts_back", 2, run="monday").enter(**enter)
    world.office("return_hosts/bring_hosts_back", 1, run="tuesday").enter(**enter)
    with pytest.raises(LostRight, match="try 2 has entered it since"):
        world.office("return_hosts/bring_hosts_back", 1, run="monday").enter(**enter)


def test_the_traffic_is_given_back_by_two_of_a_release_and_neither_fences_off_the_other(world: World) -> None:
    first = world.entered(world.old, "traffic", task="release_bike_shop/implementation.end_canary", way_back=True)
    second = world.entered(world.old, "traffic", task="release_bike_shop/verification.back_out", way_back=True)
    assert first.token == second.token
    world.put(world.old, "traffic.restored", told(first), "one")
    world.put(world.old, "traffic.restored", {**told(second), "number": 2}, "two")
    hosts = world.entered(world.old, "back_out", task="release_bike_shop/verification.back_out", way_back=True)
    assert hosts.token > second.token
    first.refuse_lost("move the traffic of a listener")
    world.put(world.old, "traffic.restored", {**told(first), "number": 3}, "three")
    third = world.entered(world.new, "traffic", way_back=True)
    assert third.token > hosts.token
    with pytest.raises(LostRight):
        first.refuse_lost("move the traffic of a listener")


def test_a_permit_that_ended_by_the_ledgers_clock_is_asked_for_anew(world: World) -> None:
    """A process that was stopped, and whose machine's clock stood still meanwhile, does not know that it ended."""
    early, asked = datetime.now(UTC) - MAX_PERMIT_AGE + timedelta(seconds=1), 0
    slow = world.office(clock=lambda: early)

    def ask() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return world.envelope(slow, world.old)

    admission = Admission.by_permit("production", slow, ask, "deploy", clock=lambda: early)
    asyncio.run(admission.admit(HOST))
    asyncio.run(asyncio.sleep(1.1))
    first = admission.token
    asyncio.run(admission.admit(HOST))
    assert asked == 2
    assert admission.token > first


def test_a_sandbox_needs_no_permit_and_who_entered_it_last_changes_it(world: World) -> None:
    def enter(chain: str) -> Callable[[], Held]:
        return lambda: world.office().enter(
            environment="test", service=world.service, chain=chain, purpose="deploy", way_back=False, permit=None
        )

    first = Admission.sandbox("test", world.office(), enter(world.old), production=Production())
    asyncio.run(first.admit(HOST))
    second = Admission.sandbox("test", world.office(), enter(world.new), production=Production())
    second.begin()
    assert second.token > first.token > 0
    with pytest.raises(PolicyViolation, match="entered at"):
        asyncio.run(first.admit(HOST))
    asyncio.run(second.admit(HOST))


@pytest.mark.parametrize(
    ("outcome", "may"),
    [
        ("deployed", {*AFTER_END, *AFTER_DEPLOYMENT}),
        ("failed", {*AFTER_END, *AFTER_FAILURE}),
        ("backed_out", {*AFTER_END}),
        ("rejected", {*AFTER_END}),
    ],
)
def test_after_the_end_comes_only_what_the_domain_names(world: World, outcome: str, may: set[str]) -> None:
    kinds = {*AFTER_END, *AFTER_DEPLOYMENT, *AFTER_FAILURE, "wave.deployed", "board.decided", "rollout.frozen"}
    for kind in kinds - {"release.closed"}:
        chain = f"{world.old}-{kind}"
        world.put(chain, "release.requested", {})
        world.put(chain, "release.closed", {"outcome": outcome})
        refused = pytest.raises(LostRight, match=f"has ended, and {kind} must not follow")
        with nullcontext() if kind in may else refused:
            world.put(chain, kind, {"permit": {}}, "after")


def test_a_release_that_failed_ends_anew_once_it_is_backed_out_and_then_for_good(world: World) -> None:
    world.put(world.old, "release.closed", {"outcome": "failed"})
    back = world.entered(world.old, "back_out", way_back=True)
    world.put(world.old, "back_out.done", told(back))
    world.put(world.old, "release.closed", {"outcome": "backed_out"}, "again")
    with pytest.raises(LostRight, match="has ended"):
        world.put(world.old, "back_out.done", told(back), "once more")
    with pytest.raises(LostRight, match="its release ended as backed out"):
        back.refuse_lost("switch a host")


def test_what_the_database_cannot_read_as_json_is_looked_at_all_the_same(world: World) -> None:
    zombie, noise = world.entered(world.old), "a hook printed \x00"
    world.put(world.old, "hosts.smoked", {"what": noise})
    world.put(world.old, "wave.deployed", {**told(zombie), "error": noise}, "one")
    world.entered(world.new)
    with pytest.raises(LostRight, match="came after it"):
        world.put(world.old, "wave.deployed", {**told(zombie), "error": noise}, "two")
    world.put(world.old, "release.closed", {"outcome": "failed", "reason": f'{noise} "outcome":"deployed"'})
    world.put(world.old, "finding", {"what": noise})
    with pytest.raises(LostRight, match="has ended"):
        world.put(world.old, "host.returned", {"what": noise})


def test_a_train_that_arrived_gets_nothing_added_but_findings(world: World) -> None:
    train = f"release/train_{world.service}/one"
    world.put(train, "train.arrived", {})
    world.put(train, "finding", {"what": "something"})
    with pytest.raises(LostRight, match="has ended"):
        world.put(train, "passenger.arrived", {})


# --- the load balancer -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[Callable[[str], Any]]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-west-3"}
    yield lambda kind: boto3.client(kind, endpoint_url=f"http://{host}:{port}", **keys)
    moto.stop()


def test_each_change_of_the_load_balancer_is_preceded_by_the_question(
    world: World, client: Callable[[str], Any]
) -> None:
    ec2, elbv2 = client("ec2"), client("elbv2")
    vpc, name = ec2.describe_vpcs()["Vpcs"][0]["VpcId"], world.service[:20]
    group, other = (
        elbv2.create_target_group(Name=f"{name}-{n}", Protocol="HTTP", Port=80, VpcId=vpc)["TargetGroups"][0][
            "TargetGroupArn"
        ]
        for n in "ab"
    )
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=2, MaxCount=2)["Instances"]
    here, there = (one["InstanceId"] for one in made)
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
    balancer = elbv2.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    elbv2.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=forward)

    def state() -> Any:
        health = elbv2.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return {one["Target"]["Id"] for one in health}, Traffic(elbv2, [group, other]).shares()

    zombie = world.entered(world.old)
    asked = asking(client("elbv2"), zombie.refuse_lost)
    hosts, traffic = TargetGroup(asked, group), Traffic(asked, [group, other])
    asyncio.run(hosts.restore(here))
    assert traffic.share({group: 90, other: 10})
    world.entered(world.new)
    left = state()
    with pytest.raises(LostRight):
        asyncio.run(hosts.restore(there))
    with pytest.raises(LostRight):
        asyncio.run(hosts.drain(here, timedelta(seconds=1)))
    with pytest.raises(LostRight):
        traffic.share({other: 100})
    assert state() == left, "as the rightful holder left it"
    assert "It was about to give a host back to the load balancer." in world.findings()[0]


def test_a_call_that_boto_makes_again_is_asked_about_again(client: Callable[[str], Any]) -> None:
    asked: list[str] = []
    elbv2 = asking(client("elbv2"), asked.append)

    def cut(**_: Any) -> None:
        if len(asked) < 3:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1")

    elbv2.meta.events.register_last("before-send.elastic-load-balancing-v2.ModifyRule", cut)
    with pytest.raises(ClientError):
        elbv2.modify_rule(RuleArn="arn:aws:elasticloadbalancing:eu-west-3:123456789012:listener-rule/x", Actions=[])
    assert asked == ["move the traffic of a rule"] * 3
