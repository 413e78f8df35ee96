"""A canary: its share of the traffic by moto's ELBv2, its requests to real servers, its judgement, its page."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from moto.server import ThreadedMotoServer

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain.canary.records import CanaryReport, CanaryWatch
from interlock.domain.catalogue import Canary, Environment, Health, Load, Service
from interlock.domain.errors import PolicyViolation
from interlock.domain.paths import docs_prefix
from interlock.domain.records import CanaryPlan, Decision, Host, RolloutPlan, Switch, Vote
from interlock.domain.rollout.rollout import canary_question
from interlock.stages.release import verification
from interlock.stages.runtime import calendars, history, permits, resources
from interlock.stages.strategies import blue_green, canary, fleets, traffic
from tests.airflow_server import RUN
from tests.deployments import ADMITTED
from tests.factories import releases
from tests.running_task import RunningTask, running_task

TRIED = Host(instance_id="i-1", name="shop-1", address="127.0.0.1", zone="a")
OLD = Host(instance_id="i-2", name="shop-2", address="127.0.0.2", zone="a")


class Shop(ThreadingHTTPServer):
    """The hosts' program, on every loopback address: slow or broken where it is told to be."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("", 0), _Handler)
        self.slow: set[str] = set()
        self.broken: set[str] = set()
        self.heap = {TRIED.address: 100.0, OLD.address: 100.0}
        self.asked: Counter[str] = Counter()


class _Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        address = self.connection.getsockname()[0]
        self.server.asked[address] += 1
        body = f'{{"heap_mb": {self.server.heap[address]}, "name": "x"}}'.encode()
        time.sleep(2.0 if address in self.server.slow else 0.0)  # much longer than a busy machine takes
        self.send_response(500 if address in self.server.broken and self.path != "/metrics" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Any]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-west-3"}
    yield {kind: boto3.client(kind, endpoint_url=f"http://{host}:{port}", **keys) for kind in ("ec2", "elbv2")}
    server.stop()


@pytest.fixture
def groups(clients: dict[str, Any], request: pytest.FixtureRequest) -> list[str]:
    """The groups of the fleet, the canary and the baseline; a listener forwards to the first."""
    elbv2, ec2 = clients["elbv2"], clients["ec2"]
    vpc, name = ec2.describe_vpcs()["Vpcs"][0]["VpcId"], f"n{abs(hash(request.node.name)) % 10**8}"
    made = [
        elbv2.create_target_group(Name=f"{name}-{kind}", Protocol="HTTP", Port=80, VpcId=vpc)["TargetGroups"][0]
        for kind in ("main", "canary", "baseline")
    ]
    arns = [str(one["TargetGroupArn"]) for one in made]
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
    balancer = elbv2.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    elbv2.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arns[0]}],
    )
    return arns


class Release:
    """A release at its canary."""

    def __init__(self, left: RunningTask, service: Service, plan: RolloutPlan, elbv2: Any) -> None:
        self.left, self.service, self.plan, self.elbv2 = left, service, plan, elbv2

    def watch(self) -> CanaryWatch:
        """Watch until it is over, as Airflow does that runs the task again whenever it puts itself off."""
        while True:
            try:
                watch = canary.watch_canary("bike-shop", self.plan)
            except AirflowRescheduleException:
                continue
            self.left.knows("canary.watched", watch)
            return watch

    def judge(self, watch: CanaryWatch) -> CanaryReport:
        found = canary.judge_canary.function("bike-shop", self.plan.to_xcom(), watch.to_xcom())
        return CanaryReport.from_xcom(found)

    def weights(self) -> list[int]:
        return [*traffic._traffic(self.plan, self.service, ADMITTED).shares().values()]


def described(port: int, environment: Environment) -> Service:
    service = releases.service()
    return service.model_copy(
        update={
            "load": Load(paths=("/", "/x"), requests=20, concurrency=20, timeout=timedelta(seconds=20)),
            "health": Health(port=port),
            "environments": {**service.environments, "production": environment},
        }
    )


def canary_plan(groups: list[str], **changes: Any) -> CanaryPlan:
    asked = Canary.model_validate(
        {"slower": 2, "metrics_path": "/metrics", "metrics": {"heap_mb": {"by": 1.5}}, **changes}
    )
    return CanaryPlan(
        baseline=(OLD,),
        bake_seconds=0,
        requests=40,
        percent=10,
        canary_group=groups[1],
        baseline_group=groups[2],
        question=canary_question(asked, ["/", "/x"]),
        metrics_path="/metrics",
        marginal=asked.marginal,
        answer_within=timedelta(hours=1),
    )


