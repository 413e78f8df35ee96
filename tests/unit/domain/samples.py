"""Small valid records and models, to be changed by each test in what it is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from interlock.domain.board.voting import VotingRule, voting_rule
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import BoardBook, ChangeType, Policy, Service
from interlock.domain.records import (
    BackOutPlan,
    BackOutReport,
    Blob,
    Commit,
    Decision,
    Host,
    HostResult,
    ReleasePlan,
    Risk,
    RolloutPlan,
    VerificationReport,
    Vote,
    WaveReport,
)

DIGEST = "d" * 64
BLOB = Blob(uri="file:///store/bundle.tar.gz", sha256="b" * 64, size=10)
FLOWS: dict[str, Any] = {"standard": {"acceptance": False}, "normal": {"board": "cab"}, "emergency": {"board": "ecab"}}


def policy(**changes: Any) -> Policy:
    return Policy.model_validate({"name": "Policy", "owner": "the office", "change_types": FLOWS, **changes})


ROLES = {"ann": "business", "ben": "operations", "cora": "security", "dan": "business", "eve": "operations"}


def book(boards: dict[str, Any], **changes: Any) -> BoardBook:
    people = [
        {"user": user, "name": user.capitalize(), "email": f"{user}@example.com", "role": ROLES.get(user, "other")}
        for user in (*ROLES, "fay", "gus", "maya", "rita", "sam")
    ]
    return BoardBook.model_validate({"people": people, "boards": boards, "senior_management": ["maya"], **changes})


def board(
    members: str = "ben cora dan", approvals: int = 2, veto: str = "cora", *, delegates: Any = (), **quorum: Any
) -> VotingRule:
    """Return what a release asks when one board votes on it."""
    asked = {"approvals": approvals, "veto": veto.split(), **quorum}
    cab = {"title": "CAB", "members": members.split(), "quorum": asked}
    rule = voting_rule(
        policy(change_types={**FLOWS, "emergency": {}}),
        book({"cab": cab}, delegates=list(delegates)),
        service(),
        change_type=ChangeType.NORMAL,
        risk=0,
    )
    assert rule is not None
    return rule


def service_data(**changes: Any) -> dict[str, Any]:
    environment = {"count": 1, "deploy_root": "srv/bike-shop"}
    return {
        "name": "bike-shop",
        "title": "Bike shop",
        "owner": "the shop's team",
        "source": {"connection": "bike_shop_source"},
        "build": {"tool": "make", "output": "build/bundle", "coverage": "build/coverage.xml"},
        "load": {"paths": ["/"]},
        "health": {"port": 8400},
        "smoke": [{"path": "/"}],
        "environments": {
            "test": {"hosts": {"Environment": "test"}, **environment},
            "production": {"hosts": {"Environment": "production"}, **environment},
        },
        "functional_approvers": ["fay"],
        **changes,
    }


def service(**changes: Any) -> Service:
    return Service.model_validate(service_data(**changes))


def vote(user: str | None, choice: str, comment: str = "", *, assigned: str | None = None, **more: Any) -> Vote:
    return Vote(user=user, assigned=assigned or user or "nobody", choice=choice, comment=comment, **more)


def hosts(number: int) -> tuple[Host, ...]:
    return tuple(
        Host(instance_id=f"i-{index}", name=f"production-{index}", address=f"127.20.0.{index}", zone="a")
        for index in range(1, number + 1)
    )


def commit(subject: str, sha: str = "c" * 40) -> Commit:
    return Commit(sha=sha, author="Ann", email="ann@example.com", at=datetime(2026, 1, 2, tzinfo=UTC), subject=subject)


def plan(*subjects: str, **changes: Any) -> ReleasePlan:
    commits = tuple(commit(subject) for subject in subjects)
    fields: dict[str, Any] = {
        "service": "bike-shop",
        "version": "1.1.0",
        "ref": "1.1.0",
        "commit": commit("Sell bikes"),
        "bump": "minor",
        "change_type": ChangeType.NORMAL,
        "summary": "Sell bikes",
        "tickets": (),
        "requested_by": "rita",
        "target": "production",
        "rehearsal": False,
        "not_before": None,
        "running": (),
        "previous_version": "1.0.0",
        "previous_commit": "a" * 40,
        "commits": commits,
        "commit_count": len(commits),
        "risk": Risk(score=0, terms=()),
        "plan_approval": False,
    }
    return ReleasePlan(**{**fields, **changes})


def rollout(number: int = 2, **changes: Any) -> RolloutPlan:
    fleet = hosts(number)
    fields: dict[str, Any] = {
        "service": "bike-shop",
        "version": "1.1.0",
        "commit": "c" * 40,
        "change_type": ChangeType.NORMAL,
        "environment": "production",
        "rehearsal": False,
        "summary": "Sell bikes",
        "tickets": (),
        "requested_by": "rita",
        "risk": 10,
        "bundle": BLOB,
        "waves": (fleet[:1], fleet[1:]),
        "target_group": None,
        "not_before": None,
        "back_out": BackOutPlan(releases={}, versions={}, on_hosts=True),
        "policy_digest": DIGEST,
        "quality_digest": DIGEST,
        "acceptance_digest": DIGEST,
        "decide_by": None,
    }
    return RolloutPlan(**{**fields, **changes})


def decision(subject: str, digest: str = DIGEST, **changes: Any) -> Decision:
    fields: dict[str, Any] = {"approved": True, "required": True, "reason": "Yes."}
    return Decision.model_validate({"subject": subject, "digest": digest, **fields, **changes})


def decisions(planned: RolloutPlan) -> tuple[Decision, ...]:
    return decision("plan"), decision("acceptance"), decision("board", sha256_of(planned))


def host_result(host: Host, outcome: str, release: str | None) -> HostResult:
    return HostResult.model_validate(
        {
            "host": host.name,
            "instance_id": host.instance_id,
            "outcome": outcome,
            "before": "1.0.0-aaaaaaaaaaaa",
            "after": release,
            "seconds": 1.0,
        }
    )


def waves(planned: RolloutPlan) -> tuple[WaveReport, ...]:
    return tuple(
        WaveReport(
            number=number,
            of=len(planned.waves),
            release=planned.release,
            results=tuple(host_result(host, "deployed", planned.release) for host in wave),
        )
        for number, wave in enumerate(planned.waves, 1)
    )


def verification(**changes: Any) -> VerificationReport:
    fields: dict[str, Any] = {"success": True, "smoke": (), "before": (), "after": (), "failures": (), "docs": "x"}
    return VerificationReport(**{**fields, **changes})


def back_out(planned: RolloutPlan, *, verified: bool = True) -> BackOutReport:
    results = tuple(host_result(host, "backed_out" if verified else "failed", None) for host in planned.hosts)
    return BackOutReport(because="/bikes answers 500.", results=results, verified=verified)
