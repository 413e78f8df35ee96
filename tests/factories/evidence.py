"""The evidence of one release of the bike shop, as its chain has it, with a key of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.adapters.airflow.rest_api import Answer
from interlock.adapters.evidence import attestation
from interlock.adapters.evidence.pack import Evidence, build_pack
from interlock.adapters.signing.signing import Signer
from interlock.domain.canonical import canonical_bytes, sha256_of
from interlock.domain.catalogue import Build
from interlock.domain.ledger.chain import HEAD_TYPE, Entry, SignedHead, instant, next_entry
from interlock.domain.permits.permit import PERMIT_TYPE, Permit
from interlock.domain.records import Blob, Decision, QualityReport, RolloutPlan, Vote

from . import releases

CHAIN = "release/release_bike_shop/manual__2026-11-23"
AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
BOARD: dict[str, Any] = {
    "demands": [
        {
            "title": "Change Advisory Board",
            "place": "board.yaml boards.cab",
            "members": ["ben", "cora", "dan"],
            "approvals": 2,
            "require": {},
            "veto": ["cora"],
            "deadline": "P2D",
        }
    ],
    "seats": [
        {"user": "ben", "name": "Ben", "role": "operations"},
        {"user": "cora", "name": "Cora", "role": "security"},
        {"user": "dan", "name": "Dan", "role": "business"},
    ],
    "delegations": [],
}

BOM = canonical_bytes({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []})
Step = tuple[str, dict[str, Any]]
Change = Callable[[list[Step]], Sequence[Step]]


def signer(seed: int = 7) -> Signer:
    """Return a signer whose key is always the same."""
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


@cache  # once: of the same, ECDSA makes another signature
def bill(bundle: Blob, by: Signer) -> bytes:
    """Return the signed bill of materials of the bundle."""
    return by.envelope(attestation.bom_statement(artifact=bundle, name="bike-shop-1.1.0.tar.gz", bom=BOM))


def provenance(
    bundle: Blob, by: Signer, left: Blob | None = None, byproducts: Mapping[str, Blob] | None = None
) -> bytes:
    """Return the signed provenance of the bundle.

    :param left: the signed bill of materials, where the build put it.
    :param byproducts: what else the build left.
    """
    left = left or releases.blob("bom.dsse.json").model_copy(update={"sha256": sha256_of(bill(bundle, by))})
    return by.envelope(
        attestation.provenance_statement(
            artifact=bundle,
            name="bike-shop-1.1.0.tar.gz",
            repository="https://git.example/bike-shop.git",
            ref="1.1.0",
            commit=releases.SHA,
            build=Build(tool="make", output="build/bundle"),
            tool="make 4.3",
            invocation=CHAIN,
            started=AT,
            finished=AT,
            byproducts={"bom.dsse.json": left, **(byproducts or {})},
        )
    )


def vote(user: str, choice: str = "Approve", *, minutes: float = 5, assigned: str | None = None) -> dict[str, Any]:
    """Return a vote as plain JSON."""
    at = AT + timedelta(minutes=minutes)
    return Vote(user=user, assigned=assigned or user, choice=choice, comment=f"I am {user}", at=at).model_dump(
        mode="json"
    )


def answers(votes: Sequence[Mapping[str, Any]], digest: str) -> list[Answer]:
    """Return what Airflow stored of votes."""
    return [
        Answer(
            task_id="rollout.cast_ballot",
            map_index=index,
            subject="Release?",
            body=f"This decides on `{digest}` and on nothing else.",
            assigned=(one["assigned"],),
            answered=True,
            user=one["user"],
            choice=one["choice"],
            comment=one["comment"],
            at=one["at"],
        )
        for index, one in enumerate(votes)
    ]


def permit(plan: RolloutPlan, wave: int, minutes: float) -> dict[str, Any]:
    """Return a permit for a wave."""
    issued = AT + timedelta(minutes=minutes)
    return Permit(
        id=f"{wave:032x}",
        purpose="deploy",
        chain=CHAIN,
        environment="production",
        wave=wave,
        hosts=tuple(host.address for host in plan.waves[wave - 1]),
        plan=plan.digest,
        bundle=plan.bundle.sha256,
        catalogue=plan.policy_digest,
        issued_at=issued,
        expires_at=issued + timedelta(minutes=15),
    ).model_dump(mode="json")


def issued_and_used(granted: dict[str, Any], by: Signer) -> list[Step]:
    """Return the entries of a permit."""
    envelope = by.sign(canonical_bytes(granted), PERMIT_TYPE)
    return [("permit.issued", {"permit": granted, "envelope": envelope}), ("permit.used", {"permit": granted})]


def with_digest(record: Any) -> dict[str, Any]:
    """Return a record as a payload: its JSON, and the digest of that."""
    return {**record.model_dump(mode="json"), "digest": sha256_of(record)}


def steps(by: Signer, plan: RolloutPlan, quality: Any, acceptance: Decision) -> list[Step]:
    """Return kind and payload of each entry of a release that went well."""
    artifact = releases.artifact()
    sealed = artifact.provenance.model_copy(update={"sha256": sha256_of(provenance(artifact.bundle, by))})
    listed = artifact.bom.model_copy(update={"sha256": sha256_of(BOM)})
    votes = [vote("ben"), vote("dan", minutes=5.5)]
    board = Decision(
        subject="board", digest=plan.digest, approved=True, required=True, reason="Approved by ben and dan."
    )
    waves: list[Step] = []
    for number, hosts in enumerate(plan.waves, 1):
        granted = permit(plan, number, 9 + len(waves))
        results = [releases.host_result(int(host.name[-1])) for host in hosts]
        report = releases.wave(number, *results).model_dump(mode="json")
        waves += [
            *issued_and_used(granted, by),
            ("wave.deployed", {**report, "digest": artifact.bundle.sha256}),
        ]
    verification = releases.verification().model_copy(update={"success": True, "failures": ()})
    return [
        ("run.asked", {"dag_id": CHAIN.split("/")[1], "run_id": CHAIN.split("/")[2], "user": "rita", "conf": "5" * 64}),
        (
            "release.requested",
            {"service": "bike-shop", "version": "1.1.0", "requested_by": "rita", "summary": "Sells bikes"},
        ),
        ("policy.resolved", releases.policy().model_dump(mode="json")),
        ("plan.made", releases.plan().model_dump(mode="json")),
        ("artifact.built", artifact.model_copy(update={"provenance": sealed, "bom": listed}).model_dump(mode="json")),
        ("quality.judged", quality.model_dump(mode="json")),
        ("acceptance.decided", acceptance.model_dump(mode="json")),
        ("rollout.frozen", with_digest(plan)),
        ("board.decided", {**board.model_dump(mode="json"), "votes": votes, "board": BOARD}),
        *waves,
        ("verification.judged", verification.model_dump(mode="json")),
        ("release.closed", releases.outcome().model_dump(mode="json")),
    ]


def chained(many: Sequence[Step]) -> list[Entry]:
    """Return steps as entries of a chain, a minute apart."""
    found: list[Entry] = []
    for number, (kind, payload) in enumerate(many):
        entry = next_entry(
            found[-1] if found else None,
            chain=CHAIN,
            at=AT + timedelta(minutes=number),
            actor="airflow",
            kind=kind,
            key=f"{kind}/{number}",
            payload=json.loads(canonical_bytes(payload)),
        )
        found.append(entry)
    return found


def head(entry: Entry, by: Signer) -> SignedHead:
    """Seal a chain up to an entry."""
    payload = {"chain": entry.chain, "sequence": entry.sequence, "hash": entry.hash, "at": instant(entry.at)}
    envelope = by.sign(canonical_bytes(payload), HEAD_TYPE)
    return SignedHead(chain=entry.chain, sequence=entry.sequence, hash=entry.hash, envelope=envelope)


def evidence(
    change: Change = lambda many: many,
    *,
    by: Signer | None = None,
    report: QualityReport | None = None,
    **plan_changes: Any,
) -> Evidence:
    """Return the evidence of a release that went well, or of one that went as ``change`` makes it."""
    by = by or signer()
    quality, acceptance = report or releases.quality(), releases.decision("acceptance", digest="e" * 64)
    plan = releases.rollout(quality_digest=sha256_of(quality), policy_digest=releases.policy().digest, **plan_changes)
    many = change(steps(by, plan, quality, acceptance))
    entries = chained(many)
    votes = [one for kind, payload in many if kind == "board.decided" for one in payload["votes"]]
    statements = {
        "test-result": attestation.test_result_statement(
            artifact=plan.bundle, name="bike-shop-1.1.0.tar.gz", report=quality, expectations={"tests": "1" * 64}
        ),
        "release": attestation.release_statement(
            artifact=plan.bundle, name="bike-shop-1.1.0.tar.gz", service="bike-shop", version="1.1.0"
        ),
    }
    return Evidence(
        chain=CHAIN,
        entries=entries,
        heads=[
            head(entry, by)
            for entry in entries
            if entry.kind in ("board.decided", "release.closed") or entry is entries[-1]
        ],
        attestations={
            "provenance": provenance(plan.bundle, by),
            "bom": bill(plan.bundle, by),
            **{name: by.envelope(statement) for name, statement in statements.items()},
        },
        plan=plan,
        ballots=answers(votes, plan.digest),
        run={"run_id": CHAIN.split("/")[-1], "triggered_by": "rita", "conf": {"ref": "1.1.0"}},
        hosts={"running": [one.model_dump(mode="json") for one in releases.plan().running]},
        logs={"build.build_artifact/1": b"making the shop\n"},
    )


def packed(destination: Path, what: Evidence | None = None, *, by: Signer | None = None) -> bytes:
    """Write a pack and return its bytes."""
    build_pack(destination, what or evidence(by=by), by or signer(), created=AT + timedelta(hours=1))
    return destination.read_bytes()


def sealed_anew(what: Evidence, **changes: Any) -> Evidence:
    """Return the evidence with other fields."""
    return replace(what, **changes)