@pytest.fixture
def release(
    shop: Shop, clients: dict[str, Any], groups: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Release]:
    environment = Environment.model_validate(
        {
            "hosts": {"a": "b"},
            "count": 2,
            "waves": [1, "100%"],
            "deploy_root": "srv/x",
            "target_group": "main",
            "strategy": "canary",
            "canary": {},
        }
    )
    service = described(shop.server_port, environment)
    plan = releases.rollout(waves=((TRIED,), (OLD,)), target_group=groups[0], canary=canary_plan(groups))
    store = ArtifactStore(Folder(tmp_path / "store"))
    generate_key(tmp_path / "key")
    signer = load_signer((tmp_path / "key").as_uri())
    original = resources.catalogue_of
    for room, name, value in (
        (resources, "catalogue_of", lambda name: original(name)._replace(service=service)),
        (resources, "store", lambda: store),
        (resources, "signer", lambda: signer),
        (resources, "aws", lambda _, kind: clients[kind]),
        (permits, "refuse_emergency", lambda *_: None),
        (canary, "put_off", lambda *_: None),
        (blue_green, "put_off", lambda *_: None),
        (permits, "refuse_unproven", lambda *_, **__: None),
        (calendars, "answer_now", lambda *_: None),
        (permits, "overtaken", lambda *_: ""),
        (canary, "count", lambda *_, **__: None),
        (blue_green, "count", lambda *_, **__: None),
    ):
        monkeypatch.setattr(room, name, value)
    with running_task("implementation.watch_canary", monkeypatch) as left:
        left.recorded.append(("rollout.frozen", {**plan.to_xcom(), "digest": plan.digest}))
        left.recorded.append(("permit.used", {"permit": {"purpose": "deploy", "plan": plan.digest}}))
        traffic.attach(plan, service, ADMITTED)
        yield Release(left, service, plan, clients["elbv2"])


def kinds(release: Release, kind: str) -> list[dict[str, Any]]:
    return [payload for found, payload in release.left.recorded if found == kind]


def test_a_canary_that_is_as_good_as_its_baseline_passes_and_the_traffic_goes_back(
    release: Release, shop: Shop, tmp_path: Path
) -> None:
    assert release.weights() == [1, 0, 0]
    watch = release.watch()
    assert release.weights() == [80, 10, 10]
    assert watch.requests >= 40
    assert watch.rounds >= canary.MIN_ROUNDS
    assert abs(shop.asked[TRIED.address] - shop.asked[OLD.address]) == 0, "both are asked the same"
    report = release.judge(watch)
    assert report.verdict == "pass", report.sentence()
    assert {one.name for one in report.metrics} > {"/: errors (%)", "/x: median response time (ms)", "heap_mb"}
    canary.end_canary.function("bike-shop")
    assert release.weights() == [100, 0, 0]
    assert kinds(release, "traffic.restored")
    page = (tmp_path / "store" / docs_prefix(*RUN, "canary") / "index.html").read_text()
    assert page.count("<svg") == len(report.metrics)
    assert page.count("<circle") >= 2 * watch.rounds
    assert "http" not in page, "it loads nothing"


