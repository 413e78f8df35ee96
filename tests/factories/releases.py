"""Records of one release of the bike shop, as its stages hand them on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from interlock.domain.board.voting import Demand, Seat, VotingRule
from interlock.domain.catalogue import (
    Build,
    ChangeType,
    Environment,
    Flow,
    Health,
    Load,
    Service,
    SmokeCheck,
    Source,
    Thresholds,
)
from interlock.domain.permits.overtaking import Overtaking
from interlock.domain.permits.withdrawal import Withdrawal
from interlock.domain.records import (
    Artifact,
    AssetReport,
    BackOutPlan,
    BackOutReport,
    Blob,
    Commit,
    Communication,
    Decision,
    FailedExpectation,
    Host,
    HostResult,
    LoadResult,
    Outcome,
    PolicyInForce,
    QualityReport,
    ReleasePlan,
    Risk,
    RiskTerm,
    RolloutPlan,
    RunningRelease,
    SmokeResult,
    SuiteResult,
    TestDeployment,
    VerificationReport,
    Vote,
    WaveReport,
)

AT = datetime(2026, 11, 23, 6, 17, tzinfo=UTC)
SHA = "5f2d" + "0" * 36
SUITES = ("tests", "coverage", "performance", "components", "record")


WITHDRAWAL = Withdrawal(
    release="release_bike_shop/manual__2026-11-23T06:17:00+00:00",
    by="rita",
    role="requester",
    reason="The tag is wrong",
    run="withdraw_release/manual__2026-11-23T06:20:00+00:00",
    at=datetime(2026, 11, 23, 6, 20, tzinfo=UTC),
)


OVERTAKING = Overtaking(
    release="release_bike_shop/manual__2026-11-23T06:17:00+00:00",
    change_type=ChangeType.NORMAL,
    by="release_bike_shop/1.1.1__2026-11-23T06-20-00.000Z",
    by_change_type=ChangeType.EMERGENCY,
    by_version="1.1.1",
    requested_by="olga",
    reason="Payments fail",
    rule="change_types.emergency.overtakes, in policy.yaml",
    run="overtake_releases/bike-shop-1.1.1__2026-11-23T06-20-00.000Z",
    at=datetime(2026, 11, 23, 6, 20, tzinfo=UTC),
)


def blob(name: str = "bundle.tar.gz", digit: str = "a") -> Blob:
    return Blob(uri=f"file:///store/sha256/{digit * 2}/{digit * 64}/{name}", sha256=digit * 64, size=1234)


def commit(subject: str = "Sell bikes", sha: str = SHA) -> Commit:
    return Commit(sha=sha, author="Wim Wheel", email="wim@shop.example", at=AT, subject=subject)


def host(number: int) -> Host:
    return Host(
        instance_id=f"i-{number:017x}", name=f"bike-shop-production-{number}", address=f"127.20.0.1{number}", zone="a"
    )


ADDRESSES = tuple(host(number).address for number in (1, 2, 3))


def policy() -> PolicyInForce:
    return PolicyInForce(
        change_type=ChangeType.NORMAL,
        flow=Flow(board="cab"),
        thresholds=Thresholds(),
        sources={"max_p95_ms": "policy.yaml"},
        digest="b" * 64,
    )


def plan(**changes: Any) -> ReleasePlan:
    usual: dict[str, Any] = {
        "service": "bike-shop",
        "version": "1.1.0",
        "ref": "1.1.0",
        "commit": commit(),
        "bump": "minor",
        "change_type": ChangeType.NORMAL,
        "summary": "Sells bikes",
        "tickets": ("SHOP-12", "#7"),
        "requested_by": "rita",
        "target": "production",
        "rehearsal": False,
        "not_before": None,
        "running": tuple(
            RunningRelease(host=host(number).address, release="1.0.0-0123456789ab", version="1.0.0", commit="c" * 40)
            for number in (1, 2, 3)
        ),
        "previous_version": "1.0.0",
        "previous_commit": "c" * 40,
        "commits": (commit(), commit("Price bikes in euros", "9" * 40)),
        "commit_count": 2,
        "risk": Risk(
            score=12,
            terms=(
                RiskTerm(name="tier 2", points=10, why="many notice within an hour"),
                RiskTerm(name="commits", points=2, why="2 commits, 1 point each"),
            ),
        ),
        "plan_approval": False,
    }
    return ReleasePlan(**{**usual, **changes})


def assets() -> AssetReport:
    return AssetReport(
        hosts={"production": (host(1), host(2), host(3)), "test": (host(4),)},
        target_groups={"production": "arn:aws:elasticloadbalancing:target-group"},
        tools={"make": "4.3"},
    )


def artifact() -> Artifact:
    return Artifact(
        service="bike-shop",
        version="1.1.0",
        commit=SHA,
        bundle=blob(),
        bom=blob("bom.json", "1"),
        provenance=blob("provenance.json", "2"),
        tests=blob("tests.json", "3"),
        coverage=blob("coverage.json", "4"),
        log=blob("build.log", "5"),
        tool="make",
        seconds=3.2,
    )


def deployment() -> TestDeployment:
    return TestDeployment(
        environment="test",
        results=(host_result(4, environment="test"),),
        base_urls=("http://127.20.0.51:8400",),
    )


def host_result(number: int, *, environment: str = "production", **changes: Any) -> HostResult:
    usual: dict[str, Any] = {
        "host": host(number).address,
        "instance_id": host(number).instance_id,
        "outcome": "deployed",
        "before": "1.0.0-0123456789ab",
        "after": f"1.1.0-{'a' * 12}",
        "seconds": 1.4,
    }
    return HostResult(**{**usual, **changes})


def failure(**changes: Any) -> FailedExpectation:
    usual: dict[str, Any] = {
        "suite": "performance",
        "expectation": "expect_column_values_to_be_between",
        "column": "p95_ms",
        "expected": "p95_ms is at most 800",
        "rows": ("GET /bikes on bike-shop-test-1 (1200.5)",),
        "row_count": 1,
    }
    return FailedExpectation(**{**usual, **changes})


def quality(*failures: FailedExpectation) -> QualityReport:
    broken = {one.suite for one in failures}
    return QualityReport(
        success=not failures,
        suites=tuple(
            SuiteResult(suite=name, success=name not in broken, evaluated=3, failed=int(name in broken))
            for name in SUITES
        ),
        failures=failures,
        results=blob("quality.json", "6"),
        docs="file:///store/docs/release_bike_shop/run/quality",
    )


def rollout(**changes: Any) -> RolloutPlan:
    usual: dict[str, Any] = {
        "service": "bike-shop",
        "version": "1.1.0",
        "commit": SHA,
        "change_type": ChangeType.NORMAL,
        "environment": "production",
        "rehearsal": False,
        "summary": "Sells bikes",
        "tickets": ("SHOP-12", "#7"),
        "requested_by": "rita",
        "risk": 12,
        "bundle": blob(),
        "waves": ((host(1),), (host(2), host(3))),
        "target_group": "arn:aws:elasticloadbalancing:target-group",
        "not_before": None,
        "decide_by": datetime(2026, 11, 25, 6, 17, tzinfo=UTC),
        "back_out": BackOutPlan(
            releases={host(number).address: "1.0.0-0123456789ab" for number in (1, 2, 3)},
            versions={host(number).address: "1.0.0" for number in (1, 2, 3)},
            on_hosts=True,
        ),
        "policy_digest": "b" * 64,
        "quality_digest": "d" * 64,
        "acceptance_digest": "e" * 64,
    }
    return RolloutPlan(**{**usual, **changes})


def decision(subject: str = "board", **changes: Any) -> Decision:
    usual: dict[str, Any] = {
        "subject": subject,
        "digest": rollout().digest,
        "approved": True,
        "required": True,
        "reason": "2 of 3 members approve: ben, dan.",
        "votes": (Vote(user="ben", assigned="ben", choice="Approve", comment="fine", at=AT),),
    }
    return Decision(**{**usual, **changes})


def communication() -> Communication:
    return Communication(
        notes=blob("release-notes.md", "7"),
        sent={"customers": ("customers@shop.example",)},
        acknowledged={"service-desk": "sam"},
    )


def wave(number: int, *results: HostResult) -> WaveReport:
    return WaveReport(number=number, of=2, release=f"1.1.0-{'a' * 12}", results=results)


def verification() -> VerificationReport:
    asked = {"path": "/bikes", "expected": "200", "found": "500", "passed": False}
    measured = {"path": "/", "requests": 200, "errors": 0, "p50_ms": 2.0, "p95_ms": 5.0, "p99_ms": 9.0}
    loads = tuple(LoadResult(host=address, **measured) for address in ADDRESSES)
    return VerificationReport(
        success=False,
        smoke=tuple(SmokeResult(host=address, **asked) for address in ADDRESSES),
        before=loads,
        after=loads,
        failures=(
            failure(
                suite="smoke",
                column="difference",
                expected="each smoke request gets the expected answer",
                rows=tuple(f"GET /bikes on {address} (500 instead of 200)" for address in ADDRESSES),
                row_count=3,
            ),
        ),
        docs="file:///store/docs/release_bike_shop/run/verification",
    )


def back_out() -> BackOutReport:
    old = {"outcome": "backed_out", "before": f"1.1.0-{'a' * 12}", "after": "1.0.0-0123456789ab"}
    return BackOutReport(
        because="Production does not work.",
        results=tuple(host_result(number, **old) for number in (1, 2, 3)),
        verified=True,
    )


def outcome(**changes: Any) -> Outcome:
    usual: dict[str, Any] = {
        "outcome": "deployed",
        "stage": "verification",
        "reason": "Every host of production answers with 1.1.0.",
        "service": "bike-shop",
        "version": "1.1.0",
        "running": {host(number).address: "1.1.0" for number in (1, 2, 3)},
    }
    return Outcome(**{**usual, **changes})


NAMES = {
    "rita": "Rita Reyes",
    "ben": "Ben Adler",
    "cora": "Cora Lindqvist",
    "dan": "Dan Mbeki",
    "fay": "Fay Tanaka",
    "sam": "Sam Novak",
}


def board() -> VotingRule:
    roles = {"ben": "operations", "cora": "security", "dan": "business"}
    demand = Demand(
        title="Change Advisory Board",
        place="board.yaml boards.cab",
        members=("ben", "cora", "dan"),
        approvals=2,
        veto=("cora",),
        deadline=timedelta(days=2),
    )
    return VotingRule(
        demands=(demand,), seats=tuple(Seat(user=user, name=NAMES[user], role=roles[user]) for user in demand.members)
    )


def service() -> Service:
    return Service(
        name="bike-shop",
        title="Bike shop",
        owner="the bike shop's team",
        tier=2,
        source=Source(connection="bike_shop_source"),
        build=Build(tool="make", output="build/bundle"),
        load=Load(paths=("/",)),
        health=Health(port=8400),
        smoke=(SmokeCheck(path="/"),),
        environments={
            name: Environment(hosts={"Environment": name}, count=1, deploy_root="srv/bike-shop")
            for name in ("test", "production")
        },
        functional_approvers=("fay",),
    )