def test_after_a_good_canary_both_serve_with_all_others(release: Release, clients: dict[str, Any]) -> None:
    main, own, other = traffic.groups_of(release.plan)
    ec2, elbv2 = clients["ec2"], clients["elbv2"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=2, MaxCount=2)["Instances"]
    hosts = [
        host.model_copy(update={"instance_id": one["InstanceId"]}) for host, one in zip((TRIED, OLD), made, strict=True)
    ]
    for group, host in zip((own, other), hosts, strict=True):
        elbv2.register_targets(TargetGroupArn=group, Targets=[{"Id": host.instance_id}])
    tried = release.plan.canary.model_copy(update={"baseline": (hosts[1],)})  # type: ignore[union-attr]
    plan = release.plan.model_copy(update={"waves": ((hosts[0],), (hosts[1],)), "canary": tried})
    decision = Decision(subject="board", digest="f" * 64, approved=True, required=False, reason="")
    with permits.admission_to_traffic(plan, lambda *_: decision) as admission:
        canary._bring_home(release.service, plan, tried, admission)
    there = {
        group: {
            one["Target"]["Id"]
            for one in elbv2.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        }
        for group in (main, own, other)
    }
    assert there == {main: {host.instance_id for host in hosts}, own: set(), other: set()}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("broken", r"Errors: In the canary, 127\.0\.0\.1 failed all of \d+ requests"),
        ("slow", "response time .ms. is high"),
    ],
)
def test_a_canary_that_is_worse_fails_and_the_traffic_goes_back(
    release: Release, shop: Shop, harm: str, said: str
) -> None:
    getattr(shop, harm).add(TRIED.address)
    watch = release.watch()
    with pytest.raises(AirflowFailException, match=said):
        release.judge(watch)
    (judged,) = kinds(release, "canary.judged")
    assert judged["verdict"] == "fail"
    assert judged["docs"]
    canary.end_canary.function("bike-shop")
    assert release.weights() == [100, 0, 0]


def test_whoever_has_the_ledger_can_count_the_failed_requests_again(release: Release, shop: Shop) -> None:
    shop.broken.add(TRIED.address)
    watch = release.watch()
    measured = kinds(release, "canary.measured")
    of = {
        host.address: [numbers for one in measured for numbers in one["failed"][host.address].values()]
        for host in (TRIED, OLD)
    }
    assert {failed == made for failed, made in of[TRIED.address]} == {True}
    assert {failed for failed, _ in of[OLD.address]} == {0}
    assert sum(made for _, made in of[OLD.address]) == watch.requests
    assert min(sum(made for _, made in one["failed"][OLD.address].values()) for one in measured) >= 10


def test_a_canary_that_was_never_measured_fails(release: Release) -> None:
    watch = CanaryWatch(rounds=0, requests=0, since=None, until=None)
    release.left.knows("canary.watched", watch)
    with pytest.raises(AirflowFailException, match="The canary has 0 rounds"):
        release.judge(watch)
    assert kinds(release, "canary.judged")[0]["verdict"] == "fail"


def test_a_number_that_the_service_tells_counts(release: Release, shop: Shop) -> None:
    shop.heap[TRIED.address] = 300.0
    watch = release.watch()
    with pytest.raises(AirflowFailException, match="heap_mb is high, 3 times the baseline's mean"):
        release.judge(watch)


def test_a_round_that_was_measured_is_not_measured_again(release: Release) -> None:
    release.plan = baking(release.plan, seconds=600)
    with pytest.raises(AirflowRescheduleException):
        canary.watch_canary("bike-shop", release.plan)
    with pytest.raises(AirflowRescheduleException):
        canary.watch_canary("bike-shop", release.plan)
    assert [one["number"] for one in kinds(release, "canary.measured")] == [1, 2]
    assert len(kinds(release, "traffic.shared")) == 1


def baking(plan: RolloutPlan, *, seconds: int) -> RolloutPlan:
    assert plan.canary is not None
    return plan.model_copy(update={"canary": plan.canary.model_copy(update={"bake_seconds": seconds})})


def test_rounds_that_follow_each_other_at_once_are_measured_in_one_go(release: Release) -> None:
    watch = canary.watch_canary("bike-shop", baking(release.plan, seconds=2))
    assert [one["number"] for one in kinds(release, "canary.measured")] == [*range(1, watch.rounds + 1)]
    assert watch.rounds >= canary.MIN_ROUNDS
    assert watch.since is not None
    assert watch.until is not None
    assert watch.until - watch.since >= (watch.rounds - 1) * timedelta(seconds=0.1), "no round before its time"


@pytest.mark.parametrize("rounds", [0, 3])
def test_an_emergency_stop_ends_the_watching(release: Release, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    def stopped(*_: object) -> None:
        if len(kinds(release, "canary.measured")) == rounds:
            raise PolicyViolation("Emergency stop.")

    monkeypatch.setattr(permits, "refuse_emergency", stopped)
    with pytest.raises(PolicyViolation, match="Emergency stop"):
        canary.watch_canary("bike-shop", release.plan)
    assert len(kinds(release, "canary.measured")) == rounds


def test_nothing_is_given_back_that_was_not_begun(release: Release) -> None:
    release.left.recorded[:] = [one for one in release.left.recorded if one[0] != "permit.used"]
    with pytest.raises(AirflowSkipException):
        canary.end_canary.function("bike-shop")


def marginal(release: Release) -> CanaryReport:
    report = CanaryReport(
        verdict="marginal", score=80, reason="", metrics=(), groups=(), pass_from=95, marginal_from=75, docs=""
    )
    release.left.knows("canary.judged", report)
    return report


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        ((), "No answer was given in time"),
        ((Vote(user="rita", assigned="rita", choice="Reject"),), "rita answered Reject"),
        ((Vote(user="ben", assigned="rita", choice="Approve"),), "No answer was given in time"),
    ],
)
def test_a_marginal_canary_is_not_followed_unless_the_release_manager_says_so(
    release: Release, monkeypatch: pytest.MonkeyPatch, votes: tuple[Vote, ...], said: str
) -> None:
    monkeypatch.setattr(canary, "votes_on", lambda *_: votes)
    report = marginal(release)
    with pytest.raises(AirflowFailException, match=said):
        canary.settle_canary.function("bike-shop", release.plan.to_xcom(), report.to_xcom())
    assert kinds(release, "canary.decided")[0]["approved"] is False


def test_a_marginal_canary_is_followed_if_the_release_manager_says_so(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "votes_on", lambda *_: (Vote(user="rita", assigned="rita", choice="Approve"),))
    said = canary.settle_canary.function("bike-shop", release.plan.to_xcom(), marginal(release).to_xcom())
    decision = Decision.from_xcom(said)
    assert (decision.approved, decision.required, decision.votes[0].user) == (True, True, "rita")


def test_without_a_canary_every_step_lets_the_next_wave_follow(release: Release) -> None:
    plan = release.plan.model_copy(update={"canary": None})
    release.left.recorded.append(("rollout.frozen", {**plan.to_xcom(), "digest": plan.digest}))
    watch = canary.watch_canary("bike-shop", plan)
    release.left.knows("canary.watched", watch)
    report = CanaryReport.from_xcom(canary.judge_canary.function("bike-shop", plan.to_xcom(), watch.to_xcom()))
    assert canary.end_canary.function("bike-shop") is None
    said = canary.settle_canary.function("bike-shop", plan.to_xcom(), report.to_xcom())
    assert (said["approved"], said["reason"]) == (True, "There was no canary.")


# --- blue/green


@pytest.fixture
def two_fleets(release: Release, monkeypatch: pytest.MonkeyPatch, groups: list[str]) -> Iterator[Release]:
    """The same release to a second fleet: the one that had the traffic is as it was."""
    found = Switch(live=groups[0], idle=groups[1], live_hosts=(OLD,), keep=timedelta(hours=1))
    plan = releases.rollout(waves=((TRIED,),), target_group=groups[1], switch=found)
    release.left.recorded.append(("rollout.frozen", {**plan.to_xcom(), "digest": plan.digest}))
    release.left.recorded.append(("permit.used", {"permit": {"purpose": "deploy", "plan": plan.digest}}))
    remembered: list[Any] = []
    monkeypatch.setattr(history, "append", lambda kind, payload, **_: remembered.append((kind, payload)))
    monkeypatch.setattr(fleets, "find_switch", lambda _: found)
    release.plan = plan
    traffic.attach(plan, release.service, ADMITTED)
    yield release
    assert {kind for kind, _ in remembered} <= {"traffic.switched"}


def test_the_traffic_goes_to_the_idle_fleet_and_back(two_fleets: Release) -> None:
    assert two_fleets.weights() == [1, 0]
    told = blue_green.switch_traffic.function("bike-shop", two_fleets.plan.to_xcom())
    assert told["changed"]
    assert two_fleets.weights() == [0, 100]
    blue_green.switch_traffic.function("bike-shop", two_fleets.plan.to_xcom())
    assert two_fleets.weights() == [0, 100], "again changes nothing"
    traffic.restore(two_fleets.plan, two_fleets.service)
    assert two_fleets.weights() == [100, 0]


@pytest.mark.parametrize("outcome", ["deployed", "backed_out", "rejected"])
def test_a_release_that_has_ended_takes_no_traffic_back(two_fleets: Release, outcome: str) -> None:
    blue_green.switch_traffic.function("bike-shop", two_fleets.plan.to_xcom())
    two_fleets.left.recorded.append(("release.closed", {"outcome": outcome}))
    before = len(two_fleets.left.recorded)
    with pytest.raises(PolicyViolation, match=f"according to the ledger, it is closed as {outcome}"):
        traffic.restore(two_fleets.plan, two_fleets.service)
    for task in (verification.back_out, canary.end_canary):
        with pytest.raises(AirflowFailException, match=r".+ was not run: the release is closed"):
            task.function("bike-shop")
    assert two_fleets.weights() == [0, 100]
    assert two_fleets.left.recorded[before:] == []


def test_a_release_that_was_overtaken_takes_no_traffic_back(
    two_fleets: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    blue_green.switch_traffic.function("bike-shop", two_fleets.plan.to_xcom())
    two_fleets.left.recorded.append(("release.closed", {"outcome": "failed"}))
    monkeypatch.setattr(permits, "overtaken", lambda *_: "release_bike_shop/later changed hosts of production.")
    with pytest.raises(AirflowFailException, match="only the release that changed the hosts last can back them out"):
        verification.back_out.function("bike-shop")
    assert two_fleets.weights() == [0, 100]


def test_the_way_back_of_the_traffic_has_a_permit_of_its_own(two_fleets: Release) -> None:
    blue_green.switch_traffic.function("bike-shop", two_fleets.plan.to_xcom())
    traffic.restore(two_fleets.plan, two_fleets.service)
    used = [one["permit"]["purpose"] for one in kinds(two_fleets, "permit.used")[2:]]
    assert used == ["traffic", "traffic"], "one for the way there, one for the way back"


def test_without_a_switch_on_record_nothing_is_switched_back(two_fleets: Release) -> None:
    traffic.restore(two_fleets.plan, two_fleets.service)
    assert kinds(two_fleets, "traffic.restored") == []


def test_no_traffic_goes_to_a_fleet_that_does_not_work(two_fleets: Release, shop: Shop) -> None:
    shop.broken.add(TRIED.address)
    with pytest.raises(AirflowFailException, match=r"failed on the idle fleet of production: / on 127\.0\.0\.1"):
        blue_green.verify_idle.function("bike-shop", two_fleets.plan.to_xcom())
    assert two_fleets.weights() == [1, 0]


def test_a_fleet_that_is_kept_is_not_changed_but_by_a_rollback(
    two_fleets: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, at = two_fleets.plan, datetime.now(UTC)
    assert plan.switch is not None
    two_fleets.left.recorded.append(("traffic.switched", {"service": "bike-shop", "to": plan.switch.live}))
    entries = two_fleets.left.entries

    def dated(chain: str, **about: Any) -> Any:
        found = [one for one in entries(chain) if one.kind == about["kind"]]
        for one in found:
            one.at = at
        return found

    monkeypatch.setattr(two_fleets.left, "entries", dated)
    with pytest.raises(AirflowRescheduleException) as put_off:
        blue_green.wait_until_kept("bike-shop", plan, at + timedelta(minutes=59))
    assert put_off.value.reschedule_date == at + timedelta(hours=1)
    blue_green.wait_until_kept("bike-shop", plan, at + timedelta(minutes=61))
    same = plan.back_out.model_copy(update={"releases": {TRIED.address: plan.release}})
    blue_green.wait_until_kept("bike-shop", plan.model_copy(update={"back_out": same}), at)


def test_a_canary_that_passed_serves_with_the_others_only_by_a_permit(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    home: list[str] = []
    monkeypatch.setattr(canary, "_bring_home", lambda *_: home.append("home"))
    report = marginal(release).model_copy(update={"verdict": "pass", "score": 100})
    release.left.knows("canary.judged", report)
    canary.end_canary.function("bike-shop")
    assert home == [], "giving the traffic back is the way back; this is the way forward"

    def stopped(*_: object, **__: object) -> None:
        raise PolicyViolation("No permit: Emergency stop.")

    monkeypatch.setattr(permits, "refuse_unproven", stopped)
    with pytest.raises(AirflowFailException, match="Emergency stop"):
        canary.settle_canary.function("bike-shop", release.plan.to_xcom(), report.to_xcom())
    assert home == []
    monkeypatch.setattr(permits, "refuse_unproven", lambda *_, **__: None)
    assert canary.settle_canary.function("bike-shop", release.plan.to_xcom(), report.to_xcom())["approved"]
    assert home == ["home"]
